//! Rows that are compared: `(a, b) < (c, d)` and kin are comparisons of their values one after the other, as in PostgreSQL; `(a, b) < (query)` is one with the query's columns, each a value of
//! its own. A row that is looked for in a query is one value until it is bound; it is taken apart in `membership`.

use super::membership::ROW;
use super::rewrite::{Broken, broken, call};
use super::subqueries;
use datafusion::sql::sqlparser::ast::*;
use eddyline_common::{SqlError, SqlState};
use std::ops::ControlFlow;

/// The name of a subquery whose rows are looked through.
const ROWS: &str = "__rows";

/// The expression that stands for a comparison of rows.
pub fn replacement(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::BinaryOp { left, op, right } => compared(row(left)?, op, row(right)?),
        Expr::InList { expr, list, negated } => {
            let left = row(expr)?;
            let equal = list.iter().map(|item| compared(left, &BinaryOperator::Eq, row(item)?)).collect::<Option<Vec<_>>>()?;
            let any = Expr::Nested(Box::new(chain(equal, BinaryOperator::Or)?));
            Some(if *negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) } } else { any })
        }
        _ => None,
    }
}

/// The values of an expression that is a row.
pub fn row(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Tuple(values) => Some(values),
        Expr::Nested(inner) => row(inner),
        _ => None,
    }
}

/// `(a, b) IN (query)`, `= ANY` and `<> ALL` as the test of one value; `width` is how many columns a query has, if that is known.
pub fn in_query(expr: &Expr, width: impl Fn(&Query) -> Option<usize>) -> ControlFlow<Broken, Option<Expr>> {
    let (left, right, is_in, negated) = match expr {
        Expr::InSubquery { expr, subquery, negated } => (expr, Some(subquery.as_ref()), true, *negated),
        Expr::AnyOp { left, compare_op, right, .. } => (left, of_subquery(right), *compare_op == BinaryOperator::Eq, false),
        Expr::AllOp { left, compare_op, right } => (left, of_subquery(right), *compare_op == BinaryOperator::NotEq, true),
        _ => return ControlFlow::Continue(None),
    };
    let (Some(values), Some(query)) = (row(left), right) else { return ControlFlow::Continue(None) };
    if !is_in {
        let error = SqlError::unsupported("a row is compared with ANY (SELECT ...) by = alone, and with ALL (SELECT ...) by <>");
        return broken(error.with_hint("Write EXISTS or NOT EXISTS with a subquery that compares the values."), left.span());
    }
    check_width(left, values, width(query))?;
    let columns = columns_of(values);
    let item = call(ROW, columns.iter().map(column).collect());
    let subquery = Box::new(subqueries::select_from(Box::new(query.clone()), ROWS, columns, item));
    ControlFlow::Continue(Some(Expr::InSubquery { expr: Box::new(call(ROW, values.to_vec())), subquery, negated }))
}

/// `(a, b) = (query)` and kin, with a query of one row at most, as comparisons of values.
pub fn with_query(expr: &Expr, width: impl Fn(&Query) -> Option<usize>) -> ControlFlow<Broken, Option<Expr>> {
    let Expr::BinaryOp { left, op, right } = expr else { return ControlFlow::Continue(None) };
    let (Some(values), Some(query)) = (row(left), of_subquery(right)) else { return ControlFlow::Continue(None) };
    check_width(left, values, width(query))?;
    let columns = columns_of(values);
    let value = |of: &Ident| Expr::Subquery(Box::new(subqueries::select_from(Box::new(query.clone()), ROWS, columns.clone(), column(of))));
    let found: Vec<Expr> = columns.iter().map(value).collect();
    ControlFlow::Continue(compared(values, op, &found))
}

fn check_width(left: &Expr, values: &[Expr], width: Option<usize>) -> ControlFlow<Broken> {
    let Some(width) = width.filter(|width| *width != values.len()) else { return ControlFlow::Continue(()) };
    let few = if width < values.len() { "few" } else { "many" };
    broken(SqlError::new(SqlState::SYNTAX_ERROR, format!("subquery has too {few} columns")), left.span())
}

/// What the columns of a query are called that values are compared with.
fn columns_of(values: &[Expr]) -> Vec<Ident> {
    (1..=values.len()).map(|i| Ident::new(format!("__value_{i}"))).collect()
}

fn column(name: &Ident) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new(ROWS), name.clone()])
}

fn of_subquery(expr: &Expr) -> Option<&Query> {
    match expr {
        Expr::Subquery(query) => Some(query),
        _ => None,
    }
}

fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    use BinaryOperator::*;
    if left.len() != right.len() {
        return None;
    }
    let each = |op: BinaryOperator| left.iter().zip(right).map(|(l, r)| binary(nested(l), op.clone(), nested(r))).collect::<Vec<_>>();
    let whole = match op {
        Eq => chain(each(Eq), And)?,
        NotEq => chain(each(NotEq), Or)?,
        Lt | LtEq => ordered(left, right, Lt, op)?,
        Gt | GtEq => ordered(left, right, Gt, op)?,
        _ => return None,
    };
    Some(Expr::Nested(Box::new(whole)))
}

/// The first values that differ decide; `last` compares the last ones.
fn ordered(left: &[Expr], right: &[Expr], strict: BinaryOperator, last: &BinaryOperator) -> Option<Expr> {
    let ((l, left), (r, right)) = (left.split_first()?, right.split_first()?);
    if left.is_empty() {
        return Some(binary(nested(l), last.clone(), nested(r)));
    }
    let equal = binary(nested(l), BinaryOperator::Eq, nested(r));
    let rest = ordered(left, right, strict.clone(), last)?;
    let tied = binary(equal, BinaryOperator::And, Expr::Nested(Box::new(rest)));
    Some(binary(binary(nested(l), strict, nested(r)), BinaryOperator::Or, Expr::Nested(Box::new(tied))))
}

fn chain(parts: Vec<Expr>, op: BinaryOperator) -> Option<Expr> {
    parts.into_iter().reduce(|all, next| binary(all, op.clone(), next))
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// An operand that stays one.
fn nested(expr: &Expr) -> Expr {
    match expr {
        Expr::BinaryOp { .. } | Expr::UnaryOp { .. } => Expr::Nested(Box::new(expr.clone())),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_that_differ_decide() {
        for (rows, compared) in [
            ("(a, b) = (1, 2)", "(a = 1 AND b = 2)"),
            ("(a, b) <> (1, 2)", "(a <> 1 OR b <> 2)"),
            ("(a, b) <= (1, 2)", "(a < 1 OR (a = 1 AND (b <= 2)))"),
            ("(a, b, c) > (1, 2, 3)", "(a > 1 OR (a = 1 AND (b > 2 OR (b = 2 AND (c > 3)))))"),
            ("(a, b) NOT IN ((1, 2), (3, 4))", "NOT ((a = 1 AND b = 2) OR (a = 3 AND b = 4))"),
        ] {
            let query = crate::parse::parse_query(&format!("SELECT {rows}")).expect("a constant query parses");
            let SetExpr::Select(select) = query.body.as_ref() else { panic!("not a select") };
            let [SelectItem::UnnamedExpr(expr)] = select.projection.as_slice() else { panic!("not one item") };
            assert_eq!(replacement(expr).expect("rows are compared").to_string(), compared);
        }
    }
}
