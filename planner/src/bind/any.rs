//! `item = ANY (array)`, compared as `=` compares the two types. DataFusion binds it without asking anybody, and its coercion takes no numerics beside other
//! numbers; so the rewriter makes an operator of ours of it, which is planned where the types are known.

use super::common::compared_number;
use super::matching::{check_operands, is_text_literal};
use crate::error::into_datafusion;
use crate::functions::typed::field_of;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::functions_nested::expr_fn::array_has;
use datafusion::logical_expr::{Cast, Expr};
use datafusion::sql::sqlparser::ast;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

const OPERATOR: &str = "__any";

/// A query in more parentheses than it needs is one still, and no value.
pub fn take_query(expr: &mut ast::Expr) {
    let (ast::Expr::AnyOp { right, .. } | ast::Expr::AllOp { right, .. }) = expr else { return };
    let ast::Expr::Nested(inner) = right.as_ref() else { return };
    let mut inner = inner.as_ref();
    while let ast::Expr::Nested(next) = inner {
        inner = next;
    }
    if let ast::Expr::Subquery(query) = inner {
        **right = ast::Expr::Subquery(query.clone());
    }
}

/// Not for a subquery, which is another expression to the binder.
pub fn mark(expr: &mut ast::Expr) {
    if let ast::Expr::AnyOp { left, compare_op: ast::BinaryOperator::Eq, right, .. } = expr
        && !matches!(right.as_ref(), ast::Expr::Subquery(_))
    {
        let op = ast::BinaryOperator::Custom(OPERATOR.to_string());
        *expr = ast::Expr::BinaryOp { left: left.clone(), op, right: right.clone() };
    }
}

pub fn is_marked(op: &ast::BinaryOperator) -> bool {
    matches!(op, ast::BinaryOperator::Custom(name) if name == OPERATOR)
}

/// What the operator stands for.
pub fn planned(item: Expr, list: Expr, schema: &DFSchema) -> DfResult<Expr> {
    let list = read_beside(list, &item, schema);
    let (list, item) = searched(list, item, schema)?;
    Ok(array_has(list, item))
}

/// An array in quotes is one of items such as the one it is searched for.
fn read_beside(list: Expr, item: &Expr, schema: &DFSchema) -> Expr {
    let of_item = field_of(item, schema).ok().and_then(|field| SqlType::from_field(&field));
    match of_item {
        Some(ty) if is_text_literal(&list) && ty != SqlType::Null => {
            let field = SqlType::Array(Box::new(ty.unlimited())).field("", true);
            Expr::Cast(Cast { expr: Box::new(list), field: Arc::new(field) })
        }
        _ => list,
    }
}

/// A list and what is searched for in it, as they are compared. What DataFusion compares as PostgreSQL does stays as it is: a look-up by key wants its column bare.
pub fn searched(list: Expr, item: Expr, schema: &DFSchema) -> DfResult<(Expr, Expr)> {
    let (Ok(list_field), Ok(item_field)) = (field_of(&list, schema), field_of(&item, schema)) else { return Ok((list, item)) };
    let DataType::List(items) = list_field.data_type() else {
        check_array(&list, &list_field)?;
        return Ok((list, item));
    };
    check_operands("=", (&item, &item_field), (&list, items))?;
    let Some(common) = compared_number(items.data_type(), item_field.data_type()) else { return Ok((list, item)) };
    let item = if *item_field.data_type() == common { item } else { Expr::Cast(Cast::new(Box::new(item), common.clone())) };
    let list = if *items.data_type() == common { list } else { Expr::Cast(Cast::new(Box::new(list), list_of(items, common))) };
    Ok((list, item))
}

fn list_of(items: &FieldRef, ty: DataType) -> DataType {
    DataType::List(Arc::new(Field::new(items.name(), ty, true)))
}

fn check_array(list: &Expr, field: &Field) -> DfResult<()> {
    let is_scalar = field.data_type().is_numeric() || matches!(field.data_type(), DataType::Boolean | DataType::Date32);
    if !is_scalar || matches!(list, Expr::Placeholder(_)) {
        return Ok(());
    }
    Err(into_datafusion(SqlError::new(SqlState::WRONG_OBJECT_TYPE, "op ANY/ALL (array) requires array on right side")))
}
