//! TPC-H as the benchmark has it: its tables, its queries with their validation parameters, rows as dbgen makes them (by the crate `tpchgen`), and the two
//! refresh functions. dbgen makes the orders of the first in a file of its own; here they are the last twentieth of the orders, which the tables lack at first.

use crate::script::statements;
use futures::SinkExt;
use std::collections::VecDeque;
use std::fmt::Display;
use std::io::Cursor;
use std::pin::pin;
use tokio_postgres::{Client, Error};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator, RegionGenerator,
    SupplierGenerator,
};

pub const QUERIES: std::ops::RangeInclusive<usize> = 1..=22;

/// Of the orders one in so many comes with the refreshes.
const HELD_BACK: usize = 20;
/// Rows of one COPY, which is one transaction.
const ROWS_PER_COPY: usize = 20_000;

/// The statements that create the tables.
pub fn tables() -> Vec<String> {
    statements("tpch/tables.sql")
}

/// A query's text at a scale factor, on which one parameter of one query depends.
pub fn query(number: usize, scale: f64) -> String {
    let text = statements(&format!("tpch/q{number}.sql")).pop().unwrap_or_else(|| panic!("the file of q{number} has no query"));
    text.replace("0.0001", &format!("{:.4}", 0.0001 / scale))
}

/// Rows for one COPY.
pub struct Rows {
    pub table: &'static str,
    pub count: usize,
    text: String,
}

impl Rows {
    /// The lines in pieces of a size that a transaction may have.
    fn of(table: &'static str, lines: &[String]) -> Vec<Rows> {
        let piece = |lines: &[String]| Rows { table, count: lines.len(), text: lines.concat() };
        lines.chunks(ROWS_PER_COPY).map(piece).collect()
    }

    /// A line for each row, with tabs between its values.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes them into their table.
    pub async fn copy(&self, client: &Client) -> Result<(), Error> {
        let sink = client.copy_in(format!("COPY {} FROM STDIN", self.table).as_str()).await?;
        let mut sink = pin!(sink);
        sink.send(Cursor::new(self.text.clone().into_bytes())).await?;
        let written = sink.finish().await?;
        assert_eq!(written, self.count as u64, "rows of a COPY into {}", self.table);
        Ok(())
    }
}

/// An order with its lines.
struct Order {
    key: i64,
    line: String,
    items: Vec<String>,
}

/// The orders that come, and the statements that delete as many of the oldest.
pub struct Refresh {
    pub new: Vec<Rows>,
    pub old: Vec<String>,
}

pub struct Data {
    rest: Vec<(&'static str, Vec<String>)>,
    present: VecDeque<Order>,
    to_come: VecDeque<Order>,
}

/// A row in the form that COPY reads. The generator's has a bar behind each field; no text has one in it, nor a tab or a backslash.
fn line(row: impl Display) -> String {
    let text = row.to_string();
    format!("{}\n", text.strip_suffix('|').unwrap_or(&text).replace('|', "\t"))
}

fn lines(rows: impl Iterator<Item = impl Display>) -> Vec<String> {
    rows.map(line).collect()
}

fn orders(scale: f64) -> VecDeque<Order> {
    let mut items = LineItemGenerator::new(scale, 1, 1).iter().peekable();
    let order = |order: tpchgen::generators::Order<'_>| {
        let mut own = Vec::new();
        while let Some(item) = items.next_if(|item| item.l_orderkey == order.o_orderkey) {
            own.push(line(item));
        }
        Order { key: order.o_orderkey, line: line(&order), items: own }
    };
    OrderGenerator::new(scale, 1, 1).iter().map(order).collect()
}

impl Data {
    pub fn new(scale: f64) -> Data {
        let rest = vec![
            ("region", lines(RegionGenerator::new(scale, 1, 1).iter())),
            ("nation", lines(NationGenerator::new(scale, 1, 1).iter())),
            ("supplier", lines(SupplierGenerator::new(scale, 1, 1).iter())),
            ("part", lines(PartGenerator::new(scale, 1, 1).iter())),
            ("partsupp", lines(PartSuppGenerator::new(scale, 1, 1).iter())),
            ("customer", lines(CustomerGenerator::new(scale, 1, 1).iter())),
        ];
        let mut present = orders(scale);
        let to_come = present.split_off(present.len() - present.len() / HELD_BACK);
        Data { rest, present, to_come }
    }

    /// How many orders the tables have.
    pub fn orders(&self) -> usize {
        self.present.len()
    }

    /// What the tables hold at first.
    pub fn initial(&self) -> Vec<Rows> {
        let mut rows: Vec<Rows> = self.rest.iter().flat_map(|(table, lines)| Rows::of(table, lines)).collect();
        rows.extend(copies(self.present.iter()));
        rows
    }

    /// So many orders come, and the oldest of those that are there go.
    pub fn refresh(&mut self, orders: usize) -> Refresh {
        assert!(orders <= self.to_come.len(), "only one order in {HELD_BACK} comes later");
        let new: Vec<Order> = self.to_come.drain(..orders).collect();
        let copies = copies(new.iter());
        let old: Vec<String> = self.present.drain(..orders).map(|order| order.key.to_string()).collect();
        self.present.extend(new);
        let delete = |table: &str, key: &str| format!("DELETE FROM {table} WHERE {key} IN ({})", old.join(", "));
        Refresh { new: copies, old: vec![delete("lineitem", "l_orderkey"), delete("orders", "o_orderkey")] }
    }
}

fn copies<'a>(orders: impl Iterator<Item = &'a Order>) -> Vec<Rows> {
    let (mut of_orders, mut of_items) = (Vec::new(), Vec::new());
    for order in orders {
        of_orders.push(order.line.clone());
        of_items.extend(order.items.iter().cloned());
    }
    [Rows::of("orders", &of_orders), Rows::of("lineitem", &of_items)].into_iter().flatten().collect()
}
