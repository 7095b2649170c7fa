//! INSERT of a long list of literals. The list is bound piece by piece, as any VALUES of its table, and the constants of each piece are worked out at once, so that no
//! plan holds the whole of it: the statement's source is then the rows themselves. A list in which something is wrong or no constant is planned whole, if it is not too
//! long for that, and says what it has to say.

use crate::catalog::Relation;
use crate::error::from_datafusion;
use crate::optimize::{failure, settle};
use crate::parse::{LongValues, parse_query};
use crate::query::Context;
use crate::statement::Planned;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use eddyline_common::{Result, SqlError};
use std::sync::Arc;

impl Context<'_> {
    /// An INSERT whose further rows are in `long`; `None` if it is to be planned whole.
    pub fn long_insert(&self, insert: &ast::Insert, long: &LongValues, overriding: bool) -> Result<Option<Planned>> {
        let ast::TableObject::TableName(name) = &insert.table else { return Ok(None) };
        match self.relation(name)?.source_spec() {
            Some(_) => Ok(None),
            None => self.insert_with(insert, Some(long), overriding).map(Some),
        }
    }

    /// The rows of the VALUES that `first` is, and those behind them.
    pub(super) fn long_rows(&self, first: LogicalPlan, long: &LongValues, table: &Relation, columns: &[usize]) -> Result<LogicalPlan> {
        let schema = first.schema().inner().clone();
        let mut batches = vec![constants(first, &schema)?];
        let mut query = parse_query("VALUES (1)")?;
        for values in long.pieces() {
            *query.body = ast::SetExpr::Values(values);
            batches.push(constants(self.insert_rows(&query, table, columns)?, &schema)?);
        }
        // One batch, as VALUES give it: what runs the plan may deal out several.
        let rows = concat_batches(&schema, &batches)?;
        let scan = MemTable::try_new(schema, vec![vec![rows]])
            .and_then(|rows| LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(rows)), None))
            .and_then(LogicalPlanBuilder::build);
        scan.map_err(|e| from_datafusion(e, None))
    }
}

/// The rows of VALUES that come to constants of these types.
fn constants(values: LogicalPlan, schema: &SchemaRef) -> Result<RecordBatch> {
    let settled = settle(values).map_err(|e| from_datafusion(e, None))?;
    let LogicalPlan::Values(values) = settled else { return Err(SqlError::internal("not VALUES")) };
    let mut columns = vec![Vec::new(); schema.fields().len()];
    for row in values.values {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.push(constant(cell)?);
        }
    }
    let columns = columns.into_iter().map(ScalarValue::iter_to_array).collect::<DfResult<Vec<_>>>();
    Ok(RecordBatch::try_new(schema.clone(), columns.map_err(|e| from_datafusion(e, None))?)?)
}

/// A value, whatever it was called before it was worked out.
fn constant(mut cell: Expr) -> Result<ScalarValue> {
    while let Expr::Alias(alias) = cell {
        cell = *alias.expr;
    }
    match cell {
        Expr::Literal(value, _) => Ok(value),
        other => Err(failure(&other).unwrap_or_else(|| {
            SqlError::unsupported(format!("{other} in a long list of VALUES is not supported: it is no constant"))
                .with_hint("Write fewer rows at a time, or use COPY.")
        })),
    }
}
