//! The durable key space of one operator on one worker: a state table id, the shards the worker owns, the store and
//! the gate. It opens the operator's tables, each under a kind byte of its own.

use super::budget::StateBudget;
use super::gate::SpillGate;
use super::table::{StateTable, TableShape};
use eddyline_common::key::{VSHARDS, vshard, worker_of};
use eddyline_common::kv::KeyValueStore;
use eddyline_common::{Result, StateTableId};
use std::ops::Range;
use std::sync::Arc;

/// How much of the state stays in memory.
#[derive(Clone, Debug)]
pub enum Residency {
    /// All of it; the store is read only when the state is restored.
    Resident,
    /// As much as the budget that all tables share allows; the rest is in the store.
    Bounded { budget: Arc<StateBudget> },
}

#[derive(Clone)]
pub struct StateSpace {
    pub(super) id: StateTableId,
    pub(super) kv: Arc<dyn KeyValueStore>,
    pub(super) gate: Arc<SpillGate>,
    pub(super) shards: Range<usize>,
    pub(super) residency: Residency,
    /// The store holds this operator's state as of the epoch the job resumes from.
    pub(super) restored: bool,
}

impl StateSpace {
    /// State of table `id` for the shards of `worker` (of `workers`). If the state is new (`restored` is false),
    /// leftovers of an earlier attempt at the same job are removed from the store.
    pub fn open(
        id: StateTableId,
        kv: Arc<dyn KeyValueStore>,
        gate: Arc<SpillGate>,
        worker: usize,
        workers: usize,
        residency: Residency,
        restored: bool,
    ) -> Result<Self> {
        let mine = |shard: &usize| worker_of(*shard as u8, workers) == worker;
        let first = (0..VSHARDS).find(mine).unwrap_or(0);
        let count = (0..VSHARDS).filter(mine).count();
        let space = StateSpace { id, kv, gate, shards: first..first + count, residency, restored };
        if !restored {
            space.wipe()?;
        }
        Ok(space)
    }

    pub fn id(&self) -> StateTableId {
        self.id
    }

    /// The store already holds the state of an earlier run.
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// Is this the worker that a key of no columns is routed to?
    pub fn owns_empty_key(&self) -> bool {
        self.shards.contains(&(vshard(eddyline_common::key::hash64(&[])) as usize))
    }

    /// The table of this `kind`, loaded if it is restored.
    pub fn table(&self, kind: u8, shape: TableShape, codec: &mut dyn super::SlotCodec) -> Result<StateTable> {
        StateTable::open(self.clone(), kind, shape, codec)
    }

    fn wipe(&self) -> Result<()> {
        let mut leftovers = false;
        let (start, end) = self.bounds();
        self.kv.scan(self.id, &start, end.as_deref(), &mut |_, _| {
            leftovers = true;
            Ok(false)
        })?;
        if !leftovers {
            return Ok(());
        }
        match end {
            Some(end) => self.kv.delete_range(self.id, &start, &end),
            // No key of the last shard is above this: kinds stay below 255.
            None => self.kv.delete_range(self.id, &start, &[255, 255]),
        }
    }

    fn bounds(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        (vec![self.shards.start as u8], (self.shards.end < VSHARDS).then(|| vec![self.shards.end as u8]))
    }
}
