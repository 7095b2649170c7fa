//! Windows and lateness, naively: which windows a row falls into, and which of these had been closed by the watermark
//! under which the row arrived; sessions, cut by cut. Shares nothing with the product.

use super::rows::{Row, to_batch};
use super::tables::{Table, micros};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use eddyline_common::{Epoch, Timestamp};
use std::collections::HashMap;

/// A window function over a table, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Windowing {
    pub table: &'static str,
    pub size: i64,
    pub slide: i64,
    /// CUMULATE: windows with one start end this far apart.
    pub step: Option<i64>,
    /// SESSION: the gap, and the column it is partitioned by.
    pub session: Option<(i64, Option<usize>)>,
    /// GROUPING SETS that each row goes into: it counts once for each.
    pub sets: i64,
    pub offset: i64,
    pub lateness: i64,
    /// Only windows that have closed are in the view.
    pub on_close: bool,
}

/// What became of all rows of a table up to an epoch.
pub struct Windowed {
    /// The rows that count, with their windows.
    pub rows: RecordBatch,
    /// Summed weights of (row, window): assigned, accepted, and late.
    pub produced: i64,
    pub accepted: i64,
    pub late: i64,
    /// Changes that were late, whatever their weight.
    pub any_late: bool,
    /// Summed weights of rows without a time.
    pub rejected: i64,
}

impl Windowing {
    /// Starts and ends of the windows that cover `time`, found by trying.
    fn windows(&self, time: i64) -> Vec<(i64, i64)> {
        let near = (time - self.offset) / self.slide;
        let reach = self.size / self.slide + 2;
        let candidates = (near - reach..=near + reach).map(|n| n * self.slide + self.offset);
        let step = self.step.unwrap_or(self.size);
        let ends = |start: i64| (1..=self.size / step).map(move |n| (start, start + n * step));
        candidates.flat_map(ends).filter(|(start, end)| *start <= time && time < *end).collect()
    }

    fn closed(&self, end: i64, watermark: Timestamp) -> bool {
        end + self.lateness <= watermark.0
    }

    /// Applies every change up to `epoch`, one after the other.
    pub fn apply(&self, table: &Table, schema: &SchemaRef, epoch: Epoch) -> Windowed {
        if let Some((gap, partition)) = self.session {
            return self.apply_sessions(gap, partition, table, schema, epoch);
        }
        let (time_column, _) = table.spec.watermark.expect("only tables with a watermark have late rows");
        let mut counts: HashMap<(&Row, (i64, i64)), i64> = HashMap::new();
        let (mut produced, mut late, mut rejected, mut any_late) = (0, 0, 0, false);
        for entry in table.entries(Epoch::ZERO, epoch) {
            for (row, weight) in &entry.changes {
                let Some(time) = micros(&row[time_column]) else {
                    rejected += weight;
                    continue;
                };
                for window in self.windows(time) {
                    produced += weight;
                    if self.closed(window.1, entry.arrival) {
                        late += weight;
                        any_late = true;
                    } else {
                        *counts.entry((row, window)).or_default() += weight;
                    }
                }
            }
        }
        let accepted = counts.values().sum::<i64>() * self.sets;
        let (produced, late) = (produced * self.sets, late * self.sets);
        let watermark = table.watermark_at(epoch);
        let mut rows = Vec::new();
        for ((row, window), count) in counts {
            assert!(count >= 0, "a change that takes back a row is never accepted where the row was late");
            if !self.on_close || self.closed(window.1, watermark) {
                rows.extend((0..count).map(|_| with_window(row, window)));
            }
        }
        Windowed { rows: to_batch(schema, rows.iter()), produced, accepted, late, any_late, rejected }
    }
}

impl Windowing {
    fn apply_sessions(&self, gap: i64, partition: Option<usize>, table: &Table, schema: &SchemaRef, epoch: Epoch) -> Windowed {
        let (time_column, _) = table.spec.watermark.expect("only tables with a watermark have late rows");
        let time = |row: &Row| micros(&row[time_column]).expect("rows without a time are rejected");
        let key = |row: &Row| partition.map(|column| row[column].clone());
        let mut open: HashMap<Row, i64> = HashMap::new();
        let mut closed: Vec<(Row, (i64, i64), i64)> = Vec::new();
        let (mut produced, mut late, mut rejected, mut any_late) = (0, 0, 0, false);
        let sessions = |rows: &HashMap<Row, i64>| {
            let mut sorted: Vec<&Row> = rows.keys().collect();
            sorted.sort_by_key(|row| time(row));
            let mut sessions: Vec<Vec<Row>> = Vec::new();
            for row in sorted {
                let touches = |session: &&mut Vec<Row>| {
                    let last = session.last().expect("no session is empty");
                    key(last) == key(row) && time(row) < time(last) + gap
                };
                match sessions.iter_mut().find(touches) {
                    Some(session) => session.push(row.clone()),
                    None => sessions.push(vec![row.clone()]),
                }
            }
            sessions
        };
        let bounds = |session: &[Row]| (time(&session[0]), time(&session[session.len() - 1]) + gap);
        let close = |open: &mut HashMap<Row, i64>, closed: &mut Vec<(Row, (i64, i64), i64)>, watermark: Timestamp| {
            for session in sessions(open).into_iter().filter(|s| self.closed(bounds(s).1, watermark)) {
                let window = bounds(&session);
                for row in session {
                    let count = open.remove(&row).expect("it was open");
                    closed.push((row, window, count));
                }
            }
        };
        let mut closed_at = Timestamp::MIN;
        for entry in table.entries(Epoch::ZERO, epoch) {
            if entry.arrival > closed_at {
                close(&mut open, &mut closed, entry.arrival);
                closed_at = entry.arrival;
            }
            for (row, weight) in &entry.changes {
                let Some(time) = micros(&row[time_column]) else {
                    rejected += weight;
                    continue;
                };
                produced += weight;
                // What a closed session would have taken in begins another one, so the plain query says otherwise.
                any_late |= time < entry.arrival.0;
                if self.closed(time + gap, entry.arrival) {
                    late += weight;
                } else {
                    *open.entry(row.clone()).or_default() += weight;
                }
            }
            assert!(open.values().all(|count| *count >= 0), "what is not late was there");
            open.retain(|_, count| *count > 0);
        }
        if table.watermark_at(epoch) > closed_at {
            close(&mut open, &mut closed, table.watermark_at(epoch));
        }
        let shown = if self.on_close { HashMap::new() } else { open.clone() };
        let still = sessions(&shown).into_iter().flat_map(|session| {
            let window = bounds(&session);
            session.into_iter().map(move |row| (row, window)).collect::<Vec<_>>()
        });
        let all = closed.iter().map(|(row, window, count)| (row.clone(), *window, *count));
        let rows: Vec<Row> = all
            .chain(still.map(|(row, window)| (row.clone(), window, open[&row])))
            .flat_map(|(row, window, count)| (0..count).map(move |_| with_window(&row, window)).collect::<Vec<_>>())
            .collect();
        let accepted = open.values().sum::<i64>() + closed.iter().map(|(_, _, count)| count).sum::<i64>();
        Windowed { rows: to_batch(schema, rows.iter()), produced, accepted, late, any_late, rejected }
    }
}

fn with_window(row: &Row, (start, end): (i64, i64)) -> Row {
    let time = |micros: i64| ScalarValue::TimestampMicrosecond(Some(micros), None);
    row.iter().cloned().chain([time(start), time(end), time(end - 1000)]).collect()
}
