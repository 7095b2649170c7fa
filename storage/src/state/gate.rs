//! The gate between checkpoints and spills: one per engine, shared by every state table and the coordinator.
//!
//! A checkpoint goes `begin` -> (tables freeze) -> `ingest` -> `image`. From its freeze to the image a table must not
//! write to the store by itself: before the ingestion its entry would be overwritten by the older frozen one, after it
//! the image would hold a state later than the checkpoint's epoch. A table that has no memory left to wait asks to
//! abandon the checkpoint; its frozen entries then become dirty again and go with the next one.
//!
//! To abandon is possible until `ingest` starts, and between `ingest` and `image`; not while one of them runs. After
//! `ABANDONED_MAX` in a row it is refused, so that checkpoints make progress; memory then overshoots for the time of one
//! checkpoint, and `pressed` tells the coordinator to take no new cuts meanwhile.
//!
//! A table for whose spill the disk has no room holds the gate: as long as one does, nothing that needs more memory is begun,
//! and workers that have nothing to do try again.

use super::table::StateCounters;
use eddyline_common::{Result, SqlError};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Three lost checkpoints lengthen recovery by a few seconds of input; more would let it grow with the load.
const ABANDONED_MAX: u32 = 3;
/// How many abandoned checkpoints are remembered. A table asks within a step, long before this many more were begun.
const REMEMBERED_MAX: usize = 4096;

/// What became of the entries that a table froze for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pending,
    /// They are in the store.
    Ingested,
    /// They are not in the store and will not be.
    Abandoned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Frozen,
    Ingesting,
    Ingested,
    Imaging,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    checkpoint: u64,
    /// Those that ended before their ingestion.
    abandoned: BTreeSet<u64>,
    abandoned_in_a_row: u32,
    pressed: bool,
}

#[derive(Debug)]
pub struct SpillGate {
    state: Mutex<State>,
    /// Of all tables of the engine.
    counters: Mutex<StateCounters>,
    /// Tables that could not spill.
    holding: AtomicUsize,
}

/// Held by a table for as long as there is no room for its spill.
pub(super) struct Hold(Arc<SpillGate>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holding.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for SpillGate {
    fn default() -> Self {
        let state = State { phase: Phase::Idle, checkpoint: 0, abandoned: BTreeSet::new(), abandoned_in_a_row: 0, pressed: false };
        SpillGate { state: Mutex::new(state), counters: Mutex::default(), holding: AtomicUsize::new(0) }
    }
}

impl SpillGate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a checkpoint, before any table is frozen for it. Calling it again for the same one changes nothing. Ids
    /// increase; an earlier checkpoint has ended.
    pub fn begin(&self, checkpoint: u64) -> Result<()> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Idle if checkpoint > state.checkpoint || state.checkpoint == 0 => {
                state.phase = Phase::Frozen;
                state.checkpoint = checkpoint;
                Ok(())
            }
            // Begun before, whatever became of it since.
            _ if checkpoint == state.checkpoint => Ok(()),
            _ => Err(SqlError::internal(format!("checkpoint {checkpoint} begins while {} is the last one", state.checkpoint))),
        }
    }

    /// The checkpoint that was begun last, ended or not.
    pub fn latest(&self) -> u64 {
        self.state.lock().checkpoint
    }

    /// The checkpoint between `begin` and its end.
    pub fn pending(&self) -> Option<u64> {
        let state = self.state.lock();
        (state.phase != Phase::Idle).then_some(state.checkpoint)
    }

    /// Runs `write`, which adds the frozen runs to the store. `false`: the checkpoint was abandoned, nothing was written.
    pub fn ingest(&self, checkpoint: u64, write: impl FnOnce() -> Result<()>) -> Result<bool> {
        self.run(checkpoint, Phase::Frozen, Phase::Ingesting, Phase::Ingested, write)
    }

    /// Runs `write`, which takes the image of the store, and ends the checkpoint. `false`: it was abandoned.
    pub fn image(&self, checkpoint: u64, write: impl FnOnce() -> Result<()>) -> Result<bool> {
        self.run(checkpoint, Phase::Ingested, Phase::Imaging, Phase::Idle, write)
    }

    fn run(&self, checkpoint: u64, from: Phase, during: Phase, to: Phase, write: impl FnOnce() -> Result<()>) -> Result<bool> {
        {
            let mut state = self.state.lock();
            if state.checkpoint != checkpoint || state.phase != from {
                return Ok(false);
            }
            state.phase = during;
        }
        let result = write();
        let mut state = self.state.lock();
        if result.is_err() {
            state.phase = from;
            state.end();
        } else {
            state.phase = to;
            if to == Phase::Idle {
                state.abandoned_in_a_row = 0;
                state.pressed = false;
            }
        }
        result.map(|()| true)
    }

    /// The coordinator gives the checkpoint up (a worker or the disk failed). No effect once it has ended. Never called
    /// while `ingest` or `image` runs for it.
    pub fn give_up(&self, checkpoint: u64) {
        let mut state = self.state.lock();
        if state.checkpoint == checkpoint && state.phase != Phase::Idle {
            state.end();
        }
    }

    /// A table needs memory and would rather lose the pending checkpoint. `false`: not now.
    pub fn abandon(&self, checkpoint: u64) -> bool {
        let mut state = self.state.lock();
        if state.checkpoint != checkpoint || !matches!(state.phase, Phase::Frozen | Phase::Ingested) {
            return false;
        }
        if state.abandoned_in_a_row >= ABANDONED_MAX {
            state.pressed = true;
            return false;
        }
        state.abandoned_in_a_row += 1;
        state.end();
        true
    }

    /// A table is over its budget and waits for the pending checkpoint to end, or for room on the disk.
    pub fn pressed(&self) -> bool {
        self.is_held() || self.state.lock().pressed
    }

    /// The disk has no room for what a table must give out of memory: no step should begin.
    pub fn is_held(&self) -> bool {
        self.holding.load(Ordering::Acquire) > 0
    }

    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        self.holding.fetch_add(1, Ordering::AcqRel);
        Hold(self.clone())
    }

    /// May a table last frozen for `frozen_for` write to the store?
    pub fn may_spill(&self, frozen_for: Option<u64>) -> bool {
        let state = self.state.lock();
        state.phase == Phase::Idle || frozen_for != Some(state.checkpoint)
    }

    /// What happened in all tables of the engine so far.
    pub fn counters(&self) -> StateCounters {
        *self.counters.lock()
    }

    pub(super) fn count(&self, more: StateCounters) {
        *self.counters.lock() += more;
    }

    pub fn outcome(&self, checkpoint: u64) -> Outcome {
        let state = self.state.lock();
        if state.abandoned.contains(&checkpoint) {
            Outcome::Abandoned
        } else if state.checkpoint == checkpoint && matches!(state.phase, Phase::Frozen | Phase::Ingesting) {
            Outcome::Pending
        } else {
            Outcome::Ingested
        }
    }
}

impl State {
    fn end(&mut self) {
        if matches!(self.phase, Phase::Frozen | Phase::Ingesting) {
            self.abandoned.insert(self.checkpoint);
            if self.abandoned.len() > REMEMBERED_MAX {
                self.abandoned.pop_first();
            }
        }
        self.phase = Phase::Idle;
        self.pressed = false;
    }
}
