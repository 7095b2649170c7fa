//! Jobs that stand in a step because a table outside does not answer. Their state is in the middle of something, so a checkpoint has them
//! as the one before had, and with them all that they read, which gives them again what they lack when both are replayed from there. It
//! does not wait for them, and everything else is in it at its epoch. They stay behind, however many checkpoints are taken, until one
//! finds that they come to its epoch, which is taken for that if for nothing else. Knows nothing of why a table does not answer.
//!
//! Replayed, a view may come to its epochs by other steps, be answered otherwise from outside, and not show the very same rows. So what
//! reads a view that is behind is behind too. Tables and keyed sources are the same at an epoch however they come to it, and may be
//! behind what reads them.

use super::super::core::Core;
use super::super::job::Job;
use super::super::recovery::clear_dir;
use super::body::{Base, Body, JobBody};
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState, StateTableId};
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_planner::plan::StreamPlan;
use eddyline_storage::checkpoint::{BlockingCheckpointStore, FileRef};
use eddyline_storage::kv::RocksKv;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is copied of a state table at once, and the cache of the store that it is read from, once and in order.
const COPY_BYTES: usize = 16 << 20;
const COPY_CACHE_BYTES: usize = 8 << 20;

/// What a checkpoint does not wait for, and what it takes over of that from the one before.
#[derive(Default)]
pub(super) struct Behind {
    /// All of it.
    pub left: BTreeSet<RelationId>,
    pub jobs: BTreeMap<RelationId, JobBody>,
    pub epochs: BTreeMap<RelationId, Epoch>,
    pub bases: BTreeMap<Epoch, Base>,
    pub view_files: BTreeMap<String, FileRef>,
}

impl Core {
    /// Jobs that come to no epoch before a table outside answers: those that ask it, and those that read from them, or from a view
    /// that has no room for more.
    fn held_up(&self) -> BTreeSet<RelationId> {
        let mut open: Vec<RelationId> = self.jobs.values().filter(|job| job.trouble().is_some()).map(Job::id).collect();
        if open.is_empty() {
            return BTreeSet::new();
        }
        open.extend(self.jobs.values().filter(|job| self.output_is_full(job)).map(Job::id));
        let mut held = self.with_readers(open);
        // What the last checkpoint has of the present epoch is not of an earlier one.
        let is_present = |body: &Body, id: RelationId| body.has(id) && body.epoch_of(id) == self.last_cut;
        held.retain(|id| self.last_checkpoint().is_none_or(|body| !is_present(body, *id)));
        held.retain(|id| self.jobs.get(id).is_some_and(|job| self.is_awaited(job)));
        held
    }

    /// What a checkpoint does not wait for: jobs that are held up, what those of them read that the last checkpoint has, and what reads
    /// a view among all that. What the last one does not have starts over, and needs nothing earlier of what it reads.
    pub(super) fn not_awaited(&self) -> BTreeSet<RelationId> {
        let mut open: Vec<RelationId> = self.held_up().into_iter().collect();
        let mut left = BTreeSet::new();
        while let Some(id) = open.pop() {
            let job = self.jobs.get(&id).filter(|job| job.failure().is_none());
            let Some(job) = job.filter(|_| left.insert(id)) else { continue };
            if self.last_checkpoint().is_some_and(|saved| saved.has(id)) {
                open.extend(&job.inputs);
            }
            if matches!(job.relation.kind, RelationKind::MaterializedView { .. }) {
                open.extend(self.readers(id).map(Job::id));
            }
        }
        left
    }

    /// All that as the last checkpoint has it.
    pub(super) fn behind(&self) -> Behind {
        let mut behind = Behind { left: self.not_awaited(), ..Behind::default() };
        let Some(saved) = self.last_checkpoint() else { return behind };
        let carried: Vec<RelationId> = behind.left.iter().copied().filter(|id| saved.has(*id)).collect();
        let reads = self.with_inputs(carried.clone());
        for id in carried {
            let Some(job) = saved.jobs.get(&id) else { continue };
            let epoch = saved.epoch_of(id);
            for name in job.view.file_names().chain(job.rejects.file_names()) {
                behind.view_files.extend(saved.view_files.get(name).map(|file| (name.to_string(), file.clone())));
            }
            if !behind.bases.contains_key(&epoch) {
                behind.bases.extend(saved.base(epoch, &reads).map(|base| (epoch, base)));
            }
            behind.epochs.insert(id, epoch);
            behind.jobs.insert(id, job.clone());
        }
        behind
    }

    /// What has been frozen of jobs that a job reads which is held up only since then cannot be left out of the checkpoint any more.
    pub(super) fn give_up_if_held_up(&mut self) {
        let Some(run) = self.checkpoint.as_ref().filter(|run| !run.writing && !run.unreached.is_empty()) else { return };
        let held = self.held_up();
        let Some(job) = run.unreached().filter(|id| held.contains(id)).find_map(|id| self.jobs.get(&id)) else { return };
        let message = format!("job \"{}\" waits for a table outside; the next checkpoint has it as the one before had", job.relation.name);
        let id = run.id;
        self.on_checkpoint_done(id, Err(SqlError::new(SqlState::CONNECTION_FAILURE, message)));
    }
}

/// The state of jobs that are behind. What the newer image has of it may be later than they are: it is in the older one as it was.
/// `dir`: where images are opened.
pub fn restore_state(dir: &Path, store: &BlockingCheckpointStore, body: &Body, kv: &dyn KeyValueStore) -> Result<()> {
    let (image, opened) = (dir.join("behind"), dir.join("behind-opened"));
    for (epoch, base) in &body.bases {
        let plans = body.catalog.iter().filter(|relation| body.behind.get(&relation.id) == Some(epoch)).filter_map(Relation::plan);
        let tables: Vec<StateTableId> = plans.flat_map(StreamPlan::state_tables).collect();
        if tables.is_empty() {
            continue;
        }
        clear_dir(&image)?;
        store.download_dir(&base.kv, &image)?;
        let older = RocksKv::open(&opened, Some(&image), COPY_CACHE_BYTES)?;
        tables.into_iter().try_for_each(|table| copy_state(&older, kv, table))?;
    }
    clear_dir(&image)?;
    clear_dir(&opened)
}

/// Makes a table what it is in another store.
fn copy_state(from: &dyn KeyValueStore, to: &dyn KeyValueStore, table: StateTableId) -> Result<()> {
    to.drop_table(table)?;
    let (mut run, mut bytes) = (SortedRun::default(), 0);
    from.scan(table, &[], None, &mut |key, value| {
        run.push(key, Some(value));
        bytes += key.len() + value.len();
        if bytes >= COPY_BYTES {
            bytes = 0;
            to.ingest(vec![(table, std::mem::take(&mut run))])?;
        }
        Ok(true)
    })?;
    if run.is_empty() { Ok(()) } else { to.ingest(vec![(table, run)]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eddyline_storage::kv::MemoryKv;

    #[test]
    fn a_table_becomes_what_it_was() {
        let run = |entries: &[(&str, &str)]| -> SortedRun { entries.iter().map(|(key, value)| (*key, Some(*value))).collect() };
        let (table, other) = (StateTableId(1), StateTableId(2));
        let (then, now) = (MemoryKv::new(), MemoryKv::new());
        then.ingest(vec![(table, run(&[("a", "1"), ("b", "2")]))]).expect("it takes rows");
        now.ingest(vec![(table, run(&[("b", "3"), ("c", "4")])), (other, run(&[("a", "5")]))]).expect("it takes rows");
        copy_state(&then, &now, table).expect("it is copied");
        let all = |table| {
            let mut found = Vec::new();
            let mut keep = |key: &[u8], value: &[u8]| {
                found.push([key, value].concat());
                Ok(true)
            };
            now.scan(table, &[], None, &mut keep).expect("it is read");
            found
        };
        assert_eq!((all(table), all(other)), (vec![b"a1".to_vec(), b"b2".to_vec()], vec![b"a5".to_vec()]));
    }
}
