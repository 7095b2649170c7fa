//! A source read once as a bounded table: from where it starts, as far as that is still there, to where it ends at present. Where it
//! starts was settled when it was created, unless a hint has other options for this scan. The connector's reader pushes on threads of
//! its own into a short queue; dropping the query closes the queue and with it the reader. Records that cannot be decoded are left out
//! here, as in every view.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use eddyline_common::connector::{
    BatchSink, PartitionRange, PartitionStart, SourceBatch, SourceConnector, SourceReader, SourceSpec, missing_values,
};
use eddyline_common::types::arrow_schema;
use eddyline_common::{Result, SqlError};
use eddyline_planner::Relation;
use futures::stream;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches a reader may be ahead of its query.
const BATCHES_AHEAD: usize = 4;

#[derive(Debug)]
pub struct SourceTable {
    name: String,
    schema: SchemaRef,
    spec: SourceSpec,
    /// `None`: where its options say.
    starts: Option<Vec<PartitionStart>>,
}

impl SourceTable {
    pub fn new(relation: Arc<Relation>, spec: SourceSpec, starts: Option<Vec<PartitionStart>>) -> Self {
        SourceTable { name: relation.name.clone(), schema: arrow_schema(&relation.columns), spec, starts }
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (spec, starts, name) = (self.spec.clone(), self.starts.clone(), self.name.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let connector: Arc<dyn SourceConnector> = Arc::from(eddyline_connectors::open(&spec)?);
            let starts = starts.map_or_else(|| connector.resolve_start(), Ok)?;
            let ranges = ranges(&*connector, starts, &name)?;
            Ok((connector, ranges))
        });
        let opened = opened.await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let (connector, ranges) = opened.map_err(external)?;
        let kept = |column: usize| projection.is_none_or(|columns| columns.contains(&column));
        let kept = (0..self.schema.fields().len()).map(kept).collect();
        let partition = SourcePartition { schema: self.schema.clone(), connector, ranges, kept };
        let exec = StreamingTableExec::try_new(self.schema.clone(), vec![Arc::new(partition)], projection, [], false, limit)?;
        Ok(Arc::new(exec))
    }
}

fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// From the source's start to its present end, partition by partition.
fn ranges(connector: &dyn SourceConnector, starts: Vec<PartitionStart>, name: &str) -> Result<Vec<PartitionRange>> {
    let Some(present) = connector.present()? else {
        return Err(SqlError::unsupported(format!("source \"{name}\" has no end to read to"))
            .with_hint("Create a materialized view over it, or bound the source by its options."));
    };
    // A partition that was added later is read from its beginning, and so is one whose first records retention removed: a
    // query reads what there is.
    let start_of = |there: &PartitionRange| starts.iter().find(|s| s.partition == there.partition).map(|s| s.start);
    let ranges = present.iter().map(|there| PartitionRange { start: start_of(there).unwrap_or_default().max(there.start), ..*there });
    Ok(ranges.filter(|r| r.end > Some(r.start)).collect())
}

struct SourcePartition {
    schema: SchemaRef,
    /// The one that said what there is: it may know more of it than the ranges say.
    connector: Arc<dyn SourceConnector>,
    ranges: Vec<PartitionRange>,
    /// The columns that the query reads.
    kept: Vec<bool>,
}

impl std::fmt::Debug for SourcePartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourcePartition").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}

struct Sink(mpsc::Sender<SourceBatch>);

impl BatchSink for Sink {
    fn push(&self, batch: SourceBatch) -> bool {
        self.0.blocking_send(batch).is_ok()
    }

    fn report(&self, problem: Option<String>) {
        if let Some(problem) = problem {
            tracing::warn!(problem, "a query waits for its source");
        }
    }

    fn reads_what_is_there(&self) -> bool {
        true
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A read in progress: which ranges are still open, and the reader.
struct Reading {
    batches: mpsc::Receiver<SourceBatch>,
    open: Vec<PartitionRange>,
    reader: Option<Box<dyn SourceReader>>,
    /// The columns that the query reads.
    kept: Vec<bool>,
}

impl Reading {
    /// The rows, or none if they lack a value that the query reads.
    fn readable(&self, rows: RecordBatch, schema: &SchemaRef) -> DfResult<RecordBatch> {
        let is_missing = |column: usize| self.kept[column] && missing_values(rows.schema_ref(), column).is_some();
        let rows = if (0..rows.num_columns()).any(is_missing) { rows.slice(0, 0) } else { rows };
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), rows.columns().to_vec(), &options)?)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.batches.close();
        // Stopping a reader joins its threads, which an async thread must not wait for.
        if let Some(reader) = self.reader.take() {
            match tokio::runtime::Handle::try_current() {
                Ok(handle) => drop(handle.spawn_blocking(move || drop(reader))),
                Err(_) => drop(reader),
            }
        }
    }
}

impl PartitionStream for SourcePartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (connector, ranges, kept, schema) = (self.connector.clone(), self.ranges.clone(), self.kept.clone(), self.schema.clone());
        let start = async move {
            let (tx, batches) = mpsc::channel(BATCHES_AHEAD);
            let open = ranges.clone();
            if ranges.is_empty() {
                return Ok(Reading { batches, open, reader: None, kept });
            }
            let sink = Arc::new(Sink(tx));
            let columns = kept.clone();
            let reader = tokio::task::spawn_blocking(move || connector.read_columns(ranges, &columns, sink)).await;
            let reader = reader.map_err(|e| external(SqlError::internal(e)))?.map_err(external)?;
            Ok(Reading { batches, open, reader: Some(reader), kept })
        };
        let of_table = schema.clone();
        let rows = stream::once(start);
        let rows = futures::StreamExt::flat_map(rows, move |reading| match reading {
            Ok(reading) => futures::StreamExt::boxed(batches(reading, of_table.clone())),
            Err(error) => futures::StreamExt::boxed(stream::iter([Err(error)])),
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

fn batches(reading: Reading, schema: SchemaRef) -> impl futures::Stream<Item = DfResult<RecordBatch>> + Send {
    stream::try_unfold((reading, schema), |(mut reading, schema)| async move {
        if reading.open.is_empty() {
            return Ok(None);
        }
        match reading.batches.recv().await {
            Some(batch) => {
                let done = |r: &PartitionRange| r.partition == batch.partition && (batch.finished || r.end.is_some_and(|e| batch.end >= e));
                reading.open.retain(|r| !done(r));
                Ok(Some((reading.readable(batch.rows, &schema)?, (reading, schema))))
            }
            None => Err(external(SqlError::io("the source's reader ended before the source did"))),
        }
    })
}
