//! Plans as text: one line per node, inputs indented below, with mode, keys, time columns and state.

use crate::plan::{
    AggregateCall, AggregateFunction, ChangelogMode, Emit, Expr, Literal, LiteralValue, Node, NodeId, Op, StreamPlan, WindowKind,
};
use eddyline_common::time::MICROS_PER_SECOND;
use std::fmt::Write;

/// The streaming plan from its output down.
pub fn stream_plan(plan: &StreamPlan, relation_name: &dyn Fn(eddyline_common::RelationId) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    let mut stack = vec![(plan.output, 0usize)];
    while let Some((id, depth)) = stack.pop() {
        lines.push(format!("{}{}", "  ".repeat(depth), node_line(plan, id, relation_name)));
        for input in plan.nodes[id].inputs.iter().rev() {
            stack.push((*input, depth + 1));
        }
    }
    lines
}

fn node_line(plan: &StreamPlan, id: NodeId, relation_name: &dyn Fn(eddyline_common::RelationId) -> String) -> String {
    let node = &plan.nodes[id];
    let input = node.inputs.first().map(|i| &plan.nodes[*i]);
    let name = |i: &usize| input.map_or_else(|| format!("#{i}"), |n| column_name(n, *i));
    let names = |columns: &[usize]| columns.iter().map(name).collect::<Vec<_>>().join(", ");
    let text = |e: &Expr| input.map_or_else(|| expr(e, &|i| format!("#{i}")), |n| expr(e, &|i| column_name(n, i)));
    let mut line = match &node.op {
        Op::Scan { relation, .. } => format!("Scan {}", relation_name(*relation)),
        Op::Values { rows } => format!("Values rows={}", rows.len()),
        Op::Filter { predicate } => format!("Filter {}", text(predicate)),
        Op::Project { exprs } => format!("Project {}", exprs.iter().map(text).collect::<Vec<_>>().join(", ")),
        Op::WindowAssign { time_column, kind } => format!("WindowAssign {} on {}", window_kind(kind), name(time_column)),
        Op::Exchange { keys } if keys.is_empty() => "Exchange to one worker".to_string(),
        Op::Exchange { keys } => format!("Exchange by {}", names(keys)),
        Op::Union => "Union".to_string(),
        Op::Aggregate { group, calls, window, state } => {
            let mut line = format!("Aggregate by [{}]", names(group));
            if !calls.is_empty() {
                let _ = write!(line, " calls [{}]", calls.iter().map(|c| aggregate_call(c, &name)).collect::<Vec<_>>().join(", "));
            }
            if let Some(window) = window {
                let emit = match window.emit {
                    Emit::Changes => "changes",
                    Emit::OnClose => "on window close",
                };
                let _ = write!(line, " window_end={} emit={emit} lateness={}", name(&group[window.end]), duration(window.allowed_lateness));
            }
            let bound = if window.is_some() { "open windows" } else { "groups" };
            let _ = write!(line, " state={state} bound={bound}");
            line
        }
        Op::Materialize { key } if key.is_empty() => "Materialize keyless".to_string(),
        Op::Materialize { key } => format!("Materialize key=[{}]", names(key)),
        Op::Sink { key } if key.is_empty() => "Sink keyless".to_string(),
        Op::Sink { key } => format!("Sink key=[{}]", names(key)),
    };
    let own = |columns: &[usize]| columns.iter().map(|i| column_name(node, *i)).collect::<Vec<_>>().join(", ");
    let _ = write!(line, " | columns=[{}]", node.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect::<Vec<_>>().join(", "));
    let mode = match node.mode {
        ChangelogMode::Append => "append",
        ChangelogMode::Retract => "retract",
    };
    let _ = write!(line, " mode={mode}");
    if !node.unique_keys.is_empty() {
        let keys = node.unique_keys.iter().map(|k| format!("({})", own(k))).collect::<Vec<_>>().join(" ");
        let _ = write!(line, " keys={keys}");
    }
    if !node.time_columns.is_empty() {
        let _ = write!(line, " time=[{}]", own(&node.time_columns));
    }
    line
}

fn column_name(node: &Node, index: usize) -> String {
    node.columns.get(index).map_or_else(|| format!("#{index}"), |c| c.name.clone())
}

fn aggregate_call(call: &AggregateCall, name: &dyn Fn(&usize) -> String) -> String {
    let function = match call.function {
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
    };
    let argument = call.argument.as_ref().map_or_else(|| "*".to_string(), name);
    let distinct = if call.distinct { "distinct " } else { "" };
    let filter = call.filter.as_ref().map_or_else(String::new, |f| format!(" filter {}", name(f)));
    format!("{function}({distinct}{argument}){filter}")
}

pub fn window_kind(kind: &WindowKind) -> String {
    let offset = |offset: i64| if offset == 0 { String::new() } else { format!(", offset {}", duration(offset)) };
    match kind {
        WindowKind::Tumble { size, offset: o } => format!("tumble(size {}{})", duration(*size), offset(*o)),
        WindowKind::Hop { size, slide, offset: o } => format!("hop(size {}, slide {}{})", duration(*size), duration(*slide), offset(*o)),
    }
}

fn duration(micros: i64) -> String {
    if micros % MICROS_PER_SECOND == 0 { format!("{}s", micros / MICROS_PER_SECOND) } else { format!("{micros}us") }
}

/// An expression in SQL's notation.
pub fn expr(e: &Expr, column: &dyn Fn(usize) -> String) -> String {
    let sub = |e: &Expr| expr(e, column);
    let list = |exprs: &[Expr]| exprs.iter().map(sub).collect::<Vec<_>>().join(", ");
    let not = |negated: bool| if negated { "not " } else { "" };
    match e {
        Expr::Column(index) => column(*index),
        Expr::Literal(value) => literal(value),
        Expr::CutNow => "now()".to_string(),
        Expr::Binary { op, left, right } => format!("({} {} {})", sub(left), crate::expr::operator(*op), sub(right)),
        Expr::Not(inner) => format!("not {}", sub(inner)),
        Expr::Negate(inner) => format!("-{}", sub(inner)),
        Expr::IsNull(inner) => format!("({} is null)", sub(inner)),
        Expr::IsNotNull(inner) => format!("({} is not null)", sub(inner)),
        Expr::IsBool { expr, value, negated } => {
            let value = value.map_or("unknown".to_string(), |v| v.to_string());
            format!("({} is {}{value})", sub(expr), not(*negated))
        }
        Expr::Case { branches, otherwise } => {
            let whens: String = branches.iter().map(|(w, t)| format!("when {} then {} ", sub(w), sub(t))).collect();
            let otherwise = otherwise.as_ref().map_or_else(String::new, |e| format!("else {} ", sub(e)));
            format!("case {whens}{otherwise}end")
        }
        Expr::Cast { expr, ty, try_cast } => format!("{}({} as {ty})", if *try_cast { "try_cast" } else { "cast" }, sub(expr)),
        Expr::Like { expr, pattern, negated, case_insensitive } => {
            format!("({} {}{} {})", sub(expr), not(*negated), if *case_insensitive { "ilike" } else { "like" }, sub(pattern))
        }
        Expr::InList { expr, list: items, negated } => format!("({} {}in ({}))", sub(expr), not(*negated), list(items)),
        Expr::Call { name, args, .. } => format!("{name}({})", list(args)),
    }
}

fn literal(literal: &Literal) -> String {
    fn value(v: &LiteralValue) -> String {
        match v {
            LiteralValue::Null => "null".to_string(),
            LiteralValue::Boolean(b) => b.to_string(),
            LiteralValue::Int(i) => i.to_string(),
            LiteralValue::FloatBits(bits) => f64::from_bits(*bits).to_string(),
            LiteralValue::Decimal(digits) => digits.clone(),
            LiteralValue::Text(text) => format!("'{}'", text.replace('\'', "''")),
            LiteralValue::Bytes(bytes) => format!("{} bytes", bytes.len()),
            LiteralValue::Interval { months, days, nanos } => format!("interval {months} months {days} days {nanos} ns"),
            LiteralValue::List(items) => format!("[{}]", items.iter().map(value).collect::<Vec<_>>().join(", ")),
        }
    }
    match (&literal.ty, &literal.value) {
        (eddyline_common::SqlType::Decimal { scale, .. }, LiteralValue::Decimal(digits)) if *scale > 0 => {
            let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |d| ("-", d));
            let padded = format!("{digits:0>width$}", width = *scale as usize + 1);
            let (whole, fraction) = padded.split_at(padded.len() - *scale as usize);
            format!("{sign}{whole}.{fraction}")
        }
        (ty, LiteralValue::Int(i)) if ty.is_time() => format!("{ty} {i}us"),
        (_, v) => value(v),
    }
}
