//! The catalog queries that psql and drivers send, brought into a form DataFusion plans: `OPERATOR(pg_catalog.~)`,
//! collations, `::regclass` and kin, `ARRAY(SELECT ...)`.

use super::rewrite::{arguments, call, cast, string_expr};
use crate::error::fold;
use crate::functions::ARRAY_OF_ROWS;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;

/// What `regclass` and kin are here: functions of the server's registry, from name to oid and back.
const REG_TYPES: &[&str] = &["regclass", "regtype", "regproc", "regnamespace", "regrole", "regoper", "regprocedure"];

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

pub fn rewrite_query(query: &mut Query) {
    // A lock clause means nothing to a snapshot.
    query.locks.clear();
}

/// `t.tableoid` is the same for all rows of `t`: the oid of the relation that `t` is.
pub fn rewrite_select(select: &mut Select) {
    let mut relations: Vec<(String, String)> = Vec::new();
    for table in &select.from {
        for factor in std::iter::once(&table.relation).chain(table.joins.iter().map(|j| &j.relation)) {
            if let TableFactor::Table { name, alias, args: None, .. } = factor {
                let own = alias.as_ref().map(|a| fold(&a.name)).or_else(|| name.0.last()?.as_ident().map(fold));
                relations.extend(own.map(|own| (own, name.to_string())));
            }
        }
    }
    sql::expressions_mut(select, |expr| {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [qualifier, column] = parts.as_slice()
            && fold(column) == "tableoid"
            && let Some((_, relation)) = relations.iter().find(|(own, _)| *own == fold(qualifier))
        {
            *expr = call("eddyline_regclass", vec![string_expr(relation)]);
        }
    });
}

pub fn rewrite_expr(expr: &mut Expr) {
    let replacement = match expr {
        Expr::BinaryOp { left, op, right } => {
            if let BinaryOperator::PGCustomBinaryOperator(parts) = op
                && let Some(named) = parts.last().and_then(|symbol| operator(symbol))
            {
                *op = named;
            }
            if *op == BinaryOperator::PGOverlap {
                let both = vec![left.as_ref().clone(), right.as_ref().clone()];
                *expr = call("array_has_any", both);
                return;
            }
            if matches!(op, BinaryOperator::Eq | BinaryOperator::NotEq) {
                as_oid(left);
                as_oid(right);
            }
            None
        }
        Expr::InList { expr, .. } | Expr::InSubquery { expr, .. } => {
            as_oid(expr);
            None
        }
        Expr::Interval(interval) => clock_interval(interval),
        Expr::CompoundFieldAccess { root, access_chain } => record_field(root, access_chain),
        Expr::Collate { expr: inner, .. } => Some(inner.as_ref().clone()),
        Expr::Cast { expr: inner, data_type, .. } => reg_cast(inner, data_type),
        Expr::Function(function) => array_subquery(function),
        _ => None,
    };
    if let Some(replacement) = replacement {
        *expr = replacement;
        // What a cast or a collation hid may itself need a rewrite.
        rewrite_expr(expr);
    }
}

/// `(record).field...`
fn record_field(root: &Expr, chain: &[AccessExpr]) -> Option<Expr> {
    let (AccessExpr::Dot(Expr::Identifier(field)), rest) = chain.split_first()? else { return None };
    // A name with a dot is a column.
    if matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
        return None;
    }
    let value = call("get_field", vec![root.clone(), string_expr(&fold(field))]);
    Some(match rest {
        [] => value,
        rest => Expr::CompoundFieldAccess { root: Box::new(value), access_chain: rest.to_vec() },
    })
}

/// The value of a text literal, or of several put together.
fn constant_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text.clone()),
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => Some(constant_text(left)? + &constant_text(right)?),
        Expr::Nested(inner) => constant_text(inner),
        _ => None,
    }
}

/// An interval with a clock in it, which DataFusion does not read, as a cast.
fn clock_interval(interval: &Interval) -> Option<Expr> {
    let text = constant_text(&interval.value).filter(|text| text.contains(':'))?;
    let interval_type = DataType::Interval { fields: None, precision: None };
    interval.leading_field.is_none().then(|| cast(string_expr(&text), interval_type))
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

/// What is compared is the oid: `c.oid::regclass = 'orders'::regclass` is about numbers, not names.
fn as_oid(side: &mut Expr) {
    if let Expr::Cast { expr, data_type, .. } = side
        && matches!(expr.as_ref(), Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        && type_name(data_type) == "regclass"
    {
        *side = expr.as_ref().clone();
    }
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
    if target == "oid"
        && let Expr::Cast { expr: source, data_type: middle, .. } = inner
        && type_name(middle) == "regproc"
    {
        return Some(call("eddyline_regproc_oid", vec![source.as_ref().clone()]));
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
        "regclass" | "regnamespace" | "regrole" | "regproc" => call(&format!("eddyline_{reg_type}_name"), vec![oid]),
        _ => call("eddyline_regproc_name", vec![oid]),
    }
}

/// `ARRAY(SELECT x ... ORDER BY y)` is `(SELECT array_agg(x ORDER BY y) FROM (SELECT x, y ...))`, with an empty array
/// where there are no rows.
fn array_subquery(function: &Function) -> Option<Expr> {
    let FunctionArguments::Subquery(query) = &function.args else { return None };
    if !function.name.to_string().eq_ignore_ascii_case("array") || !arguments(function).is_empty() {
        return None;
    }
    let mut inner = query.clone();
    let order = move_order(&mut inner);
    let columns = std::iter::once("__item".to_string()).chain((0..order.len()).map(order_column));
    let columns = columns.map(|name| TableAliasColumnDef { name: Ident::new(name), data_type: None }).collect();
    let alias = Some(TableAlias { explicit: true, name: Ident::new("__array"), columns, at: None });
    let mut outer = crate::parse::select_all_from(TableFactor::Derived { lateral: false, subquery: inner, alias, sample: None });
    let mut items = call("array_agg", vec![Expr::Identifier(Ident::new("__item"))]);
    if let (Expr::Function(Function { args: FunctionArguments::List(list), .. }), false) = (&mut items, order.is_empty()) {
        let by = order.into_iter().enumerate().map(|(i, by)| OrderByExpr { expr: Expr::Identifier(Ident::new(order_column(i))), ..by });
        list.clauses = vec![FunctionArgumentClause::OrderBy(by.collect())];
    }
    if let SetExpr::Select(select) = outer.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(items)];
    }
    Some(call(ARRAY_OF_ROWS, vec![Expr::Subquery(Box::new(outer))]))
}

fn order_column(index: usize) -> String {
    format!("__order_{index}")
}

/// Takes the query's ORDER BY, whose expressions become further columns; empty where order and rows are one matter.
fn move_order(query: &mut Query) -> Vec<OrderByExpr> {
    let (Some(OrderBy { kind: OrderByKind::Expressions(by), .. }), None) = (&query.order_by, &query.limit_clause) else { return vec![] };
    let by = by.clone();
    let SetExpr::Select(select) = query.body.as_mut() else { return vec![] };
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice() else {
        return vec![];
    };
    if select.distinct.is_some() {
        return vec![];
    }
    let item = item.clone();
    let key = |by: &OrderByExpr| match &by.expr {
        Expr::Value(_) => item.clone(),
        other => other.clone(),
    };
    select.projection.extend(by.iter().map(key).map(SelectItem::UnnamedExpr).collect::<Vec<_>>());
    query.order_by = None;
    by
}
