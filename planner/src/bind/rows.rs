//! Rows that are compared: `(a, b) < (c, d)` and kin are comparisons of their values one after the other, as in PostgreSQL.

use super::subqueries;
use datafusion::sql::sqlparser::ast::*;

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

/// `(a, b) IN (query)` as a condition of which it only counts whether it is true: EXISTS.
pub fn in_subquery(left: &[Expr], query: Box<Query>) -> Expr {
    let columns: Vec<Ident> = (1..=left.len()).map(|i| Ident::new(format!("__value_{i}"))).collect();
    let equal = left.iter().zip(&columns).map(|(value, column)| {
        let column = Expr::CompoundIdentifier(vec![Ident::new(ROWS), column.clone()]);
        binary(column, BinaryOperator::Eq, nested(value))
    });
    let condition = chain(equal.collect(), BinaryOperator::And);
    let one = Expr::Value(Value::Number("1".to_string(), false).with_empty_span());
    Expr::Exists { subquery: Box::new(subqueries::select_from(query, ROWS, columns, one, condition)), negated: false }
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
