//! Which rows of a partition make a session: rows in the order of their time, each of which lies less than the gap after the one
//! before it. A session is `[first time, last time + gap)`.

/// A session's bounds.
pub(super) type Bounds = (i64, i64);

/// What a step made of a partition's rows, in the order of their time.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Where each row is among those that the partition was made of.
    pub rows: Vec<usize>,
    times: Vec<i64>,
    /// Weights before the step and after it.
    pub old: Vec<i64>,
    pub new: Vec<i64>,
}

impl Partition {
    /// Of rows in any order.
    pub(super) fn new(times: &[i64], old: &[i64], new: &[i64]) -> Partition {
        let mut rows: Vec<usize> = (0..times.len()).collect();
        // They mostly come from the newest to the oldest, and a sort that looks for runs has little to do then.
        rows.sort_by_key(|row| times[*row]);
        let of = |values: &[i64]| rows.iter().map(|row| values[*row]).collect();
        Partition { times: of(times), old: of(old), new: of(new), rows }
    }

    /// The session of each row before the step, and after it; `None` for a row that is not there.
    pub(super) fn sessions(&self, gap: i64) -> (Vec<Option<Bounds>>, Vec<Option<Bounds>>) {
        (assign(&self.times, &self.old, gap), assign(&self.times, &self.new, gap))
    }
}

struct Session {
    /// Its first row to behind its last; there may be rows without weight between.
    rows: std::ops::Range<usize>,
    bounds: Bounds,
}

/// The first session at or after a row.
fn next_session(times: &[i64], weights: &[i64], from: usize, gap: i64) -> Option<Session> {
    let first = (from..times.len()).find(|row| weights[*row] > 0)?;
    let (mut end, mut last) = (times[first] + gap, first);
    for row in first + 1..times.len() {
        if weights[row] <= 0 {
            continue;
        }
        if times[row] >= end {
            break;
        }
        (end, last) = (times[row] + gap, row);
    }
    Some(Session { rows: first..last + 1, bounds: (times[first], end) })
}

fn assign(times: &[i64], weights: &[i64], gap: i64) -> Vec<Option<Bounds>> {
    let mut sessions = vec![None; times.len()];
    let mut row = 0;
    while let Some(session) = next_session(times, weights, row, gap) {
        for row in session.rows.clone().filter(|row| weights[*row] > 0) {
            sessions[row] = Some(session.bounds);
        }
        row = session.rows.end;
    }
    sessions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_less_than_a_gap_apart_are_together() {
        let minute = 60;
        let partition = Partition::new(&[30, 13, 8, 6, 7].map(|m| m * minute), &[0, 1, 1, 1, 0], &[2, 0, 1, 1, 1]);
        assert_eq!(partition.rows, [3, 4, 2, 1, 0]);
        let (old, new) = partition.sessions(5 * minute);
        let bounds = |from: i64, to: i64| Some((from * minute, to * minute));
        assert_eq!(old, [bounds(6, 13), None, bounds(6, 13), bounds(13, 18), None]);
        assert_eq!(new, [bounds(6, 13), bounds(6, 13), bounds(6, 13), None, bounds(30, 35)]);
    }
}
