//! Jobs that lag while others depend on them: that fall off a ring, stand still, or read on their own when a checkpoint, a FLUSH
//! or a replayed sink waits for an epoch of theirs.

use eddyline_sql_tests::client::{number, run};
use eddyline_sql_tests::wait::{until, until_within};
use eddyline_sql_tests::{Server, ServerOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// How often each line is in the files that show.
fn lines(dir: &Path) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("a readable folder").path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.')) {
            continue;
        }
        for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
            *lines.entry(line.to_string()).or_default() += 1;
        }
    }
    lines
}

/// After a restart a view falls off the ring before the epoch that the log of its sink is complete up to. Had it come to a later one
/// at once, the sink would have emitted again what its log has. On a machine that is busy with other things the checkpoint may come too late
/// for the view to lag; then this tells nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_lags_in_a_replay_comes_to_where_its_sink_was() {
    const SENT: usize = 150_000;
    let out = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "3600s", ring_size: "16KiB", ..Default::default() });
    let client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE s (id BIGINT) WITH (connector = 'datagen', rows-per-second = '100000', number-of-rows = '200000', \
         fields.id.kind = 'sequence', fields.id.start = '1', fields.id.end = '200000')",
    )
    .await;
    // One view keeps cuts going, the other is slow.
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM s").await;
    let slow = "LENGTH(REGEXP_REPLACE(REPEAT(CAST(id AS TEXT), 60), '[0-9]', 'xyz', 'g'))";
    run(&client, &format!("CREATE MATERIALIZED VIEW v AS SELECT id, {slow} AS n FROM s WHERE {slow} > 0 AND id <= {SENT}")).await;
    let sink = format!(
        "CREATE SINK files FROM v WITH (connector = 'filesystem', path = '{}', \
         sink.rolling-policy.rollover-interval = '100 ms') FORMAT PLAIN ENCODE JSON",
        out.path().display()
    );
    run(&client, &sink).await;
    let sent = async || (lines(out.path()).len() == SENT).then_some(());
    until("everything is outside", sent).await;
    until("all is read", async || (number(&client, "SELECT n FROM counted").await == 200_000).then_some(())).await;
    // Nothing of this goes to the sink: its log is not complete up to here.
    run(&client, "CREATE TABLE other (id INT)").await;
    for id in 1..=3 {
        run(&client, &format!("INSERT INTO other VALUES ({id})")).await;
    }
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    let all = tokio::time::timeout(Duration::from_secs(60), run(&client, "FLUSH"));
    assert!(all.await.is_ok(), "some job never came to the end; log:\n{}", server.log());
    // Rows that should not come have time to.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let twice = lines(out.path()).into_values().filter(|n| *n > 1).count();
    let log = server.log();
    assert!(twice == 0, "{twice} rows are there twice; log:\n{log}");
}

/// A sink over a source that others have read reads it on its own. What it has found is sent as far as a checkpoint has it, and is not found
/// again after a kill, although the reading ends at another epoch then; nor is anything lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reading_of_a_sink_found_is_sent_once_through_kills() {
    const KILLS: usize = 3;
    let out = tempfile::tempdir().expect("a folder");
    // Checkpoints have some steps of the reading, and there are as many more before the next.
    let failpoints = "backfill.step=hold@2".to_string();
    let mut server = Server::start(ServerOptions { checkpoint_interval: "1s", failpoints, ..Default::default() });
    let mut client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP) \
         WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '1500000')",
    )
    .await;
    run(&client, "CREATE TABLE other (id INT)").await;
    let counted = "SELECT COUNT(*) AS n, COUNT(*) FILTER (WHERE price % 50 = 0) AS wanted FROM bid";
    run(&client, &format!("CREATE MATERIALIZED VIEW counted AS {counted}")).await;
    until("the source is read", async || (number(&client, "SELECT n FROM counted").await == 1_380_000).then_some(())).await;
    let wanted = number(&client, "SELECT wanted FROM counted").await as usize;
    let sink = format!(
        "CREATE SINK files AS SELECT * FROM bid WHERE price % 50 = 0 WITH (connector = 'filesystem', path = '{}', \
         sink.rolling-policy.rollover-interval = '20 ms') FORMAT PLAIN ENCODE JSON",
        out.path().display()
    );
    run(&client, &sink).await;
    for kill in 1..=KILLS {
        let sent = async || (number(&client, "SELECT rows_sent FROM eddyline.sinks").await > 0).then_some(());
        until("some rows are outside", sent).await;
        // What is found meanwhile has time to be sent, and cuts to move on.
        run(&client, &format!("INSERT INTO other VALUES ({kill})")).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reading = number(&client, "SELECT COUNT(*) FROM eddyline.jobs WHERE job = 'files' AND state = 'backfilling'").await;
        assert_eq!(reading, 1, "it is killed in the middle");
        if kill == KILLS {
            server.options.failpoints.clear();
        }
        tokio::task::block_in_place(|| server.kill_and_restart());
        client = server.connect().await;
    }
    until("everything is outside", async || (lines(out.path()).len() == wanted).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| server.kill_and_restart());
    // Rows that should not come have time to.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let lines = lines(out.path());
    let twice = lines.values().filter(|n| **n > 1).count();
    assert_eq!((lines.len(), twice), (wanted, 0), "rows, and those that are there twice; log:\n{}", server.log());
}

/// One step emits more than is handed on: what reads the view finds it in the view's rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_emits_very_much_is_read_from_the_view() {
    let mut server = Server::start(ServerOptions { workers: 1, ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE a (id INT, k INT, pad TEXT) APPEND ONLY; CREATE TABLE b (id INT, k INT) APPEND ONLY").await;
    run(&client, "CREATE MATERIALIZED VIEW pairs AS SELECT a.id AS a, b.id AS b, a.pad FROM a JOIN b ON a.k = b.k").await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n, SUM(LENGTH(pad)) AS chars FROM pairs").await;
    run(&client, "INSERT INTO a SELECT x, 1, repeat('x', 1000) FROM generate_series(1, 3000) AS s(x)").await;
    // Each of these matches all of those: 300 MB.
    run(&client, "INSERT INTO b SELECT x, 1 FROM generate_series(1, 100) AS s(x)").await;
    run(&client, "FLUSH").await;
    assert!(server.log().contains("reading on its own"), "it was not too much");
    // And little is handed on again.
    run(&client, "INSERT INTO b VALUES (101, 1)").await;
    run(&client, "FLUSH").await;
    let query = "SELECT n + (chars - 1000 * n)::bigint FROM counted";
    assert_eq!(number(&client, query).await, 303_000);
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    run(&client, "FLUSH").await;
    assert_eq!(number(&client, query).await, 303_000);
}

/// Views and sinks that never keep up, with checkpoints all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_always_lags_comes_to_the_end() {
    let server = Server::start(ServerOptions { checkpoint_interval: "20ms", ring_size: "4KiB", ..Default::default() });
    let client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, url VARCHAR) \
         WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '1000000', nexmark.split.num = '2')",
    )
    .await;
    run(&client, "CREATE MATERIALIZED VIEW dear AS SELECT auction, bidder, price FROM bid WHERE LENGTH(REPLACE(url, 'a', 'bb')) > 0").await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n, SUM(price) AS s FROM dear").await;
    run(&client, "CREATE SINK out AS SELECT auction, COUNT(*) AS n FROM dear GROUP BY auction WITH (connector = 'blackhole')").await;
    run(&client, "CREATE SINK again FROM dear WITH (connector = 'blackhole')").await;
    let counted = async || (number(&client, "SELECT n::bigint FROM counted").await >= 920_000).then_some(());
    until_within(Duration::from_secs(120), "every row is counted", counted).await;
    let all = tokio::time::timeout(Duration::from_secs(60), run(&client, "FLUSH"));
    assert!(all.await.is_ok(), "some job never came to the end; log:\n{}", server.log());
}

/// Bytes of a process's memory that are in no file.
fn anonymous_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix("kB"));
    kibibytes.and_then(|text| text.trim().parse::<u64>().ok()).map_or(0, |kibibytes| kibibytes << 10)
}

/// The log has more rows of tables than may be held at once while it is replayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_replayed_within_bounds() {
    const ROWS: i64 = 500_000;
    let mut server = Server::start(ServerOptions { checkpoint_interval: "3600s", ring_size: "1MiB", ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id BIGINT PRIMARY KEY, pad VARCHAR)").await;
    run(&client, "CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS c, SUM(id)::bigint AS s FROM t WHERE LENGTH(pad) = 1000").await;
    let pad = "x".repeat(1_000);
    for from in (0..ROWS).step_by(20_000) {
        run(&client, &format!("INSERT INTO t SELECT i, '{pad}' FROM generate_series({from}, {}) AS s(i)", from + 19_999)).await;
    }
    server.kill();
    let most = tokio::task::block_in_place(|| {
        let ready = server.begin();
        let pid = server.pid().expect("it runs");
        let mut most = 0;
        while let Err(RecvTimeoutError::Timeout) = ready.recv_timeout(Duration::from_millis(5)) {
            most = most.max(anonymous_bytes(pid));
        }
        server.kill_and_restart();
        most
    });
    // Rows that wait for the disk are most of it; without a bound it is all of the log.
    assert!(most < 420 << 20, "{most} bytes of memory for a log of 500 MB");
    let client = server.connect().await;
    run(&client, "FLUSH").await;
    assert_eq!(number(&client, "SELECT c FROM v").await, ROWS);
    assert_eq!(number(&client, "SELECT s FROM v").await, ROWS * (ROWS - 1) / 2);
    assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, ROWS);
}

/// A table takes in what the log has while that is replayed. A view over it, which it leaves behind, still comes to where the log of its sink
/// was complete, and nothing goes outside twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_ahead_in_a_replay_has_been_where_a_sink_was() {
    const SENT: usize = 400;
    let out = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "3600s", ring_size: "4KiB", ..Default::default() });
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id BIGINT) APPEND ONLY").await;
    run(&client, "CREATE MATERIALIZED VIEW v AS SELECT id, id * 2 AS n FROM t WHERE id > 0").await;
    let sink = format!(
        "CREATE SINK files FROM v WITH (connector = 'filesystem', path = '{}', \
         sink.rolling-policy.rollover-interval = '100 ms') FORMAT PLAIN ENCODE JSON",
        out.path().display()
    );
    run(&client, &sink).await;
    run(&client, "INSERT INTO t VALUES (1)").await;
    until("a checkpoint has the sink", async || (lines(out.path()).len() == 1).then_some(())).await;
    for id in 2..=SENT {
        run(&client, &format!("INSERT INTO t VALUES ({id})")).await;
    }
    let all = async || (lines(out.path()).len() == SENT).then_some(());
    until("everything is outside", all).await;
    // Nothing of this goes to the sink: its log is not complete up to here.
    for _ in 0..200 {
        run(&client, "INSERT INTO t VALUES (0)").await;
    }
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    run(&client, "FLUSH").await;
    run(&client, "INSERT INTO t VALUES (1000)").await;
    until("the newest row is outside", async || (lines(out.path()).len() == SENT + 1).then_some(())).await;
    let twice = lines(out.path()).into_values().filter(|n| *n > 1).count();
    assert_eq!(twice, 0, "rows are there twice; log:\n{}", server.log());
}

/// A sink that fills its log and stands still after a FLUSH has begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_waits_for_nobody_who_stands_still() {
    let server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE bid (auction BIGINT, price BIGINT, url VARCHAR, extra VARCHAR) \
         WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '500000')",
    )
    .await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM bid").await;
    until("all is read", || async { (number(&client, "SELECT n FROM counted").await == 460_000).then_some(()) }).await;
    // It reads on its own, sends as it goes, and soon has no room.
    run(&client, "CREATE SINK out AS SELECT * FROM bid WITH (connector = 'blackhole', sink.log-size = '1'); ALTER JOB out PAUSE").await;
    for statement in ["FLUSH", "SELECT * FROM eddyline.late_rows"] {
        let answer = tokio::time::timeout(Duration::from_secs(20), client.simple_query(statement)).await;
        assert!(answer.is_ok_and(|a| a.is_ok()), "{statement} did not end; log:\n{}", server.log());
    }
}

/// Processor time that a process has used, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

/// A checkpoint is due, and cannot begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_is_overdue_is_not_waited_for_without_pause() {
    let options = ServerOptions { checkpoint_interval: "50ms", failpoints: "backfill.step=hold@0".into(), ..Default::default() };
    let server = Server::start(options);
    let client = server.connect().await;
    run(
        &client,
        "CREATE SOURCE s (id BIGINT, at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'datagen', number-of-rows = '10', \
         fields.id.kind = 'sequence', fields.id.start = '1', fields.id.end = '10', watermark.mode = 'manual')",
    )
    .await;
    run(&client, "CREATE MATERIALIZED VIEW v AS SELECT id FROM s").await;
    run(&client, "ALTER SOURCE s ADVANCE WATERMARK TO TIMESTAMP '2030-01-01 00:00:00'").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let pid = server.pid().expect("it runs");
    let before = ticks(pid);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = ticks(pid) - before;
    assert!(used < 20, "{used} hundredths of a second of work while there was nothing to do; log:\n{}", server.log());
}
