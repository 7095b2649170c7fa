//! What is measured: seven queries, each over inputs that have just the columns it reads, so that every column is read.

use super::CaseName;
use crate::{Result, nexmark};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

/// Rows of an input batch: what the connectors deliver.
pub const BATCH_ROWS: usize = 8_192;
const GROUPS: i64 = 1_000_000;
const SEED: u64 = 0x0EDD_711E;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Rows are counted and dropped.
    Counter,
    View,
}

pub struct Case {
    pub name: CaseName,
    pub title: &'static str,
    /// Rows per second.
    pub goal: f64,
    pub sink: Sink,
    pub inputs: Vec<Input>,
    pub query: &'static str,
    /// The same for DataFusion.
    pub batch: &'static str,
}

/// One relation that a case reads.
#[derive(Clone, Copy)]
pub struct Input {
    /// Its name in both queries.
    pub relation: &'static str,
    /// Its definition; `{events}` is the number of the generator's events.
    source: &'static str,
    /// The column whose maximum, less so many microseconds, is the watermark.
    pub watermark: Option<(usize, i64)>,
}

/// Batches of one input, by its place among the case's inputs.
pub type Batches = Vec<(usize, RecordBatch)>;

const BID: &str = "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, \
    extra VARCHAR) WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '{events}')";
const BIDS: Input = Input { relation: "bid", source: BID, watermark: None };

const AUCTION_PRICES: Input = Input {
    relation: "bid",
    source: "CREATE SOURCE bid (auction BIGINT, price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', \
        nexmark.event.num = '{events}')",
    watermark: None,
};

pub fn all() -> Vec<Case> {
    vec![
        Case {
            name: CaseName::Filter,
            title: "filter and projection into a counter",
            goal: 4_000_000.0,
            sink: Sink::Counter,
            inputs: vec![BIDS],
            query: "SELECT auction, bidder, price * 908 / 1000 AS price, channel, url, date_time, extra FROM bid WHERE price > 1000000",
            batch: "SELECT auction, bidder, price * 908 / 1000 AS price, channel, url, date_time, extra FROM bid WHERE price > 1000000",
        },
        Case {
            name: CaseName::Tumble,
            title: "TUMBLE count by auction",
            goal: 2_500_000.0,
            sink: Sink::View,
            inputs: vec![Input {
                relation: "bid",
                source: "CREATE SOURCE bid (auction BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds') \
                    WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '{events}')",
                watermark: Some((1, 4_000_000)),
            }],
            query: "SELECT auction, window_start, window_end, COUNT(*) AS bids FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), \
                INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end",
            batch: "SELECT auction, w AS window_start, w + INTERVAL '10 seconds' AS window_end, COUNT(*) AS bids \
                FROM (SELECT auction, date_bin(INTERVAL '10 seconds', date_time) AS w FROM bid) GROUP BY auction, w",
        },
        Case {
            name: CaseName::Group,
            title: "updating count and sum over 1M keys",
            goal: 1_000_000.0,
            sink: Sink::View,
            inputs: vec![Input {
                relation: "event",
                source: "CREATE TABLE event (k BIGINT NOT NULL, v BIGINT NOT NULL) APPEND ONLY",
                watermark: None,
            }],
            query: "SELECT k, COUNT(*) AS n, SUM(v) AS total FROM event GROUP BY k",
            batch: "SELECT k, COUNT(*) AS n, SUM(v) AS total FROM event GROUP BY k",
        },
        Case {
            name: CaseName::Few,
            title: "count, sum and maximum of a hundred groups",
            goal: 20_000_000.0,
            sink: Sink::View,
            inputs: vec![AUCTION_PRICES],
            query: "SELECT auction % 100 AS k, COUNT(*) AS n, SUM(price) AS total, MAX(price) AS top FROM bid GROUP BY auction % 100",
            batch: "SELECT auction % 100 AS k, COUNT(*) AS n, SUM(price) AS total, MAX(price) AS top FROM bid GROUP BY auction % 100",
        },
        Case {
            name: CaseName::All,
            title: "count, sum and maximum of all rows",
            goal: 20_000_000.0,
            sink: Sink::View,
            inputs: vec![AUCTION_PRICES],
            query: "SELECT COUNT(*) AS n, SUM(price) AS total, MAX(auction) AS newest FROM bid",
            batch: "SELECT COUNT(*) AS n, SUM(price) AS total, MAX(auction) AS newest FROM bid",
        },
        Case {
            name: CaseName::Pass,
            title: "append-only pass-through into a view",
            goal: 1_500_000.0,
            sink: Sink::View,
            inputs: vec![BIDS],
            query: "SELECT auction, bidder, price, channel, url, date_time, extra FROM bid",
            batch: "SELECT auction, bidder, price, channel, url, date_time, extra FROM bid",
        },
        Case {
            name: CaseName::Join,
            title: "join of bids with auctions into a counter",
            goal: 500_000.0,
            sink: Sink::Counter,
            inputs: vec![
                Input {
                    relation: "bid",
                    source: "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT) \
                        WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '{events}')",
                    watermark: None,
                },
                Input {
                    relation: "auction",
                    source: "CREATE SOURCE auction (id BIGINT, seller BIGINT, category BIGINT) \
                        WITH (connector = 'nexmark', nexmark.table.type = 'auction', nexmark.event.num = '{events}')",
                    watermark: None,
                },
            ],
            query: "SELECT auction, bidder, price, seller, category FROM bid JOIN auction ON auction = id",
            batch: "SELECT auction, bidder, price, seller, category FROM bid JOIN auction ON auction = id",
        },
    ]
}

impl Case {
    pub fn create_view(&self) -> String {
        format!("CREATE MATERIALIZED VIEW result AS {}", self.query)
    }

    /// About `rows` rows of the first input, and what the others have beside them, evenly mixed; the same every time.
    pub fn batches(&self, rows: u64) -> Result<Batches> {
        let mut all = Vec::new();
        for (place, input) in self.inputs.iter().enumerate() {
            let batches = input.batches(self.name, rows)?;
            let of = batches.len();
            all.extend(batches.into_iter().enumerate().map(|(i, batch)| ((i + 1) as f64 / of as f64, place, batch)));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(all.into_iter().map(|(_, place, batch)| (place, batch)).collect())
    }
}

impl Input {
    pub fn create(&self, rows: u64) -> String {
        self.source.replace("{events}", &nexmark::events_for(rows).0.to_string())
    }

    fn batches(&self, case: CaseName, rows: u64) -> Result<Vec<RecordBatch>> {
        if case == CaseName::Group {
            return uniform(rows);
        }
        nexmark::read(&super::catalog::BenchCatalog::default().source(&self.create(rows))?)
    }
}

/// Keys and values drawn evenly.
fn uniform(rows: u64) -> Result<Vec<RecordBatch>> {
    let field = |name| Field::new(name, DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field("k"), field("v")]));
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut column =
        |rows: usize, below: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows).map(|_| random.random_range(0..below)))) };
    let mut batches = Vec::new();
    let mut left = rows as usize;
    while left > 0 {
        let now = left.min(BATCH_ROWS);
        batches.push(RecordBatch::try_new(schema.clone(), vec![column(now, GROUPS), column(now, 1_000)])?);
        left -= now;
    }
    Ok(batches)
}
