//! (group, value) -> count: which values a group's rows have, for DISTINCT and, in order, for MIN and MAX under
//! retraction. Each pair is an entry of its own in the operator's state, so a change of one value writes one entry, and
//! values of one group come and go between memory and store independently.
//!
//! The entry's key is the group's key and then the value's; in `descending` multisets the value's bytes are complemented,
//! so that the greatest value is the first entry of its group.

use crate::accumulators::{KeyExtreme, Updates};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use eddyline_common::key::{KeyCodec, KeyRows};
use eddyline_common::kv::SortedRun;
use eddyline_common::{Result, SqlError};
use eddyline_storage::state::{Shards, SlotCodec, StateSpace, StateTable, TableShape, get_varint, put_varint, unzigzag, zigzag};

/// Changes whenever the stored form (this byte, then the count) does.
const VALUE_VERSION: u8 = 1;

pub(super) struct Shape {
    pub ty: DataType,
    pub descending: bool,
    pub ordered: bool,
}

pub(super) struct Multiset {
    pub table: StateTable,
    counts: Counts,
    codec: KeyCodec,
    descending: bool,
    retract: bool,
    /// Entries changed in this step with their groups, each once.
    touched: Vec<(u32, u32)>,
    is_touched: Vec<bool>,
    values: KeyRows,
    keys: KeyRows,
    rows: Vec<u32>,
    slots: Vec<u32>,
    appeared: Vec<i64>,
}

impl Multiset {
    pub(super) fn open(space: &StateSpace, kind: u8, shape: Shape, window: bool, retract: bool) -> Result<Self> {
        let mut counts = Counts::default();
        let table = space.table(kind, TableShape { expiry: window, ordered: shape.ordered }, &mut counts)?;
        Ok(Multiset {
            table,
            counts,
            codec: KeyCodec::new(vec![shape.ty])?,
            descending: shape.descending,
            retract,
            touched: Vec::new(),
            is_touched: Vec::new(),
            values: KeyRows::default(),
            keys: KeyRows::default(),
            rows: Vec::new(),
            slots: Vec::new(),
            appeared: Vec::new(),
        })
    }

    /// Adds a value per row. Returns for each row by how much it changed the number of values with a positive count: +1,
    /// -1 or 0. `groups` are the rows' group keys, interned in `group_table` as `updates.slots`.
    pub(super) fn update(&mut self, groups: &KeyRows, group_table: &StateTable, updates: &Updates, values: &ArrayRef) -> Result<&[i64]> {
        self.codec.encode(std::slice::from_ref(values), values.len(), &mut self.values);
        self.rows.clear();
        let nulls = values.logical_nulls();
        let counts = |row: &u32| {
            let row = *row as usize;
            updates.mask.is_none_or(|m| m.value(row)) && nulls.as_ref().is_none_or(|n| n.is_valid(row))
        };
        self.rows.extend((0..values.len() as u32).filter(counts));
        self.keys.clear();
        let mut complement = Vec::new();
        for row in &self.rows {
            let (group, value) = (groups.row(*row as usize), self.values.row(*row as usize));
            if self.descending {
                complement.clear();
                complement.extend(value.iter().map(|b| !b));
                self.keys.push(&[group, &complement]);
            } else {
                self.keys.push(&[group, value]);
            }
        }
        let shard = |key: usize| group_table.shard(updates.slots[self.rows[key] as usize]);
        self.table.intern(&self.keys, Shards::Of(&shard), &mut self.counts, &mut self.slots)?;
        self.is_touched.resize(self.table.slots(), false);
        self.appeared.clear();
        self.appeared.resize(values.len(), 0);
        for (slot, row) in self.slots.iter().zip(&self.rows) {
            let row = *row as usize;
            let weight = updates.weights.map_or(1, |w| w[row]);
            let count = &mut self.counts.0[*slot as usize];
            let before = *count > 0;
            // Nothing ever leaves an append-only multiset, so that a value is there says it all.
            *count = if self.retract { *count + weight } else { 1 };
            self.appeared[row] = (*count > 0) as i64 - before as i64;
            if (self.retract || !before) && !std::mem::replace(&mut self.is_touched[*slot as usize], true) {
                self.touched.push((*slot, updates.slots[row]));
                self.table.mark_dirty(*slot);
            }
        }
        Ok(&self.appeared)
    }

    /// At the end of a step no count is negative; if values may have been forgotten, one that is means that there is none.
    pub(super) fn check(&mut self, forgetful: bool) -> Result<()> {
        for (slot, _) in &self.touched {
            let count = &mut self.counts.0[*slot as usize];
            if *count < 0 && !forgetful {
                return Err(SqlError::internal("an aggregate was told to retract values that were never there"));
            }
            *count = (*count).max(0);
        }
        Ok(())
    }

    /// Drops all values of one group; between steps, or when the step's are swept. Ordered multisets only.
    pub(super) fn forget(&mut self, group: &[u8], shard: u8) -> Result<()> {
        self.table.remove_prefix(group, shard, &mut self.counts)
    }

    /// Brings the extremes of the touched groups up to date.
    pub(super) fn refresh(&mut self, groups: &StateTable, extreme: &mut KeyExtreme) -> Result<()> {
        let mut value = Vec::new();
        for (slot, group) in &self.touched {
            if self.counts.0[*slot as usize] > 0 {
                extreme.offer(*group, value_in(self.table.key(*slot), groups.key(*group), self.descending, &mut value));
            }
        }
        for (slot, group) in &self.touched {
            if self.counts.0[*slot as usize] > 0 {
                continue;
            }
            let (entry, prefix) = (self.table.key(*slot), groups.key(*group));
            if extreme.get(*group) == Some(value_in(entry, prefix, self.descending, &mut value)) {
                // It was the first entry, so the next one is after it.
                let (entry, counts) = (entry.to_vec(), &self.counts.0);
                let next = self.table.first_from(prefix, &entry, groups.shard(*group), |s| counts[s as usize] > 0)?;
                extreme.set(*group, next.as_ref().map(|key| value_in(key, prefix, self.descending, &mut value)));
            }
        }
        Ok(())
    }

    /// Removes the values that are gone.
    pub(super) fn sweep(&mut self) {
        for (slot, _) in self.touched.drain(..) {
            self.is_touched[slot as usize] = false;
            if self.counts.0[slot as usize] == 0 {
                self.table.remove(slot, &mut self.counts);
            }
        }
    }

    /// Drops all values of one window.
    pub(super) fn drop_window(&mut self, end: i64) -> Result<()> {
        loop {
            for slot in self.table.window_slots(end) {
                self.table.remove(slot, &mut self.counts);
            }
            self.maintain()?;
            if !self.table.load_window(end, &mut self.counts)? {
                return Ok(());
            }
        }
    }

    pub(super) fn maintain(&mut self) -> Result<()> {
        self.table.maintain(&mut self.counts)
    }

    pub(super) fn freeze(&mut self) -> Result<SortedRun> {
        self.table.freeze(&mut self.counts)
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes(&self.counts)
    }
}

/// The value's key within an entry's key; `buffer` is where it is complemented.
fn value_in<'a>(entry: &'a [u8], group: &[u8], descending: bool, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let value = &entry[group.len()..];
    if !descending {
        return value;
    }
    buffer.clear();
    buffer.extend(value.iter().map(|b| !b));
    buffer
}

#[derive(Default)]
struct Counts(Vec<i64>);

impl SlotCodec for Counts {
    fn reserve(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(VALUE_VERSION);
        put_varint(zigzag(self.0[slot as usize]), out);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        let Some((&VALUE_VERSION, mut bytes)) = bytes.split_first() else {
            return Err(SqlError::corrupt("a stored count has an unknown version"));
        };
        self.0[slot as usize] = unzigzag(get_varint(&mut bytes)?);
        Ok(())
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.0[slot as usize] = 0;
    }

    fn slot_bytes(&self) -> usize {
        8
    }
}
