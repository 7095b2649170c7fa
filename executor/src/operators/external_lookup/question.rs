//! Keys that were asked for, and their answer when it comes. Whoever answers is on another thread: it leaves the answer here and wakes the
//! job. One that goes away without a word has failed.

use crate::operator::Wake;
use arrow::array::ArrayRef;
use eddyline_common::connector::{LookupAnswer, LookupClient};
use eddyline_common::{Result, SqlError};
use parking_lot::Mutex;
use std::sync::Arc;

type Slot = Arc<Mutex<Option<Result<LookupAnswer>>>>;

pub(super) struct Question {
    /// Where the group has the keys, in the order in which they were asked for.
    places: Vec<usize>,
    slot: Slot,
}

/// The side of whoever answers.
struct Answering {
    slot: Slot,
    wake: Wake,
}

impl Answering {
    fn answer(self, answer: Result<LookupAnswer>) {
        *self.slot.lock() = Some(answer);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut slot = self.slot.lock();
        if slot.is_none() {
            *slot = Some(Err(SqlError::internal("a look-up ended without an answer")));
        }
        drop(slot);
        (self.wake)();
    }
}

impl Question {
    pub(super) fn ask(client: &mut dyn LookupClient, keys: Vec<ArrayRef>, places: Vec<usize>, wake: Wake) -> Self {
        let slot = Slot::default();
        let answering = Answering { slot: slot.clone(), wake };
        client.ask(keys, Box::new(move |answer| answering.answer(answer)));
        Question { places, slot }
    }

    pub(super) fn is_open(&self) -> bool {
        self.slot.lock().is_none()
    }

    /// The keys' places and what was answered.
    pub(super) fn take(self) -> (Vec<usize>, Result<LookupAnswer>) {
        let answer = self.slot.lock().take();
        (self.places, answer.unwrap_or_else(|| Err(SqlError::internal("a look-up is not answered yet"))))
    }
}
