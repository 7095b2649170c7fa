//! Row patterns, naively: rows as values, a pattern as a tree, and a search by recursion that tries one way after the other. Conditions and
//! measures are functions over the rows of the match so far. Shares nothing with the product.

use super::batch::World;
use super::rows::{Row, to_batch};
use super::tables::micros;
use super::versions::Helped;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use eddyline_common::{Epoch, Timestamp};
use std::cmp::Ordering;
use std::collections::HashMap;

pub enum Pattern {
    Var(char),
    Seq(Vec<Pattern>),
    Alt(Vec<Pattern>),
    /// At least, at most, as often as possible.
    Rep(Box<Pattern>, usize, usize, bool),
}

#[derive(Clone, Copy, Debug)]
pub enum Skip {
    PastLast,
    Next,
    First(char),
    Last(char),
}

/// A clause and what it means, over a table with the columns k, i, g, ts.
pub struct Matching {
    pub name: &'static str,
    pub partitioned: bool,
    pub pattern: fn() -> Pattern,
    /// `None`: rows to come say so.
    pub condition: fn(char, &Match) -> Result<Option<bool>, &'static str>,
    pub within_seconds: Option<i64>,
    pub skip: Skip,
    pub all_rows: bool,
    /// Of a measure, whether rows to come say it.
    pub open: fn(&Match) -> bool,
    /// The columns that come out, as they are declared, and their values for a match as far as one of its rows.
    pub columns: &'static str,
    pub output: fn(&Match) -> Row,
}

/// A match as far as one of its rows.
pub struct Match<'a> {
    rows: &'a [Row],
    path: &'a [(usize, char)],
    /// All of it, where it is known.
    pub whole: &'a [(usize, char)],
    until: Option<i64>,
    complete: bool,
    /// Which of its partition's matches it is; 0 where it is none yet.
    pub number: i64,
}

const I: usize = 1;
const TS: usize = 3;

impl Match<'_> {
    fn of(&self, variable: char) -> Vec<&Row> {
        self.path.iter().filter(|(_, v)| *v == variable || variable == '*').map(|(row, _)| &self.rows[*row]).collect()
    }

    pub fn now(&self) -> &Row {
        &self.rows[self.path[self.path.len() - 1].0]
    }

    pub fn whole_match(&self) -> Match<'_> {
        Match { rows: self.rows, path: self.whole, whole: self.whole, until: self.until, complete: self.complete, number: self.number }
    }

    pub fn classifier(&self) -> ScalarValue {
        ScalarValue::Utf8(Some(self.path[self.path.len() - 1].1.to_string()))
    }

    pub fn i(&self) -> Option<i64> {
        int(self.now())
    }

    /// A row before the present one, or after it.
    pub fn near(&self, by: i64) -> Result<Option<&Row>, ()> {
        let at = self.path[self.path.len() - 1].0 as i64 + by;
        if at < 0 {
            return Ok(None);
        }
        match self.rows.get(at as usize) {
            Some(row) if by > 0 && self.until.is_some_and(|until| time(row) >= until) => Ok(None),
            Some(row) => Ok(Some(row)),
            None if self.complete => Ok(None),
            None => Err(()),
        }
    }

    pub fn last(&self, variable: char, nth: usize) -> Option<&Row> {
        self.of(variable).into_iter().rev().nth(nth)
    }

    pub fn first(&self, variable: char, nth: usize) -> Option<&Row> {
        self.of(variable).into_iter().nth(nth)
    }

    pub fn ints(&self, variable: char) -> Vec<i64> {
        self.of(variable).into_iter().filter_map(int).collect()
    }

    pub fn count(&self, variable: char) -> i64 {
        self.of(variable).len() as i64
    }
}

pub fn int(row: &Row) -> Option<i64> {
    match row[I] {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

pub fn bigint(value: Option<i64>) -> ScalarValue {
    ScalarValue::Int64(value)
}

pub fn sum(values: &[i64]) -> Option<i64> {
    if values.is_empty() { None } else { Some(values.iter().sum()) }
}

pub fn ts_of(row: Option<&Row>) -> ScalarValue {
    row.map_or(ScalarValue::TimestampMicrosecond(None, None), |row| row[TS].clone())
}

fn time(row: &Row) -> i64 {
    micros(&row[TS]).expect("rows without a time are no part of it")
}

enum Found {
    Match,
    Nothing,
    Undecided,
    Failed,
}

struct Search<'a> {
    of: &'a Matching,
    rows: &'a [Row],
    start: usize,
    until: Option<i64>,
    complete: bool,
}

type Path = Vec<(usize, char)>;

impl Search<'_> {
    fn run(&self, pattern: &Pattern, path: &mut Path, then: &dyn Fn(&mut Path) -> Found) -> Found {
        match pattern {
            Pattern::Var(variable) => {
                let at = self.start + path.len();
                let Some(row) = self.rows.get(at) else { return if self.complete { Found::Nothing } else { Found::Undecided } };
                if self.until.is_some_and(|until| time(row) >= until) {
                    return Found::Nothing;
                }
                path.push((at, *variable));
                let so_far = Match { rows: self.rows, path, whole: &[], until: self.until, complete: self.complete, number: 0 };
                let found = match (self.of.condition)(*variable, &so_far) {
                    Err(_) => return Found::Failed,
                    Ok(None) => return Found::Undecided,
                    Ok(Some(true)) => then(path),
                    Ok(Some(false)) => Found::Nothing,
                };
                if matches!(found, Found::Nothing) {
                    path.pop();
                }
                found
            }
            Pattern::Seq(parts) => self.sequence(parts, path, then),
            Pattern::Alt(parts) => {
                for part in parts {
                    let found = self.run(part, path, then);
                    if !matches!(found, Found::Nothing) {
                        return found;
                    }
                }
                Found::Nothing
            }
            Pattern::Rep(part, least, most, greedy) => self.repeat(part, (*least, *most), *greedy, path, then),
        }
    }

    fn sequence(&self, parts: &[Pattern], path: &mut Path, then: &dyn Fn(&mut Path) -> Found) -> Found {
        match parts.split_first() {
            None => then(path),
            Some((first, rest)) => self.run(first, path, &|path| self.sequence(rest, path, then)),
        }
    }

    fn repeat(
        &self,
        part: &Pattern,
        (least, most): (usize, usize),
        greedy: bool,
        path: &mut Path,
        then: &dyn Fn(&mut Path) -> Found,
    ) -> Found {
        let again = |path: &mut Path| match most {
            0 => Found::Nothing,
            _ => self.run(part, path, &|path| self.repeat(part, (least.saturating_sub(1), most - 1), greedy, path, then)),
        };
        if least > 0 {
            return again(path);
        }
        let first = if greedy { again(path) } else { then(path) };
        match first {
            Found::Nothing if greedy => then(path),
            Found::Nothing => again(path),
            found => found,
        }
    }
}

impl Matching {
    /// All that is known of the matches up to an epoch.
    pub fn content(&self, table: &str, world: &World, schema: &SchemaRef, epoch: Epoch) -> Helped {
        let table = world.tables.iter().find(|t| t.spec.name == table).expect("a case names its table");
        let (mut late, mut rejected, mut partitions) = (0, 0, HashMap::<ScalarValue, Vec<Row>>::new());
        let watermark = table.watermark_at(epoch);
        for entry in table.entries(Epoch::ZERO, epoch) {
            for (row, weight) in &entry.changes {
                match micros(&row[TS]) {
                    None => rejected += weight,
                    Some(time) if time < entry.arrival.0 => late += weight,
                    Some(time) if time >= watermark.0 => {}
                    Some(_) => {
                        let key = if self.partitioned { row[0].clone() } else { ScalarValue::Null };
                        partitions.entry(key).or_default().extend((0..*weight).map(|_| row.clone()));
                    }
                }
            }
        }
        let mut output = Vec::new();
        for rows in partitions.values_mut() {
            rows.sort_by(compare);
            rejected += self.search(rows, watermark, &mut output);
        }
        Helped { rows: to_batch(schema, output.iter()), late, rejected }
    }

    /// Gives how many searches failed.
    fn search(&self, rows: &[Row], watermark: Timestamp, output: &mut Vec<Row>) -> i64 {
        let pattern = (self.pattern)();
        let (mut start, mut failed, mut number) = (0, 0, 0);
        while start < rows.len() {
            let until = self.within_seconds.map(|seconds| time(&rows[start]) + seconds * 1_000_000);
            let complete = watermark == Timestamp::MAX || until.is_some_and(|until| until <= watermark.0);
            let search = Search { of: self, rows, start, until, complete };
            let mut path = Vec::new();
            let found = search.run(&pattern, &mut path, &|_| Found::Match);
            let as_far = |rows_of: usize, number: i64| Match { rows, path: &path[..rows_of], whole: &path, until, complete, number };
            let next = match found {
                Found::Undecided => return failed,
                Found::Nothing => None,
                Found::Failed => {
                    failed += 1;
                    None
                }
                Found::Match if (self.open)(&as_far(path.len(), 0)) => return failed,
                Found::Match => {
                    let row_of = |v: char, last: bool| {
                        let mut rows = path.iter().filter(|(_, own)| *own == v).map(|(row, _)| *row);
                        if last { rows.next_back() } else { rows.next() }
                    };
                    let next = match self.skip {
                        Skip::PastLast => Some(path[path.len() - 1].0 + 1),
                        Skip::Next => Some(start + 1),
                        Skip::First(v) => row_of(v, false),
                        Skip::Last(v) => row_of(v, true),
                    };
                    let next = next.filter(|next| *next > start);
                    number += i64::from(next.is_some());
                    match next {
                        None => failed += 1,
                        Some(_) if self.all_rows => output.extend((1..=path.len()).map(|n| (self.output)(&as_far(n, number)))),
                        Some(_) => output.push((self.output)(&as_far(path.len(), number))),
                    }
                    next
                }
            };
            start = next.unwrap_or(start + 1);
        }
        failed
    }
}

/// By time, then i, then g; nulls last.
fn compare(a: &Row, b: &Row) -> Ordering {
    [TS, I, 2]
        .into_iter()
        .map(|c| match (a[c].is_null(), b[c].is_null()) {
            (false, false) => a[c].partial_cmp(&b[c]).expect("values of one column"),
            (a, b) => a.cmp(&b),
        })
        .find(|o| *o != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}
