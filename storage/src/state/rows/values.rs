//! The columns beside the two tables of a row multiset, indexed by slot, and the doubly linked list that binds the rows in
//! memory to their head.
//!
//! Stored form of a row: version byte, weight, length of the key, length of the order, and the mark if rows have marks; numbers
//! are varints, signed ones zigzag. Of a head: version byte, number of rows, sum of weights.

use super::RowShape;
use super::order::Trees;
use super::spans::Spans;
use crate::state::ordered::Ordered;
use crate::state::{SlotCodec, get_varint, put_varint, unzigzag, zigzag};
use eddyline_common::{Result, SqlError};

/// Change whenever the stored form does.
const ROW_VERSION: u8 = 1;
const HEAD_VERSION: u8 = 1;

/// No slot, no entry, end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// What belongs to a row, in one piece: whoever looks at a part of it looks at others, and rows lie anywhere.
#[derive(Clone, Copy)]
struct Row {
    weight: i64,
    head: u32,
    previous: u32,
    next: u32,
    /// Position among the rows touched in this step.
    touched: u32,
    /// Bytes of the entry's key that are the key and the order of the row.
    key_length: u32,
    order_length: u32,
}

const NO_ROW: Row = Row { weight: 0, head: NONE, previous: NONE, next: NONE, touched: NONE, key_length: 0, order_length: 0 };

#[derive(Clone, Copy)]
struct Head {
    first: u32,
    resident: u32,
    /// Position among the heads touched in this step.
    touched: u32,
    /// Of its resident rows, if they are ordered and many.
    tree: u32,
    rows: u64,
    weight: i64,
}

const NO_HEAD: Head = Head { first: NONE, resident: 0, touched: NONE, tree: NONE, rows: 0, weight: 0 };

/// The codec of the rows' table; `Heads` is that of the heads'.
pub(super) struct Values {
    rows: Vec<Row>,
    /// Empty unless rows have marks.
    marks: Vec<i64>,
    heads: Vec<Head>,
    /// Rows that are in memory and bound to a head; with a retention only.
    spans: Option<Spans>,
    /// Where rows are asked for in their order.
    trees: Option<Trees>,
    marked: bool,
}

/// A row of the store.
pub(super) struct StoredRow {
    pub weight: i64,
    pub key_length: u32,
    pub order_length: u32,
    pub mark: i64,
}

impl Values {
    pub(super) fn new(shape: RowShape) -> Self {
        let spans = shape.retention_micros.map(Spans::new);
        let trees = shape.ordered.then(Trees::default);
        Values { rows: Vec::new(), marks: Vec::new(), heads: Vec::new(), spans, trees, marked: shape.marks }
    }

    pub(super) fn weight(&self, slot: u32) -> i64 {
        self.rows[slot as usize].weight
    }

    pub(super) fn mark(&self, slot: u32) -> i64 {
        self.marks.get(slot as usize).copied().unwrap_or(0)
    }

    pub(super) fn set_mark(&mut self, slot: u32, mark: i64) {
        self.marks[slot as usize] = mark;
    }

    pub(super) fn head_of(&self, slot: u32) -> u32 {
        self.rows[slot as usize].head
    }

    pub(super) fn next_of(&self, slot: u32) -> u32 {
        self.rows[slot as usize].next
    }

    pub(super) fn key_length(&self, slot: u32) -> usize {
        self.rows[slot as usize].key_length as usize
    }

    /// Where the row itself begins within the entry's key.
    pub(super) fn row_start(&self, slot: u32) -> u32 {
        let row = &self.rows[slot as usize];
        row.key_length + row.order_length
    }

    pub(super) fn touched_row(&self, slot: u32) -> u32 {
        self.rows[slot as usize].touched
    }

    pub(super) fn set_touched_row(&mut self, slot: u32, at: u32) {
        self.rows[slot as usize].touched = at;
    }

    pub(super) fn touched_head(&self, head: u32) -> u32 {
        self.heads[head as usize].touched
    }

    pub(super) fn set_touched_head(&mut self, head: u32, at: u32) {
        self.heads[head as usize].touched = at;
    }

    pub(super) fn head_weight(&self, head: u32) -> i64 {
        self.heads[head as usize].weight
    }

    pub(super) fn row_count(&self, head: u32) -> u64 {
        self.heads[head as usize].rows
    }

    pub(super) fn first_of(&self, head: u32) -> u32 {
        self.heads[head as usize].first
    }

    /// Every row of the head is in memory.
    pub(super) fn is_resident(&self, head: u32) -> bool {
        let head = &self.heads[head as usize];
        head.resident as u64 == head.rows
    }

    pub(super) fn add_weight(&mut self, slot: u32, head: u32, weight: i64) {
        self.rows[slot as usize].weight += weight;
        self.heads[head as usize].weight += weight;
    }

    /// Puts a row that is in memory into the list and the tree of its head, and into its span.
    pub(super) fn link(&mut self, slot: u32, head: u32, entry: &[u8]) -> Result<()> {
        let order = entry.get(self.key_length(slot)..).ok_or_else(|| SqlError::corrupt("a stored row has an impossible length"))?;
        if let Some(spans) = &mut self.spans {
            spans.enter(slot, spans.end(order)?);
        }
        let of = &mut self.heads[head as usize];
        if let Some(trees) = self.trees.as_mut().filter(|_| of.tree != NONE) {
            trees.insert(of.tree, order, slot);
        }
        let next = std::mem::replace(&mut of.first, slot);
        of.resident += 1;
        let row = &mut self.rows[slot as usize];
        (row.head, row.previous, row.next) = (head, NONE, next);
        if next != NONE {
            self.rows[next as usize].previous = slot;
        }
        Ok(())
    }

    fn unlink(&mut self, slot: u32, entry: &[u8]) {
        let Row { head, previous, next, key_length, .. } = self.rows[slot as usize];
        if head == NONE {
            return;
        }
        match previous {
            NONE => self.heads[head as usize].first = next,
            previous => self.rows[previous as usize].next = next,
        }
        if next != NONE {
            self.rows[next as usize].previous = previous;
        }
        let of = &mut self.heads[head as usize];
        of.resident -= 1;
        if let Some(trees) = self.trees.as_mut().filter(|_| of.tree != NONE) {
            of.tree = trees.remove(of.tree, &entry[key_length as usize..], of.resident);
        }
        if let Some(spans) = &mut self.spans {
            spans.leave(slot);
        }
    }

    /// The head has so many rows in memory that they should be kept in order, and they are not.
    pub(super) fn wants_tree(&self, head: u32) -> bool {
        let of = &self.heads[head as usize];
        self.trees.is_some() && Trees::is_due(of.tree, of.resident)
    }

    /// Keeps the rows of a head in their order from now on.
    pub(super) fn plant_tree<'a>(&mut self, head: u32, entry: impl Fn(u32) -> &'a [u8]) {
        let Values { trees: Some(trees), rows, heads, .. } = self else { return };
        let of = &mut heads[head as usize];
        of.tree = trees.plant(list(rows, of.first).map(|slot| (&entry(slot)[rows[slot as usize].key_length as usize..], slot)));
    }

    /// The rows of a head in memory, in no order.
    pub(super) fn rows_of(&self, head: u32) -> impl Iterator<Item = u32> {
        list(&self.rows, self.heads[head as usize].first)
    }

    /// The orders of a head's rows in memory and what follows them, if they are kept so.
    pub(super) fn tree(&self, head: u32) -> Option<&Ordered> {
        self.trees.as_ref()?.get(self.heads[head as usize].tree)
    }

    /// The end of the span of a linked row; 0 where rows have none.
    pub(super) fn span_end(&self, slot: u32) -> i64 {
        self.spans.as_ref().map_or(0, |spans| spans.end_of_slot(slot))
    }

    /// The end of the first span that has linked rows.
    pub(super) fn first_span(&self) -> Option<i64> {
        self.spans.as_ref().and_then(Spans::first)
    }

    /// The linked rows of the span that ends at `end`.
    pub(super) fn span_slots(&self, end: i64) -> &[u32] {
        self.spans.as_ref().map_or(&[], |spans| spans.slots(end))
    }

    /// The row is new.
    pub(super) fn begin(&mut self, slot: u32, head: u32, key_length: usize, order_length: usize) {
        self.heads[head as usize].rows += 1;
        let row = &mut self.rows[slot as usize];
        (row.key_length, row.order_length) = (key_length as u32, order_length as u32);
    }

    /// The row is about to be removed, with what weight it has.
    pub(super) fn end(&mut self, slot: u32, head: u32) {
        let of = &mut self.heads[head as usize];
        of.rows -= 1;
        of.weight -= self.rows[slot as usize].weight;
    }

    pub(super) fn parse(&self, bytes: &[u8]) -> Result<StoredRow> {
        let Some((&ROW_VERSION, mut bytes)) = bytes.split_first() else {
            return Err(SqlError::corrupt("a stored row has an unknown version"));
        };
        let length = |bytes: &mut &[u8]| {
            let length = get_varint(bytes)?;
            u32::try_from(length).map_err(|_| SqlError::corrupt("a stored row has an impossible length"))
        };
        Ok(StoredRow {
            weight: unzigzag(get_varint(&mut bytes)?),
            key_length: length(&mut bytes)?,
            order_length: length(&mut bytes)?,
            mark: if self.marked { unzigzag(get_varint(&mut bytes)?) } else { 0 },
        })
    }
}

impl SlotCodec for Values {
    fn reserve(&mut self, slots: usize) {
        self.rows.resize(slots, NO_ROW);
        if self.marked {
            self.marks.resize(slots, 0);
        }
        if let Some(spans) = &mut self.spans {
            spans.resize(slots);
        }
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.push(ROW_VERSION);
        let row = &self.rows[slot as usize];
        put_varint(zigzag(row.weight), out);
        put_varint(row.key_length as u64, out);
        put_varint(row.order_length as u64, out);
        if self.marked {
            put_varint(zigzag(self.marks[slot as usize]), out);
        }
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        let stored = self.parse(bytes)?;
        let row = &mut self.rows[slot as usize];
        (row.weight, row.key_length, row.order_length) = (stored.weight, stored.key_length, stored.order_length);
        if self.marked {
            self.marks[slot as usize] = stored.mark;
        }
        Ok(())
    }

    fn clear(&mut self, slot: u32, entry: &[u8]) {
        self.unlink(slot, entry);
        self.rows[slot as usize] = NO_ROW;
        if self.marked {
            self.marks[slot as usize] = 0;
        }
    }

    fn slot_bytes(&self) -> usize {
        let spans = if self.spans.is_some() { Spans::SLOT_BYTES } else { 0 };
        size_of::<Row>() + if self.marked { 8 } else { 0 } + spans
    }

    fn heap_bytes(&self) -> usize {
        self.trees.as_ref().map_or(0, Trees::bytes)
    }
}

/// The slots of a list from `first` on.
fn list(rows: &[Row], first: u32) -> impl Iterator<Item = u32> {
    let some = |slot: u32| (slot != NONE).then_some(slot);
    std::iter::successors(some(first), move |slot| some(rows[*slot as usize].next))
}

pub(super) struct Heads<'a>(pub &'a mut Values);

impl SlotCodec for Heads<'_> {
    fn reserve(&mut self, slots: usize) {
        self.0.heads.resize(slots, NO_HEAD);
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let head = &self.0.heads[slot as usize];
        out.push(HEAD_VERSION);
        put_varint(head.rows, out);
        put_varint(zigzag(head.weight), out);
    }

    fn decode(&mut self, slot: u32, bytes: &[u8]) -> Result<()> {
        let Some((&HEAD_VERSION, mut bytes)) = bytes.split_first() else {
            return Err(SqlError::corrupt("a stored head has an unknown version"));
        };
        let head = &mut self.0.heads[slot as usize];
        head.rows = get_varint(&mut bytes)?;
        head.weight = unzigzag(get_varint(&mut bytes)?);
        Ok(())
    }

    fn clear(&mut self, slot: u32, _key: &[u8]) {
        self.0.heads[slot as usize] = NO_HEAD;
    }

    fn may_leave(&self, slot: u32) -> bool {
        self.0.heads[slot as usize].resident == 0
    }

    fn slot_bytes(&self) -> usize {
        size_of::<Head>()
    }
}
