//! Where an operator's state lives, and how it is opened. It knows nothing of what is in it.

use crate::engine::StateBackend;
use eddyline_common::kv::KeyValueStore;
use eddyline_common::{Result, StateTableId};
use eddyline_storage::state::{Residency, SpillGate, StateBudget, StateSpace};
use std::sync::Arc;

pub struct StateSpec {
    pub table: StateTableId,
    /// The part of the job that this is, of so many.
    pub worker: usize,
    pub workers: usize,
    pub kv: Arc<dyn KeyValueStore>,
    pub backend: StateBackend,
    /// Memory for all operators of the engine; `StateBackend::Rocksdb` only.
    pub budget: Arc<StateBudget>,
    pub gate: Arc<SpillGate>,
    /// The store holds this operator's state.
    pub restore: bool,
    /// Microseconds after which what came from an input, and was not touched since, is forgotten.
    pub ttl: [Option<i64>; 2],
    /// This operator or one below it forgets rows: what is taken away may not be here.
    pub forgetful: bool,
}

impl StateSpec {
    pub fn open(self) -> Result<StateSpace> {
        let residency = match self.backend {
            StateBackend::Memory => Residency::Resident,
            StateBackend::Rocksdb => Residency::Bounded { budget: self.budget },
        };
        StateSpace::open(self.table, self.kv, self.gate, self.worker, self.workers, residency, self.restore)
    }
}
