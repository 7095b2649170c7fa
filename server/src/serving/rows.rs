//! The rows of one statement, batch by batch. A running query is a task on the engine's threads behind a
//! short channel: the reader sets the pace, and dropping the stream ends the query. A stream may lend rows to another one, as a cursor does.

use super::interrupt::Abandoned;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use eddyline_common::Result;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Batches that wait for the socket: one being sent and one ready.
pub const BATCHES_AHEAD: usize = 2;

pub struct RowStream {
    schema: SchemaRef,
    ready: VecDeque<RecordBatch>,
    coming: Coming,
    /// It ends by an error or not at all.
    endless: bool,
    /// Its rows are there until they are taken back.
    lent: Option<Arc<Mutex<Loan>>>,
}

/// Where rows come from once those that are ready are taken.
enum Coming {
    Nothing,
    Running(Running),
    Borrowed(Arc<Mutex<Loan>>),
}

/// The rows of a stream of which another one has so many.
struct Loan {
    rows: RowStream,
    left: u64,
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
        RowStream { schema, ready: batches.into_iter().collect(), coming: Coming::Nothing, endless: false, lent: None }
    }

    pub fn running(schema: SchemaRef, batches: mpsc::Receiver<Result<RecordBatch>>, task: AbortOnDrop) -> Self {
        RowStream { coming: Coming::Running(Running { batches, _task: task }), ..RowStream::ready(schema, []) }
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
        let waits = match &self.coming {
            Coming::Running(running) => running.batches.is_empty(),
            Coming::Nothing | Coming::Borrowed(_) => true,
        };
        self.endless && self.ready.is_empty() && waits
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
        self.take_back().await?;
        loop {
            let next = match (self.ready.pop_front(), &mut self.coming) {
                (Some(batch), _) => Some(batch),
                (None, Coming::Nothing) => None,
                (None, Coming::Running(running)) => running.batches.recv().await.transpose()?,
                (None, Coming::Borrowed(loan)) => loan.lock().await.next().await?,
            };
            match next {
                Some(batch) if batch.num_rows() > 0 => return Ok(Some(batch)),
                Some(_) => {}
                None => {
                    self.coming = Coming::Nothing;
                    return Ok(None);
                }
            }
        }
    }

    /// The next so many rows as a stream of their own, which takes them as it is read. This one goes on behind them, whenever that is.
    pub async fn lend(&mut self, rows: u64) -> Result<RowStream> {
        self.take_back().await?;
        let (here, there) = (RowStream::ready(self.schema.clone(), []), RowStream::ready(self.schema.clone(), []));
        let loan = Loan { rows: std::mem::replace(self, here), left: rows };
        let loan = Arc::new(Mutex::new(loan));
        self.lent = Some(loan.clone());
        Ok(RowStream { coming: Coming::Borrowed(loan), ..there })
    }

    /// Takes back what was lent. Who has it and is not done gets the rows that are left of it now, all at once.
    async fn take_back(&mut self) -> Result<()> {
        let Some(loan) = self.lent.clone() else { return Ok(()) };
        let mut loan = loan.lock().await;
        let mut left = Vec::new();
        while let Some(batch) = loan.next().await? {
            left.push(batch);
        }
        let left = RowStream::ready(self.schema.clone(), left);
        loan.left = u64::MAX;
        *self = std::mem::replace(&mut loan.rows, left);
        Ok(())
    }

    /// Puts back what was taken and not used.
    pub fn put_back(&mut self, batch: RecordBatch) {
        self.ready.push_front(batch);
    }
}

impl Loan {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        // A stream that lends may have borrowed.
        let Some(batch) = Box::pin(self.rows.next()).await? else { return Ok(None) };
        let (taken, rest) = split(batch, self.left);
        self.left -= taken.num_rows() as u64;
        rest.into_iter().for_each(|rest| self.rows.put_back(rest));
        Ok(Some(taken))
    }
}

/// The first `rows` rows, and the rest if there is any.
pub fn split(batch: RecordBatch, rows: u64) -> (RecordBatch, Option<RecordBatch>) {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    if rows >= batch.num_rows() {
        return (batch, None);
    }
    (batch.slice(0, rows), Some(batch.slice(rows, batch.num_rows() - rows)))
}

pub fn text_schema(columns: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| Field::new(*c, DataType::Utf8, false)).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    /// Five batches of the numbers up to 50, and the channel that they wait in.
    fn numbers() -> (RowStream, mpsc::Sender<Result<RecordBatch>>) {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let (sender, receiver) = mpsc::channel(5);
        for start in [0, 10, 20, 30, 40] {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(start..start + 10));
            sender.try_send(Ok(RecordBatch::try_new(schema.clone(), vec![column]).unwrap())).unwrap();
        }
        let task = tokio::spawn(std::future::pending::<()>());
        (RowStream::running(schema, receiver, AbortOnDrop::new(task.abort_handle())), sender)
    }

    async fn taken(rows: &mut RowStream) -> Vec<i64> {
        let batch = rows.next().await.unwrap();
        batch.map_or_else(Vec::new, |batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
    }

    async fn all(rows: &mut RowStream) -> Vec<i64> {
        let mut all = Vec::new();
        loop {
            match taken(rows).await {
                next if next.is_empty() => return all,
                next => all.extend(next),
            }
        }
    }

    /// Rows that are lent stay where they are until they are read.
    #[tokio::test]
    async fn lent_rows_come_as_they_are_read() {
        let (mut rows, sender) = numbers();
        let mut first = rows.lend(25).await.unwrap();
        assert_eq!(sender.capacity(), 0);
        assert_eq!(taken(&mut first).await, (0..10).collect::<Vec<_>>());
        assert_eq!(sender.capacity(), 1);
        assert_eq!(all(&mut first).await, (10..25).collect::<Vec<_>>());
        assert_eq!(sender.capacity(), 3);
        assert_eq!(all(&mut rows.lend(0).await.unwrap()).await, Vec::<i64>::new());
        drop(sender);
        assert_eq!(all(&mut rows.lend(1_000).await.unwrap()).await, (25..50).collect::<Vec<_>>());
        assert_eq!(all(&mut rows).await, Vec::<i64>::new());
    }

    /// Each has its rows, whatever is read first.
    #[tokio::test]
    async fn a_second_loan_is_behind_the_first() {
        let (mut rows, sender) = numbers();
        drop(sender);
        let mut first = rows.lend(15).await.unwrap();
        assert_eq!(taken(&mut first).await, (0..10).collect::<Vec<_>>());
        let mut second = rows.lend(20).await.unwrap();
        assert_eq!(taken(&mut second).await, (15..20).collect::<Vec<_>>());
        assert_eq!(all(&mut rows).await, (35..50).collect::<Vec<_>>());
        assert_eq!(all(&mut first).await, (10..15).collect::<Vec<_>>());
        assert_eq!(all(&mut second).await, (20..35).collect::<Vec<_>>());
    }
}
