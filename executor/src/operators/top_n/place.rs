//! The places of rows that come in order: ROW_NUMBER, RANK, DENSE_RANK, of which some are asked for.

use eddyline_planner::plan::RankFunction;

/// The places asked for: those after `offset` and at most `end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub offset: u64,
    pub end: u64,
}

/// The places of a row that are asked for: `copies` rows at each of `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: u64,
    pub to: u64,
    pub copies: i64,
}

impl Span {
    pub(super) fn rows(&self) -> i64 {
        (self.to - self.from) as i64 * self.copies
    }

    pub(super) fn at(&self, place: u64) -> i64 {
        if (self.from..self.to).contains(&place) { self.copies } else { 0 }
    }
}

/// Walks over the rows of a partition.
pub(super) struct Walk {
    function: RankFunction,
    bounds: Bounds,
    /// Rows so far.
    rows: u64,
    /// Place of the last row.
    place: u64,
    order: Option<Vec<u8>>,
}

impl Walk {
    pub(super) fn new(function: RankFunction, bounds: Bounds) -> Self {
        Walk { function, bounds, rows: 0, place: 0, order: None }
    }

    /// The place of a first row with this order, if it came next.
    fn next_place(&self, order: &[u8]) -> u64 {
        let is_peer = self.order.as_deref() == Some(order);
        match self.function {
            RankFunction::RowNumber => self.rows + 1,
            _ if is_peer => self.place,
            RankFunction::Rank => self.rows + 1,
            RankFunction::DenseRank => self.place + 1,
        }
    }

    /// Whether neither a row with this order nor any after it is asked for.
    pub(super) fn is_past(&self, order: &[u8]) -> bool {
        self.next_place(order) > self.bounds.end
    }

    /// The places of the next row, which is there `weight` times.
    pub(super) fn take(&mut self, order: &[u8], weight: i64) -> Span {
        let none = Span { from: 0, to: 0, copies: 0 };
        if weight <= 0 {
            return none;
        }
        let place = self.next_place(order);
        self.place = place;
        self.rows = self.rows.saturating_add(weight as u64);
        if self.function != RankFunction::RowNumber && self.order.as_deref() != Some(order) {
            let last = self.order.get_or_insert_default();
            last.clear();
            last.extend_from_slice(order);
        }
        let (last, copies) = match self.function {
            RankFunction::RowNumber => (self.rows, 1),
            _ => (place, weight),
        };
        let (from, to) = (place.max(self.bounds.offset.saturating_add(1)), last.min(self.bounds.end));
        if from > to { none } else { Span { from, to: to + 1, copies } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(function: RankFunction, offset: u64, end: u64) -> Vec<(u64, u64, i64)> {
        let mut walk = Walk::new(function, Bounds { offset, end });
        let rows: [(&[u8], i64); 6] = [(b"a", 2), (b"b", 1), (b"b", 2), (b"c", 0), (b"d", 1), (b"e", 1)];
        rows.iter().map(|(order, weight)| walk.take(order, *weight)).map(|span| (span.from, span.to, span.copies)).collect()
    }

    #[test]
    fn places_are_those_of_sql() {
        let none = (0, 0, 0);
        use RankFunction::*;
        assert_eq!(places(RowNumber, 0, 9), [(1, 3, 1), (3, 4, 1), (4, 6, 1), none, (6, 7, 1), (7, 8, 1)]);
        assert_eq!(places(Rank, 0, 9), [(1, 2, 2), (3, 4, 1), (3, 4, 2), none, (6, 7, 1), (7, 8, 1)]);
        assert_eq!(places(DenseRank, 0, 9), [(1, 2, 2), (2, 3, 1), (2, 3, 2), none, (3, 4, 1), (4, 5, 1)]);
        assert_eq!(places(RowNumber, 1, 4), [(2, 3, 1), (3, 4, 1), (4, 5, 1), none, none, none]);
        assert_eq!(places(Rank, 1, 5), [none, (3, 4, 1), (3, 4, 2), none, none, none]);
        assert_eq!(places(DenseRank, 1, 2), [none, (2, 3, 1), (2, 3, 2), none, none, none]);
    }

    #[test]
    fn the_end_is_seen_from_the_order_alone() {
        let mut walk = Walk::new(RankFunction::Rank, Bounds { offset: 0, end: 1 });
        assert!(!walk.is_past(b"a"));
        walk.take(b"a", 3);
        assert!(!walk.is_past(b"a") && walk.is_past(b"b"));
    }
}
