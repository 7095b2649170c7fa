//! `/metrics` as Prometheus scrapes it, from a server at work: every line is of the text format, every sample belongs to a
//! family that was declared before it, names carry their units, and the numbers are those of what was done.

use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::collections::BTreeMap;

const BIDS: u64 = 1_840;

/// The page's head and body.
fn scrape(server: &Server) -> (String, String) {
    let response = server.page("/metrics").expect("an answer in UTF-8");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_lowercase(), body.to_string())
}

/// Samples by name and labels, after checking that a scraper would take the page.
fn samples(body: &str) -> BTreeMap<String, f64> {
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut helped = "";
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').expect("a help text").0;
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a type");
            assert_eq!(name, helped, "every family has its help");
            assert!(families.insert(name, kind).is_none(), "{name} is declared once");
            assert!(is_documented(name), "docs/operations.md does not name {name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(!["_micros", "_microseconds", "_millis", "_kb", "_permille"].iter().any(|unit| name.contains(unit)), "{name}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and a value");
            let name = sample.split('{').next().expect("a name");
            let kind = families.get(name).or_else(|| families.get(name.strip_suffix("_sum").or(name.strip_suffix("_count"))?));
            assert!(kind.is_some(), "{name} belongs to a family");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            samples.insert(sample.to_string(), value.parse().expect("a number"));
        }
    }
    samples
}

/// Whether docs/operations.md names a family, whole or behind what the row of its table begins with.
fn is_documented(family: &str) -> bool {
    let docs = include_str!("../../../docs/operations.md");
    let begins = ["", "eddyline_", "eddyline_source_", "eddyline_job_", "eddyline_sink_", "eddyline_log_"];
    begins.iter().filter_map(|begin| family.strip_prefix(begin)).any(|name| docs.contains(&format!("`{name}`")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_of_a_server_at_work() {
    let server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let client = server.connect().await;
    let statements = [
        "CREATE TABLE t (k BIGINT PRIMARY KEY, v BIGINT)",
        "CREATE MATERIALIZED VIEW shares AS SELECT k, 100 / v AS share FROM t",
        "INSERT INTO t VALUES (1, 1), (2, 0), (3, 5)",
        "CREATE SOURCE bid (auction BIGINT, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time - INTERVAL '1 second') \
         WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '2000')",
        "CREATE MATERIALIZED VIEW per_auction AS SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction",
        "CREATE SINK sent AS SELECT auction FROM bid WITH (connector = 'blackhole')",
    ];
    for statement in statements {
        client.batch_execute(statement).await.expect("the statement runs");
    }
    client.batch_execute("SELECT nothing FROM nowhere").await.expect_err("there is no such table");
    let found = until("every bid is counted and a checkpoint has them", || async {
        let (head, body) = tokio::task::block_in_place(|| scrape(&server));
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let found = samples(&body);
        let done = found.get("eddyline_source_records_total{source=\"bid\"}") == Some(&(BIDS as f64))
            && found.get("eddyline_job_rows_in_total{job=\"per_auction\"}") == Some(&(BIDS as f64))
            && found.get("eddyline_sink_rows_sent_total{sink=\"sent\"}") == Some(&(BIDS as f64))
            && found.get("eddyline_sink_waiting_bytes{sink=\"sent\"}") == Some(&0.0)
            && found["eddyline_checkpoint_epoch"] == found["eddyline_epoch"]
            && found["eddyline_view_bytes"] > 0.0;
        done.then_some(found)
    })
    .await;
    let get = |name: &str| *found.get(name).unwrap_or_else(|| panic!("no {name} in {found:#?}"));
    assert_eq!(get("eddyline_job_rejected_rows_total{job=\"shares\"}"), 1.0);
    assert_eq!(get("eddyline_job_late_rows_total{job=\"per_auction\"}"), 0.0);
    assert_eq!(get("eddyline_job_backfill_ratio{job=\"per_auction\"}"), 1.0);
    assert_eq!(get("eddyline_source_undecodable_records_total{source=\"bid\"}"), 0.0);
    assert!(!found.contains_key("eddyline_source_lag_records{source=\"bid\"}"), "a generator has no end to lag behind");
    assert_eq!(get("eddyline_source_ahead_rows_total{source=\"bid\"}"), 0.0);
    assert_eq!(get("eddyline_sink_failures_total{sink=\"sent\"}"), 0.0);
    assert_eq!(get("eddyline_sink_in_trouble{sink=\"sent\"}"), 0.0);
    assert!(get("eddyline_job_epoch{job=\"per_auction\"}") <= get("eddyline_epoch"));
    assert_eq!(get("eddyline_sessions"), 1.0);
    assert_eq!((get("eddyline_rows_written_total"), get("eddyline_statement_errors_total")), (3.0, 1.0));
    assert_eq!(get("eddyline_job_stopped{job=\"shares\"}"), 0.0);
    assert_eq!(get("eddyline_setting_info{name=\"checkpoint_interval\",value=\"100 ms\",changed_by=\"ALTER SYSTEM\"}"), 1.0);
    let at_work = [
        "eddyline_source_bytes_total{source=\"bid\"}",
        "eddyline_job_busy_seconds_total{job=\"per_auction\"}",
        "eddyline_job_state_bytes{job=\"per_auction\"}",
        "eddyline_job_stored_bytes{job=\"per_auction\"}",
        "eddyline_job_epoch{job=\"per_auction\"}",
        "eddyline_job_freshness_seconds{job=\"shares\"}",
        "eddyline_sink_epoch{sink=\"sent\"}",
        "eddyline_checkpoints_total",
        "eddyline_checkpoint_duration_seconds_sum",
        "eddyline_checkpoint_duration_seconds_count",
        "eddyline_checkpoint_written_bytes_total",
        "eddyline_log_written_bytes_total",
        "eddyline_log_fsync_duration_seconds_sum",
        "eddyline_log_fsync_duration_seconds_count",
        "eddyline_statement_duration_seconds_count",
        "process_resident_memory_bytes",
    ];
    at_work.iter().for_each(|name| assert!(get(name) > 0.0, "{name}"));
    assert_eq!(get("eddyline_checkpoint_failures_total"), 0.0);
}
