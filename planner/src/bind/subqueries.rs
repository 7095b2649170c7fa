//! EXISTS where DataFusion takes no such condition, as a value: it becomes a subquery that counts. Those of WHERE and HAVING stay as they are, and become joins. It does not know what IN (query) becomes
//! (`membership`).

use super::level;
use datafusion::sql::sqlparser::ast::*;

/// The name of a subquery whose rows are counted.
const VALUES: &str = "__values";

/// Rewrites one SELECT.
pub fn rewrite(select: &mut Select) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            as_value(expr);
        }
    }
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        exprs.iter_mut().for_each(as_value);
    }
}

/// Makes values of EXISTS in an expression.
pub fn as_value(expr: &mut Expr) {
    level::after(expr, |expr| {
        if let Expr::Exists { subquery, negated } = expr {
            *expr = exists(subquery.clone(), *negated);
        }
    });
}

/// Whether the query has rows: the number of them is asked for, in the query itself if that is simple.
fn exists(mut query: Box<Query>, negated: bool) -> Expr {
    let op = if negated { BinaryOperator::Eq } else { BinaryOperator::Gt };
    if let Some(select) = plain_select(&mut query) {
        select.projection = vec![SelectItem::UnnamedExpr(count_of_rows(op))];
        query.order_by = None;
        return Expr::Subquery(query);
    }
    Expr::Subquery(Box::new(select_from(query, VALUES, vec![], count_of_rows(op))))
}

/// The SELECT that a query is, if it has as many rows whatever its items are.
fn plain_select(query: &mut Query) -> Option<&mut Select> {
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return None;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let is_grouped = select.having.is_some() || select.group_by != GroupByExpr::Expressions(vec![], vec![]);
    let is_plain = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
        }
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => true,
        SelectItem::ExprWithAliases { .. } => false,
    };
    let plain = select.distinct.is_none() && select.qualify.is_none() && !is_grouped && select.projection.iter().all(is_plain);
    if plain { Some(select) } else { None }
}

/// `count(*) > 0` and kin.
pub fn count_of_rows(op: BinaryOperator) -> Expr {
    let mut count = super::rewrite::call("count", vec![]);
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut count {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)];
    }
    let zero = Expr::Value(Value::Number("0".to_string(), false).with_empty_span());
    Expr::BinaryOp { left: Box::new(count), op, right: Box::new(zero) }
}

/// `SELECT item FROM (query) AS name (columns)`.
pub fn select_from(query: Box<Query>, name: &str, columns: Vec<Ident>, item: Expr) -> Query {
    let columns = columns.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    let alias = Some(TableAlias { explicit: true, name: Ident::new(name), columns, at: None });
    let mut outer = crate::parse::select_all_from(TableFactor::Derived { lateral: false, subquery: query, alias, sample: None });
    if let SetExpr::Select(select) = outer.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(item)];
    }
    outer
}
