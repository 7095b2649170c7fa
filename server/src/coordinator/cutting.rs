//! Cuts: when one is taken, and what goes into it; and the table writes that wait for theirs.

use super::core::{Core, reply_to};
use super::handle::{Reply, TableWrite};
use super::records::{self, KIND_CUT, KIND_WRITE};
use super::source::Source;
use super::{Event, job};
use eddyline_common::{Cut, Epoch, RelationId, failpoint};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// One cut's input, in bytes over all sources: bounds a step's memory and duration.
const CUT_BYTES_MAX: usize = 16 << 20;

/// Cuts logged but not yet durable. More would only add latency behind a slow disk.
const CUTS_IN_FLIGHT_MAX: u64 = 8;

/// Every view is exact at a mark; this often keeps reads across views fresh while slow jobs still coalesce.
const MARK_INTERVAL: Duration = Duration::from_millis(50);

pub(super) struct WaitingWrite {
    tables: Vec<RelationId>,
    epoch: Epoch,
    pub reply: Reply<Epoch>,
}

impl Core {
    pub(super) fn receive(&mut self, source: RelationId) {
        let Some(source) = self.sources.get_mut(&source) else { return };
        let room = (4 * CUT_BYTES_MAX).saturating_sub(source.waiting_bytes()).max(1);
        source.receive(room);
        let id = source.id();
        for (epoch, undecodable) in source.cut_replayed() {
            self.system.undecodable(id, epoch, undecodable);
        }
    }

    /// Takes a cut if input waits, the log keeps up, and some reader of that input is free.
    pub(super) fn cut_if_due(&mut self) -> bool {
        if self.last_cut.0 - self.durable.0 >= CUTS_IN_FLIGHT_MAX || self.engine.gate().pressed() {
            return false;
        }
        let table_waits = self.tables.values().any(|t| t.has_input());
        let source_due = |s: &Source| s.has_input() && self.is_wanted(s.id());
        if !table_waits && !self.sources.values().any(source_due) {
            return false;
        }
        self.take_cut();
        true
    }

    /// Self-clocking: a cut waits until a reader has nothing left to do, so that a busy engine takes large ones.
    fn is_wanted(&self, input: RelationId) -> bool {
        let mut readers = self.readers(input).filter(|j| j.failure().is_none()).peekable();
        readers.peek().is_none() || readers.any(|j| j.running.is_none() && j.is_live() && j.stepped == self.last_cut)
    }

    /// Takes everything that waits, bounded, into the next epoch, and logs the cut.
    pub(super) fn take_cut(&mut self) -> Epoch {
        let epoch = self.last_cut.next();
        self.now = self.now.max(self.config.clock.now());
        let mut inputs = BTreeMap::new();
        let due: Vec<RelationId> = self.sources.values().filter(|s| s.has_input()).map(Source::id).collect();
        let share = CUT_BYTES_MAX / due.len().max(1);
        for id in due {
            let Some(source) = self.sources.get_mut(&id) else { continue };
            let cut = source.cut(epoch, share);
            if cut.input.partitions.iter().any(|p| p.start.is_some()) {
                self.handle.starts.write().insert(id, source.starts().to_vec());
            }
            self.system.undecodable(id, epoch, cut.undecodable);
            inputs.insert(id, cut.input);
        }
        for table in self.tables.values_mut().filter(|t| t.has_input()) {
            inputs.insert(table.id(), table.cut(epoch));
        }
        self.last_cut = epoch;
        if self.last_mark.elapsed() >= MARK_INTERVAL {
            self.mark(epoch);
            self.last_mark = Instant::now();
        }
        self.stats.cuts.fetch_add(1, Ordering::Relaxed);
        self.log_cut(&Cut { epoch, now: self.now, inputs });
        epoch
    }

    fn log_cut(&mut self, cut: &Cut) {
        let epoch = cut.epoch;
        let logged = records::encode_json(cut).and_then(|payload| self.log.append(KIND_CUT, &payload)).and_then(|position| {
            failpoint::hit("cut.logged")?;
            Ok(position)
        });
        let sender = self.sender.clone();
        match logged {
            Ok(position) => {
                let notify = move |result| drop(sender.send(Event::Durable(epoch, result)));
                self.log.on_durable(position, Box::new(notify));
            }
            Err(error) => drop(sender.send(Event::Durable(epoch, Err(error)))),
        }
    }

    pub(super) fn on_write(&mut self, write: TableWrite, encoded: &[u8], reply: Reply<Epoch>) {
        if let Some((missing, _)) = write.changes.iter().find(|(t, _)| !self.tables.contains_key(t)) {
            let error = eddyline_common::SqlError::new(eddyline_common::SqlState::UNDEFINED_TABLE, format!("table {missing} was dropped"));
            return reply_to(reply, Err(error));
        }
        if let Err(stopped) = write.changes.iter().try_for_each(|(table, _)| self.is_running(*table)) {
            return reply_to(reply, Err(stopped));
        }
        if write.changes.iter().all(|(_, c)| c.is_empty()) {
            return reply_to(reply, Ok(self.durable));
        }
        if let Err(error) = self.log.append(KIND_WRITE, encoded) {
            return reply_to(reply, Err(error));
        }
        let now = self.config.clock.now();
        let tables: Vec<RelationId> = write.changes.iter().map(|(t, _)| *t).collect();
        for (table, changes) in write.changes {
            if let Some(table) = self.tables.get_mut(&table) {
                table.write(changes, now);
            }
        }
        // Every write that waits goes into the next cut, which `settle` takes at once.
        self.writes_waiting.push(WaitingWrite { tables, epoch: self.last_cut.next(), reply });
    }

    /// Answers writers whose cut is durable and whose tables show it.
    pub(super) fn answer_writes(&mut self) {
        let mut index = 0;
        while index < self.writes_waiting.len() {
            let waiting = &self.writes_waiting[index];
            let shown = waiting.tables.iter().all(|t| self.jobs.get(t).is_none_or(|j| j.stepped >= waiting.epoch || j.failure().is_some()));
            if self.durable >= waiting.epoch && shown {
                let waiting = self.writes_waiting.swap_remove(index);
                reply_to(waiting.reply, Ok(waiting.epoch));
            } else {
                index += 1;
            }
        }
    }

    /// Forgets what every reader has: ring entries, marks, exact epochs, old row versions.
    pub(super) fn trim(&mut self) {
        let cursor =
            |readers: &mut dyn Iterator<Item = &job::Job>| readers.filter(|j| j.failure().is_none()).map(|j| j.ring_cursor()).min();
        let relations: Vec<RelationId> = self.sources.keys().chain(self.tables.keys()).chain(self.jobs.keys()).copied().collect();
        let mut bytes = 0;
        for id in relations {
            let to = cursor(&mut self.readers(id)).unwrap_or(self.frontier(id));
            let budget = self.config.ring_bytes;
            if let Some(source) = self.sources.get_mut(&id) {
                source.ring.trim(to);
                source.ring.evict_to(budget);
                bytes += source.ring.bytes();
            } else if let Some(table) = self.tables.get_mut(&id) {
                table.ring.trim(to);
                bytes += table.ring.bytes();
            }
            if !self.tables.contains_key(&id)
                && let Some(job) = self.jobs.get_mut(&id)
            {
                job.output.trim(to);
                bytes += job.output.bytes();
            }
        }
        self.stats.ring_bytes.store(bytes as u64, Ordering::Relaxed);
        let behind = self.jobs.values().filter(|j| self.keeps_up(j)).map(|j| j.stepped).min().unwrap_or(self.durable).min(self.durable);
        self.marks = self.marks.split_off(&behind);
        let needed = self.oldest_needed();
        self.jobs.values_mut().for_each(|j| j.exact.forget_before(needed));
    }

    /// The oldest epoch a reader may still ask for.
    pub(super) fn oldest_needed(&mut self) -> Epoch {
        // Nobody reads a sink.
        let live = self.jobs.values().filter(|j| j.is_live() && !self.sinks.contains_key(&j.id()));
        // Without an epoch at which all are exact, some of them may still share one that was needed before.
        let common = job::common_epoch(live.map(|j| &j.exact), self.durable).unwrap_or(self.horizon);
        let needed = self.jobs.values().filter(|j| !self.stands_still(j)).filter_map(|j| j.needs());
        let checkpoint = self.checkpoint.as_ref().map(|c| c.epoch);
        let oldest = needed.chain(checkpoint).chain(self.pins.oldest()).fold(common, Epoch::min);
        self.horizon = self.horizon.max(oldest);
        oldest
    }
}
