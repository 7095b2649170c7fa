//! Long chains of AND or OR as trees of as many levels as must be. The parser puts another level on the tree for each operand, and at each level the binder asks for the types
//! of all that is beneath, by name. What is evaluated, and in which order, stays: of operands that fail, a left one still decides before a right one is asked.

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Value};

/// Shorter ones stay as they are.
const LONG: usize = 32;

pub fn shorten(expr: &mut Expr) {
    let Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } = &*expr else { return };
    let op = op.clone();
    if length(expr, &op) > LONG {
        *expr = paired(operands(expr, &op), &op);
    }
}

/// How many operands the chain that ends with `expr` has.
fn length(mut expr: &Expr, of: &BinaryOperator) -> usize {
    let mut length = 1;
    while let Expr::BinaryOp { left, op, .. } = expr
        && op == of
    {
        expr = left;
        length += 1;
    }
    length
}

/// Takes the chain apart.
fn operands(expr: &mut Expr, of: &BinaryOperator) -> Vec<Expr> {
    let mut rest = std::mem::replace(expr, Expr::Value(Value::Null.with_empty_span()));
    let mut operands = Vec::new();
    loop {
        match rest {
            Expr::BinaryOp { left, op, right } if op == *of => {
                operands.push(*right);
                rest = *left;
            }
            first => {
                operands.push(first);
                operands.reverse();
                return operands;
            }
        }
    }
}

/// Neighbours together, and their pairs, until there is one.
fn paired(mut operands: Vec<Expr>, op: &BinaryOperator) -> Expr {
    while operands.len() > 1 {
        let mut pairs = Vec::with_capacity(operands.len().div_ceil(2));
        let mut rest = operands.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) },
                None => left,
            });
        }
        operands = pairs;
    }
    operands.pop().unwrap_or(Expr::Value(Value::Null.with_empty_span()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn parsed(text: &str) -> Expr {
        Parser::new(&GenericDialect {}).try_with_sql(text).unwrap().parse_expr().unwrap()
    }

    fn levels(expr: &Expr) -> usize {
        match expr {
            Expr::BinaryOp { left, right, .. } => 1 + levels(left).max(levels(right)),
            _ => 0,
        }
    }

    #[test]
    fn long_chains_keep_their_order() {
        for (op, terms, depth) in [("AND", 1_000, 10), ("OR", 1_000, 10), ("OR", 33, 6), ("OR", LONG, LONG - 1), ("||", 100, 99)] {
            let text = (0..terms).map(|i| format!("a{i}")).collect::<Vec<_>>().join(&format!(" {op} "));
            let mut expr = parsed(&text);
            shorten(&mut expr);
            assert_eq!((expr.to_string(), levels(&expr)), (text, depth));
        }
    }

    #[test]
    fn a_chain_ends_at_another_operator() {
        let ands = |from: usize| (from..from + 40).map(|i| format!("a{i}")).collect::<Vec<_>>().join(" AND ");
        let text = format!("{} OR {}", ands(0), ands(40));
        let mut expr = parsed(&text);
        shorten(&mut expr);
        assert_eq!(levels(&expr), 40, "two operands are no long chain, what is beneath is another's affair");
        let Expr::BinaryOp { left, .. } = &mut expr else { panic!("{text}") };
        shorten(left);
        assert_eq!((levels(left), expr.to_string()), (6, text));
    }
}
