//! Lists of values that one thing is compared with twice, as in `a IN (1, 2) AND a NOT IN (b, 3)`. DataFusion makes one list of the two, of items that it compares as they
//! are written: right for constants and where something is left. But an item that is null or no constant may equal any other, and where nothing is left, the condition is
//! still not known for what is null. There the lists become comparisons, or the condition what it comes to. It does not know the types: items that are
//! written alike are of one type.

use crate::optimize::fold_constant;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{BinaryExpr, InList};
use datafusion::logical_expr::{Expr, Operator, binary_expr, lit};

/// What something is compared with for equality.
struct Values<'a> {
    of: &'a Expr,
    items: Vec<&'a Expr>,
    negated: bool,
}

/// Of an AND or OR, whose operands have been seen to.
pub fn apart(expr: Expr) -> DfResult<Transformed<Expr>> {
    let replaced = match &expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => set_apart(left, *op, right),
        _ => None,
    };
    Ok(replaced.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

fn set_apart(left: &Expr, op: Operator, right: &Expr) -> Option<Expr> {
    let (l, r) = (values(left)?, values(right)?);
    let is_or = op == Operator::Or;
    // `x OR y` is what NOT (NOT x AND NOT y) is. Of two lists that something is in neither of, all items stay.
    let (l_negated, r_negated) = (l.negated != is_or, r.negated != is_or);
    if l.of != r.of || l.of.is_volatile() || l_negated && r_negated {
        return None;
    }
    let (Some(l_items), Some(r_items)) = (l.constants(), r.constants()) else {
        let side = |values: &Values, whole: &Expr| if values.constants().is_some() { whole.clone() } else { values.compared() };
        return Some(binary_expr(side(&l, left), op, side(&r, right)));
    };
    let ty = l_items.first().map(|item| item.data_type());
    let is_one_type = l_items.iter().chain(&r_items).all(|item| Some(item.data_type()) == ty);
    let is_left = match (l_negated, r_negated) {
        (false, false) => l_items.iter().any(|item| r_items.contains(item)),
        (false, true) => l_items.iter().any(|item| !r_items.contains(item)),
        _ => r_items.iter().any(|item| !l_items.contains(item)),
    };
    if is_left || !is_one_type {
        return None;
    }
    let (of, null) = (l.of.clone(), lit(ScalarValue::Boolean(None)));
    Some(if is_or { of.is_not_null().or(null) } else { of.is_null().and(null) })
}

fn values(expr: &Expr) -> Option<Values<'_>> {
    match expr {
        Expr::InList(InList { expr, list, negated }) => Some(Values { of: expr, items: list.iter().collect(), negated: *negated }),
        Expr::Not(inner) => values(inner).map(|values| Values { negated: !values.negated, ..values }),
        // DataFusion makes lists of these first.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (mut one, other) = (equal(left)?, equal(right)?);
            one.items.extend(other.items);
            (one.of == other.of && matches!(one.of, Expr::Column(_))).then_some(one)
        }
        _ => None,
    }
}

fn equal(expr: &Expr) -> Option<Values<'_>> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = expr else {
        return values(expr).filter(|values| !values.negated);
    };
    match (left.as_ref(), right.as_ref()) {
        (of @ Expr::Column(_), item) | (item, of @ Expr::Column(_)) if constant(item).is_some() => {
            Some(Values { of, items: vec![item], negated: false })
        }
        _ => None,
    }
}

/// What a literal, or a cast of one, comes to.
fn constant(item: &Expr) -> Option<ScalarValue> {
    match item {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Cast(cast) if constant(&cast.expr).is_some() => match fold_constant(item.clone()) {
            Ok(Expr::Literal(value, _)) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

impl Values<'_> {
    /// The items, if they are constants and none is null.
    fn constants(&self) -> Option<Vec<ScalarValue>> {
        self.items.iter().map(|item| constant(item).filter(|value| !value.is_null())).collect()
    }

    /// Item by item.
    fn compared(&self) -> Expr {
        let each = self.items.iter().map(|item| {
            let (of, item) = (self.of.clone(), (*item).clone());
            if self.negated { of.not_eq(item) } else { of.eq(item) }
        });
        each.reduce(if self.negated { Expr::and } else { Expr::or }).unwrap_or_else(|| lit(self.negated))
    }
}
