//! Windows that gather all rows of their input, since a frame may go on to the end of a partition. DataFusion copies what has come into one batch then, and counts none of it,
//! so that a query could take any memory. Here it counts, until the window has given its rows. It knows nothing of what windows do with rows.

use super::passing;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::windows::WindowAggExec;
use datafusion::physical_plan::{ExecutionPlan, RecordBatchStream, SendableRecordBatchStream, replace_children_if_necessary};
use eddyline_common::bytes_of;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// How often a window has the rows: as they came, and in one batch.
const COPIES: usize = 2;

/// The same plan, in which what windows gather counts.
pub fn windows(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let node = |node: Arc<dyn ExecutionPlan>| -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        if !node.is::<WindowAggExec>() {
            return Ok(Transformed::no(node));
        }
        let begun = Begun::default();
        let counted = |input: &Arc<dyn ExecutionPlan>| {
            let begun = begun.clone();
            passing::over(input.clone(), move |rows, context| Box::pin(Gathered { rows, counts: true, memory: Some(begun.begin(context)) }))
        };
        let inputs = node.children().into_iter().map(counted).collect();
        let node = replace_children_if_necessary(node, inputs)?;
        // The input goes when its last row has come, and what was gathered stays.
        Ok(Transformed::yes(passing::over(node, move |rows, _| Box::pin(Gathered { rows, counts: false, memory: begun.take() }))))
    };
    plan.transform_up(node).map(|plan| plan.data)
}

/// What runs of a window take of the memory of queries, between the moment in which a run asks for its input and that in which the run is there. A plan may run again and again,
/// so it holds none of it itself.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<Arc<MemoryReservation>>>>);

impl Begun {
    fn begin(&self, context: &TaskContext) -> Arc<MemoryReservation> {
        let memory = Arc::new(MemoryConsumer::new("window").register(context.memory_pool()));
        self.0.lock().push(memory.clone());
        memory
    }

    fn take(&self) -> Option<Arc<MemoryReservation>> {
        self.0.lock().pop()
    }
}

/// Rows that a window gathers, or those that it gives.
struct Gathered {
    rows: SendableRecordBatchStream,
    counts: bool,
    /// Of the run: given back when neither its input nor its rows are left.
    memory: Option<Arc<MemoryReservation>>,
}

impl Gathered {
    fn grow(&self, batch: &RecordBatch) -> Result<()> {
        self.memory.as_ref().map_or(Ok(()), |memory| memory.try_grow(COPIES * bytes_of(batch)))
    }
}

impl RecordBatchStream for Gathered {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
}

impl Stream for Gathered {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        Poll::Ready(match ready!(this.rows.poll_next_unpin(context)) {
            Some(Ok(batch)) if this.counts => Some(this.grow(&batch).map(|()| batch)),
            other => other,
        })
    }
}
