//! INSERT INTO a table with a connector, of VALUES: the rows are written once, and are durable outside when the statement
//! completes. A row that the table could not read back, with a null where it takes none, is 23502, and no row is written.

use super::{Outcome, Session};
use crate::serving::conflict::null_in;
use arrow::array::{Array, RecordBatch};
use eddyline_common::connector::{ColumnOrigin, SinkMonitor, SinkSpec, SinkStep};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Epoch, Result, SqlError, SqlState, Timestamp};
use eddyline_planner::Relation;
use eddyline_planner::statement::Query;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An external system that has not taken the rows by then is away.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);

impl Session {
    pub(super) async fn write_out(&mut self, mut spec: SinkSpec, source: Query) -> Result<Outcome> {
        self.check_writable("write")?;
        if self.transaction.is_explicit() {
            self.warn(SqlState::ACTIVE_TRANSACTION, "rows for a connector are written at once and are not taken back by ROLLBACK");
        }
        let missing = || SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist", spec.name));
        let table = self.services.coordinator.catalog().by_name(&spec.name).cloned().ok_or_else(missing)?;
        let bindings = self.bindings_of(&source).await?;
        let now = bindings.now;
        let mut stream = self.services.engine.run(source.plan, bindings).await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await? {
            check_nulls(&table, &batch)?;
            batches.push(batch);
        }
        spec.incarnation = uuid::Uuid::new_v4().simple().to_string();
        let wait = Arc::new(Wait { left: AtomicBool::new(false), until: Instant::now() + WRITTEN_WITHIN, problem: Mutex::new(None) });
        // A client that goes away or cancels drops this.
        let _guard = Guard(wait.clone());
        let task = tokio::task::spawn_blocking(move || write(&spec, batches, now, &wait));
        let rows = task.await.map_err(|e| SqlError::internal(format!("the connector failed: {e}")))??;
        self.services.metrics.rows_written.add(rows);
        Ok(Outcome::Done(format!("INSERT 0 {rows}")))
    }
}

/// The columns of a row that is written are those of the table's records.
fn check_nulls(table: &Relation, rows: &RecordBatch) -> Result<()> {
    let Some(source) = table.source_spec() else { return Ok(()) };
    let written = source.columns.iter().zip(&table.columns).filter(|(record, _)| record.origin == ColumnOrigin::Payload);
    for ((record, column), values) in written.zip(rows.columns()) {
        if !record.nullable && values.logical_null_count() > 0 {
            let row = (0..values.len()).find(|row| values.is_null(*row)).unwrap_or_default();
            return Err(null_in(table, &column.name, rows, row));
        }
    }
    Ok(())
}

fn write(spec: &SinkSpec, batches: Vec<RecordBatch>, now: Timestamp, wait: &Arc<Wait>) -> Result<u64> {
    let connector = eddyline_connectors::open_sink(spec)?;
    connector.check()?;
    let columns: Vec<Column> = spec.columns.iter().map(|c| Column::new(&c.external_name, c.ty.clone(), true)).collect();
    let schema = arrow_schema(&columns);
    let mut writer = connector.open(0, wait.clone())?;
    let mut rows = 0;
    for (index, batch) in batches.into_iter().enumerate() {
        let home =
            |(column, field): (&arrow::array::ArrayRef, &Arc<arrow::datatypes::Field>)| arrow::compute::cast(column, field.data_type());
        let columns = batch.columns().iter().zip(schema.fields()).map(home).collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(schema.clone(), columns)?;
        rows += batch.num_rows() as u64;
        let step = SinkStep { number: index as u64 + 1, epoch: Epoch::ZERO, now };
        writer.write(step, &ChangeBatch::insertions(batch)).map_err(|e| wait.explained(e))?;
    }
    writer.flush(true).map_err(|e| wait.explained(e))?;
    Ok(rows)
}

/// How long a statement waits for the outside.
struct Wait {
    left: AtomicBool,
    until: Instant,
    problem: Mutex<Option<String>>,
}

impl Wait {
    fn explained(&self, error: SqlError) -> SqlError {
        match self.problem.lock().clone() {
            Some(problem) => {
                SqlError::new(SqlState::CONNECTION_FAILURE, "the rows could not be written").with_detail(format!("{problem}."))
            }
            None => error,
        }
    }
}

impl SinkMonitor for Wait {
    fn report(&self, problem: Option<String>) {
        *self.problem.lock() = problem;
    }

    fn is_closed(&self) -> bool {
        self.left.load(Ordering::SeqCst) || Instant::now() >= self.until
    }
}

struct Guard(Arc<Wait>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::SeqCst);
    }
}
