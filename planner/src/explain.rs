//! Plans as text: one line per node, inputs indented below, with mode, keys, time columns and state.
//!
//! - `bounds`: what bounds the state
//! - `called`: what columns are called in the query

mod bounds;
mod called;

pub use called::called;

use crate::catalog::Relation;
use crate::functions::checked;
use crate::lower::micros;
use crate::plan::{
    AggregateCall, AggregateFunction, AggregateWindow, BinaryOp, ChangelogMode, Emit, Expr, Frame, FrameBound, FrameUnit, JoinKind,
    Literal, LiteralValue, MatchSkip, MatchValue, MatchValueOf, Merge, Node, NodeId, Op, OrderKey, OverCall, OverFunction, RankFunction,
    StreamPlan, TimeBound, WindowKind,
};
use eddyline_common::RelationId;
use eddyline_common::time::MICROS_PER_SECOND;
use std::fmt::Write;
use std::sync::Arc;

/// The streaming plan from its output down.
pub fn stream_plan(plan: &StreamPlan, relation: &dyn Fn(RelationId) -> Option<Arc<Relation>>) -> Vec<String> {
    lines(plan, &|id| node_line(plan, id, relation)).into_iter().map(|(_, line)| line).collect()
}

/// In short: each node with what it does, and no more.
pub fn operators(plan: &StreamPlan, relation_name: &dyn Fn(RelationId) -> String) -> Vec<(NodeId, String)> {
    lines(plan, &|id| operator(plan, id, relation_name))
}

fn lines(plan: &StreamPlan, line: &dyn Fn(NodeId) -> String) -> Vec<(NodeId, String)> {
    let mut lines = Vec::new();
    let mut stack = vec![(plan.output, 0usize)];
    let mut readers = vec![0; plan.nodes.len()];
    plan.nodes.iter().flat_map(|node| &node.inputs).for_each(|input| readers[*input] += 1);
    let mut shown = vec![false; plan.nodes.len()];
    while let Some((id, depth)) = stack.pop() {
        let indent = "  ".repeat(depth);
        if std::mem::replace(&mut shown[id], true) {
            lines.push((id, format!("{indent}Shared #{id}")));
            continue;
        }
        let shared = if readers[id] > 1 { format!(" shared=#{id}") } else { String::new() };
        lines.push((id, format!("{indent}{}{shared}", line(id))));
        for input in plan.nodes[id].inputs.iter().rev() {
            stack.push((*input, depth + 1));
        }
    }
    lines
}

fn operator(plan: &StreamPlan, id: NodeId, relation_name: &dyn Fn(RelationId) -> String) -> String {
    let node = &plan.nodes[id];
    let input = node.inputs.first().map(|i| &plan.nodes[*i]);
    let name = |i: &usize| input.map_or_else(|| format!("#{i}"), |n| column_name(n, *i));
    let names = |columns: &[usize]| columns.iter().map(name).collect::<Vec<_>>().join(", ");
    let text = |e: &Expr| input.map_or_else(|| expr(e, &|i| format!("#{i}")), |n| expr(e, &|i| column_name(n, i)));
    let bound = || bounds::bound(plan, id).unwrap_or_default();
    match &node.op {
        Op::Scan { relation, .. } => format!("Scan {}", relation_name(*relation)),
        Op::Values { rows } => format!("Values rows={}", rows.len()),
        Op::Filter { predicate } => format!("Filter {}", text(predicate)),
        Op::TemporalFilter { from, until, state } => {
            let bounds = |bounds: &[TimeBound], op: &str| {
                let shifted = |b: &TimeBound| match b.shift {
                    0 => format!("now() {op} {}", name(&b.column)),
                    by => format!("now() {op} {} + {}", name(&b.column), duration(by)),
                };
                bounds.iter().map(shifted).collect::<Vec<_>>()
            };
            let all = [bounds(from, ">="), bounds(until, "<")].concat();
            format!("TemporalFilter {} state={state} bound={}", all.join(" and "), bound())
        }
        Op::Project { exprs } => format!("Project {}", exprs.iter().map(text).collect::<Vec<_>>().join(", ")),
        Op::Unnest { lists } => format!("Unnest {}", names(lists)),
        Op::ProcessingTime { column } => format!("ProcessingTime {}", name(column)),
        Op::WindowAssign { time_column, kind } => format!("WindowAssign {} on {}", window_kind(kind), name(time_column)),
        Op::SessionAssign { partition, time_column, gap, emit, allowed_lateness, state } => format!(
            "SessionAssign gap {} on {} by [{}] emit={} lateness={} state={state} bound={}",
            duration(*gap),
            name(time_column),
            names(partition),
            emit_text(*emit),
            duration(*allowed_lateness),
            bound()
        ),
        Op::PreAggregate { keys, merged, .. } => {
            let merged = merged.iter().map(|(column, merge)| merged_text(*merge, &name(column)));
            format!("PreAggregate by [{}] merging [{}]", names(keys), merged.collect::<Vec<_>>().join(", "))
        }
        Op::Exchange { keys } if keys.is_empty() => "Exchange to one worker".to_string(),
        Op::Exchange { keys } => format!("Exchange by {}", names(keys)),
        Op::JoinExchange { keys } => format!("Exchange by {}, null keys by all columns", names(keys)),
        Op::Join { .. } => join_line(plan, node, &bound()),
        Op::LookupJoin { kind, keys, residual, state } => {
            format!("Lookup{} state={state} bound={}", join_text(plan, node, *kind, keys, "=", residual.as_ref()), bound())
        }
        Op::ExternalLookup { .. } => external_line(plan, id, relation_name),
        Op::TemporalJoin { kind, keys, residual, times, state } => {
            let time = name(&times[0]);
            format!("Temporal{} as of {time} state={state} bound={}", join_text(plan, node, *kind, keys, "=", residual.as_ref()), bound())
        }
        Op::AsofJoin { kind, keys, condition, places, compared, state, .. } => {
            let right = column_name(&plan.nodes[node.inputs[1]], places[1]);
            let join = join_text(plan, node, *kind, keys, "=", condition.as_ref());
            format!("Asof{join} nearest {} {} {right} state={state} bound={}", name(&places[0]), crate::expr::operator(*compared), bound())
        }
        Op::MatchRecognize { .. } => match_line(&node.op, &bound(), &name, &names),
        Op::Union => "Union".to_string(),
        Op::Normalize { key } => format!("Normalize key=[{}]", key.iter().map(|i| column_name(node, *i)).collect::<Vec<_>>().join(", ")),
        Op::Aggregate { group, calls, window, state } => {
            let mut line = format!("Aggregate by [{}]", names(group));
            if !calls.is_empty() {
                let _ = write!(line, " calls [{}]", calls.iter().map(|c| aggregate_call(c, &name)).collect::<Vec<_>>().join(", "));
            }
            if let Some(window) = window {
                line.push_str(&window_text(window, &name(&group[window.end])));
            }
            let _ = write!(line, " state={state} bound={}", bound());
            line
        }
        Op::TopN { partition, order, function, offset, limit, with_rank, window, state } => {
            let mut line = format!("TopN {} by [{}] order by [{}]", rank_name(*function), names(partition), order_keys(order, &name));
            if let Some(limit) = limit {
                let _ = write!(line, " limit={limit}");
            }
            if *offset > 0 {
                let _ = write!(line, " offset={offset}");
            }
            if *with_rank {
                line.push_str(" with rank");
            }
            if let Some(window) = window {
                line.push_str(&window_text(window, &name(&partition[window.end])));
            }
            let _ = write!(line, " state={state} bound={}", bound());
            line
        }
        Op::Over { partition, order, calls, window, state } => {
            let mut line = format!("Over by [{}] order by [{}]", names(partition), order_keys(order, &name));
            let _ = write!(line, " calls [{}]", calls.iter().map(|c| over_call(c, &name)).collect::<Vec<_>>().join(", "));
            if let Some(window) = window {
                line.push_str(&window_text(window, &name(&partition[window.end])));
            }
            let _ = write!(line, " state={state} bound={}", bound());
            line
        }
        Op::Materialize { key } if key.is_empty() => "Materialize keyless".to_string(),
        Op::Materialize { key } => format!("Materialize key=[{}]", names(key)),
        Op::Sink { key } if key.is_empty() => "Sink keyless".to_string(),
        Op::Sink { key } => format!("Sink key=[{}]", names(key)),
    }
}

fn merged_text(merge: Merge, column: &str) -> String {
    let how = match merge {
        Merge::Sum => "sum",
        Merge::Count => "count",
        Merge::Min => "min",
        Merge::Max => "max",
    };
    format!("{how}({column})")
}

fn match_line(op: &Op, bound: &str, name: &dyn Fn(&usize) -> String, names: &dyn Fn(&[usize]) -> String) -> String {
    let Op::MatchRecognize { partition, order, pattern, variables, values, all_rows, skip, within, state, .. } = op else {
        return String::new();
    };
    let called: Vec<String> = variables.iter().map(|v| v.name.clone()).collect();
    let mut line = format!(
        "MatchRecognize ({}) by [{}] order by [{}]",
        crate::bind::match_recognize::pattern::text(pattern, &called),
        names(partition),
        order_keys(order, name)
    );
    let of = |v: &MatchValue| match_value(v, &called, name);
    let defined = variables.iter().filter_map(|v| {
        let parts = [
            v.flag.map(|f| name(&f)),
            v.local.as_ref().map(|e| expr(e, &|i| of(&v.values[i]))),
            v.rest.as_ref().map(|e| expr(e, &|i| of(&v.values[i]))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("{} as {}", v.name, parts.join(" and ")))
    });
    let _ = write!(line, " define [{}]", defined.collect::<Vec<_>>().join(", "));
    let _ = write!(line, " values [{}]", values.iter().map(of).collect::<Vec<_>>().join(", "));
    let variable = |v: &usize| called.get(*v).cloned().unwrap_or_default();
    let skip = match skip {
        MatchSkip::PastLastRow => "past last row".to_string(),
        MatchSkip::ToNextRow => "to next row".to_string(),
        MatchSkip::ToFirst(v) => format!("to first {}", variable(v)),
        MatchSkip::ToLast(v) => format!("to last {}", variable(v)),
    };
    let _ = write!(line, " rows={} skip {skip}", if *all_rows { "all" } else { "one" });
    if let Some(within) = within {
        let _ = write!(line, " within {}", duration(*within));
    }
    let _ = write!(line, " state={state} bound={bound}");
    line
}

fn match_value(value: &MatchValue, variables: &[String], name: &dyn Fn(&usize) -> String) -> String {
    let of = |column: &usize| match value.variable.and_then(|v| variables.get(v)) {
        Some(variable) => format!("{variable}.{}", name(column)),
        None => name(column),
    };
    let shown = match &value.of {
        MatchValueOf::Classifier => "classifier()".to_string(),
        MatchValueOf::Number => "match_number()".to_string(),
        MatchValueOf::Aggregate(call) => aggregate_call(call, &of),
        MatchValueOf::Row { column, first, nth, offset } => {
            let row = format!(
                "{}({}{})",
                if *first { "first" } else { "last" },
                of(column),
                if *nth > 0 { format!(", {nth}") } else { String::new() }
            );
            match offset {
                0 => row,
                by if *by < 0 => format!("prev({row}, {})", -by),
                by => format!("next({row}, {by})"),
            }
        }
    };
    if value.whole { format!("final {shown}") } else { shown }
}

fn node_line(plan: &StreamPlan, id: NodeId, relation: &dyn Fn(RelationId) -> Option<Arc<Relation>>) -> String {
    let node = &plan.nodes[id];
    let mut line = operator(plan, id, &|id| relation(id).map_or_else(|| id.to_string(), |r| r.name.clone()));
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
    if let Op::Scan { relation: id, .. } = &node.op
        && let Some(watermark) = relation(*id).and_then(|scanned| watermark(&scanned))
    {
        let _ = write!(line, " watermark={watermark}");
    }
    line
}

/// How far behind its rows a relation's watermark is.
fn watermark(relation: &Relation) -> Option<String> {
    let watermark = relation.watermark.as_ref()?;
    let text = |e: &Expr| expr(e, &|i| relation.columns.get(i).map_or_else(|| format!("#{i}"), |c| c.name.clone()));
    let mut shown = match &watermark.expression {
        Expr::Binary { op: BinaryOp::Minus, left, right } => {
            let delay = if let Expr::Literal(literal) = right.as_ref() { micros(literal) } else { None };
            delay.map_or_else(|| text(&watermark.expression), |delay| format!("{} - {}", text(left), duration(delay)))
        }
        other => text(other),
    };
    if let Some(idle) = watermark.idle_timeout {
        let _ = write!(shown, " idle={}", duration(idle));
    }
    if watermark.manual {
        shown.push_str(" (manual)");
    }
    Some(shown)
}

fn window_text(window: &AggregateWindow, end: &str) -> String {
    format!(" window_end={end} emit={} lateness={}", emit_text(window.emit), duration(window.allowed_lateness))
}

fn emit_text(emit: Emit) -> &'static str {
    match emit {
        Emit::Changes => "changes",
        Emit::OnClose => "on window close",
    }
}

fn join_line(plan: &StreamPlan, node: &Node, bound: &str) -> String {
    let Op::Join { kind, keys, nulls_equal, residual, window, interval, state } = &node.op else { return String::new() };
    let (left, right) = (&plan.nodes[node.inputs[0]], &plan.nodes[node.inputs[1]]);
    let equals = if *nulls_equal { "is not distinct from" } else { "=" };
    let mut line = join_text(plan, node, *kind, keys, equals, residual.as_ref());
    if let Some(window) = window {
        let _ = write!(line, " window_end={} lateness={}", column_name(left, keys[0][window.end]), duration(window.allowed_lateness));
    }
    if let Some(interval) = interval {
        let [l, r] = interval.times;
        let (l, r, lower, upper) = (column_name(left, l), column_name(right, r), duration(interval.lower), duration(interval.upper));
        let _ = write!(line, " interval=[{lower} <= {r} - {l} <= {upper}]");
    }
    let _ = write!(line, " state={state} bound={bound}");
    line
}

/// A lookup join with a table outside. Of its columns those have names that are emitted.
fn external_line(plan: &StreamPlan, id: NodeId, relation_name: &dyn Fn(RelationId) -> String) -> String {
    let node = &plan.nodes[id];
    let Op::ExternalLookup { relation, columns, kind, keys: [of_left, of_right], residual, state } = &node.op else { return String::new() };
    let left = &plan.nodes[node.inputs[0]];
    let width = left.columns.len();
    let theirs = |column: &usize| match columns.iter().position(|c| c == column) {
        Some(at) => column_name(node, width + at),
        None => format!("#{column}"),
    };
    let pairs: Vec<String> = of_left.iter().zip(of_right).map(|(l, r)| format!("{} = {}", column_name(left, *l), theirs(r))).collect();
    let mut line = format!("ExternalLookup {} {} on [{}]", join_kind(*kind), relation_name(*relation), pairs.join(", "));
    if let Some(residual) = residual {
        let _ = write!(line, " where {}", expr(residual, &|i| column_name(node, i)));
    }
    if let Some(state) = state {
        let _ = write!(line, " state={state} bound={}", bounds::bound(plan, id).unwrap_or_default());
    }
    line
}

fn join_kind(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
        JoinKind::Right => "right",
        JoinKind::Full => "full",
        JoinKind::Semi => "semi",
        JoinKind::Anti => "anti",
        JoinKind::Mark => "mark",
    }
}

/// Kind, keys and condition of a join.
fn join_text(plan: &StreamPlan, node: &Node, kind: JoinKind, keys: &[Vec<usize>; 2], equals: &str, residual: Option<&Expr>) -> String {
    let (left, right) = (&plan.nodes[node.inputs[0]], &plan.nodes[node.inputs[1]]);
    let kind = join_kind(kind);
    let pair = |(l, r): (&usize, &usize)| format!("{} {equals} {}", column_name(left, *l), column_name(right, *r));
    let pairs: Vec<String> = keys[0].iter().zip(&keys[1]).map(pair).collect();
    let mut line = format!("Join {kind} on [{}]", pairs.join(", "));
    if let Some(residual) = residual {
        let width = left.columns.len();
        let name = |i: usize| if i < width { column_name(left, i) } else { column_name(right, i - width) };
        let _ = write!(line, " where {}", expr(residual, &name));
    }
    line
}

fn column_name(node: &Node, index: usize) -> String {
    node.columns.get(index).map_or_else(|| format!("#{index}"), |c| c.name.clone())
}

fn rank_name(function: RankFunction) -> &'static str {
    match function {
        RankFunction::RowNumber => "row_number",
        RankFunction::Rank => "rank",
        RankFunction::DenseRank => "dense_rank",
    }
}

/// A function of an OVER window, with its frame if it has one.
fn over_call(call: &OverCall, name: &dyn Fn(&usize) -> String) -> String {
    let framed = |text: String| format!("{text} {}", frame(&call.frame));
    let nulls = |ignored: bool| if ignored { " ignore nulls" } else { "" };
    match &call.function {
        OverFunction::Rank(function) => format!("{}()", rank_name(*function)),
        OverFunction::PercentRank => "percent_rank()".to_string(),
        OverFunction::CumeDist => "cume_dist()".to_string(),
        OverFunction::Ntile { buckets } => format!("ntile({buckets})"),
        OverFunction::Lag { argument, offset, places, default, ignore_nulls } => {
            let function = if *offset < 0 { "lead" } else { "lag" };
            let places = places.as_ref().map_or_else(|| offset.unsigned_abs().to_string(), name);
            format!("{function}({}, {places}, {}{})", name(argument), literal(default), nulls(*ignore_nulls))
        }
        OverFunction::NthValue { argument, n, ignore_nulls } => {
            let (argument, nulls) = (name(argument), nulls(*ignore_nulls));
            framed(match *n {
                1 => format!("first_value({argument}{nulls})"),
                -1 => format!("last_value({argument}{nulls})"),
                n => format!("nth_value({argument}, {n}{nulls})"),
            })
        }
        OverFunction::Aggregate(call) => framed(aggregate_call(call, name)),
    }
}

fn frame(frame: &Frame) -> String {
    let unit = match frame.unit {
        FrameUnit::Rows => "rows",
        FrameUnit::Range => "range",
    };
    let bound = |bound: FrameBound, unbounded: &str| match bound {
        FrameBound::Unbounded => format!("unbounded {unbounded}"),
        FrameBound::CurrentRow => "current row".to_string(),
        FrameBound::Offset(n) if n < 0 => format!("{} preceding", n.unsigned_abs()),
        FrameBound::Offset(n) => format!("{n} following"),
    };
    format!("{unit} {} .. {}", bound(frame.start, "preceding"), bound(frame.end, "following"))
}

fn aggregate_call(call: &AggregateCall, name: &dyn Fn(&usize) -> String) -> String {
    let function = match call.function {
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
        AggregateFunction::VarPop => "var_pop",
        AggregateFunction::VarSamp => "var_samp",
        AggregateFunction::StddevPop => "stddev_pop",
        AggregateFunction::StddevSamp => "stddev_samp",
        AggregateFunction::BoolAnd => "bool_and",
        AggregateFunction::BoolOr => "bool_or",
        AggregateFunction::StringAgg => "string_agg",
        AggregateFunction::ArrayAgg => "array_agg",
        AggregateFunction::FirstValue => "first_value",
        AggregateFunction::PercentileCont => "percentile_cont",
        AggregateFunction::PercentileDisc => "percentile_disc",
        AggregateFunction::Mode => "mode",
    };
    let argument = call.argument.as_ref().map_or_else(|| "*".to_string(), name);
    let distinct = if call.distinct { "distinct " } else { "" };
    let filter = call.filter.as_ref().map_or_else(String::new, |f| format!(" filter {}", name(f)));
    let order = if call.order.is_empty() { String::new() } else { format!(" order by {}", order_keys(&call.order, name)) };
    let nulls = if call.ignore_nulls { " ignore nulls" } else { "" };
    let share = call.share.map_or_else(String::new, |share| format!("{share}, "));
    let limit = call.limit.map_or_else(String::new, |limit| format!(" limit {limit}"));
    format!("{function}({share}{distinct}{argument}{order}{nulls}{limit}){filter}")
}

/// `a, b desc nulls last`.
fn order_keys(order: &[OrderKey], name: &dyn Fn(&usize) -> String) -> String {
    let key = |key: &OrderKey| {
        let direction = if key.descending { " desc" } else { "" };
        let nulls = match (key.descending, key.nulls_first) {
            (false, true) => " nulls first",
            (true, false) => " nulls last",
            _ => "",
        };
        format!("{}{direction}{nulls}", name(&key.column))
    };
    order.iter().map(key).collect::<Vec<_>>().join(", ")
}

pub fn window_kind(kind: &WindowKind) -> String {
    let offset = |offset: i64| if offset == 0 { String::new() } else { format!(", offset {}", duration(offset)) };
    match kind {
        WindowKind::Tumble { size, offset: o } => format!("tumble(size {}{})", duration(*size), offset(*o)),
        WindowKind::Hop { size, slide, offset: o } => format!("hop(size {}, slide {}{})", duration(*size), duration(*slide), offset(*o)),
        WindowKind::Session { gap } => format!("session(gap {})", duration(*gap)),
        WindowKind::Cumulate { size, step, offset: o } => {
            format!("cumulate(size {}, step {}{})", duration(*size), duration(*step), offset(*o))
        }
    }
}

fn duration(micros: i64) -> String {
    if micros % MICROS_PER_SECOND == 0 { format!("{}s", micros / MICROS_PER_SECOND) } else { format!("{micros}us") }
}

/// An expression in SQL's notation, its constants as they are stored.
pub fn expr(e: &Expr, column: &dyn Fn(usize) -> String) -> String {
    expr_with(e, column, &literal)
}

/// An expression in SQL's notation, with what `constant` makes of its constants.
pub fn expr_with(e: &Expr, column: &dyn Fn(usize) -> String, constant: &dyn Fn(&Literal) -> String) -> String {
    let sub = |e: &Expr| expr_with(e, column, constant);
    let list = |exprs: &[Expr]| exprs.iter().map(sub).collect::<Vec<_>>().join(", ");
    let not = |negated: bool| if negated { "not " } else { "" };
    match e {
        Expr::Column(index) => column(*index),
        Expr::Literal(value) => constant(value),
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
        Expr::Call { name, args, .. } => match (checked::operator(name), args.as_slice()) {
            (Some(op), [left, right]) => format!("({} {op} {})", sub(left), sub(right)),
            _ => format!("{name}({})", list(args)),
        },
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
