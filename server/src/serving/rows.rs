//! The rows of one statement, batch by batch. A running query is a task on the engine's threads behind a
//! short channel: the reader sets the pace, and dropping the stream ends the query.

use super::interrupt::Abandoned;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eddyline_common::Result;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Batches that wait for the socket: one being sent and one ready.
pub const BATCHES_AHEAD: usize = 2;

pub struct RowStream {
    schema: SchemaRef,
    ready: VecDeque<RecordBatch>,
    running: Option<Running>,
    /// It ends by an error or not at all.
    endless: bool,
}

struct Running {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    _task: AbortOnDrop,
}

/// A task that ends when nobody wants what it makes.
pub struct AbortOnDrop {
    task: tokio::task::AbortHandle,
    abandoned: Abandoned,
}

impl AbortOnDrop {
    pub fn new(task: tokio::task::AbortHandle) -> Self {
        AbortOnDrop { task, abandoned: Abandoned::default() }
    }

    /// A task whose plan looks at this flag, also where it does not yield.
    pub fn watching(task: tokio::task::AbortHandle, abandoned: Abandoned) -> Self {
        AbortOnDrop { task, abandoned }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.abandoned.set();
        self.task.abort();
    }
}

impl RowStream {
    pub fn ready(schema: SchemaRef, batches: impl IntoIterator<Item = RecordBatch>) -> Self {
        RowStream { schema, ready: batches.into_iter().collect(), running: None, endless: false }
    }

    pub fn running(schema: SchemaRef, batches: mpsc::Receiver<Result<RecordBatch>>, task: AbortOnDrop) -> Self {
        RowStream { schema, ready: VecDeque::new(), running: Some(Running { batches, _task: task }), endless: false }
    }

    /// Rows that come when they come: those of a subscription.
    pub fn endless(schema: SchemaRef, batches: mpsc::Receiver<Result<RecordBatch>>, task: AbortOnDrop) -> Self {
        RowStream { endless: true, ..RowStream::running(schema, batches, task) }
    }

    pub fn is_endless(&self) -> bool {
        self.endless
    }

    /// The next batch may be long in coming: what was sent should not wait for it.
    pub fn is_idle(&self) -> bool {
        self.endless && self.ready.is_empty() && self.running.as_ref().is_none_or(|running| running.batches.is_empty())
    }

    /// The next batch if it comes in time.
    pub async fn next_within(&mut self, time: Duration) -> Result<Option<RecordBatch>> {
        match tokio::time::timeout(time, self.next()).await {
            Ok(batch) => batch,
            Err(_) => Ok(None),
        }
    }

    /// Rows of text, as SHOW and EXPLAIN give.
    pub fn text(columns: &[&str], rows: &[Vec<String>]) -> Self {
        let schema = text_schema(columns);
        let arrays: Vec<ArrayRef> =
            (0..columns.len()).map(|c| Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r[c]))) as ArrayRef).collect();
        let batch = RecordBatch::try_new(schema.clone(), arrays).expect("columns of text, all as long as the rows");
        RowStream::ready(schema, [batch])
    }

    /// The same rows under other column names.
    pub fn with_schema(mut self, schema: SchemaRef) -> Self {
        self.schema = schema;
        self
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch that has rows; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let batch = match self.ready.pop_front() {
                Some(batch) => batch,
                None => match &mut self.running {
                    None => return Ok(None),
                    Some(running) => match running.batches.recv().await {
                        Some(batch) => batch?,
                        None => {
                            self.running = None;
                            return Ok(None);
                        }
                    },
                },
            };
            if batch.num_rows() > 0 {
                return Ok(Some(batch));
            }
        }
    }

    /// Puts back what was taken and not used.
    pub fn put_back(&mut self, batch: RecordBatch) {
        self.ready.push_front(batch);
    }
}

pub fn text_schema(columns: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| Field::new(*c, DataType::Utf8, false)).collect::<Vec<_>>()))
}
