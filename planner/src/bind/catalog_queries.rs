//! The catalog queries that psql and drivers send, brought into a form DataFusion plans: `OPERATOR(pg_catalog.~)`,
//! collations, `::regclass` and kin, `ARRAY(SELECT ...)`, and correlated subqueries in the select list.

use super::rewrite::{arguments, call, cast};
use crate::error::fold;
use datafusion::sql::sqlparser::ast::*;

/// System relations that are empty in every Eddyline. A scalar subquery over one of them is NULL.
const ALWAYS_EMPTY: &[&str] = &[
    "pg_collation",
    "pg_inherits",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_statistic_ext",
    "pg_trigger",
];

/// What `regclass` and kin are here: functions of the server's registry, from name to oid and back.
const REG_TYPES: &[&str] = &["regclass", "regtype", "regproc", "regnamespace", "regrole", "regoper", "regprocedure"];

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

/// `ORDER BY` inside a subquery in an expression means nothing but to arrays; nothing to do at this level yet.
pub fn rewrite_query(query: &mut Query) {
    // A lock clause means nothing to a snapshot.
    query.locks.clear();
}

/// Over an always-empty relation no select list is ever evaluated, so subqueries in it need no plan.
pub fn rewrite_select(select: &mut Select) {
    if !reads_always_empty(&select.from) {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
            && has_subquery(expr)
        {
            *expr = cast(null(), DataType::Text);
        }
    }
}

fn reads_always_empty(from: &[TableWithJoins]) -> bool {
    let empty = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => {
            name.0.last().and_then(|p| p.as_ident()).is_some_and(|i| ALWAYS_EMPTY.contains(&fold(i).as_str()))
        }
        _ => false,
    };
    from.iter().any(|t| {
        let inner = |j: &Join| matches!(j.join_operator, JoinOperator::Join(_) | JoinOperator::Inner(_)) && empty(&j.relation);
        empty(&t.relation) || t.joins.iter().any(inner)
    })
}

fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    let _ = visit_expressions(expr, |e| {
        let array = matches!(e, Expr::Function(Function { args: FunctionArguments::Subquery(_), .. }));
        found |= array || matches!(e, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. });
        std::ops::ControlFlow::<()>::Continue(())
    });
    found
}

pub fn rewrite_expr(expr: &mut Expr) {
    let replacement = match expr {
        Expr::BinaryOp { op: op @ BinaryOperator::PGCustomBinaryOperator(_), .. } => {
            if let BinaryOperator::PGCustomBinaryOperator(parts) = op
                && let Some(named) = parts.last().and_then(|symbol| operator(symbol))
            {
                *op = named;
            }
            None
        }
        Expr::Collate { expr: inner, .. } => Some(inner.as_ref().clone()),
        Expr::Cast { expr: inner, data_type, .. } => reg_cast(inner, data_type),
        Expr::Function(function) => array_subquery(function),
        Expr::Subquery(query) => scalar_subquery(query),
        _ => None,
    };
    if let Some(replacement) = replacement {
        *expr = replacement;
        // What a cast or a collation hid may itself need a rewrite. A CASE around a subquery is done: its
        // subquery aggregates by now.
        if !matches!(expr, Expr::Case { .. }) {
            rewrite_expr(expr);
        }
    }
}

fn operator(symbol: &str) -> Option<BinaryOperator> {
    Some(match symbol {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Custom(name, _) => name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default(),
        DataType::Regclass => "regclass".to_string(),
        DataType::Text => "text".to_string(),
        other => other.to_string().to_lowercase(),
    }
}

/// `'t'::regclass` is an oid, `oid::regclass` shows a name, `x::regclass::text` is always the name.
fn reg_cast(inner: &Expr, data_type: &DataType) -> Option<Expr> {
    let target = type_name(data_type);
    if matches!(target.as_str(), "text" | "varchar" | "name")
        && let Expr::Cast { expr: source, data_type: middle, .. } = inner
        && REG_TYPES.contains(&type_name(middle).as_str())
    {
        return Some(reg_name(&type_name(middle), source.as_ref().clone()));
    }
    if !REG_TYPES.contains(&target.as_str()) {
        return None;
    }
    Some(match inner {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => reg_name(&target, inner.clone()),
        _ => call(&format!("eddyline_{target}"), vec![inner.clone()]),
    })
}

fn reg_name(reg_type: &str, oid: Expr) -> Expr {
    match reg_type {
        "regtype" => call("format_type", vec![oid, null()]),
        "regclass" | "regnamespace" | "regrole" => call(&format!("eddyline_{reg_type}_name"), vec![oid]),
        _ => cast(oid, DataType::Text),
    }
}

/// `ARRAY(SELECT x ...)` is `(SELECT array_agg(x) FROM (SELECT x ...))`.
fn array_subquery(function: &Function) -> Option<Expr> {
    let FunctionArguments::Subquery(query) = &function.args else { return None };
    if !function.name.to_string().eq_ignore_ascii_case("array") || !arguments(function).is_empty() {
        return None;
    }
    let mut outer = crate::parse::select_all_from(TableFactor::Derived {
        lateral: false,
        subquery: query.clone(),
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::new("__array"),
            columns: vec![TableAliasColumnDef { name: Ident::new("__item"), data_type: None }],
            at: None,
        }),
        sample: None,
    });
    if let SetExpr::Select(select) = outer.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(call("array_agg", vec![Expr::Identifier(Ident::new("__item"))]))];
    }
    Some(Expr::Subquery(Box::new(outer)))
}

/// DataFusion plans a correlated scalar subquery only if it aggregates. Those that look up one row of a
/// system relation are wrapped in `max`; those over an always-empty one are NULL.
fn scalar_subquery(query: &mut Box<Query>) -> Option<Expr> {
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    if reads_always_empty(&select.from) {
        return Some(cast(null(), DataType::Text));
    }
    let system = select.from.iter().any(|t| match &t.relation {
        TableFactor::Table { name, args: None, .. } => {
            name.0.first().and_then(|p| p.as_ident()).is_some_and(|i| fold(i).starts_with("pg_"))
        }
        _ => false,
    });
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_mut_slice() else {
        return None;
    };
    let aggregates = ["max", "min", "count", "sum", "avg", "array_agg", "string_agg", "bool_or", "bool_and"];
    let mut aggregated = false;
    let _ = visit_expressions(item, |e| {
        if let Expr::Function(f) = e {
            let name = f.name.0.last().and_then(|p| p.as_ident()).map(fold).unwrap_or_default();
            aggregated |= aggregates.contains(&name.as_str());
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    if !system || aggregated {
        return None;
    }
    let selection = select.selection.take()?;
    *item = call("max", vec![item.clone()]);
    let own: Vec<String> = select
        .from
        .iter()
        .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)))
        .filter_map(scope_name)
        .collect();
    let (outer, inner): (Vec<Expr>, Vec<Expr>) = conjuncts(selection).into_iter().partition(|e| is_outer(e, &own));
    select.selection = all_of(inner);
    query.order_by = None;
    query.limit_clause = None;
    // What is asked of the outer row alone cannot be decorrelated, and is asked outside as well.
    let condition = all_of(outer)?;
    let subquery = Expr::Subquery(query.clone());
    Some(Expr::Case {
        case_token: helpers::attached_token::AttachedToken::empty(),
        end_token: helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result: subquery }],
        else_result: None,
    })
}

/// The name by which a table's columns are qualified.
fn scope_name(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } => Some(fold(&alias.name)),
        TableFactor::Table { name, .. } => name.0.last()?.as_ident().map(fold),
        _ => None,
    }
}

fn conjuncts(expr: Expr) -> Vec<Expr> {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            let mut all = conjuncts(*left);
            all.extend(conjuncts(*right));
            all
        }
        other => vec![other],
    }
}

fn all_of(exprs: Vec<Expr>) -> Option<Expr> {
    exprs.into_iter().reduce(|left, right| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) })
}

/// Whether every column of an expression is qualified, and by none of `own`.
fn is_outer(expr: &Expr, own: &[String]) -> bool {
    let (mut outer, mut named) = (true, false);
    let _ = visit_expressions(expr, |e| {
        match e {
            Expr::Identifier(_) | Expr::Subquery(_) => outer = false,
            Expr::CompoundIdentifier(parts) => {
                named = true;
                outer &= parts.len() == 2 && !own.contains(&fold(&parts[0]));
            }
            _ => {}
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    outer && named
}
