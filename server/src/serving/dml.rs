//! INSERT, UPDATE, DELETE and COPY evaluated to net changes over a table's stored columns. The caller holds the
//! table's lock and gives what the table is at that moment; the caller also commits. Constraints are
//! checked here: NOT NULL is 23502, a duplicate key 23505. Nothing is written here.

use super::conflict::{self, Existing};
use super::engine::QueryEngine;
use super::numbers::{Numbers, exhausted};
use super::overlay::Overlay;
use super::relation::Bindings;
use crate::coordinator::{CoordinatorHandle, ReadSnapshot};
use crate::session::transaction::TRANSACTION_BYTES_MAX;
use crate::session::write_memory::WriteMemory;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::DFSchema;
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{ChangeBatch, Result, SqlError, SqlState, Timestamp};
use eddyline_planner::Relation;
use eddyline_planner::statement::{Insert, Mutation, OnConflict, Returning};
use std::sync::Arc;

/// A table as a writing statement finds it, under its lock.
pub struct Target<'a> {
    pub relation: &'a Arc<Relation>,
    pub snapshot: &'a ReadSnapshot,
    pub overlay: Option<Arc<Overlay>>,
    pub engine: &'a QueryEngine,
    /// What the statement's rows are counted in while they gather.
    pub memory: &'a Arc<WriteMemory>,
    /// What new rows are numbered with, and who says that numbers are theirs.
    pub numbers: &'a Numbers,
    pub coordinator: &'a CoordinatorHandle,
    pub now: Timestamp,
}

/// What a statement did.
pub struct Effects {
    pub rows: u64,
    /// -1 old, +1 new.
    pub changes: ChangeBatch,
    pub returning: Option<(SchemaRef, RecordBatch)>,
}

impl Target<'_> {
    pub fn schema(&self) -> SchemaRef {
        arrow_schema(&self.relation.columns)
    }

    /// The source's rows in the table's types, checked for nulls.
    async fn rows(&self, plan: datafusion::logical_expr::LogicalPlan, bindings: Bindings) -> Result<RecordBatch> {
        let schema = self.schema();
        let mut share = self.memory.share();
        let batches = self.engine.collect_counted(plan, bindings, TRANSACTION_BYTES_MAX, |bytes| share.grow(bytes)).await?;
        let batches = batches.iter().map(|b| conform(b.columns(), b.num_rows(), &schema)).collect::<Result<Vec<_>>>()?;
        Ok(arrow::compute::concat_batches(&loose(&schema), &batches)?)
    }

    fn returning(&self, returning: Option<&Returning>, rows: &RecordBatch) -> Result<Option<(SchemaRef, RecordBatch)>> {
        let Some(returning) = returning else { return Ok(None) };
        let (input, schema) = positional(rows)?;
        let output = arrow_schema(&returning.columns);
        let mut columns = Vec::with_capacity(returning.exprs.len());
        for (expr, column) in returning.exprs.iter().zip(&returning.columns) {
            let bound = self.engine.expression(expr, &schema, self.now)?;
            columns.push(cast(&QueryEngine::evaluate(bound.as_ref(), &input)?, column)?);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(input.num_rows()));
        let output = loose(&output);
        Ok(Some((output.clone(), RecordBatch::try_new_with_options(output, columns, &options)?)))
    }

    /// `INSERT`, with what its ON CONFLICT says.
    pub async fn insert(&self, insert: &Insert, bindings: Bindings) -> Result<Effects> {
        let rows = self.numbered(self.rows(insert.source.plan.clone(), bindings).await?).await?;
        self.insert_rows(rows, &insert.on_conflict, insert.returning.as_ref())
    }

    /// New rows with numbers in the place of nulls, in the column that numbers them.
    pub async fn numbered(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let Some(place) = self.relation.numbered().map(|numbered| numbered.column) else { return Ok(rows) };
        let given = rows.column(place);
        let missing = given.logical_null_count();
        if missing == 0 {
            return Ok(rows);
        }
        let mut next = self.numbers.take(self.coordinator, self.relation.id, missing).await?..;
        let wide = arrow::compute::cast_with_options(given, &DataType::Int64, &STRICT)?;
        let filled: Int64Array = wide.as_primitive::<Int64Type>().iter().map(|value| value.or_else(|| next.next())).collect();
        let filled = arrow::compute::cast_with_options(&filled, given.data_type(), &STRICT);
        let mut columns = rows.columns().to_vec();
        columns[place] = filled.map_err(|_| exhausted(&self.relation.columns[place].ty.to_string()))?;
        Ok(RecordBatch::try_new(rows.schema(), columns)?)
    }

    /// Rows in stored columns, from INSERT or COPY.
    pub fn insert_rows(&self, rows: RecordBatch, on_conflict: &OnConflict, returning: Option<&Returning>) -> Result<Effects> {
        let rows = rounded(self.relation, rows)?;
        self.check_nulls(&rows)?;
        if self.relation.key.is_empty() {
            if matches!(on_conflict, OnConflict::DoUpdate { .. }) {
                return Err(SqlError::new(
                    SqlState("42P10"),
                    "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                ));
            }
            let returning = self.returning(returning, &rows)?;
            return Ok(Effects { rows: rows.num_rows() as u64, changes: self.changes(None, rows)?, returning });
        }
        let existing = Existing::find(self, &rows)?;
        let resolved = conflict::resolve(self, rows, existing, on_conflict)?;
        self.check_nulls(&resolved.new)?;
        let returning = self.returning(returning, &resolved.new)?;
        Ok(Effects { rows: resolved.new.num_rows() as u64, changes: self.changes(Some(resolved.old), resolved.new)?, returning })
    }

    /// `UPDATE`: the source yields the old row's columns, then the new row's, and maybe the old one's number.
    pub async fn update(&self, update: &Mutation, bindings: Bindings) -> Result<Effects> {
        self.check_mutable("UPDATE")?;
        let width = self.relation.columns.len();
        let schema = self.schema();
        let mut share = self.memory.share();
        let plan = update.source.plan.clone();
        let batches = self.engine.collect_counted(plan, bindings, TRANSACTION_BYTES_MAX, |bytes| share.grow(bytes)).await?;
        let (mut olds, mut news, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for batch in &batches {
            olds.push(conform(&batch.columns()[..width], batch.num_rows(), &schema)?);
            news.push(conform(&batch.columns()[width..2 * width], batch.num_rows(), &schema)?);
            let number = batch.columns().get(2 * width).map(|column| column.as_primitive::<Int64Type>());
            numbers.extend(number.into_iter().flatten());
        }
        let old = arrow::compute::concat_batches(&loose(&schema), &olds)?;
        let new = rounded(self.relation, arrow::compute::concat_batches(&loose(&schema), &news)?)?;
        self.check_nulls(&new)?;
        let (old, new) = self.once_each(old, new, &numbers)?;
        if !self.relation.key.is_empty() {
            conflict::check_moved_keys(self, &old, &new)?;
        }
        let returning = self.returning(update.returning.as_ref(), &new)?;
        Ok(Effects { rows: new.num_rows() as u64, changes: self.changes(Some(old), new)?, returning })
    }

    /// `DELETE`: the source yields the old row's columns.
    pub async fn delete(&self, delete: &Mutation, bindings: Bindings) -> Result<Effects> {
        self.check_mutable("DELETE")?;
        let old = self.rows(delete.source.plan.clone(), bindings).await?;
        let returning = self.returning(delete.returning.as_ref(), &old)?;
        let rows = old.num_rows() as u64;
        let nothing = RecordBatch::new_empty(old.schema());
        Ok(Effects { rows, changes: self.changes(Some(old), nothing)?, returning })
    }

    fn check_mutable(&self, what: &str) -> Result<()> {
        match self.relation.kind {
            eddyline_planner::RelationKind::Table { append_only: true, .. } => {
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("cannot {what} append-only table \"{}\"", self.relation.name)))
            }
            _ => Ok(()),
        }
    }

    fn check_nulls(&self, rows: &RecordBatch) -> Result<()> {
        for (column, values) in self.relation.columns.iter().zip(rows.columns()) {
            if !column.nullable && values.logical_null_count() > 0 {
                let row = (0..values.len()).find(|r| values.is_null(*r)).unwrap_or_default();
                return Err(conflict::null_in(self.relation, &column.name, rows, row));
            }
        }
        Ok(())
    }

    /// An UPDATE whose FROM matches a row several times changes it once, by any of the matches.
    fn once_each(&self, old: RecordBatch, new: RecordBatch, numbers: &[Option<i64>]) -> Result<(RecordBatch, RecordBatch)> {
        let first: BooleanArray = match (self.relation.key.is_empty(), numbers) {
            (true, []) => return Ok((old, new)),
            (true, numbers) => {
                let mut seen = hashbrown::HashSet::with_capacity(numbers.len());
                numbers.iter().map(|number| Some(seen.insert(number))).collect()
            }
            (false, _) => {
                let keys = conflict::keys_of(self.relation, &old)?;
                let mut seen = hashbrown::HashSet::with_capacity(keys.len());
                keys.iter().map(|k| Some(seen.insert(k))).collect()
            }
        };
        if first.true_count() == first.len() {
            return Ok((old, new));
        }
        Ok((arrow::compute::filter_record_batch(&old, &first)?, arrow::compute::filter_record_batch(&new, &first)?))
    }

    /// As changes of the table.
    pub fn changes(&self, old: Option<RecordBatch>, new: RecordBatch) -> Result<ChangeBatch> {
        changes(self.relation, old, new)
    }
}

/// Rows that go and rows that come as changes of a table.
pub fn changes(relation: &Relation, old: Option<RecordBatch>, new: RecordBatch) -> Result<ChangeBatch> {
    let schema = arrow_schema(&relation.columns);
    let exact = |rows: RecordBatch| Ok::<_, SqlError>(RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?);
    let Some(old) = old.filter(|o| o.num_rows() > 0) else { return Ok(ChangeBatch::insertions(exact(new)?)) };
    let weights = std::iter::repeat_n(-1, old.num_rows()).chain(std::iter::repeat_n(1, new.num_rows()));
    let weights = Int64Array::from_iter_values(weights);
    let rows = arrow::compute::concat_batches(&schema, &[exact(old)?, exact(new)?])?;
    Ok(ChangeBatch::with_weights(rows, weights))
}

/// The schema with every column nullable: rows that are still to be checked.
pub fn loose(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<Field>>()))
}

/// Columns cast to the table's types.
pub fn conform(columns: &[ArrayRef], rows: usize, schema: &SchemaRef) -> Result<RecordBatch> {
    let schema = loose(schema);
    let columns = columns
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            false => Ok(arrow::compute::cast_with_options(column, field.data_type(), &STRICT)?),
        })
        .collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// Rows in a table's types as it keeps them: times have the digits of their columns.
pub fn rounded(relation: &Relation, rows: RecordBatch) -> Result<RecordBatch> {
    if relation.columns.iter().all(|column| column.precision.is_none()) {
        return Ok(rows);
    }
    let kept = |(values, column): (&ArrayRef, &Column)| match column.precision {
        Some(digits) => eddyline_planner::functions::rounded_to(values, digits.into()),
        None => values.clone(),
    };
    let columns = rows.columns().iter().zip(&relation.columns).map(kept).collect();
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}

const STRICT: arrow::compute::CastOptions<'static> =
    arrow::compute::CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

fn cast(array: &ArrayRef, column: &Column) -> Result<ArrayRef> {
    let ty = column.ty.to_arrow();
    if array.data_type() == &ty { Ok(array.clone()) } else { Ok(arrow::compute::cast_with_options(array, &ty, &STRICT)?) }
}

/// The batch with its columns called `c0`, `c1`, ..., as the planner's row expressions name them.
pub fn positional(rows: &RecordBatch) -> Result<(RecordBatch, DFSchema)> {
    let fields: Vec<Field> =
        rows.schema().fields().iter().enumerate().map(|(i, f)| f.as_ref().clone().with_name(format!("c{i}"))).collect();
    let schema = Arc::new(Schema::new(fields));
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), rows.columns().to_vec(), &options)?;
    Ok((batch, DFSchema::try_from(schema).map_err(super::to_sql_error)?))
}
