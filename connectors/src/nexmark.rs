//! The Nexmark generator: an auction house's people, auctions and bids, made up from nothing (Tucker et al., "NEXMark
//! -- A Benchmark for Queries over Data Streams", and the proportions that its later implementations settled on).
//!
//! Invariants: event `number = offset * splits + split`; an event is a pure function of the options and its number, so
//! any range can be read again and gives the same rows, whatever columns are read. Offsets count events of all
//! kinds, of which a source of one kind keeps its own. Written here rather than taken from the `nexmark` crate, which
//! draws a random number per character, row by row.

mod model;
mod table;

use crate::generator::{Generated, Generator};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use eddyline_common::connector::*;
use eddyline_common::options;
use eddyline_common::{Result, SqlError};
use model::Model;
use std::sync::Arc;
use table::Table;

/// Date of the first event unless said otherwise: 2015-07-15 00:00:00 UTC.
const BASE_TIME_MILLIS: i64 = 1_436_918_400_000;
/// Nanoseconds of event time between events unless said otherwise: 0.1 ms.
const EVENT_GAP_NANOS: i64 = 100_000;

/// What all readers of one source share.
pub struct Nexmark {
    model: Model,
    table: Table,
    splits: i64,
    /// Events of all kinds and splits; `None`: endless.
    event_count: Option<i64>,
    /// Events of all kinds and splits per second; `None`: as fast as they are taken.
    rate: Option<i64>,
}

impl Nexmark {
    fn number(&self, split: i64, offset: i64) -> i64 {
        self.model.number_at(offset * self.splits + split)
    }
}

impl Generator for Nexmark {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn splits(&self) -> i64 {
        self.splits
    }

    fn split_end(&self, split: i64) -> Option<i64> {
        self.event_count.map(|count| (count - split + self.splits - 1).div_euclid(self.splits).max(0))
    }

    fn rate(&self) -> Option<i64> {
        self.rate
    }

    fn holds(&self, split: i64, offset: i64) -> bool {
        self.table.holds(self.number(split, offset))
    }

    fn schema(&self) -> &SchemaRef {
        self.table.schema()
    }

    fn rows(&self, split: i64, offsets: &[i64], kept: &[bool]) -> Result<RecordBatch> {
        let numbers: Vec<i64> = offsets.iter().map(|offset| self.number(split, *offset)).collect();
        self.table.rows(&self.model, &numbers, kept)
    }
}

/// The source that options and columns describe.
pub fn connector(spec: &SourceSpec) -> Result<Generated<Nexmark>> {
    let integer = |key: &str, default: i64| Ok::<i64, SqlError>(options::integer(&spec.options, key)?.unwrap_or(default));
    let event_count = options::integer(&spec.options, "nexmark.event.num")?;
    let model = Model {
        base_micros: integer("nexmark.base-time.ms", BASE_TIME_MILLIS)? * 1_000,
        gap_nanos: integer("nexmark.min.event.gap.in.ns", EVENT_GAP_NANOS)?,
        event_count,
        shuffle_group: integer("nexmark.out-of-order.group-size", 1)?,
        active_people: integer("nexmark.active.people", 1_000)?,
        in_flight_auctions: integer("nexmark.in.flight.auctions", 100)?,
        hot_seller_ratio: integer("nexmark.hot.seller.ratio", 4)?,
        hot_auction_ratio: integer("nexmark.hot.auction.ratio", 2)?,
        hot_bidder_ratio: integer("nexmark.hot.bidder.ratio", 4)?,
        hot_channel_ratio: integer("nexmark.hot.channel.ratio", 2)?,
    };
    let table_type = spec.options.get("nexmark.table.type").map_or("all", String::as_str);
    Ok(Generated {
        generator: Arc::new(Nexmark {
            model,
            table: Table::new(table_type, &spec.columns)?,
            splits: integer("nexmark.split.num", 1)?,
            event_count,
            rate: options::integer(&spec.options, "nexmark.rate")?,
        }),
    })
}

#[cfg(test)]
mod tests;
