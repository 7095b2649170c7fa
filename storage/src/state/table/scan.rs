//! Ranges of an ordered table: entries in memory and those in the store only, as one sequence in key order.

use super::*;
use stored::successor;

/// Where a scanned entry is.
#[derive(Clone, Copy, Debug)]
pub enum Scanned<'a> {
    /// In memory, in this slot.
    Resident(u32),
    /// In the store only; its encoded value.
    Stored(&'a [u8]),
}

impl StateTable {
    /// Visits the live entries whose keys begin with `prefix`, in key order, until `visit` says false. Entries in the store
    /// only do not become resident. Tables with `TableShape::ordered` only.
    pub fn scan_prefix(&mut self, prefix: &[u8], shard: u8, visit: &mut dyn FnMut(&[u8], Scanned) -> Result<bool>) -> Result<()> {
        let ordered = self.ordered.as_ref().expect("the table was opened ordered");
        let range = ordered.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let mut resident = range.take_while(|(key, _)| key.starts_with(prefix)).peekable();
        if !self.complete {
            let from = self.durable_key(shard, prefix);
            let mut more = true;
            let mut fetched = 0;
            self.space.kv.scan(self.space.id, &from, successor(&from).as_deref(), &mut |durable, value| {
                let stored = &durable[2..];
                while let Some((key, slot)) = resident.next_if(|(key, _)| ***key < *stored) {
                    more = visit(key, Scanned::Resident(*slot))?;
                    if !more {
                        return Ok(false);
                    }
                }
                // What memory knows of, alive or dead, is not in the store only.
                if self.find(stored).is_none() {
                    fetched += 1;
                    more = visit(stored, Scanned::Stored(value))?;
                }
                Ok(more)
            })?;
            self.counters.fetches += 1;
            self.counters.fetched += fetched;
            if !more {
                return Ok(());
            }
        }
        for (key, slot) in resident {
            if !visit(key, Scanned::Resident(*slot))? {
                break;
            }
        }
        Ok(())
    }
}
