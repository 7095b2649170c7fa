//! What depends on when rows arrived, naively: rows with the `now` of their cut, and rows with the version of another table's row that
//! was there, or valid, for them. They are contents of helper relations, which a case's batch query reads. Shares nothing with the product.

use super::batch::World;
use super::rows::{Row, to_batch};
use super::tables::TableSpec;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use eddyline_common::{Epoch, Timestamp};

#[derive(Clone, Copy, Debug)]
pub enum Helper {
    /// The rows of an append-only table, and when each arrived.
    Arrived(&'static str),
    Versions(Versions),
}

/// An append-only table joined with a changing one.
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
}

impl Helper {
    pub fn name(&self) -> String {
        match self {
            Helper::Arrived(table) => format!("{table}_arrived"),
            Helper::Versions(v) => format!("{}_with_{}", v.left, v.right),
        }
    }

    pub fn create_sql(&self, world: &World) -> String {
        let columns = |spec: &TableSpec, prefix: &str| -> Vec<String> {
            spec.columns.iter().map(|(name, domain)| format!("{prefix}{name} {}", domain.sql_type())).collect()
        };
        let mut parts = match self {
            Helper::Arrived(table) => columns(&table_of(world, table).spec, ""),
            Helper::Versions(v) => [columns(&table_of(world, v.left).spec, ""), columns(&table_of(world, v.right).spec, "r_")].concat(),
        };
        if let Helper::Arrived(_) = self {
            parts.push("arrived TIMESTAMPTZ".to_string());
        }
        format!("CREATE TABLE {} ({})", self.name(), parts.join(", "))
    }

    pub fn content(&self, world: &World, schema: &SchemaRef, epoch: Epoch) -> RecordBatch {
        let mut rows: Vec<Row> = Vec::new();
        match self {
            Helper::Arrived(table) => {
                for (number, entry) in table_of(world, table).entries(Epoch::ZERO, epoch).iter().enumerate() {
                    let now = moment(world.now(Epoch(number as u64 + 1)));
                    rows.extend(entry.changes.iter().map(|(row, _)| row.iter().cloned().chain([now.clone()]).collect::<Row>()));
                }
            }
            Helper::Versions(versions) => versions.rows(world, epoch, &mut rows),
        }
        to_batch(schema, rows.iter())
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
}
