//! What the end of a plan holds back of a step, so that it leaves net. It is bounded: a step that brings more ends its job, and not the
//! server. It knows nothing of where the changes go.

use arrow::array::RecordBatch;
use eddyline_common::{Result, SqlError, SqlState, TaggedBatch};

/// On one worker. Cuts have 16 MiB, a transaction 256 MiB; what comes to more than this is a join of very many rows with very many.
const STEP_BYTES_MAX: usize = 2 << 30;

#[derive(Default)]
pub(crate) struct Pending {
    batches: Vec<TaggedBatch>,
    bytes: usize,
    takes_back: bool,
}

impl Pending {
    /// Fails with 54000 if that is too much for one step.
    pub(crate) fn push(&mut self, batch: TaggedBatch) -> Result<()> {
        self.bytes += batch.changes.bytes();
        self.takes_back |= batch.changes.weights.as_ref().is_some_and(|weights| weights.values().iter().any(|weight| *weight < 0));
        if self.bytes > STEP_BYTES_MAX {
            let message = format!("one step changes more than {} GiB of rows at once", STEP_BYTES_MAX >> 30);
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
                .with_detail("They are held in memory until the step is complete, so that all of them show at once.")
                .with_hint(
                    "Rows of a join that match very many others make it so: narrow its condition, or write fewer rows in one transaction. \
                     Then create it again.",
                ));
        }
        self.batches.push(batch);
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Some rows are taken back.
    pub(crate) fn takes_back(&self) -> bool {
        self.takes_back
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches.iter().map(|batch| &batch.changes.rows)
    }

    pub(crate) fn take(&mut self) -> Vec<TaggedBatch> {
        std::mem::take(self).batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use eddyline_common::{ChangeBatch, Timestamp};
    use std::sync::Arc;

    #[test]
    fn a_step_of_too_much_is_an_error() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20)]));
        let changes = ChangeBatch::insertions(RecordBatch::try_from_iter([("v", text)]).unwrap());
        let batch = TaggedBatch { changes, arrival_watermark: Timestamp::MIN, now: Timestamp(0) };
        let mut pending = Pending::default();
        // The same megabyte each time.
        let fits = (0..).take_while(|_| pending.push(batch.clone()).is_ok()).count();
        assert!((2_000..2_048).contains(&fits), "{fits}");
        let error = pending.push(batch.clone()).unwrap_err();
        assert_eq!((error.state.0, error.hint.is_some()), ("54000", true));
        assert_eq!(pending.take().len(), fits);
        assert!(pending.push(batch).is_ok() && !pending.takes_back());
    }
}
