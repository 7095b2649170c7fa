//! The input relations of a run: what they are, their random changes cut by cut, and the log of cuts that everything is
//! replayed from. Watermarks are computed here, from the rows, independently of the product.

use super::rows::{Change, Row, to_batch};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use eddyline_common::types::arrow_schema;
use eddyline_common::{Epoch, Timestamp};
use eddyline_planner::catalog::Relation;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use std::sync::Arc;

pub const SECOND: i64 = 1_000_000;
/// 2024-01-01.
pub const START: i64 = 1_704_067_200 * SECOND;
const START_DAY: i32 = 19_723;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its first column is its key.
    Keyed,
    Keyless,
    AppendOnly,
}

#[derive(Clone, Copy, Debug)]
pub enum Domain {
    /// Counts up; the key of a keyed table.
    Id,
    /// The same as a text.
    Code,
    SmallInt,
    Int,
    BigInt,
    /// Uniform in `0..n`, never null.
    Below(i64),
    /// Numbers whose sums do not fit.
    Huge,
    Text,
    /// Text that often is a number.
    Numeral,
    Decimal,
    /// Of a precision and a scale, in quarters where the scale has them.
    Numeric(u8, i8),
    Double,
    /// Doubles whose sums are exact.
    Sixteenths,
    Real,
    Boolean,
    /// Within a minute, some before 1970.
    Time,
    TimeTz,
    /// Follows the table's clock, out of order; rarely null.
    EventTime,
    Date,
    /// A few integers, some of them null.
    Ints,
    /// Another one without nulls.
    Required(&'static Domain),
}

#[derive(Clone)]
pub struct TableSpec {
    pub name: &'static str,
    pub kind: Kind,
    pub columns: Vec<(&'static str, Domain)>,
    /// Event-time column and how far the watermark stays behind.
    pub watermark: Option<(usize, i64)>,
}

impl Domain {
    pub fn sql_type(self) -> String {
        let name = match self {
            Domain::Id | Domain::Int => "INT",
            Domain::SmallInt => "SMALLINT",
            Domain::BigInt | Domain::Huge | Domain::Below(_) => "BIGINT",
            Domain::Text | Domain::Numeral | Domain::Code => "TEXT",
            Domain::Decimal => "DECIMAL(12,2)",
            Domain::Numeric(precision, scale) => return format!("NUMERIC({precision},{scale})"),
            Domain::Double | Domain::Sixteenths => "DOUBLE PRECISION",
            Domain::Real => "REAL",
            Domain::Boolean => "BOOLEAN",
            Domain::Time | Domain::EventTime => "TIMESTAMP",
            Domain::TimeTz => "TIMESTAMPTZ",
            Domain::Date => "DATE",
            Domain::Ints => "INT[]",
            Domain::Required(domain) => return domain.sql_type(),
        };
        name.to_string()
    }

    fn value(self, random: &mut StdRng, clock: i64, id: &mut i32) -> ScalarValue {
        let null = random.random_bool(0.12);
        let pick = |random: &mut StdRng, from: &[&str]| from.choose(random).map(|s| s.to_string());
        match self {
            Domain::Id => {
                *id += 1;
                ScalarValue::Int32(Some(*id))
            }
            Domain::Code => {
                *id += 1;
                ScalarValue::Utf8(Some(format!("n{id}")))
            }
            Domain::SmallInt => ScalarValue::Int16((!null).then(|| random.random_range(-3..=3))),
            Domain::Int => ScalarValue::Int32((!null).then(|| random.random_range(-2..=4))),
            Domain::BigInt => ScalarValue::Int64((!null).then(|| random.random_range(-20..=20))),
            Domain::Below(n) => ScalarValue::Int64(Some(random.random_range(0..n))),
            Domain::Huge => {
                let choices = [i64::MAX, i64::MIN, i64::MAX - 5, i64::MIN + 5, 1, 7, -7, 0];
                ScalarValue::Int64((!null).then(|| *choices.choose(random).unwrap()))
            }
            Domain::Text => ScalarValue::Utf8(if null {
                None
            } else {
                pick(random, &["", "a", "b", "ab", "Alpha", "beta", "émile", " pad ", "a%b", "a much longer text than the others"])
            }),
            Domain::Numeral => ScalarValue::Utf8(if null { None } else { pick(random, &["1", "12", "-7", "x", "3.5", "", "99999999999"]) }),
            Domain::Decimal => ScalarValue::Decimal128((!null).then(|| random.random_range(-100_000..=100_000)), 12, 2),
            Domain::Numeric(precision, scale) => {
                let quarters = i128::from(random.random_range(-20_i32..=20));
                ScalarValue::Decimal128((!null).then(|| quarters * 10_i128.pow(scale.unsigned_abs().into()) / 4), precision, scale)
            }
            Domain::Sixteenths => ScalarValue::Float64((!null).then(|| f64::from(random.random_range(-80_i32..=80)) / 16.0)),
            Domain::Double => ScalarValue::Float64((!null).then(|| double(random))),
            Domain::Real => ScalarValue::Float32((!null).then(|| random.random_range(-40..=40) as f32 / 8.0)),
            Domain::Boolean => ScalarValue::Boolean((!null).then(|| random.random_bool(0.5))),
            Domain::Time => ScalarValue::TimestampMicrosecond((!null).then_some(moment(random)), None),
            Domain::TimeTz => ScalarValue::TimestampMicrosecond((!null).then_some(moment(random)), Some("+00:00".into())),
            Domain::EventTime => {
                let late = if random.random_bool(0.2) { 40 } else { 8 };
                let time = clock - random.random_range(0..=late * 1000) * 1000;
                ScalarValue::TimestampMicrosecond((!random.random_bool(0.03)).then_some(time), None)
            }
            Domain::Date => ScalarValue::Date32((!null).then(|| START_DAY + random.random_range(-20..20))),
            Domain::Ints if null => ScalarValue::new_null_list(DataType::Int32, true, 1),
            Domain::Ints => {
                let one = |random: &mut StdRng| ScalarValue::Int32((!random.random_bool(0.1)).then(|| random.random_range(-2..=4)));
                let items: Vec<ScalarValue> = (0..random.random_range(0..=3)).map(|_| one(random)).collect();
                ScalarValue::List(ScalarValue::new_list(&items, &DataType::Int32, true))
            }
            Domain::Required(domain) => loop {
                let value = domain.value(random, clock, id);
                if !value.is_null() {
                    break value;
                }
            },
        }
    }
}

fn moment(random: &mut StdRng) -> i64 {
    let around = if random.random_bool(0.1) { -30 * SECOND } else { START };
    around + random.random_range(0..60) * SECOND + *[0, 0, 0, 500_000, 123_456].choose(random).unwrap()
}

fn double(random: &mut StdRng) -> f64 {
    match random.random_range(0..60) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        _ => random.random_range(-1000..=1000) as f64 / 16.0,
    }
}

impl TableSpec {
    /// `CREATE TABLE` as PostgreSQL has it, or with what only Eddyline knows.
    pub fn create_sql(&self, plain: bool) -> String {
        let constraint = |i: usize, domain: Domain| match domain {
            _ if i == 0 && self.kind == Kind::Keyed => " PRIMARY KEY",
            Domain::Required(_) => " NOT NULL",
            _ => "",
        };
        let column = |(i, (name, domain)): (usize, &(&str, Domain))| format!("{name} {}{}", domain.sql_type(), constraint(i, *domain));
        let mut parts: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        if let (Some((column, delay)), false) = (self.watermark, plain) {
            let name = self.columns[column].0;
            parts.push(format!("WATERMARK FOR {name} AS {name} - INTERVAL '{} seconds'", delay / SECOND));
        }
        let suffix = if self.kind == Kind::AppendOnly && !plain { " APPEND ONLY" } else { "" };
        format!("CREATE TABLE {} ({}){suffix}", self.name, parts.join(", "))
    }

    /// A table of this one's rows with the windows they fall into, under the name `windowed_name`.
    pub fn windowed_sql(&self) -> String {
        let mut parts: Vec<String> = self.columns.iter().map(|(name, domain)| format!("{name} {}", domain.sql_type())).collect();
        parts.extend(["window_start", "window_end", "window_time"].map(|name| format!("{name} TIMESTAMP")));
        format!("CREATE TABLE {} ({})", self.windowed_name(), parts.join(", "))
    }

    pub fn windowed_name(&self) -> String {
        format!("{}_windowed", self.name)
    }
}

/// What one cut takes of a table.
pub struct Entry {
    pub changes: Vec<Change>,
    /// The watermark before the cut.
    pub arrival: Timestamp,
    /// And after.
    pub watermark: Timestamp,
}

pub struct Table {
    pub spec: TableSpec,
    pub relation: Arc<Relation>,
    pub schema: SchemaRef,
    pub rows: Vec<Row>,
    /// One entry per epoch, from 1.
    pub log: Vec<Entry>,
    /// The content after each epoch, from 0.
    contents: Vec<RecordBatch>,
    clock: i64,
    last_id: i32,
    watermark: Timestamp,
}

impl Table {
    pub fn new(spec: TableSpec, relation: Arc<Relation>) -> Self {
        let schema = arrow_schema(&relation.columns);
        let contents = vec![RecordBatch::new_empty(schema.clone())];
        Table { spec, relation, schema, rows: Vec::new(), log: Vec::new(), contents, clock: START, last_id: 0, watermark: Timestamp::MIN }
    }

    pub fn content(&self, epoch: Epoch) -> &RecordBatch {
        &self.contents[epoch.0 as usize]
    }

    pub fn watermark_at(&self, epoch: Epoch) -> Timestamp {
        if epoch == Epoch::ZERO { Timestamp::MIN } else { self.log[epoch.0 as usize - 1].watermark }
    }

    /// The cuts in `(after, to]`.
    pub fn entries(&self, after: Epoch, to: Epoch) -> &[Entry] {
        &self.log[after.0 as usize..to.0 as usize]
    }

    /// Random changes for the next cut. `last`: the input ends with it, perhaps.
    pub fn advance(&mut self, random: &mut StdRng, size: usize, last: bool) {
        self.clock += random.random_range(0..10) * SECOND;
        let mut changes = Vec::new();
        match random.random_range(0..100) {
            0..12 => {}
            12..17 if self.spec.kind != Kind::AppendOnly => {
                changes.extend(self.rows.drain(..).map(|row| (row, -1)));
            }
            _ => (0..random.random_range(1..=size)).for_each(|_| self.change(random, &mut changes)),
        }
        let arrival = self.watermark;
        if let Some((column, delay)) = self.spec.watermark {
            let times = changes.iter().filter(|(_, weight)| *weight > 0).filter_map(|(row, _)| micros(&row[column]));
            let newest = times.map(|t| Timestamp(t - delay)).max().unwrap_or(Timestamp::MIN);
            self.watermark = self.watermark.max(newest);
            if last && random.random_bool(0.5) {
                self.watermark = Timestamp::MAX;
            }
        }
        self.log.push(Entry { changes, arrival, watermark: self.watermark });
        self.contents.push(to_batch(&self.schema, self.rows.iter()));
    }

    fn new_row(&mut self, random: &mut StdRng) -> Row {
        let Table { spec, clock, last_id, .. } = self;
        spec.columns.iter().map(|(_, domain)| domain.value(random, *clock, last_id)).collect()
    }

    fn change(&mut self, random: &mut StdRng, changes: &mut Vec<Change>) {
        let insert = self.spec.kind == Kind::AppendOnly || self.rows.is_empty() || random.random_bool(0.55);
        let mut new = self.new_row(random);
        if insert {
            self.rows.push(new.clone());
            return changes.push((new, 1));
        }
        let at = random.random_range(0..self.rows.len());
        let old = self.rows.swap_remove(at);
        if random.random_bool(0.5) {
            if self.spec.kind == Kind::Keyed {
                new[0] = old[0].clone();
            }
            self.rows.push(new.clone());
            changes.push((new, 1));
        }
        changes.push((old, -1));
    }
}

/// The microseconds of a timestamp.
pub fn micros(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::TimestampMicrosecond(micros, _) => *micros,
        other => panic!("not a timestamp: {other}"),
    }
}
