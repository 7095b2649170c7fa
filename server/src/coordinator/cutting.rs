//! Cuts: when one is taken, and what goes into it; and the table writes that wait for theirs.

use super::core::{Core, reply_to};
use super::handle::{AdmittedWrite, Reply};
use super::records::{self, KIND_CUT, KIND_SINK_WRITE, KIND_WRITE};
use super::ring::Ring;
use super::sink::Returning;
use super::source::Source;
use super::{Event, job};
use eddyline_common::time::MICROS_PER_SECOND;
use eddyline_common::{Cut, Epoch, RelationId, Result, SqlError, SqlState, Timestamp, failpoint};
use eddyline_planner::catalog::Relation;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// One cut's input, in bytes over all sources: bounds a step's memory and duration.
const CUT_BYTES_MAX: usize = 16 << 20;

/// What may wait of a source for its cuts, in bytes: enough for some of them.
pub const WAITING_BYTES_MAX: usize = 4 * CUT_BYTES_MAX;

/// So many times what waits of one source, or is in one ring, is what all of them have together.
const FEW: usize = 4;
/// The least that each of very many may have is this part of that.
const SHARES_MAX: usize = 64;

/// Cuts logged but not yet durable, in number and in bytes of their records. A cut waits for no sync, so that a slow one is
/// waited for once, by whoever reads; only a disk that hangs holds cuts up.
const CUTS_IN_FLIGHT_MAX: usize = 512;
const CUTS_IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// What a step takes of a core, at twice the figure, whatever it carries: cuts are so far apart that this is at most half of one.
const STEP_INTERVAL: Duration = Duration::from_micros(60);
/// Below this nobody would notice the difference.
const PACE_MIN: Duration = Duration::from_millis(1);
/// Input that is worth a step of every reader at once.
const WORTHWHILE_BYTES: usize = 1 << 20;

/// How soon after a cut another one is taken for nothing but that time has passed.
const TIMER_CUT_INTERVAL: Duration = Duration::from_millis(50);

/// Every view that does not collect is exact at a mark; this often keeps reads across views fresh while slow jobs still coalesce.
const MARK_INTERVAL: Duration = Duration::from_millis(50);

/// How often a log that cannot be written is asked whether it can again.
const LOG_RETRY_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct WaitingWrite {
    tables: Vec<RelationId>,
    epoch: Epoch,
    reply: Reply<Epoch>,
    /// Given back with the answer.
    _room: OwnedSemaphorePermit,
}

/// What was cut and is not durable.
#[derive(Default)]
pub(super) struct CutsInFlight {
    /// With the bytes of their records, oldest first.
    cuts: VecDeque<(Epoch, usize)>,
    bytes: usize,
}

impl CutsInFlight {
    fn is_full(&self) -> bool {
        self.cuts.len() >= CUTS_IN_FLIGHT_MAX || self.bytes >= CUTS_IN_FLIGHT_BYTES_MAX
    }

    fn logged(&mut self, epoch: Epoch, bytes: usize) {
        self.cuts.push_back((epoch, bytes));
        self.bytes += bytes;
    }

    pub fn durable(&mut self, up_to: Epoch) {
        while let Some((_, bytes)) = self.cuts.pop_front_if(|(epoch, _)| *epoch <= up_to) {
            self.bytes -= bytes;
        }
    }
}

impl Core {
    pub(super) fn receive(&mut self, source: RelationId) {
        self.receive_up_to(source, self.waiting_max());
    }

    /// What may wait of each source: of many only a share of what may wait of a few.
    pub(super) fn waiting_max(&self) -> usize {
        share(self.config.waiting_bytes, self.sources.values().filter(|source| source.is_read()).count())
    }

    /// So much may wait of the source then; the last batch may take it beyond.
    pub(super) fn receive_up_to(&mut self, source: RelationId, waiting_max: usize) {
        let rests_at = self.waiting_max();
        let Some(source) = self.sources.get_mut(&source) else { return };
        source.receive(waiting_max);
        let id = source.id();
        if source.is_replaying() {
            self.unscheduled = true;
            for (epoch, undecodable) in source.cut_replayed() {
                self.system.undecodable(id, epoch, undecodable);
            }
            // Another reader goes on from where the cuts end, or with other partitions.
            self.readers_changed |= !source.is_replaying() || source.rest(rests_at);
        }
        self.note_all_read(id);
    }

    /// Cuts may have made room for what has arrived.
    pub(super) fn listen_again(&mut self) {
        let waiting_max = self.waiting_max();
        self.sources.values_mut().for_each(|source| source.listen_again(waiting_max));
    }

    /// Takes a cut if input waits, the log keeps up, and some reader of that input is free.
    pub(super) fn cut_if_due(&mut self) -> bool {
        if self.cuts_in_flight.is_full() || self.engine.gate().pressed() || self.log_health().is_err() {
            return false;
        }
        let table_waits = self.tables.values().any(|t| t.has_input());
        let source_due = |s: &Source| s.has_input() && self.pace(s) <= self.since_cut() && self.is_wanted(s.id());
        if !table_waits && !self.sources.values().any(source_due) && !self.timer_is_due() {
            return false;
        }
        self.take_cut().is_ok()
    }

    /// How long after a cut another one may take what waits of a source: a little of it, cut for a thousand readers, would be less work
    /// than their steps' being begun and ended.
    fn pace(&self, source: &Source) -> Duration {
        if source.waiting_bytes() >= WORTHWHILE_BYTES {
            return Duration::ZERO;
        }
        if self.is_only_collected(source.id()) {
            return MARK_INTERVAL;
        }
        if self.jobs.len() < (PACE_MIN.as_micros() / STEP_INTERVAL.as_micros()) as usize {
            return Duration::ZERO;
        }
        let pace = STEP_INTERVAL * self.readers.get(&source.id()).map_or(0, BTreeSet::len) as u32;
        if pace < PACE_MIN { Duration::ZERO } else { pace }
    }

    /// When what waits of a source may be cut though it is little.
    pub(super) fn next_paced_cut(&self) -> Option<Instant> {
        let (cut_at, now) = (self.cut_at?, self.instant());
        let waiting = self.sources.values().filter(|s| s.has_input()).map(|s| (cut_at + self.pace(s), s.id()));
        // What is due already waits for a reader.
        waiting.filter(|(at, id)| *at > now || self.is_wanted(*id)).map(|(at, _)| at).min()
    }

    /// When the first job that has come to the last cut wants another one, whatever comes.
    fn first_timer(&self) -> Option<Timestamp> {
        let waits = |j: &&job::Job| j.is_live() && j.running.is_none() && j.stepped == self.last_cut;
        self.timed.iter().filter_map(|id| self.jobs.get(id)).filter(waits).filter_map(|j| j.progress.next_timer).min()
    }

    fn timer_is_due(&self) -> bool {
        let may = self.since_cut() >= TIMER_CUT_INTERVAL || self.reads_waiting.iter().any(|read| read.wants_cut_after(self.last_cut));
        may && self.first_timer().is_some_and(|timer| timer <= self.config.clock.now())
    }

    fn since_cut(&self) -> Duration {
        self.cut_at.map_or(Duration::MAX, |at| self.instant() - at)
    }

    /// When to look at the jobs' timers again.
    pub(super) fn next_job_timer(&self) -> Option<Instant> {
        let wait = self.first_timer()?.0.saturating_sub(self.config.clock.now().0).clamp(0, 3600 * MICROS_PER_SECOND);
        // One that is overdue waits for something else.
        let soon = Duration::from_millis(1);
        Some(match wait {
            0 if self.reads_waiting.iter().any(|read| read.wants_cut_after(self.last_cut)) => self.instant() + soon,
            0 => self.instant() + TIMER_CUT_INTERVAL.saturating_sub(self.since_cut()).max(soon),
            wait => self.instant() + Duration::from_micros(wait as u64),
        })
    }

    /// Why nothing new can be logged at present, if so.
    pub(super) fn log_health(&self) -> Result<()> {
        self.log_lost.clone().map_or_else(|| self.log.health(), Err)
    }

    /// Why nothing is taken of any source at present, if the disk is why.
    pub(super) fn held_by_disk(&self) -> Option<String> {
        match self.log_health() {
            Err(error) => Some(format!("it is not read on while the log cannot be written: {}", error.message)),
            Ok(()) if self.holds_steps() => Some("it is not read on until the disk has room for rows and state of views".to_string()),
            Ok(()) => None,
        }
    }

    /// While the log cannot be written, when to look again.
    pub(super) fn next_look_at_log(&self) -> Option<Instant> {
        let stalled = self.log_lost.is_none() && self.log.health().is_err();
        stalled.then(|| self.instant() + LOG_RETRY_INTERVAL)
    }

    /// Self-clocking: a cut waits until a reader has nothing left to do, so that a busy engine takes large ones. Readers that collect let cuts
    /// pile up.
    fn is_wanted(&self, input: RelationId) -> bool {
        let mut readers = self.readers(input).filter(|j| j.failure().is_none()).peekable();
        let is_free = |j: &job::Job| j.running.is_none() && j.is_live();
        let has_all = |j: &job::Job| j.stepped == self.last_cut || self.is_only_collected(input);
        readers.peek().is_none() || readers.any(|j| is_free(j) && has_all(j))
    }

    /// Takes everything that waits, bounded, into the next epoch, and logs the cut. Takes nothing while the log cannot be
    /// written: rows that are in a ring belong to their epoch for good.
    pub(super) fn take_cut(&mut self) -> Result<()> {
        self.log_health()?;
        let epoch = self.last_cut.next();
        // No two cuts have the same `now`: it tells the rows of one from those of another.
        self.now = Timestamp(self.now.0.saturating_add(1)).max(self.config.clock.now());
        let now = self.now;
        let mut inputs = BTreeMap::new();
        let due: Vec<RelationId> = self.sources.values().filter(|s| s.has_input()).map(Source::id).collect();
        let sources = due.len();
        for id in due {
            // None is more than its readers should have in one step.
            let step = self.readers(id).filter(|j| j.is_live()).map(job::Job::step_bytes_max).min();
            let share = step.unwrap_or(CUT_BYTES_MAX).min(CUT_BYTES_MAX) / sources;
            let Some(source) = self.sources.get_mut(&id) else { continue };
            let cut = source.cut(epoch, now, share);
            if cut.input.partitions.iter().any(|p| p.start.is_some()) {
                self.handle.starts.write().insert(id, source.starts().to_vec());
            }
            self.system.undecodable(id, epoch, cut.undecodable);
            inputs.insert(id, cut.input);
        }
        let arrived = self.instant();
        for table in self.tables.values_mut().filter(|t| t.has_input()) {
            inputs.insert(table.id(), table.cut(epoch, now, arrived));
        }
        self.last_cut = epoch;
        self.cut_at = Some(self.instant());
        if self.instant() - self.last_mark >= MARK_INTERVAL {
            self.mark(epoch);
            self.last_mark = self.instant();
        }
        self.nows.push(epoch, now, &self.marks);
        self.stats.cuts.fetch_add(1, Ordering::Relaxed);
        self.stats.cut_times.push(epoch, now);
        self.log_cut(&Cut { epoch, now, inputs });
        Ok(())
    }

    /// The cut is taken, so from here on it is either logged or the last one.
    fn log_cut(&mut self, cut: &Cut) {
        let epoch = cut.epoch;
        let logged = records::encode_json(cut).and_then(|payload| {
            self.cuts_in_flight.logged(epoch, payload.len());
            let position = self.log.append_done(KIND_CUT, &payload)?;
            failpoint::hit("cut.logged")?;
            Ok(position)
        });
        match logged {
            Ok(position) => {
                let sender = self.sender.clone();
                let notify = move |result| drop(sender.send(Event::Durable(epoch, result)));
                self.log.on_durable(position, Box::new(notify));
            }
            Err(error) => self.on_log_lost(error),
        }
    }

    /// A cut was taken that will not be durable, and so will no later one: nothing is begun any more, and what is under way
    /// ends here.
    pub(super) fn on_log_lost(&mut self, error: SqlError) {
        if self.log_lost.is_none() {
            tracing::error!("the log is lost; what is written is refused until the server is started again: {error}");
            self.log_lost = Some(error.clone());
        }
        for waiting in self.writes_waiting.drain(..) {
            reply_to(waiting.reply, Err(error.clone()));
        }
    }

    pub(super) fn on_write(&mut self, write: AdmittedWrite, reply: Reply<Epoch>) {
        let AdmittedWrite { write, proposed, encoded, sink, room } = write;
        if let Some((missing, _)) = write.changes.iter().find(|(t, _)| !self.tables.contains_key(t)) {
            let error = SqlError::new(SqlState::UNDEFINED_TABLE, format!("table {missing} was dropped"));
            return reply_to(reply, Err(error));
        }
        if let Err(stopped) = write.changes.iter().try_for_each(|(table, _)| self.is_running(*table)) {
            return reply_to(reply, Err(stopped));
        }
        if let Some((id, up_to)) = sink {
            if !self.sinks.contains_key(&id) {
                return reply_to(reply, Err(SqlError::new(SqlState::UNDEFINED_OBJECT, "the sink was dropped")));
            }
            if self.written_by_sink(id) >= up_to {
                return self.on_written_before(reply, room);
            }
        }
        let filled: Vec<RelationId> = write.changes.iter().map(|(t, _)| *t).filter(|t| self.awaits_rows(*t)).collect();
        let is_empty = filled.is_empty() && write.changes.iter().all(|(_, c)| c.is_empty());
        if is_empty && sink.is_none() {
            return reply_to(reply, Ok(self.durable));
        }
        let kind = if sink.is_some() { KIND_SINK_WRITE } else { KIND_WRITE };
        let logged = self.log_health().and_then(|()| self.log.append(kind, &encoded));
        if let Err(error) = logged {
            return reply_to(reply, Err(error));
        }
        self.sink_writes.extend(sink);
        if is_empty {
            return reply_to(reply, Ok(self.durable));
        }
        filled.into_iter().for_each(|table| self.note_filled(table));
        let tables: Vec<RelationId> = write.changes.iter().filter(|(_, c)| !c.is_empty()).map(|(t, _)| *t).collect();
        for ((table, changes), proposed) in write.changes.into_iter().zip(proposed) {
            if let Some(table) = self.tables.get_mut(&table) {
                table.write(changes, proposed);
            }
        }
        // Every write that waits goes into the next cut, which `settle` takes at once.
        self.writes_waiting.push(WaitingWrite { tables, epoch: self.last_cut.next(), reply, _room: room });
    }

    fn awaits_rows(&self, table: RelationId) -> bool {
        self.catalog.get(table).is_some_and(|relation| relation.awaits_rows())
    }

    /// What a table awaits is there with the first write to it, whoever's that is: it stays from here on.
    pub(super) fn note_filled(&mut self, table: RelationId) {
        let Some(awaiting) = self.catalog.get(table).filter(|relation| relation.awaits_rows()) else { return };
        let mut filled = Relation::clone(awaiting);
        filled.set_awaits_rows(false);
        self.set_catalog(self.catalog.with(filled));
    }

    /// A sink's write that is in the log: it is answered once that is on disk.
    fn on_written_before(&mut self, reply: Reply<Epoch>, room: OwnedSemaphorePermit) {
        if let Err(error) = self.log_health() {
            return reply_to(reply, Err(error));
        }
        let waits = self.tables.values().any(|t| t.has_input());
        let epoch = if waits { self.last_cut.next() } else { self.last_cut };
        self.writes_waiting.push(WaitingWrite { tables: Vec::new(), epoch, reply, _room: room });
    }

    /// Up to which of a sink's steps the tables have what it wrote.
    pub(super) fn written_by_sink(&self, sink: RelationId) -> u64 {
        self.sink_writes.get(&sink).copied().unwrap_or(0)
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
        let mut cursors: HashMap<RelationId, Epoch> = HashMap::new();
        for job in self.jobs.values().filter(|j| j.failure().is_none()) {
            let at = job.ring_cursor();
            for input in &job.inputs {
                cursors.entry(*input).and_modify(|epoch| *epoch = at.min(*epoch)).or_insert(at);
            }
        }
        let relations: Vec<RelationId> = self.sources.keys().chain(self.tables.keys()).chain(self.jobs.keys()).copied().collect();
        let met: BTreeSet<Epoch> = self.jobs.values().flat_map(|j| j.meets().chain(self.replayed_up_to(j))).collect();
        let steps = self.jobs.values().filter_map(|j| Some(j.running.as_ref()?.epoch));
        // What a job reads comes to where that stands, if a restart brought it back at an earlier epoch.
        let stand = self.jobs.values().filter(|j| j.is_live()).map(|j| j.stepped);
        let returning = self.sinks_back.values().flat_map(Returning::complete);
        let checkpoint = self.checkpoint.as_ref().map(|run| run.epoch);
        let asked: BTreeSet<Epoch> = steps.chain(stand).chain(checkpoint).chain(returning).chain(met.iter().copied()).collect();
        for id in relations {
            let frontier = self.frontier(id);
            let to = cursors.get(&id).copied().unwrap_or(frontier);
            if let Some(source) = self.sources.get_mut(&id) {
                // All its readers may be newer than what a restart has it read again, which still enters.
                source.ring.trim(to.min(frontier));
            } else if let Some(table) = self.tables.get_mut(&id) {
                table.ring.trim(to.min(frontier));
            } else if let Some(job) = self.jobs.get_mut(&id) {
                // A new reader may wait for a later epoch than the job has come to; what the job emits till then still enters.
                job.output.trim(to.min(job.stepped));
            }
        }
        self.evict(&asked);
        let behind = self.jobs.values().filter(|j| self.keeps_up(j)).map(|j| j.stepped).min().unwrap_or(self.durable).min(self.durable);
        // A job that is filled only now comes to older marks too, and another may wait for it there.
        self.marks.retain(|mark| *mark >= behind || met.contains(mark));
        self.joint.retain(|mark| *mark >= behind);
        let cursors = self.jobs.values().filter(|j| j.failure().is_none()).map(|j| j.ring_cursor());
        self.nows.forget_before(cursors.min().unwrap_or(self.last_cut));
        let oldest = self.note_kept();
        self.forget_filled(oldest);
    }

    /// Lets go of what rings have beyond their share, though somebody lacks it. Those of views are held by `output_is_full`.
    fn evict(&mut self, asked: &BTreeSet<Epoch>) {
        let rings = self.sources.values().map(|source| &source.ring).chain(self.tables.values().map(|table| &table.ring));
        self.ring_share = ring_share(self.config.ring_bytes, rings.map(Ring::bytes));
        for source in self.sources.values_mut() {
            source.ring.evict_to(self.ring_share, Epoch::MAX);
            source.ring.forget_outlines(asked);
        }
        for (id, table) in &mut self.tables {
            // What the table itself has taken its other readers find in its rows.
            let stored = self.jobs.get(id).filter(|j| j.is_live()).map_or(Epoch::ZERO, |j| j.stepped);
            table.ring.evict_to(self.ring_share, stored);
            table.ring.forget_outlines(asked);
        }
        let of_views = self.jobs.values().filter(|job| !self.tables.contains_key(&job.id())).map(|job| &job.output);
        let of_inputs = self.sources.values().map(|source| &source.ring).chain(self.tables.values().map(|table| &table.ring));
        let bytes: usize = of_views.chain(of_inputs).map(Ring::bytes).sum();
        self.stats.ring_bytes.store(bytes as u64, Ordering::Relaxed);
    }
}

/// What one of many may have if one alone may have `each`: together no more than a few, but each something.
fn share(each: usize, many: usize) -> usize {
    (each.saturating_mul(FEW) / many.max(1)).clamp(each / SHARES_MAX, each)
}

/// What each ring may keep: all it may have alone, unless that comes to too much. Rings that have less than an equal part leave the rest of it
/// to the others.
fn ring_share(each: usize, rings: impl Iterator<Item = usize>) -> usize {
    let mut rings: Vec<usize> = rings.filter(|bytes| *bytes > 0).collect();
    let mut room = each.saturating_mul(FEW);
    if rings.iter().sum::<usize>() <= room {
        return each;
    }
    rings.sort_unstable();
    let mut left = rings.len();
    for bytes in rings {
        if bytes > room / left {
            break;
        }
        room -= bytes;
        left -= 1;
    }
    (room / left.max(1)).clamp(each / SHARES_MAX, each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_have_together_what_a_few_may_have() {
        assert_eq!([1, 4, 8, 100_000].map(|many| share(64 << 20, many)), [64 << 20, 64 << 20, 32 << 20, 1 << 20]);
        let of = |rings: &[usize]| ring_share(100, rings.iter().copied());
        assert_eq!((of(&[]), of(&[100; 4]), of(&[1; 400])), (100, 100, 100), "all fit");
        assert_eq!((of(&[100, 90, 80, 70, 61, 0, 0]), of(&[50; 10])), (99, 40));
        assert_eq!(of(&[&[100_usize; 5][..], &[1; 100]].concat()), 60, "who has little takes nothing from who has much");
    }

    #[test]
    fn cuts_in_flight_are_bounded_by_bytes_and_number() {
        let mut cuts = CutsInFlight::default();
        for epoch in 1..=CUTS_IN_FLIGHT_MAX as u64 {
            assert!(!cuts.is_full(), "a slow sync holds up no cut");
            cuts.logged(Epoch(epoch), 300);
        }
        assert!(cuts.is_full());
        cuts.durable(Epoch(1));
        assert!(!cuts.is_full());
        cuts.logged(Epoch(1000), CUTS_IN_FLIGHT_BYTES_MAX);
        cuts.durable(Epoch(999));
        assert!(cuts.is_full());
        cuts.durable(Epoch(1000));
        assert_eq!((cuts.cuts.len(), cuts.bytes), (0, 0));
    }
}
