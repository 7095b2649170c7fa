//! Batch plans, run: windows expand to what DataFusion computes by itself, views are inlined, the oracle's
//! plan has the view's columns.

use crate::support::TestCatalog;
use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use eddyline_common::types::arrow_schema;
use eddyline_planner::{Planned, oracle_plan};
use std::sync::Arc;

const SECOND: i64 = 1_000_000;

/// Three bids at seconds 1, 12 and 14, and one without a time.
fn catalog() -> TestCatalog {
    let mut catalog = TestCatalog::new();
    let bid = catalog.relation("bid");
    let text = || Arc::new(StringArray::from(vec!["a", "a", "b", "b"]));
    let rows = RecordBatch::try_new(
        arrow_schema(&bid.columns),
        vec![
            Arc::new(Int64Array::from(vec![1, 1, 2, 2])),
            Arc::new(Int64Array::from(vec![7, 8, 9, 9])),
            Arc::new(Int64Array::from(vec![10, 20, 30, 40])),
            text(),
            text(),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(SECOND), Some(12 * SECOND), Some(14 * SECOND), None])),
            text(),
        ],
    )
    .unwrap();
    catalog.rows.insert("bid".to_string(), vec![rows]);
    catalog
}

async fn run(plan: LogicalPlan) -> Vec<String> {
    let batches = SessionContext::new().execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    table
        .lines()
        .filter(|l| l.starts_with('|'))
        .skip(1)
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ").trim_end().to_string())
        .collect()
}

async fn select(sql: &str) -> Vec<String> {
    match catalog().plan(sql).unwrap_or_else(|e| panic!("{sql}: {e}")) {
        Planned::Query(query) => run(query.plan).await,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tumbling_windows() {
    let rows = select("SELECT window_start, window_end, count(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) GROUP BY 1, 2 ORDER BY 1").await;
    assert_eq!(rows, ["1970-01-01T00:00:00 1970-01-01T00:00:10 1", "1970-01-01T00:00:10 1970-01-01T00:00:20 2"]);
    let rows = select("SELECT window_time, price FROM tumble(bid, date_time, INTERVAL '10 seconds', INTERVAL '2 seconds') WHERE bid.price > 15 ORDER BY price").await;
    assert_eq!(rows, ["1970-01-01T00:00:21.999 20", "1970-01-01T00:00:21.999 30"]);
    let rows = select("SELECT window_end FROM TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(date_time), SIZE => INTERVAL '10' SECOND) b WHERE b.bidder = 7").await;
    assert_eq!(rows, ["1970-01-01T00:00:10"]);
}

#[tokio::test]
async fn hopping_windows() {
    let rows = select("SELECT window_start, sum(price) FROM hop(bid, date_time, INTERVAL '5 seconds', INTERVAL '10 seconds') GROUP BY window_start ORDER BY window_start").await;
    assert_eq!(rows, ["1969-12-31T23:59:55 10", "1970-01-01T00:00:00 10", "1970-01-01T00:00:05 50", "1970-01-01T00:00:10 50"]);
}

#[tokio::test]
async fn group_windows() {
    let rows = select(
        "SELECT TUMBLE_START(date_time, INTERVAL '10' SECOND), TUMBLE_ROWTIME(date_time, INTERVAL '10' SECOND) AS rt, b.auction, max(price) \
         FROM bid AS b WHERE price < 35 GROUP BY TUMBLE(date_time, INTERVAL '10' SECOND), b.auction HAVING max(price) > 10 ORDER BY auction",
    )
    .await;
    assert_eq!(rows, ["1970-01-01T00:00:10 1970-01-01T00:00:19.999 1 20", "1970-01-01T00:00:10 1970-01-01T00:00:19.999 2 30"]);
}

#[tokio::test]
async fn views_and_computed_columns() {
    assert_eq!(select("SELECT auction, price FROM cheap ORDER BY price DESC LIMIT 1").await, ["2 40"]);
    assert_eq!(select("SELECT proc IS NOT NULL FROM bid LIMIT 1").await, ["true"]);
    assert_eq!(select("SELECT now() = current_timestamp, localtimestamp IS NULL").await, ["true false"]);
}

#[tokio::test]
async fn functions_of_flink() {
    assert_eq!(select("SELECT IF(price > 15, 'high', 'low'), MOD(price, 7), HOUR(date_time), DATE_FORMAT(date_time, 'yyyy-MM-dd HH:mm:ss') FROM bid WHERE bidder = 7").await, ["low 3 0 1970-01-01 00:00:01"]);
}

#[tokio::test]
async fn series_and_arrays() {
    assert_eq!(select("SELECT * FROM generate_series(1, 3)").await, ["1", "2", "3"]);
    assert_eq!(select("SELECT 2 = ANY(make_array(1, 2)), ARRAY(SELECT bidder FROM bid WHERE auction = 1)").await.len(), 1);
}

#[tokio::test]
async fn the_oracle_has_the_views_columns() {
    let mut catalog = catalog();
    let view = catalog
        .create(
            "CREATE MATERIALIZED VIEW w (e, c, mean) AS SELECT window_end, count(*), avg(price) FROM tumble(bid, date_time, INTERVAL '10 seconds') \
             GROUP BY window_start, window_end EMIT ON WINDOW CLOSE WITH (allowed_lateness = '1 second')",
        )
        .unwrap();
    let plan = oracle_plan(&view, &catalog).unwrap();
    let names: Vec<&str> = plan.schema().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["e", "c", "mean"]);
    let mut rows = run(plan).await;
    rows.sort();
    assert_eq!(rows, ["1970-01-01T00:00:10 1 10.0", "1970-01-01T00:00:20 2 25.0"]);
}

#[tokio::test]
async fn writes_yield_whole_rows() {
    let catalog = TestCatalog::new();
    let Planned::Insert(insert) = catalog.plan("INSERT INTO t (ts, id) VALUES ('2024-01-01 00:00:00', 1), (NULL, 2)").unwrap() else {
        panic!()
    };
    assert_eq!(run(insert.source.plan).await, ["1  none  2024-01-01T00:00:00", "2  none"]);
    let Planned::Update(update) = catalog.plan("UPDATE t SET v = 3.7").unwrap() else { panic!() };
    assert!(run(update.source.plan).await.is_empty());
}
