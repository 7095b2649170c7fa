//! The left rows of a key that a step changed, each with the right rows that ruled it before the step and rule it after. It does not know what is emitted of them.

use super::output::OUTPUT_ROWS;
use super::{AsofJoin, PAGE_ROWS};
use crate::operator::StepContext;
use crate::operators::join::push_touched_rows;
use eddyline_common::Result;
use eddyline_common::key::KeyRows;
use eddyline_storage::state::{KeyedRows, NO_SLOT, RowChunk};

/// Right rows that are read at once: few are looked at behind one that changed.
const RIGHT_ROWS: usize = if cfg!(test) { 2 } else { 16 };

/// Left rows from an order on, up to another one if there is one.
type LeftRows = (Vec<u8>, Option<Vec<u8>>);

/// Right rows of a key that follow each other, of which all but the first came or went in this step.
struct Stretch {
    /// First the last row before, if there is one; it was there all the time.
    rows: RowChunk,
    /// Of those rows; what else is in the chunk does not count.
    places: KeyRows,
    /// The row behind: order and row.
    next: Option<Vec<u8>>,
    /// Which left rows may be ruled by another row than before.
    ruled: LeftRows,
}

impl AsofJoin {
    /// What the step changed of a key's left rows.
    pub(super) fn resolve(&mut self, heads: [u32; 2], ctx: &mut StepContext) -> Result<()> {
        let [left, right] = heads;
        if left == NO_SLOT {
            return Ok(());
        }
        let key = self.sides[0].rows.key(left).len();
        let changed = self.changed(right, key);
        let (mut ruled, mut next): (Vec<LeftRows>, usize) = (Vec::new(), 0);
        while next < changed.len() {
            let stretch = self.stretch(right, key, &changed[next])?;
            next += changed[next..].iter().take_while(|entry| stretch.next.as_ref().is_none_or(|behind| *entry < behind)).count();
            self.rule(left, key, &stretch, ctx)?;
            ruled.push(stretch.ruled);
        }
        self.search(heads, key, &ruled)?;
        self.flush(OUTPUT_ROWS, ctx)
    }

    pub(super) fn flush(&mut self, at_least: usize, ctx: &mut StepContext) -> Result<()> {
        let [left, right] = &self.sides;
        if self.output.len() >= at_least { self.output.flush([&left.layout, &right.layout], ctx) } else { Ok(()) }
    }

    /// Right rows of a key that came or went, in order; each as order and row.
    fn changed(&mut self, right: u32, key: usize) -> Vec<Vec<u8>> {
        let page = &mut self.page;
        page.clear();
        push_touched_rows(&self.sides[1].rows, right, page);
        let came_or_went = |at: &usize| (page.old_weights()[*at] > 0) != (page.weights()[*at] > 0);
        let mut changed: Vec<Vec<u8>> = (0..page.len()).filter(came_or_went).map(|at| page.key(at)[key..].to_vec()).collect();
        changed.sort_unstable();
        changed
    }

    /// The right rows from the first one that changed up to the next one that was there all the time.
    fn stretch(&mut self, right: u32, key: usize, first: &[u8]) -> Result<Stretch> {
        let (right_rows, mut rows) = (&mut self.sides[1].rows, RowChunk::default());
        last_before(right_rows, right, key, first, &mut rows)?;
        let (mut from, mut next) = (first.to_vec(), None);
        let count = loop {
            let start = rows.len();
            right_rows.range(right, &from, RIGHT_ROWS, &mut rows)?;
            let stays = |at: &usize| rows.weights()[*at] > 0 && rows.old_weights()[*at] > 0;
            if let Some(at) = (start..rows.len()).find(stays) {
                next = Some(rows.key(at)[key..].to_vec());
                break at;
            }
            if rows.len() - start < RIGHT_ROWS {
                break rows.len();
            }
            from = [&rows.key(rows.len() - 1)[key..], &[0]].concat();
        };
        let mut places = KeyRows::default();
        for at in 0..count {
            places.push(&[self.place(&rows.key(at)[key..])?]);
        }
        let start = self.ruled_from(self.place(first)?);
        let end = next.as_ref().map(|behind| self.place(behind).map(|place| self.ruled_from(place))).transpose()?;
        Ok(Stretch { rows, places, next, ruled: (start, end) })
    }

    /// The place that a right row's order begins with.
    fn place<'a>(&self, order: &'a [u8]) -> Result<&'a [u8]> {
        Ok(&order[..self.order.first_len(order)?])
    }

    /// Where the left rows begin that a right row in this place rules.
    fn ruled_from(&self, place: &[u8]) -> Vec<u8> {
        if self.strict { after(place) } else { place.to_vec() }
    }

    /// Notes of the left rows of a stretch which right rows rule them.
    fn rule(&mut self, left: u32, key: usize, stretch: &Stretch, ctx: &mut StepContext) -> Result<()> {
        let (start, end) = &stretch.ruled;
        let (mut from, mut next, mut ruling) = (start.clone(), 0, [None, None]);
        loop {
            self.page.clear();
            self.sides[0].rows.range(left, &from, PAGE_ROWS, &mut self.page)?;
            for at in 0..self.page.len() {
                let entry = &self.page.key(at)[key..];
                if end.as_ref().is_some_and(|end| entry >= end.as_slice()) {
                    return Ok(());
                }
                let place = &entry[..entry.len() - self.page.row(at).len()];
                let rules = |right: &[u8]| if self.strict { right < place } else { right <= place };
                while next < stretch.places.len() && rules(stretch.places.row(next)) {
                    for (ruling, weights) in ruling.iter_mut().zip([stretch.rows.old_weights(), stretch.rows.weights()]) {
                        if weights[next] > 0 {
                            *ruling = Some(stretch.rows.row(next));
                        }
                    }
                    next += 1;
                }
                self.output.change(self.page.row(at), ruling, [self.page.old_weights()[at], self.page.weights()[at]]);
            }
            if self.page.len() < PAGE_ROWS {
                return Ok(());
            }
            from = [&self.page.key(PAGE_ROWS - 1)[key..], &[0]].concat();
            self.flush(OUTPUT_ROWS, ctx)?;
        }
    }

    /// The left rows that changed outside of all stretches: the right row that rules them is the same as before.
    fn search(&mut self, heads: [u32; 2], key: usize, ruled: &[LeftRows]) -> Result<()> {
        let [left, right] = heads;
        self.page.clear();
        push_touched_rows(&self.sides[0].rows, left, &mut self.page);
        let mut found = RowChunk::default();
        for at in 0..self.page.len() {
            let entry = &self.page.key(at)[key..];
            let begun = ruled.partition_point(|(start, _)| start.as_slice() <= entry);
            let last = begun.checked_sub(1).map(|last| &ruled[last].1);
            if last.is_some_and(|end| end.as_ref().is_none_or(|end| entry < end.as_slice())) {
                continue;
            }
            let place = &entry[..entry.len() - self.page.row(at).len()];
            let end = if self.strict { place.to_vec() } else { after(place) };
            found.clear();
            let nearest = last_before(&mut self.sides[1].rows, right, key, &end, &mut found)?.map(|at| found.row(at));
            self.output.change(self.page.row(at), [nearest; 2], [self.page.old_weights()[at], self.page.weights()[at]]);
        }
        Ok(())
    }
}

/// The last row of a key before a place in its order, of those that are there: where it is in the chunk, to which it is appended.
fn last_before(rows: &mut KeyedRows, head: u32, key: usize, end: &[u8], out: &mut RowChunk) -> Result<Option<usize>> {
    let mut end = end.to_vec();
    loop {
        let at = out.len();
        rows.range_back(head, &end, 1, out)?;
        if at == out.len() {
            return Ok(None);
        }
        if out.weights()[at] > 0 {
            return Ok(Some(at));
        }
        end = out.key(at)[key..].to_vec();
    }
}

/// The least bytes that are greater than all that begin with `prefix`, which has another byte than the greatest.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut bytes = prefix.to_vec();
    while bytes.last() == Some(&u8::MAX) {
        bytes.pop();
    }
    if let Some(last) = bytes.last_mut() {
        *last += 1;
    }
    bytes
}
