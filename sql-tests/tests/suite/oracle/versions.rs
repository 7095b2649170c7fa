//! What depends on when rows arrived, naively: rows with the `now` of their cut, and rows with the version of another table's row that
//! was there, or valid, for them. They are contents of helper relations, which a case's batch query reads. Shares nothing with the product.

use super::batch::World;
use super::matches::Matching;
use super::rows::{Row, to_batch};
use super::tables::{TableSpec, micros};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use eddyline_common::{Epoch, Timestamp};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy)]
pub enum Helper {
    /// The rows of an append-only table, and when each arrived.
    Arrived(&'static str),
    Versions(Versions),
    /// What a row pattern finds in the table `e`.
    Matches(&'static Matching),
}

/// A table, which only grows unless there are times, joined with a changing one.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    pub left: &'static str,
    pub right: &'static str,
    /// The columns that are equal.
    pub on: (usize, usize),
    /// A further condition.
    pub residual: fn(&Row, &Row) -> bool,
    /// Left rows without a match are there, with nulls.
    pub outer: bool,
    /// The time columns of both: the version is that of the left row's time, else of its arrival.
    pub times: Option<(usize, usize)>,
}

/// A helper's rows, and how many changes were late or rejected on the way to them, by weight.
pub struct Helped {
    pub rows: RecordBatch,
    pub late: i64,
    pub rejected: i64,
}

impl Helper {
    pub fn name(&self) -> String {
        match self {
            Helper::Arrived(table) => format!("{table}_arrived"),
            Helper::Versions(v) => format!("{}_with_{}", v.left, v.right),
            Helper::Matches(m) => format!("{}_matches", m.name),
        }
    }

    pub fn create_sql(&self, world: &World) -> String {
        let columns = |spec: &TableSpec, prefix: &str| -> Vec<String> {
            spec.columns.iter().map(|(name, domain)| format!("{prefix}{name} {}", domain.sql_type())).collect()
        };
        let mut parts = match self {
            Helper::Arrived(table) => columns(&table_of(world, table).spec, ""),
            Helper::Matches(_) => vec![],
            Helper::Versions(v) => [columns(&table_of(world, v.left).spec, ""), columns(&table_of(world, v.right).spec, "r_")].concat(),
        };
        if let Helper::Matches(m) = self {
            return format!("CREATE TABLE {} ({})", self.name(), m.columns);
        }
        if let Helper::Arrived(_) = self {
            parts.push("arrived TIMESTAMPTZ".to_string());
        }
        format!("CREATE TABLE {} ({})", self.name(), parts.join(", "))
    }

    pub fn content(&self, world: &World, schema: &SchemaRef, epoch: Epoch) -> Helped {
        let mut rows: Vec<Row> = Vec::new();
        let (mut late, mut rejected) = (0, 0);
        match self {
            Helper::Matches(matching) => return matching.content("e", world, schema, epoch),
            Helper::Arrived(table) => {
                for (number, entry) in table_of(world, table).entries(Epoch::ZERO, epoch).iter().enumerate() {
                    let now = moment(world.now(Epoch(number as u64 + 1)));
                    rows.extend(entry.changes.iter().map(|(row, _)| row.iter().cloned().chain([now.clone()]).collect::<Row>()));
                }
            }
            Helper::Versions(versions) => match versions.times {
                None => versions.rows(world, epoch, &mut rows),
                Some(times) => (late, rejected) = versions.rows_of_times(times, world, epoch, &mut rows),
            },
        }
        Helped { rows: to_batch(schema, rows.iter()), late, rejected }
    }
}

fn table_of<'a>(world: &'a World, name: &str) -> &'a super::tables::Table {
    world.tables.iter().find(|t| t.spec.name == name).expect("a case names its tables")
}

fn moment(at: Timestamp) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(at.0), Some("+00:00".into()))
}

impl Versions {
    fn rows(&self, world: &World, epoch: Epoch, out: &mut Vec<Row>) {
        let (left, right) = (table_of(world, self.left), table_of(world, self.right));
        let nothing: Row = right.schema.fields().iter().map(|f| ScalarValue::try_from(f.data_type()).unwrap()).collect();
        let mut there: Vec<Row> = Vec::new();
        for (left, right) in left.entries(Epoch::ZERO, epoch).iter().zip(right.entries(Epoch::ZERO, epoch)) {
            // Rows that come and go within a cut may go before they come.
            for (row, weight) in right.changes.iter().filter(|(_, weight)| *weight > 0) {
                (0..*weight).for_each(|_| there.push(row.clone()));
            }
            for (row, weight) in right.changes.iter().filter(|(_, weight)| *weight < 0) {
                for _ in 0..-weight {
                    let at = there.iter().position(|r| r == row).expect("what goes was there");
                    there.swap_remove(at);
                }
            }
            for (row, _) in &left.changes {
                let key = &row[self.on.0];
                let matches = |r: &&Row| !key.is_null() && *key == r[self.on.1] && (self.residual)(row, r);
                let before = out.len();
                out.extend(there.iter().filter(matches).map(|r| row.iter().chain(r).cloned().collect::<Row>()));
                if self.outer && out.len() == before {
                    out.push(row.iter().chain(&nothing).cloned().collect());
                }
            }
        }
    }

    /// Versions by their times, and left rows once both watermarks have passed theirs.
    fn rows_of_times(&self, (left_time, right_time): (usize, usize), world: &World, epoch: Epoch, out: &mut Vec<Row>) -> (i64, i64) {
        let (left, right) = (table_of(world, self.left), table_of(world, self.right));
        let nothing: Row = right.schema.fields().iter().map(|f| ScalarValue::try_from(f.data_type()).unwrap()).collect();
        let mut versions: HashMap<ScalarValue, BTreeMap<i64, Option<Row>>> = HashMap::new();
        let mut waiting: HashMap<Row, i64> = HashMap::new();
        let (mut late, mut rejected) = (0, 0);
        for (number, (l, r)) in left.entries(Epoch::ZERO, epoch).iter().zip(right.entries(Epoch::ZERO, epoch)).enumerate() {
            let mut net: HashMap<&Row, i64> = HashMap::new();
            r.changes.iter().for_each(|(row, weight)| *net.entry(row).or_default() += weight);
            // A row that one without a time replaces is gone.
            let is_version = |row: &Row| micros(&row[right_time]).is_some();
            let added: Vec<ScalarValue> =
                net.iter().filter(|(row, w)| **w > 0 && is_version(row)).map(|(row, _)| row[self.on.1].clone()).collect();
            for (row, weight) in net.into_iter().filter(|(_, weight)| *weight != 0) {
                let Some(time) = micros(&row[right_time]) else {
                    rejected += weight;
                    continue;
                };
                let of_key = versions.entry(row[self.on.1].clone()).or_default();
                if weight > 0 && time < r.arrival.0 {
                    late += weight;
                } else if weight > 0 {
                    of_key.insert(time, Some(row.clone()));
                } else if !added.contains(&row[self.on.1]) {
                    of_key.insert(time.max(r.arrival.0), None);
                }
            }
            for (row, weight) in &l.changes {
                match micros(&row[left_time]) {
                    None => rejected += weight,
                    Some(time) if time < l.arrival.0 => late += weight,
                    Some(_) => *waiting.entry(row.clone()).or_default() += weight,
                }
            }
            let at = Epoch(number as u64 + 1);
            let watermark = left.watermark_at(at).min(right.watermark_at(at));
            let due = waiting.extract_if(|row, _| micros(&row[left_time]).is_some_and(|time| time < watermark.0));
            for (row, count) in due {
                let key = &row[self.on.0];
                let of_key = if key.is_null() { None } else { versions.get(key) };
                let time = micros(&row[left_time]).expect("rows that wait have a time");
                let version = of_key.and_then(|v| v.range(..=time).next_back()).and_then(|(_, version)| version.as_ref());
                let joined: Option<Row> = match version.filter(|version| (self.residual)(&row, version)) {
                    Some(version) => Some(row.iter().chain(version).cloned().collect()),
                    None => self.outer.then(|| row.iter().chain(&nothing).cloned().collect()),
                };
                joined.into_iter().for_each(|joined| out.extend((0..count).map(|_| joined.clone())));
            }
        }
        (late, rejected)
    }
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Helper::Arrived(table) => write!(f, "Arrived({table})"),
            Helper::Versions(versions) => write!(f, "{versions:?}"),
            Helper::Matches(matching) => write!(f, "Matches({})", matching.name),
        }
    }
}
