//! Data directories that earlier servers have left: each format that was ever written is opened and read by this one. They lie in
//! `formats/`, each with the log, a checkpoint, and what queries gave. `UPDATE_FORMATS=NAME` has this server write one more.
//!
//! A directory holds every kind of relation, operators with every kind of state, and after its checkpoint DDL, writes and cuts
//! in the log.

use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tokio_postgres::{Client, SimpleQueryMessage};

fn formats() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("formats")
}

const BEFORE_CHECKPOINT: &[&str] = &[
    "CREATE SOURCE bid (auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP, WATERMARK FOR date_time AS date_time - \
     INTERVAL '20 milliseconds') WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '60')",
    "CREATE TABLE item (id BIGINT PRIMARY KEY, name VARCHAR NOT NULL, price NUMERIC(12, 2), tags VARCHAR[], made DATE)",
    "CREATE TABLE event (id BIGINT, at TIMESTAMP, v DOUBLE PRECISION, WATERMARK FOR at AS at) WITH (watermark.mode = 'manual')",
    "CREATE VIEW dear AS SELECT * FROM item WHERE price > 10",
    "CREATE MATERIALIZED VIEW bids AS SELECT channel, COUNT(*) AS n, SUM(price) AS s, MIN(price) AS low, MAX(date_time) AS m FROM bid GROUP BY \
     channel",
    "CREATE MATERIALIZED VIEW windows AS SELECT window_start, COUNT(*) AS n, AVG(v) AS mean FROM TABLE(TUMBLE(TABLE event, DESCRIPTOR(at), \
     INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
    "CREATE MATERIALIZED VIEW top AS SELECT id, name, price FROM item ORDER BY price DESC, id LIMIT 3",
    "CREATE MATERIALIZED VIEW pairs AS SELECT i.id, i.name, e.v FROM item i LEFT JOIN event e ON i.id = e.id",
    "CREATE MATERIALIZED VIEW shares AS SELECT id, 100 / (id - 2) AS share FROM item",
    "CREATE TABLE hit (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at) APPEND ONLY WITH (watermark.mode = 'manual')",
    "CREATE TABLE rate (id BIGINT PRIMARY KEY, r INT, since TIMESTAMP, WATERMARK FOR since AS since) WITH (watermark.mode = 'manual')",
    "CREATE MATERIALIZED VIEW looked_up AS SELECT h.id, i.name FROM hit AS h LEFT JOIN item FOR SYSTEM_TIME AS OF PROCTIME() AS i ON h.id = i.id",
    "CREATE MATERIALIZED VIEW rated AS SELECT h.id, h.at, r.r FROM hit AS h LEFT JOIN rate FOR SYSTEM_TIME AS OF h.at AS r ON h.id = r.id",
    "CREATE MATERIALIZED VIEW of_this_age AS SELECT id, at FROM hit WHERE at <= now() AND now() < at + INTERVAL '300000 days'",
    "INSERT INTO item VALUES (1, 'one', 1.50, ARRAY['a', 'b'], '2026-01-01'), (2, 'two', 20, NULL, NULL), (3, 'three', 30.25, ARRAY['c'], \
     '1999-12-31'), (4, 'four', NULL, ARRAY[]::VARCHAR[], '2000-02-29')",
    "INSERT INTO event VALUES (1, '2026-01-01 00:00:01', 1.5), (3, '2026-01-01 00:00:05', -2), (3, '2026-01-01 00:00:15', 4)",
    "UPDATE item SET price = price + 1 WHERE id = 3",
    "INSERT INTO rate VALUES (1, 10, '2026-01-01 00:00:00'), (2, 20, '2026-01-01 00:00:05')",
    "INSERT INTO hit VALUES (1, '2026-01-01 00:00:01'), (2, '2026-01-01 00:00:04'), (7, '2026-01-01 00:00:09')",
    "ALTER SOURCE rate ADVANCE WATERMARK TO '2026-01-01 00:00:06'",
    "ALTER SOURCE hit ADVANCE WATERMARK TO '2026-01-01 00:00:02'",
    "UPDATE item SET name = 'zwei' WHERE id = 2",
    "UPDATE rate SET r = 21, since = '2026-01-01 00:00:07' WHERE id = 2",
    "CREATE TABLE made (id BIGINT PRIMARY KEY, name VARCHAR)",
    "CREATE TABLE copies (id BIGINT PRIMARY KEY, name VARCHAR)",
    "CREATE SINK into_copies INTO copies FROM made",
    "INSERT INTO made VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    "CREATE MATERIALIZED VIEW kept AS SELECT id, at FROM hit WITH (retention = '90000 days' ON at)",
    "CREATE MATERIALIZED VIEW stays AS SELECT COUNT(*) AS n FROM bid",
    "ALTER MATERIALIZED VIEW stays PAUSE",
    "CREATE FUNCTION twice(x BIGINT) RETURNS BIGINT LANGUAGE SQL AS 'SELECT 2 * x'",
    "CREATE MATERIALIZED VIEW doubled AS SELECT id, twice(id) AS d FROM item WITH (parallelism = 1)",
    "CREATE MATERIALIZED VIEW remembered AS SELECT id, COUNT(*) AS n FROM hit GROUP BY id WITH (state_ttl = '30000 days')",
    "CREATE MATERIALIZED VIEW visits AS SELECT id, window_start, window_end, COUNT(*) AS n FROM TABLE(SESSION(TABLE hit PARTITION BY id, \
     DESCRIPTOR(at), INTERVAL '5' SECOND)) GROUP BY id, window_start, window_end",
    "CREATE MATERIALIZED VIEW beside AS SELECT id, at, LAG(at) OVER (PARTITION BY id ORDER BY at) AS before FROM hit",
    "CREATE MATERIALIZED VIEW in_order AS SELECT COUNT(DISTINCT made) AS days, string_agg(name, ',' ORDER BY name DESC) AS names FROM item",
    "CREATE MATERIALIZED VIEW tagged AS SELECT id, tag FROM item CROSS JOIN UNNEST(tags) AS t(tag)",
    "CREATE MATERIALIZED VIEW twins AS WITH c AS (SELECT name, COUNT(*) AS n FROM item GROUP BY name) SELECT a.name, b.n FROM c AS a JOIN c AS b \
     ON a.name = b.name",
    "CREATE MATERIALIZED VIEW pairs_of_hits AS SELECT * FROM hit MATCH_RECOGNIZE (ORDER BY at MEASURES A.id AS first, B.id AS second \
     PATTERN (A B) WITHIN INTERVAL '10' SECOND DEFINE B AS B.id <> A.id)",
    "CREATE MATERIALIZED VIEW per_window AS SELECT window_start, COUNT(*) AS n FROM TABLE(HOP(TABLE hit, DESCRIPTOR(at), INTERVAL '2' SECOND, \
     INTERVAL '6' SECOND)) GROUP BY window_start, window_end",
    "CREATE MATERIALIZED VIEW one AS SELECT 1 AS n",
    "CREATE MATERIALIZED VIEW ids AS SELECT id FROM item UNION ALL SELECT id FROM hit",
    "CREATE SINK nowhere FROM item WITH (connector = 'blackhole')",
    "ALTER JOB nowhere PAUSE",
    "CREATE SOURCE hook (id BIGINT) WITH (connector = 'webhook') FORMAT PLAIN ENCODE JSON",
    "COMMENT ON TABLE item IS 'what is sold'",
    "ALTER SYSTEM SET snapshot_age = '2 h'",
    "CREATE MATERIALIZED VIEW middles AS SELECT MEDIAN(v) AS m, PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY id DESC) AS d FROM event",
    "CREATE TEMPORARY VIEW dearer AS SELECT id FROM item WHERE price > 20",
    "CREATE MATERIALIZED VIEW nearest AS SELECT h.id, r.r FROM hit AS h ASOF LEFT JOIN rate AS r MATCH_CONDITION (h.at >= r.since) ON h.id = r.id",
    "CREATE MATERIALIZED VIEW of_dearer (id COMMENT 'of an item') AS SELECT id FROM dearer",
    "CREATE INDEX pairs_by_name ON pairs (name) INCLUDE (v)",
    "CREATE INDEX not_for_long ON pairs (id)",
    "CREATE MATERIALIZED VIEW known AS SELECT id, at, LAG(v) IGNORE NULLS OVER w AS before, NTH_VALUE(v, 2) IGNORE NULLS OVER w AS second, \
     COUNT(DISTINCT id) OVER (PARTITION BY id ORDER BY at ROWS 1 PRECEDING) AS ids, ARRAY_AGG(id) OVER (PARTITION BY id ORDER BY at ROWS 1 \
     PRECEDING) AS near FROM event WINDOW w AS (PARTITION BY id ORDER BY at)",
    "SET TimeZone = 'Europe/Berlin'",
    "CREATE MATERIALIZED VIEW zoned AS SELECT id, CAST(at AS TIMESTAMPTZ) AS at FROM event",
    "SET TimeZone = 'UTC'",
    "CREATE TABLE ticket (id SERIAL PRIMARY KEY, at TIMESTAMP(3), name VARCHAR)",
    "INSERT INTO ticket (at, name) VALUES ('2026-01-01 00:00:00.123', 'a'), (NULL, 'b')",
    "CREATE TABLE first_name (id INT PRIMARY KEY)",
    "CREATE MATERIALIZED VIEW of_renamed AS SELECT id FROM first_name",
    "ALTER TABLE first_name RENAME TO second_name",
    "INSERT INTO second_name VALUES (7)",
    "CREATE TABLE wider (id INT PRIMARY KEY)",
    "INSERT INTO wider VALUES (1)",
    "ALTER TABLE wider ADD COLUMN v INT DEFAULT 5",
];

const AFTER_CHECKPOINT: &[&str] = &[
    "INSERT INTO item VALUES (5, 'five', 55, NULL, '2026-05-05')",
    "DELETE FROM item WHERE id = 1",
    "ALTER SOURCE event ADVANCE WATERMARK TO '2026-01-01 00:00:10'",
    "INSERT INTO event VALUES (4, '2026-01-01 00:00:02', 8), (5, '2026-01-01 00:00:16', 6)",
    "CREATE MATERIALIZED VIEW names AS SELECT DISTINCT name FROM item",
    "CREATE VIEW gone AS SELECT 1 AS one",
    "DROP VIEW gone",
    "INSERT INTO hit VALUES (2, '2026-01-01 00:00:08')",
    "ALTER SOURCE rate ADVANCE WATERMARK TO '2026-01-01 00:00:20'",
    "ALTER SOURCE hit ADVANCE WATERMARK TO '2026-01-01 00:00:20'",
    "DELETE FROM made WHERE id = 2",
    "INSERT INTO made VALUES (4, 'd')",
    "CREATE FUNCTION half(x BIGINT) RETURNS BIGINT LANGUAGE SQL AS 'SELECT x / 2'",
    "CREATE OR REPLACE MATERIALIZED VIEW doubled AS SELECT id, twice(half(id)) AS d FROM item",
    "ALTER MATERIALIZED VIEW top SET (on_error = 'stop', emit_interval = '10 ms')",
    "COMMENT ON COLUMN item.name IS 'as it is called'",
    "ALTER SYSTEM SET snapshot_size = '2GiB'",
    "CREATE VIEW described (id COMMENT 'a number') COMMENT 'of items' AS SELECT id FROM item",
    "CREATE INDEX item_by_name ON item (name, id)",
    "DROP INDEX not_for_long",
    "CREATE SOURCE later (auction BIGINT, channel VARCHAR(30)) WITH (connector = 'nexmark', nexmark.table.type = 'bid', \
     nexmark.event.num = '60')",
    "CREATE MATERIALIZED VIEW of_later AS SELECT COUNT(*) AS n FROM later",
    "CREATE MATERIALIZED VIEW of_fewer AS SELECT COUNT(*) AS n FROM later /*+ OPTIONS('nexmark.event.num'='50') */",
    "INSERT INTO ticket (name) VALUES ('c')",
    "ALTER TABLE second_name RENAME TO third_name",
    "INSERT INTO third_name VALUES (8)",
    "ALTER TABLE wider ADD COLUMN w VARCHAR",
    "UPDATE wider SET w = 'w'",
];

const QUERIES: &[&str] = &[
    "SELECT * FROM item ORDER BY id",
    "SELECT id, at, v FROM event ORDER BY id, at",
    "SELECT id, name FROM dear ORDER BY id",
    "SELECT * FROM bids ORDER BY channel",
    "SELECT COUNT(*), SUM(price) FROM bid",
    "SELECT * FROM windows ORDER BY window_start",
    "SELECT * FROM top ORDER BY id",
    "SELECT * FROM pairs ORDER BY id, v",
    "SELECT * FROM shares ORDER BY id",
    "SELECT * FROM names ORDER BY name",
    "SELECT * FROM looked_up ORDER BY id, name",
    "SELECT * FROM rated ORDER BY id, at",
    "SELECT * FROM of_this_age ORDER BY id, at",
    "SELECT view, reason, \"row\" FROM eddyline.late_rows ORDER BY 1, 3",
    "SELECT COUNT(*) FROM pg_class WHERE relname = 'gone'",
    "SELECT * FROM copies ORDER BY id",
    "SELECT * FROM kept ORDER BY id, at",
    "SELECT * FROM stays",
    "SELECT * FROM doubled ORDER BY id",
    "SELECT * FROM remembered ORDER BY id",
    "SELECT * FROM visits ORDER BY id, window_start",
    "SELECT * FROM beside ORDER BY id, at",
    "SELECT * FROM in_order",
    "SELECT * FROM tagged ORDER BY id, tag",
    "SELECT * FROM one",
    "SELECT * FROM ids ORDER BY id",
    "SELECT * FROM twins ORDER BY name",
    "SELECT * FROM pairs_of_hits ORDER BY 1, 2",
    "SELECT * FROM per_window ORDER BY window_start",
    "SELECT relation, option, value FROM eddyline.options WHERE relation IN ('top', 'remembered') ORDER BY 1, 2",
    "SELECT name, value FROM eddyline.settings WHERE name LIKE 'snapshot%' ORDER BY name",
    "SELECT state FROM eddyline.jobs WHERE job = 'nowhere'",
    "SELECT * FROM middles",
    "SELECT * FROM of_dearer ORDER BY id",
    "SELECT * FROM nearest ORDER BY id, r",
    "SELECT relation, \"column\", comment FROM eddyline.comments ORDER BY 1, 2",
    "SELECT tablename, indexdef FROM pg_indexes WHERE indexdef LIKE '%USING hash%' ORDER BY indexname",
    "SELECT id, v FROM pairs WHERE name = 'three' ORDER BY v",
    "SELECT price FROM item WHERE name = 'five' AND id = 5",
    "SELECT * FROM known ORDER BY id, at",
    "SELECT * FROM zoned ORDER BY id, at",
    "SELECT * FROM of_later",
    "SELECT * FROM of_fewer",
    "SELECT id, at, name FROM ticket ORDER BY id",
    "SELECT * FROM of_renamed ORDER BY id",
    "SELECT * FROM wider ORDER BY id",
];

/// What was ever written into a log or a manifest: records of DDL by their names, operators by theirs, and fields that came later.
const WRITTEN: &[&str] = &[
    "Create",
    "CreateFunction",
    "CreateIndex",
    "Drop",
    "AdvanceWatermark",
    "Pause",
    "Alter",
    "AlterSystem",
    "Comment",
    "Scan",
    "Values",
    "Filter",
    "Project",
    "Exchange",
    "JoinExchange",
    "Union",
    "Unnest",
    "WindowAssign",
    "SessionAssign",
    "PreAggregate",
    "Aggregate",
    "Join",
    "LookupJoin",
    "TemporalJoin",
    "AsofJoin",
    "TopN",
    "Over",
    "MatchRecognize",
    "TemporalFilter",
    "Materialize",
    "Sink",
    "ignore_nulls",
    "time_zone",
    "sink_writes",
    "present",
    "ahead",
    "own_sources",
    "Replace",
    "named",
    "numbered",
    "precision",
];

/// A kind of record or operator that no directory has would be changed without a test that notices.
#[test]
fn every_kind_is_in_some_directory() {
    let all: Vec<u8> = all_files(&formats()).iter().flat_map(|file| fs::read(file).expect("a file")).collect();
    let text = String::from_utf8_lossy(&all);
    let missing: Vec<_> = WRITTEN.iter().filter(|kind| !text.contains(&format!("\"{kind}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect()
}

async fn run(client: &Client, statements: &[&str]) {
    for statement in statements {
        client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
}

/// Every query with what it gives.
async fn answers(client: &Client, queries: &[&str]) -> String {
    let mut text = String::new();
    for query in queries {
        text += &format!("{query}\n");
        for message in client.simple_query(query).await.unwrap_or_else(|e| panic!("{query}: {e:?}")) {
            if let SimpleQueryMessage::Row(row) = message {
                let cells: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect();
                text += &format!("  {}\n", cells.join(" | "));
            }
        }
    }
    text
}

async fn newest_checkpoint(client: &Client) -> i64 {
    client.query_one("SELECT COALESCE(MAX(epoch), -1) FROM eddyline.checkpoints", &[]).await.expect("the query runs").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_earlier_servers_wrote_is_read() {
    if let Some(name) = std::env::var_os("UPDATE_FORMATS") {
        write(&formats().join(name)).await;
    }
    let mut known: Vec<PathBuf> = fs::read_dir(formats()).expect("formats/").map(|e| e.expect("an entry").path()).collect();
    known.sort();
    assert!(!known.is_empty());
    for format in known {
        for backend in ["rocksdb", "memory"] {
            open(&format, backend).await;
        }
    }
}

/// Reads the directory, goes on in it, and reads it again.
async fn open(format: &Path, backend: &'static str) {
    let mut server = Server::prepare(ServerOptions { backend, ..Default::default() });
    copy(&format.join("data"), &server.data_dir().join("data"));
    server.launch().unwrap_or_else(|e| panic!("{}: {e}", format.display()));
    let client = server.connect().await;
    let expected = fs::read_to_string(format.join("answers.txt")).expect("the answers");
    // Those there were then: what a directory answers is indented.
    let queries: Vec<&str> = expected.lines().filter(|line| !line.starts_with("  ")).collect();
    assert_eq!(answers(&client, &queries).await, expected, "{}", format.display());
    run(&client, &["INSERT INTO item VALUES (2000, 'more', 99, NULL, NULL)", "UPDATE item SET id = 22 WHERE id = 2"]).await;
    let epoch = newest_checkpoint(&client).await;
    until("a checkpoint of this server is there", || async {
        run(&client, &["UPDATE item SET price = price + 1 WHERE id = 2000"]).await;
        (newest_checkpoint(&client).await > epoch).then_some(())
    })
    .await;
    run(&client, &["UPDATE item SET id = 2, price = 20 WHERE id = 22", "DELETE FROM item WHERE id = 2000"]).await;
    assert_eq!(answers(&client, &queries).await, expected, "{}: it goes on", format.display());
    server.kill_and_restart();
    assert_eq!(answers(&server.connect().await, &queries).await, expected, "{}: through a restart", format.display());
}

/// A new directory in the formats of this server: its newest checkpoint and the log, nothing that is made anew at a start.
async fn write(format: &Path) {
    let mut server = Server::start(ServerOptions { workers: 1, checkpoint_interval: "300ms", ..Default::default() });
    let client = server.connect().await;
    run(&client, BEFORE_CHECKPOINT).await;
    until("the source is read", || async {
        let row = client.query_one("SELECT COUNT(*) FROM bid", &[]).await.ok()?;
        let all: i64 = client.query_one("SELECT COALESCE(SUM(n), 0)::bigint FROM bids", &[]).await.ok()?.get(0);
        (all == row.get::<_, i64>(0)).then_some(())
    })
    .await;
    sink_has_written(&client).await;
    let epoch = newest_checkpoint(&client).await;
    until("a checkpoint holds it", || async {
        run(&client, &["UPDATE item SET name = 'four' WHERE id = 4"]).await;
        (newest_checkpoint(&client).await > epoch).then_some(())
    })
    .await;
    server.kill();
    // No checkpoint from here on: the rest is in the log alone.
    server.options.checkpoint_interval = "3600s";
    server.launch().expect("it starts again");
    let client = server.connect().await;
    run(&client, AFTER_CHECKPOINT).await;
    sink_has_written(&client).await;
    let answers = answers(&client, QUERIES).await;
    server.kill();
    let data = server.data_dir().join("data");
    for part in ["log", "checkpoints"] {
        copy(&data.join(part), &format.join("data").join(part));
    }
    keep_newest_checkpoint(&format.join("data/checkpoints"));
    for segment in files(&format.join("data/log")) {
        // Zeros after the last record mean nothing.
        let bytes = fs::read(&segment).expect("a segment");
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        fs::write(&segment, &bytes[..end]).expect("the segment is written");
    }
    fs::write(format.join("answers.txt"), answers).expect("the answers are written");
}

async fn sink_has_written(client: &Client) {
    until("the sink has written", || async {
        let left = client.query("SELECT * FROM made EXCEPT SELECT * FROM copies", &[]).await.ok()?;
        let gone = client.query("SELECT * FROM copies EXCEPT SELECT * FROM made", &[]).await.ok()?;
        (left.is_empty() && gone.is_empty()).then_some(())
    })
    .await;
}

fn keep_newest_checkpoint(store: &Path) {
    let mut manifests = files(&store.join("manifests"));
    manifests.sort();
    let newest = manifests.pop().expect("a checkpoint");
    let text = fs::read_to_string(newest).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(text.lines().next().expect("its first line")).expect("JSON");
    let needed: BTreeSet<&str> = manifest["files"].as_array().expect("files").iter().filter_map(|f| f["name"].as_str()).collect();
    let named = |file: &PathBuf| file.file_name().and_then(|n| n.to_str()).is_some_and(|name| needed.contains(name));
    let unneeded = files(&store.join("files")).into_iter().filter(|file| !named(file));
    // Its lock and its owner.
    let made_anew = files(store);
    manifests.into_iter().chain(unneeded).chain(made_anew).for_each(|file| fs::remove_file(file).expect("it is removed"));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).filter(|p| p.is_file()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}
