//! PostgreSQL's casts on assignment: which values a column takes without a cast that is written. How a value is cast is not known here (`bind::stored`).

use crate::bind::{Mode, is_text_literal, is_untyped, quoted, reader};
use crate::catalog::Relation;
use crate::query::Context;
use crate::types::from_ast;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, Spanned};
use datafusion::sql::sqlparser::tokenizer::Span;
use eddyline_common::postgres::decode::ColumnBuilder;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType};

/// Whether what has type `to` takes a value of type `from`. A jsonb and a uuid take texts: of an expression that is one, DataFusion may say that it is a text.
pub fn is_assignable(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::*;
    match (from, to) {
        (Null, _) => true,
        (from, to) if from == to || to.is_text() || is_number(from) && is_number(to) => true,
        (from, Json | Uuid) => from.is_text(),
        (Date | Timestamp | TimestampTz, Date | Timestamp | TimestampTz) | (Timestamp | TimestampTz, Time) => true,
        (Time, Interval) | (Interval, Time) => true,
        (Array(from), Array(to)) => is_assignable(from, to),
        (Map(key, value), Map(to_key, to_value)) => is_assignable(key, to_key) && is_assignable(value, to_value),
        // A literal in quotes within ROW(...) has no type in PostgreSQL; here it is a text like any other.
        (Struct(from), Struct(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|((_, from), (_, to))| from.is_text() || is_assignable(from, to))
        }
        _ => false,
    }
}

/// The names and types of columns that are written.
pub fn written_columns<'t>(table: &'t Relation, columns: &'t [usize]) -> impl Iterator<Item = (&'t str, &'t SqlType)> {
    columns.iter().map(move |i| (table.columns[*i].name.as_str(), &table.columns[*i].ty))
}

fn is_number(ty: &SqlType) -> bool {
    use SqlType::*;
    matches!(ty, SmallInt | Integer | BigInt | Real | Double | Decimal { .. })
}

/// The refusal of a DEFAULT that its column does not take.
pub fn check_default(default: &Expr, schema: &DFSchema, column: &Column) -> Result<()> {
    match type_of(default, schema) {
        Some(own) if !is_assignable(&own, &column.ty) => Err(mismatch(&column.name, &column.ty, "default expression", &own)),
        _ => Ok(()),
    }
}

impl Context<'_> {
    /// Refuses what its column does not take, be it by its type or as the text it is. The i-th column of `plan`, which `query` was bound to, goes into the i-th of `columns`: a name and a type.
    pub fn check_assigned<'c>(
        &self,
        query: &ast::Query,
        plan: &LogicalPlan,
        columns: impl IntoIterator<Item = (&'c str, &'c SqlType)>,
    ) -> Result<()> {
        for (i, ((name, ty), field)) in columns.into_iter().zip(plan.schema().fields()).enumerate() {
            let checked = match SqlType::from_field(field) {
                _ if is_parameter(plan, i) => Ok(()),
                _ if is_untyped(plan, i) => read(text_of(plan, i), reader(ty).as_mut()),
                Some(own) if !is_assignable(&own, ty) => Err(mismatch(name, ty, "expression", &own)),
                _ => Ok(()),
            };
            checked.map_err(|error| match span_of(query, i) {
                Some(span) => self.text.at(error, span.start),
                None => error,
            })?;
        }
        Ok(())
    }

    /// The same for VALUES, before their cells are bound: what binds them casts them to the columns' types.
    pub fn check_values(&self, values: &ast::Values, columns: &[(&str, &SqlType)]) -> Result<()> {
        let mut readers: Vec<_> = columns.iter().map(|(_, ty)| reader(ty)).collect();
        for row in &values.rows {
            for ((cell, (name, ty)), reader) in row.content.iter().zip(columns).zip(&mut readers) {
                let checked = match self.cell_type(cell) {
                    Some(own) if !is_assignable(&own, ty) => Err(mismatch(name, ty, "expression", &own)),
                    _ => read(quoted(cell).map(|(text, _)| text), reader.as_mut()),
                };
                checked.map_err(|error| self.text.at(error, cell.span().start))?;
            }
        }
        Ok(())
    }

    /// `None` for what has no type yet, and for what cannot be bound: that is told by who binds it.
    fn cell_type(&self, cell: &ast::Expr) -> Option<SqlType> {
        match cell {
            ast::Expr::Value(literal) => match &literal.value {
                ast::Value::Number(number, _) => Some(type_of_number(number)),
                ast::Value::Boolean(_) => Some(SqlType::Boolean),
                _ => None,
            },
            ast::Expr::Nested(inner) => self.cell_type(inner),
            ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => self.cell_type(expr),
            ast::Expr::Cast { data_type, .. } => from_ast(data_type).ok(),
            ast::Expr::TypedString(literal) => from_ast(&literal.data_type).ok(),
            other => {
                let schema = DFSchema::empty();
                type_of(&self.binder(Mode::Batch).expr(other, &schema).ok()?, &schema)
            }
        }
    }
}

/// A text in quotes must be a value of its column's type.
fn read(text: Option<&str>, reader: Option<&mut ColumnBuilder>) -> Result<()> {
    match (text, reader) {
        (Some(text), Some(reader)) => reader.append_text(text),
        _ => Ok(()),
    }
}

/// The literal that a query has as a column.
fn text_of(plan: &LogicalPlan, column: usize) -> Option<&str> {
    let LogicalPlan::Projection(projection) = plan else { return None };
    let mut expr = &projection.expr[column];
    while let Expr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    if let Expr::Literal(text, _) = expr { text.try_as_str().flatten() } else { None }
}

fn type_of_number(written: &str) -> SqlType {
    match (written.parse::<i32>(), written.parse::<i64>()) {
        (Ok(_), _) => SqlType::Integer,
        (_, Ok(_)) => SqlType::BigInt,
        _ => crate::types::DEFAULT_NUMERIC,
    }
}

fn type_of(expr: &Expr, schema: &DFSchema) -> Option<SqlType> {
    match expr {
        Expr::Placeholder(_) => None,
        expr if is_text_literal(expr) => None,
        expr => SqlType::from_field(&expr.to_field(schema).ok()?.1),
    }
}

fn is_parameter(plan: &LogicalPlan, column: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => matches!(projection.expr[column].clone().unalias(), Expr::Placeholder(_)),
        _ => false,
    }
}

/// Where a query has a column; `None` if a star that is not alone stands in front of it.
fn span_of(query: &ast::Query, column: usize) -> Option<Span> {
    let ast::SetExpr::Select(select) = query.body.as_ref() else { return None };
    let is_star = |item: &ast::SelectItem| matches!(item, ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..));
    let item = match select.projection.as_slice() {
        [only] if is_star(only) => only,
        items if items.iter().take(column + 1).any(is_star) => return None,
        items => items.get(column)?,
    };
    Some(item.span())
}

/// `what`: what is assigned. A type is named without its modifiers, as in PostgreSQL.
fn mismatch(column: &str, ty: &SqlType, what: &str, own: &SqlType) -> SqlError {
    let message = format!("column \"{column}\" is of type {} but {what} is of type {}", plain(ty), plain(own));
    SqlError::new(SqlState::DATATYPE_MISMATCH, message).with_hint("You will need to rewrite or cast the expression.")
}

/// A type's name without its modifiers.
pub fn plain(ty: &SqlType) -> String {
    match ty {
        SqlType::Decimal { .. } => "numeric".to_string(),
        SqlType::Varchar(_) => "character varying".to_string(),
        SqlType::Char(_) => "character".to_string(),
        SqlType::Array(item) => format!("{}[]", plain(item)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_on_assignment_are_those_of_postgres() {
        use SqlType::*;
        let numeric = Decimal { precision: 10, scale: 2 };
        let array = |item: SqlType| Array(Box::new(item));
        let row = |fields: &[SqlType]| Struct(fields.iter().map(|ty| ("x".to_string(), ty.clone())).collect());
        for (from, to) in [
            (Double, SmallInt),
            (BigInt, numeric.clone()),
            (Boolean, Varchar(3)),
            (row(&[Integer]), Text),
            (TimestampTz, Date),
            (Date, Timestamp),
            (Timestamp, Time),
            (Char(2), Uuid),
            (array(BigInt), array(Integer)),
            (row(&[Text, Integer]), row(&[Date, BigInt])),
            (array(Null), array(Boolean)),
            (Null, Bytes),
        ] {
            assert!(is_assignable(&from, &to), "{from} to {to}");
        }
        for (from, to) in [
            (Text, Integer),
            (Integer, Boolean),
            (Boolean, Integer),
            (BigInt, Timestamp),
            (Timestamp, BigInt),
            (Date, Time),
            (Text, Date),
            (Text, Bytes),
            (Json, numeric),
            (Integer, Json),
            (array(Text), array(Integer)),
            (Integer, array(Integer)),
            (row(&[Integer]), row(&[Integer, Integer])),
            (row(&[Boolean]), row(&[Integer])),
        ] {
            assert!(!is_assignable(&from, &to), "{from} to {to}");
        }
    }
}
