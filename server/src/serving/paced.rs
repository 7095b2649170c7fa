//! Joins that let others have their thread. A join goes through all pairs of a batch of one side before it asks for the next, and a batch may have billions of
//! them: it gives that side's rows in pieces, of as many rows as take a few milliseconds, and no row at all once the turn is over. Nor does a join then give a row of its own
//! to what would take all of them. It knows nothing of what joins do with rows.

use super::engine::BATCH_ROWS;
use super::rows::split;
use super::{passing, turns};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::{ExecutionPlan, RecordBatchStream, SendableRecordBatchStream, replace_children_if_necessary};
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Rows of a join's first piece: with a hundred thousand partners each they take a part of a second still.
const FIRST_ROWS: usize = 64;

/// How much larger than a piece the next one may be.
const GROWTH: usize = 4;

/// The same plan, in which joins are paced.
pub fn joins(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let node = |node: Arc<dyn ExecutionPlan>| -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        if !(node.is::<HashJoinExec>() || node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>()) {
            return Ok(Transformed::no(node));
        }
        let mut sides: Vec<Arc<dyn ExecutionPlan>> = node.children().into_iter().cloned().collect();
        // The other side is held as a whole.
        sides[1] = passing::over(sides[1].clone(), |rows, _| Box::pin(PacedRows { rows, pieces: Some(Pieces::default()) }));
        Ok(Transformed::yes(passing::over(replace_children_if_necessary(node, sides)?, |side, _| rows(side))))
    };
    plan.transform_up(node).map(|plan| plan.data)
}

/// The same rows, of which none comes once the turn is over.
pub fn rows(rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
    Box::pin(PacedRows { rows, pieces: None })
}

struct PacedRows {
    rows: SendableRecordBatchStream,
    pieces: Option<Pieces>,
}

impl RecordBatchStream for PacedRows {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

impl Stream for PacedRows {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(pieces) = &mut this.pieces {
            pieces.learn();
        }
        if turns::is_over() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(pieces) = &mut this.pieces else { return this.rows.poll_next_unpin(context) };
        if pieces.left.is_none() {
            match ready!(this.rows.poll_next_unpin(context)) {
                Some(Ok(batch)) => (pieces.left, pieces.is_cut) = (Some(batch), false),
                end_or_error => return Poll::Ready(end_or_error),
            }
        }
        Poll::Ready(pieces.cut())
    }
}

/// Batches cut to what their reader goes through in a turn.
struct Pieces {
    left: Option<RecordBatch>,
    /// It is not the whole batch.
    is_cut: bool,
    /// Rows of the next piece.
    rows: usize,
    /// When the last one was given, and its rows.
    given: Option<(Instant, usize)>,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces { left: None, is_cut: false, rows: FIRST_ROWS, given: None }
    }
}

impl Pieces {
    fn cut(&mut self) -> Option<Result<RecordBatch>> {
        let (piece, left) = split(self.left.take()?, self.rows as u64);
        self.is_cut |= left.is_some();
        // What holds a piece would count all that it is one of.
        let piece = match self.is_cut && piece.num_columns() > 0 {
            true => take_record_batch(&piece, &UInt32Array::from_iter_values(0..piece.num_rows() as u32)),
            false => Ok(piece),
        };
        let rows = piece.as_ref().map_or(0, RecordBatch::num_rows);
        self.left = left;
        self.given = (rows > 0).then(|| (Instant::now(), rows));
        Some(piece.map_err(Into::into))
    }

    /// How long the reader took for the last piece says how many rows the next one may have.
    fn learn(&mut self) {
        let Some((given, rows)) = self.given.take() else { return };
        // Another turn has begun: the reader let others have theirs, or waited for something else.
        if turns::began_after(given) {
            return;
        }
        let in_a_turn = rows as u128 * turns::TURN.as_nanos() / given.elapsed().as_nanos().max(1);
        self.rows = usize::try_from(in_a_turn).unwrap_or(usize::MAX).clamp(1, BATCH_ROWS.min(self.rows * GROWTH));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::turns::{TURN, Threads};
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatchOptions};
    use arrow::datatypes::{Int64Type, Schema};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::stream;

    fn numbers(batches: usize) -> SendableRecordBatchStream {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        Box::pin(RecordBatchStreamAdapter::new(batch.schema(), stream::iter((0..batches).map(move |_| Ok(batch.clone())))))
    }

    fn in_pieces(rows: SendableRecordBatchStream) -> PacedRows {
        PacedRows { rows, pieces: Some(Pieces::default()) }
    }

    fn wait(time: std::time::Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn pieces_are_all_of_the_rows_in_their_order() {
        let mut pieces = in_pieces(numbers(2));
        let (mut all, mut first) = (Vec::new(), None);
        while let Some(piece) = pieces.next().await {
            let piece = piece.unwrap();
            first.get_or_insert(piece.num_rows());
            assert!((1..=BATCH_ROWS).contains(&piece.num_rows()));
            all.extend_from_slice(piece.column(0).as_primitive::<Int64Type>().values());
        }
        assert_eq!(first, Some(FIRST_ROWS));
        assert_eq!(all, (0..100_000).chain(0..100_000).collect::<Vec<i64>>());
    }

    #[tokio::test]
    async fn pieces_may_have_no_columns() {
        let options = RecordBatchOptions::new().with_row_count(Some(100_000));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap();
        let mut pieces = in_pieces(Box::pin(RecordBatchStreamAdapter::new(batch.schema(), stream::iter([Ok(batch)]))));
        let mut rows = 0;
        while let Some(piece) = pieces.next().await {
            rows += piece.unwrap().num_rows();
        }
        assert_eq!(rows, 100_000);
    }

    /// A reader that takes as long for each row as turns last comes to one row at a time.
    #[tokio::test]
    async fn pieces_are_as_small_as_the_reader_is_slow() {
        let mut pieces = in_pieces(numbers(1));
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let rows = pieces.next().await.unwrap().unwrap().num_rows();
            wait(TURN * rows as u32);
            sizes.push(rows);
        }
        assert_eq!(sizes, [FIRST_ROWS, 1, 1]);
    }

    /// A reader that would take all there is lets others have their turn.
    #[tokio::test]
    async fn no_row_comes_once_the_turn_is_over() {
        let threads = Threads::new(1).unwrap();
        let longest = threads.spawn(async {
            let mut paced = rows(numbers(50));
            let (mut turn, mut longest) = (0, 0);
            while let Some(batch) = std::future::poll_fn(|context| {
                let polled = paced.poll_next_unpin(context);
                turn = if polled.is_pending() { 0 } else { turn + 1 };
                longest = longest.max(turn);
                polled
            })
            .await
            {
                batch.unwrap();
                wait(TURN / 2);
            }
            longest
        });
        assert!((1..=2).contains(&longest.await.unwrap()), "batches in a turn");
    }
}
