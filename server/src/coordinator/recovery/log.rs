//! The log after a checkpoint, record by record: DDL and writes are done again, cuts are given to their sources and tables, and epochs are those
//! of the first run. What holds this within bounds is `replaying`'s.

use super::super::checkpointing::Replayed;
use super::super::core::Core;
use super::super::records::{self, DdlRecord, Record};
use super::super::replaying::Brought;
use super::check_wanted;
use eddyline_common::{ChangeBatch, Cut, RelationId, Result};
use eddyline_storage::log::{LogPosition, Recovered};
use std::sync::atomic::Ordering;

impl Core {
    pub(super) fn replay(&mut self, recovered: &Recovered, from: LogPosition, replayed: &Replayed) -> Result<()> {
        let (mut cuts, mut writes) = (0u64, 0u64);
        let mut brought = Brought::default();
        let together = "The data directory and the checkpoint store belong together: a server that is moved takes both with it.";
        for frame in recovered.frames(from).map_err(|error| error.with_hint(together))? {
            let frame = frame?;
            check_wanted(&self.config)?;
            let is_new = replayed.has(frame.position);
            let is_lacking = |input: &RelationId| replayed.has_input(*input, frame.position);
            match records::decode(frame.kind, &frame.payload)? {
                Record::Ddl(ddl) if is_new => self.replay_ddl(ddl)?,
                Record::Ddl(DdlRecord::Alter { relation, epoch }) => self.replay_policy(&relation, epoch),
                Record::Ddl(_) => {}
                Record::Write(mut changes) => {
                    writes += 1;
                    changes.retain(|(table, _)| is_lacking(table));
                    self.replay_write(changes, &mut brought);
                }
                Record::SinkWrite { sink, up_to, mut changes } => {
                    writes += 1;
                    if is_new {
                        self.sink_writes.insert(sink, up_to);
                    }
                    changes.retain(|(table, _)| is_lacking(table));
                    self.replay_write(changes, &mut brought);
                }
                Record::Cut(mut cut) => {
                    cuts += 1;
                    cut.inputs.retain(|input, _| is_lacking(input));
                    self.replay_cut(cut, is_new)?;
                    self.take_in_if_much(&mut brought)?;
                }
            }
        }
        self.replayed = None;
        self.recovered = self.last_cut;
        self.recover_sinks()?;
        self.starting = false;
        self.refresh_after_replay();
        if cuts > 0 || writes > 0 {
            tracing::info!(cuts, writes, epoch = self.last_cut.0, "replayed the log");
        }
        Ok(())
    }

    fn replay_write(&mut self, changes: Vec<(RelationId, ChangeBatch)>, brought: &mut Brought) {
        for (table, changes) in changes {
            self.note_filled(table);
            if let Some(table) = self.tables.get_mut(&table).filter(|_| !changes.is_empty()) {
                brought.0 += changes.bytes();
                table.write_replayed(changes, self.now);
            }
        }
    }

    fn replay_ddl(&mut self, ddl: DdlRecord) -> Result<()> {
        match ddl {
            DdlRecord::Create { relation, epoch, starts, own_starts, present, replaces, comments } => {
                self.apply_create(*relation, epoch, starts, own_starts, replaces, &comments)?;
                self.expect(present, epoch);
                Ok(())
            }
            DdlRecord::CreateFunction { function } => {
                self.apply_create_function(*function);
                Ok(())
            }
            DdlRecord::CreateIndex { index } => self.replay_create_index(*index),
            DdlRecord::Drop { relations } => {
                self.apply_drop(&relations);
                Ok(())
            }
            DdlRecord::Pause { relation, pause, epoch } => {
                self.apply_pause(relation, pause, epoch);
                Ok(())
            }
            DdlRecord::Alter { relation, epoch } => {
                let prepared = self.prepare_alter(&relation)?;
                self.apply_alter(*relation, epoch, prepared);
                Ok(())
            }
            DdlRecord::Replace { old, new } => self.replay_replace(old, new),
            DdlRecord::AlterSystem { name, value } => {
                self.apply_alter_system(name, value);
                Ok(())
            }
            DdlRecord::Comment { relation, column, text } => {
                self.apply_comment(relation, column, text);
                Ok(())
            }
            DdlRecord::AdvanceWatermark { relation, to_micros } => {
                self.apply_advance(relation, to_micros);
                Ok(())
            }
        }
    }

    /// `is_new`: it is after the checkpoint, and not only for jobs that are behind.
    fn replay_cut(&mut self, cut: Cut, is_new: bool) -> Result<()> {
        let epoch = cut.epoch;
        for (id, input) in cut.inputs {
            if let Some(source) = self.sources.get_mut(&id) {
                source.push_replay(epoch, cut.now, &input)?;
                self.handle.starts.write().insert(id, source.starts().to_vec());
            } else if let Some(table) = self.tables.get_mut(&id) {
                table.cut_replayed(epoch, cut.now, self.config.clock.instant(), &input);
            }
        }
        self.nows.push(epoch, cut.now, &self.marks);
        self.stats.cut_times.push(epoch, cut.now);
        self.replayed = Some(epoch);
        if is_new {
            self.last_cut = epoch;
            self.durable = epoch;
            self.now = self.now.max(cut.now);
            self.stats.epoch.store(epoch.0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn refresh_after_replay(&mut self) {
        self.refresh_readers();
        // Cuts that took no rows of a source need no reading.
        for id in self.sources.keys().copied().collect::<Vec<_>>() {
            self.receive(id);
        }
    }
}
