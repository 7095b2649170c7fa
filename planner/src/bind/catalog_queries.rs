//! The catalog queries that psql and drivers send, brought into a form DataFusion plans: `OPERATOR(pg_catalog.~)`,
//! collations, `::regclass` and kin, `ARRAY(SELECT ...)`.

use super::rewrite::{arguments, call, cast, string_expr};
use crate::error::fold;
use crate::functions::ARRAY_OF_ROWS;
use crate::walk::sql;
use datafusion::sql::sqlparser::ast::*;

/// What `regclass` and kin are here: functions of the server's registry, from name to oid and back.
const REG_TYPES: &[&str] = &["regclass", "regtype", "regproc", "regnamespace", "regrole", "regoper", "regprocedure"];

pub fn rewrite_query(query: &mut Query) {
    // A lock clause is no matter of the plan: see `crate::locks`.
    query.locks.clear();
}

/// The columns that relations have and `*` does not name (`hidden_column`).
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
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && let Some((name, expr)) = hidden_column(expr, &relations)
        {
            *item = SelectItem::ExprWithAlias { expr, alias: Ident::new(name) };
        }
    }
    sql::expressions_mut(select, |expr| {
        if let Some((_, value)) = hidden_column(expr, &relations) {
            *expr = value;
        }
    });
}

/// `t.tableoid` is the same for all rows of `t`: the oid of the relation that `t` is. So is `xmin` of a relation of the catalog, whose rows
/// no transaction has written.
fn hidden_column(expr: &Expr, relations: &[(String, String)]) -> Option<(&'static str, Expr)> {
    let (relation, column) = match expr {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [qualifier, column] => (&relations.iter().find(|(own, _)| *own == fold(qualifier))?.1, column),
            _ => return None,
        },
        Expr::Identifier(column) if fold(column) == "xmin" => match relations {
            [(_, relation)] => (relation, column),
            _ => return None,
        },
        _ => return None,
    };
    match fold(column).as_str() {
        "tableoid" => Some(("tableoid", call("eddyline_regclass", vec![string_expr(relation)]))),
        "xmin" if is_of_catalog(relation) => {
            let xid = DataType::Custom(ObjectName::from(vec![Ident::new("xid")]), vec![]);
            Some(("xmin", cast(zero(), xid)))
        }
        _ => None,
    }
}

/// Whether a relation has the name of one of `pg_catalog`; one of them has a column `xmin` of its own.
fn is_of_catalog(relation: &str) -> bool {
    let lower = relation.to_lowercase();
    let name = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    name.starts_with("pg_") && name != "pg_replication_slots"
}

fn zero() -> Expr {
    Expr::Value(Value::Number("0".to_string(), false).with_empty_span())
}

/// How many transactions ago another one was: that of a row of the catalog is none.
fn age(function: &Function) -> Option<Expr> {
    let args = arguments(function);
    let [Expr::Cast { data_type, .. }] = args.as_slice() else { return None };
    let is_age = function.name.0.last()?.as_ident().map(fold).as_deref() == Some("age");
    (is_age && type_name(data_type) == "xid").then(|| cast(zero(), DataType::Integer(None)))
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
        Expr::Function(function) => age(function).or_else(|| array_subquery(function)),
        _ => None,
    };
    if let Some(replacement) = replacement {
        *expr = replacement;
        // What a cast or a collation hid may itself need a rewrite.
        rewrite_expr(expr);
    }
}

/// `(record).field...`, and `records[1].field...`.
fn record_field(root: &Expr, chain: &[AccessExpr]) -> Option<Expr> {
    let dot = |access: &AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
    // A name with dots is a column.
    let is_name = matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    let name = if is_name { chain.iter().take_while(|access| dot(access)).count() } else { 0 };
    let at = name + chain[name..].iter().position(dot)?;
    let AccessExpr::Dot(Expr::Identifier(field)) = &chain[at] else { return None };
    let record = match at {
        0 => root.clone(),
        _ => Expr::CompoundFieldAccess { root: Box::new(root.clone()), access_chain: chain[..at].to_vec() },
    };
    let value = call("get_field", vec![record, string_expr(&fold(field))]);
    Some(match &chain[at + 1..] {
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
        && matches!(type_name(data_type).as_str(), "regclass" | "regproc")
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
        return Some(cast(reg_name(&type_name(middle), source.as_ref().clone()), data_type.clone()));
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
        "regclass" | "regtype" | "regnamespace" | "regrole" | "regproc" => call(&format!("eddyline_{reg_type}_name"), vec![oid]),
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
