//! Types that must go together: of what is compared, and of the columns of a set operation. DataFusion would make texts of both sides, or fail
//! later in words of its own; PostgreSQL refuses, and so do we. A literal in quotes has no type yet, and goes with everything.

use super::set_operations::is_set_operation;
use crate::error::into_datafusion;
use crate::walk::WalkPlan;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, JoinType, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan};
use eddyline_common::types::TYPE_METADATA_KEY;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::fmt;

/// Types of one kind can be compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Boolean,
    Moment,
    TimeOfDay,
    Interval,
    Bytes,
    Array,
}

/// `None`: of no kind that we judge, such as types of the catalog that are numbers and texts at once.
fn kind(field: &Field) -> Option<Kind> {
    let marked = field.metadata().get(TYPE_METADATA_KEY);
    if marked.is_some_and(|mark| !mark.starts_with("varchar") && !mark.starts_with("bpchar")) {
        return None;
    }
    Some(match field.data_type() {
        ty if ty.is_numeric() => Kind::Number,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Boolean => Kind::Boolean,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => Kind::Moment,
        DataType::Time32(_) | DataType::Time64(_) => Kind::TimeOfDay,
        DataType::Interval(_) | DataType::Duration(_) => Kind::Interval,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Bytes,
        DataType::List(_) | DataType::LargeList(_) => Kind::Array,
        _ => return None,
    })
}

pub fn go_together(left: &Field, right: &Field) -> bool {
    match (kind(left), kind(right)) {
        (Some(left), Some(right)) => left == right,
        _ => true,
    }
}

/// A field's type in the words of errors.
pub fn shown(field: &Field) -> String {
    SqlType::from_field(field).map_or_else(|| field.data_type().to_string(), |ty| ty.to_string())
}

/// The two sides of an operator that compares.
pub fn check_operands(operator: impl fmt::Display, left: (&Expr, &Field), right: (&Expr, &Field)) -> DfResult<()> {
    let untyped = |expr: &Expr| matches!(expr, Expr::Placeholder(_)) || is_text_literal(expr);
    if untyped(left.0) || untyped(right.0) || go_together(left.1, right.1) {
        return Ok(());
    }
    let message = format!("operator does not exist: {} {operator} {}", shown(left.1), shown(right.1));
    Err(into_datafusion(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).with_hint("Cast one side to the type of the other.")))
}

/// Checks the set operations of a bound plan, and joins that name columns of both sides (USING).
pub fn check(plan: &LogicalPlan) -> DfResult<()> {
    plan.each_with_subqueries(|node| {
        match node {
            LogicalPlan::Union(union) => {
                for other in &union.inputs[1..] {
                    check_columns("UNION", &union.inputs[0], other)?;
                }
            }
            LogicalPlan::Join(join) if is_set_operation(join) => {
                let name = if join.join_type == JoinType::LeftAnti { "EXCEPT" } else { "INTERSECT" };
                check_columns(name, &join.left, &join.right)?;
            }
            LogicalPlan::Join(join) => {
                for (left, right) in &join.on {
                    let (_, left_field) = left.to_field(join.left.schema())?;
                    let (_, right_field) = right.to_field(join.right.schema())?;
                    check_operands("=", (left, &left_field), (right, &right_field))?;
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_columns(operation: &str, left: &LogicalPlan, right: &LogicalPlan) -> DfResult<()> {
    for (i, (l, r)) in left.schema().fields().iter().zip(right.schema().fields()).enumerate() {
        if go_together(l, r) || is_untyped(left, i) || is_untyped(right, i) {
            continue;
        }
        return Err(cannot_be_matched(operation, l, r, Some(format!("They are the types of column {}.", i + 1))));
    }
    Ok(())
}

/// Of values of which each may be taken.
pub fn cannot_be_matched(what: &str, left: &Field, right: &Field, detail: Option<String>) -> DataFusionError {
    let message = format!("{what} types {} and {} cannot be matched", shown(left), shown(right));
    let error = SqlError::new(SqlState::DATATYPE_MISMATCH, message).with_hint("Cast one of them to the type of the other.");
    into_datafusion(match detail {
        Some(detail) => error.with_detail(detail),
        None => error,
    })
}

/// Whether a column of a plan is nothing but literals in quotes.
pub fn is_untyped(plan: &LogicalPlan, column: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => is_text_literal(&projection.expr[column]),
        LogicalPlan::Values(values) => values.values.iter().all(|row| is_text_literal(&row[column])),
        LogicalPlan::Union(union) => union.inputs.iter().all(|input| is_untyped(input, column)),
        LogicalPlan::Distinct(Distinct::All(input)) => is_untyped(input, column),
        // DataFusion names the sides of a set operation; names that the user gave are below a projection.
        LogicalPlan::SubqueryAlias(named) => is_untyped(&named.input, column),
        LogicalPlan::Sort(sort) => is_untyped(&sort.input, column),
        LogicalPlan::Limit(limit) => is_untyped(&limit.input, column),
        _ => false,
    }
}

pub fn is_text_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Utf8View(_) | ScalarValue::LargeUtf8(_), _) => true,
        Expr::Alias(alias) => is_text_literal(&alias.expr),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_one_kind_go_together() {
        let field = |ty: SqlType| ty.field("x", true);
        let decimal = SqlType::Decimal { precision: 10, scale: 2 };
        for (left, right) in [(SqlType::Integer, decimal), (SqlType::Date, SqlType::TimestampTz), (SqlType::Text, SqlType::Varchar(3))] {
            assert!(go_together(&field(left), &field(right)));
        }
        for (left, right) in
            [(SqlType::Integer, SqlType::Text), (SqlType::Boolean, SqlType::BigInt), (SqlType::Timestamp, SqlType::Integer)]
        {
            assert!(!go_together(&field(left), &field(right)));
        }
        assert!(go_together(&field(SqlType::Uuid), &field(SqlType::Text)), "what is not judged goes with everything");
    }
}
