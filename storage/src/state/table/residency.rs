//! How entries of a `StateTable` get from memory to the store: frozen for a checkpoint, spilled outside of one, evicted once
//! the store has them.

use super::*;

/// Fewer entries than this part of all are not looked for among those that may not leave.
const WALK_PART: usize = 16;

impl StateTable {
    /// Copies what is dirty for the checkpoint that the gate has begun, into one buffer. The run is in no particular order.
    pub fn freeze(&mut self, codec: &mut dyn SlotCodec) -> Result<SortedRun> {
        let checkpoint = self.space.gate.latest();
        if checkpoint == 0 || self.last_frozen == Some(checkpoint) {
            return Err(SqlError::internal("state is frozen for a checkpoint that the gate has not begun"));
        }
        self.settle();
        if self.frozen_for.is_some() {
            return Err(SqlError::internal("state is frozen while an earlier checkpoint is pending"));
        }
        let run = self.drain_dirty(codec);
        for slot in &self.frozen {
            self.flags[*slot as usize] |= FROZEN;
        }
        self.frozen_for = Some(checkpoint);
        self.last_frozen = Some(checkpoint);
        Ok(run)
    }

    /// Copies all dirty entries and makes them clean; their slots go to `frozen`.
    fn drain_dirty(&mut self, codec: &dyn SlotCodec) -> SortedRun {
        let mut run = SortedRun::default();
        let mut listed = std::mem::take(&mut self.dirty);
        // In the order of slots, so that columns are read from front to back.
        listed.sort_unstable();
        run.reserve(listed.len());
        self.frozen.clear();
        for slot in listed {
            let flags = self.flags[slot as usize];
            self.flags[slot as usize] = flags & !(LISTED | DIRTY);
            if flags & DIRTY == 0 {
                continue;
            }
            let value = (flags & DEAD == 0).then_some(|out: &mut Vec<u8>| codec.encode(slot, out));
            run.push_with(|out| self.put_durable_key(self.shards[slot as usize], self.keys.get(slot), out), value);
            self.flags[slot as usize] |= STORED;
            self.frozen.push(slot);
        }
        run
    }

    /// Learns what became of the entries frozen last.
    fn settle(&mut self) {
        let Some(checkpoint) = self.frozen_for else { return };
        let outcome = self.space.gate.outcome(checkpoint);
        if outcome == Outcome::Pending {
            return;
        }
        self.frozen_for = None;
        for slot in std::mem::take(&mut self.frozen) {
            self.flags[slot as usize] &= !FROZEN;
            if outcome == Outcome::Abandoned {
                self.mark_dirty(slot);
            } else {
                self.release_if_gone(slot);
            }
        }
        self.none_left = None;
    }

    /// Frees a dead slot whose tombstone is in the store.
    fn release_if_gone(&mut self, slot: u32) {
        if self.flags[slot as usize] & (DEAD | DIRTY) == DEAD {
            self.release(slot);
        }
    }

    /// Ends a step: the owner holds no slot any more. Gives back what the budget asks for, as far as the gate allows. May
    /// also be called between steps.
    pub fn maintain(&mut self, codec: &mut dyn SlotCodec) -> Result<()> {
        self.settle();
        self.keys.compact();
        self.fit_budget(codec)?;
        if self.counters != self.reported {
            self.space.gate.count(self.counters.since(self.reported));
            self.reported = self.counters;
        }
        Ok(())
    }

    fn fit_budget(&mut self, codec: &mut dyn SlotCodec) -> Result<()> {
        let Some(target) = self.excess(codec) else {
            self.held = None;
            return Ok(());
        };
        self.evict(target, codec)?;
        if self.excess(codec).is_some() && self.may_spill() {
            self.spill(codec)?;
            self.evict(target, codec)?;
        }
        self.keys.compact();
        self.excess(codec);
        Ok(())
    }

    /// Tells the budget what the table has, and learns what it should come down to, if that is less.
    fn excess(&mut self, codec: &dyn SlotCodec) -> Option<usize> {
        let bytes = self.bytes(codec);
        let allotment = self.allotment.as_mut()?;
        allotment.count(bytes);
        allotment.target()
    }

    fn may_spill(&mut self) -> bool {
        if self.dirty.is_empty() && self.frozen_for.is_none() {
            return false;
        }
        let gate = self.space.gate.clone();
        if gate.may_spill(self.last_frozen) {
            // The checkpoint may have ended since the last look.
            self.settle();
            return self.frozen_for.is_none();
        }
        let urgent = self.allotment.as_ref().is_some_and(Allotment::is_urgent);
        let abandoned = urgent && self.last_frozen.is_some_and(|checkpoint| gate.abandon(checkpoint));
        if abandoned {
            self.settle();
        }
        abandoned
    }

    /// Writes what is dirty to the store, outside any checkpoint. What the store did not take stays in memory as it was; if that
    /// is for lack of room, the gate is held until a later attempt succeeds.
    fn spill(&mut self, codec: &mut dyn SlotCodec) -> Result<()> {
        let mut run = self.drain_dirty(codec);
        run.sort();
        let written = self.space.kv.ingest(vec![(self.space.id, run)]);
        let drained = std::mem::take(&mut self.frozen);
        match written {
            Ok(()) => {
                self.counters.spills += 1;
                self.held = None;
                drained.into_iter().for_each(|slot| self.release_if_gone(slot));
                self.none_left = None;
                Ok(())
            }
            Err(error) => {
                drained.into_iter().for_each(|slot| self.mark_dirty(slot));
                if error.state != SqlState::DISK_FULL {
                    return Err(error);
                }
                if self.held.is_none() {
                    tracing::error!(table = %self.space.id, "operator state waits for room on the disk, and all steps with it: {error}");
                    self.held = Some(self.space.gate.hold());
                }
                Ok(())
            }
        }
    }

    /// Two turns of the clock at most: the first may only take away the marks of use.
    fn evict(&mut self, target: usize, codec: &mut dyn SlotCodec) -> Result<()> {
        if self.none_left.is_some_and(|fetched| self.counters.fetched - fetched < (self.occupied / WALK_PART) as u64) {
            return Ok(());
        }
        let mut visits = 2 * self.flags.len();
        while self.bytes(codec) > target {
            let Some(slot) = self.next_to_leave(&mut visits, codec) else {
                self.none_left = Some(self.counters.fetched);
                break;
            };
            self.leave_orders(slot);
            if self.flags[slot as usize] & STORED != 0 {
                self.complete = false;
                if let Some(expiry) = &mut self.expiry {
                    expiry.mark_stored(end_of(self.keys.get(slot))?, self.shards[slot as usize]);
                }
            }
            codec.clear(slot, self.keys.get(slot));
            self.release(slot);
            self.counters.evictions += 1;
            // Long keys leave waste that counts until it is squeezed out.
            self.keys.compact();
        }
        Ok(())
    }

    /// Moves the hand on to an entry that may leave, over as many as `visits` says.
    fn next_to_leave(&mut self, visits: &mut usize, codec: &dyn SlotCodec) -> Option<u32> {
        while *visits > 0 {
            *visits -= 1;
            self.clock_hand = if self.clock_hand + 1 < self.flags.len() { self.clock_hand + 1 } else { 0 };
            let flags = &mut self.flags[self.clock_hand];
            if *flags & (LIVE | DIRTY | FROZEN) != LIVE || !codec.may_leave(self.clock_hand as u32) {
                continue;
            }
            if *flags & USED == 0 {
                return Some(self.clock_hand as u32);
            }
            *flags &= !USED;
        }
        None
    }
}
