//! Readers that take their time: an open transaction, a cursor, a client that does not read. What is kept for them is bounded
//! in time and in bytes; who comes to a limit is told, and everything else goes on.

use eddyline_sql_tests::client::number;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use futures::StreamExt;
use tokio_postgres::{Client, Error};

fn state(error: &Error) -> &str {
    error.code().map_or("", |c| c.code())
}

fn too_old(result: Result<impl Sized, Error>, what: &str) {
    let Err(error) = result else { panic!("{what} still goes on") };
    assert_eq!(state(&error), "72000", "{what}: {error:?}");
    assert!(error.as_db_error().is_some_and(|e| e.detail().is_some() && e.hint().is_some()), "{what}: {error:?}");
}

/// `rows` rows of a kilobyte in `t`, and a view over it.
async fn fill(client: &Client, rows: i64) {
    client.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT, pad VARCHAR)").await.expect("a table");
    client.batch_execute("CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS c, SUM(n) AS s FROM t").await.expect("a view");
    let pad = "x".repeat(1000);
    client.batch_execute(&format!("INSERT INTO t SELECT g, 0, '{pad}' FROM generate_series(1, {rows}) AS s(g)")).await.expect("rows");
}

async fn nothing_is_pinned(server: &Server) {
    until("nothing is kept for readers", || async { (server.metric("eddyline_snapshots")? == 0.0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_too_slow_is_told_and_the_rest_goes_on() {
    let server = Server::start(ServerOptions { settings: &["--snapshot-age", "5s"], ..Default::default() });
    let writer = server.connect().await;
    fill(&writer, 30_000).await;
    writer.batch_execute("CREATE TABLE big (id BIGINT, pad VARCHAR)").await.expect("a table");
    for part in 0..12 {
        let ids = format!("generate_series({}, {})", part * 100_000, part * 100_000 + 99_999);
        writer.batch_execute(&format!("INSERT INTO big SELECT i, 'xxxxxxxxxxxxxxxxxxxxxxxx' FROM {ids} AS s(i)")).await.expect("rows");
    }

    let block = server.connect().await;
    block.batch_execute("BEGIN").await.expect("a block");
    assert_eq!(number(&block, "SELECT s::bigint FROM v").await, 0);
    let commits = server.connect().await;
    commits.batch_execute("BEGIN; SELECT * FROM v; INSERT INTO t VALUES (-1, 0, '')").await.expect("a block");
    let cursor = server.connect().await;
    cursor.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT * FROM t; FETCH 10 FROM c").await.expect("a cursor");
    let mut portal = server.connect().await;
    let transaction = portal.transaction().await.expect("a block");
    let rows = transaction.bind("SELECT id FROM t", &[]).await.expect("a portal");
    assert_eq!(transaction.query_portal(&rows, 5).await.expect("rows").len(), 5);
    // More than the buffers of a socket take.
    let reader = server.connect().await;
    let mut slow = Box::pin(reader.copy_out("COPY big TO STDOUT").await.expect("it begins"));
    assert!(slow.next().await.is_some_and(|piece| piece.is_ok()));

    nothing_is_pinned(&server).await;
    assert!(server.metric("eddyline_snapshots_too_old_total").is_some_and(|n| n >= 5.0));
    too_old(block.batch_execute("SELECT * FROM v").await, "a block");
    too_old(block.batch_execute("SELECT 1").await, "a block that has failed");
    block.batch_execute("ROLLBACK").await.expect("it ends");
    block.batch_execute("BEGIN").await.expect("a new block");
    assert_eq!(number(&block, "SELECT c FROM v").await, 30_000, "and what was lost with the other one is not there");
    too_old(commits.batch_execute("COMMIT").await, "a commit");
    commits.batch_execute("INSERT INTO t VALUES (-2, 5, '')").await.expect("the lock is free");
    too_old(cursor.batch_execute("FETCH 10 FROM c").await, "a cursor");
    too_old(transaction.query_portal(&rows, 5).await, "a portal");
    let mut failed = Ok(());
    while let (Ok(()), Some(piece)) = (&failed, slow.next().await) {
        failed = piece.map(drop);
    }
    too_old(failed, "a slow client");
    drop(slow);
    assert_eq!(number(&reader, "SELECT 1::bigint").await, 1, "its session goes on");
    assert_eq!(number(&writer, "SELECT s::bigint FROM v").await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_a_reader_is_bounded() {
    let options =
        ServerOptions { settings: &["--snapshot-size", "8MiB"], checkpoint_interval: "200ms", ring_size: "64KiB", ..Default::default() };
    let server = Server::start(options);
    let writer = server.connect().await;
    fill(&writer, 1_000).await;
    let reader = server.connect().await;
    reader.batch_execute("BEGIN").await.expect("a block");
    assert_eq!(number(&reader, "SELECT SUM(n)::bigint FROM t").await, 0);
    writer.batch_execute("UPDATE t SET n = n + 1").await.expect("a megabyte is changed");
    assert_eq!(number(&reader, "SELECT SUM(n)::bigint FROM t").await, 0, "a little change does not matter");
    let mut changes = 1;
    until("the reader is let go of", || {
        changes += 1;
        let (writer, server) = (&writer, &server);
        async move {
            writer.batch_execute("UPDATE t SET n = n + 1").await.expect("a megabyte is changed");
            (server.metric("eddyline_snapshots_too_old_total")? > 0.0).then_some(())
        }
    })
    .await;
    assert!((6..100).contains(&changes), "{changes} MB were changed");
    too_old(reader.batch_execute("SELECT * FROM t").await, "a reader for whom too much is kept");
    reader.batch_execute("ROLLBACK").await.expect("it ends");
    assert_eq!(number(&reader, "SELECT s::bigint FROM v").await, changes * 1_000);
    nothing_is_pinned(&server).await;
}

/// While a new view reads a source, more changes of a table come than a ring keeps: it reads them from the table's rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_lags_behind_a_table_holds_no_changes_in_memory() {
    let mut server = Server::start(ServerOptions { ring_size: "64KiB", checkpoint_interval: "500ms", ..Default::default() });
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT, pad VARCHAR)").await.expect("a table");
    let source = "CREATE SOURCE bid (auction BIGINT, price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', \
                  nexmark.event.num = '3000000')";
    client.batch_execute(source).await.expect("a source");
    let both = "SELECT COUNT(*) AS c, SUM(x)::bigint AS s FROM (SELECT price AS x FROM bid UNION ALL SELECT n FROM t) u";
    // The first one makes the source read, so that the second has a past to read by itself.
    client.batch_execute("CREATE MATERIALIZED VIEW first AS SELECT COUNT(*) AS c FROM bid").await.expect("a view");
    until("the source is read", || async { (number(&client, "SELECT COALESCE(MAX(c), 0) FROM first").await >= 2_760_000).then_some(()) })
        .await;
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW v AS {both}")).await.expect("a view");
    let pad = "x".repeat(20_000);
    let mut most: f64 = 0.0;
    for round in 0..60 {
        let ids = format!("generate_series({}, {}) AS s(i)", round % 7, round % 7 + 4);
        let update = "ON CONFLICT (id) DO UPDATE SET n = excluded.n, pad = excluded.pad";
        client.batch_execute(&format!("INSERT INTO t SELECT i, {round}, '{pad}' FROM {ids} {update}")).await.expect("a change");
        most = most.max(server.metric("eddyline_ring_bytes").unwrap_or_default());
    }
    client.batch_execute("FLUSH").await.expect("the views have come to the table");
    let same = format!("SELECT (a.c = b.c AND a.s = b.s)::bigint FROM v a, ({both}) b");
    assert_eq!(number(&client, &same).await, 1);
    assert!(server.log().contains("fell behind the ring"), "the test does what it is for");
    assert!(most < 4e6, "{most} bytes of changes were held");
    tokio::task::block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    client.batch_execute("DELETE FROM t WHERE id < 3").await.expect("a change");
    assert_eq!(number(&client, &same).await, 1);
}

/// A view that is being filled from a source needs no old rows of a table that it does not read. One that reads the table too does, which is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_rows_are_kept_where_a_view_reads_them() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await.expect("a table");
    client.batch_execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, 50000) AS s(i)").await.expect("rows");
    let source = "CREATE SOURCE bid (price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '5000')";
    client.batch_execute(source).await.expect("a source");
    client.batch_execute("CREATE MATERIALIZED VIEW first AS SELECT COUNT(*) AS c FROM bid").await.expect("a view");
    until("the source is read", || async { (number(&client, "SELECT COALESCE(MAX(c), 0) FROM first").await == 4_600).then_some(()) }).await;
    drop(client);
    tokio::task::block_in_place(|| server.stop());
    server.options.failpoints = "backfill.step=hold@0".into();
    server.launch().expect("the server starts again");
    let client = server.connect().await;
    // It reads what there was on its own, and does not get on.
    client.batch_execute("CREATE MATERIALIZED VIEW slow AS SELECT SUM(price)::bigint AS s FROM bid").await.expect("a view");
    for _ in 0..20 {
        client.batch_execute("UPDATE t SET n = n + 1").await.expect("a change");
    }
    until("a million old rows are gone", || async {
        client.batch_execute("UPDATE t SET n = n + 1 WHERE id = 1").await.expect("a change");
        (server.metric("eddyline_view_bytes")? < 30e6).then_some(())
    })
    .await;
    let held = async |job: &str| number(&client, &format!("SELECT held_bytes FROM eddyline.jobs WHERE job = '{job}'")).await;
    let slow = "SELECT COUNT(*) FROM eddyline.jobs WHERE job = 'slow' AND state = 'backfilling'";
    assert_eq!((number(&client, slow).await, held("slow").await), (1, 0), "it is still there, and nothing is kept for it");
    let both = "SELECT SUM(x)::bigint AS s FROM (SELECT price AS x FROM bid UNION ALL SELECT n FROM t) u";
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW both AS {both}")).await.expect("a view");
    until("it is shown what is kept for whom", || async {
        client.batch_execute("UPDATE t SET n = n + 1").await.expect("a change");
        (held("both").await > 3_000_000).then_some(())
    })
    .await;
    assert!(server.metric("eddyline_job_held_bytes").is_some_and(|bytes| bytes > 3e6));
    assert_eq!(held("slow").await, 0);
}

/// A block pins what it may yet name; what it does not name may go meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_drop_does_not_concern_a_block() {
    let server = Server::start(ServerOptions::default());
    let (reader, other) = (server.connect().await, server.connect().await);
    reader.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY); INSERT INTO t VALUES (1)").await.expect("a table");
    let drops = tokio::spawn(async move {
        for _ in 0..100 {
            other.batch_execute("CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n FROM t").await.expect("a view");
            other.batch_execute("SELECT n FROM v; DROP MATERIALIZED VIEW v").await.expect("it is filled, and goes");
        }
    });
    while !drops.is_finished() {
        reader.batch_execute("BEGIN").await.expect("a block");
        assert_eq!(number(&reader, "SELECT COUNT(*) FROM t").await, 1);
        reader.batch_execute("COMMIT").await.expect("its end");
    }
    drops.await.expect("all were dropped");
}

/// A view that came later has no rows at the epoch of a block, nor may the block go on at another one. Its own definitions it sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_stays_at_its_epoch_when_a_view_comes_up() {
    let server = Server::start(ServerOptions::default());
    let (reader, other) = (server.connect().await, server.connect().await);
    reader.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY); INSERT INTO t VALUES (1)").await.expect("a table");
    reader.batch_execute("BEGIN").await.expect("a block");
    assert_eq!(number(&reader, "SELECT COUNT(*) FROM t").await, 1);
    other.batch_execute("CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n FROM t").await.expect("a view");
    other.batch_execute("INSERT INTO t VALUES (2)").await.expect("a row");
    assert_eq!(number(&other, "SELECT n FROM v").await, 2);
    assert_eq!(number(&other, "SELECT COUNT(*) FROM t").await, 2);
    let Err(error) = reader.batch_execute("SELECT n FROM v").await else { panic!("two epochs in one block") };
    assert_eq!(state(&error), "40001", "{error:?}");
    assert!(error.as_db_error().is_some_and(|e| e.message().contains("\"v\"") && e.hint().is_some()), "{error:?}");
    reader.batch_execute("ROLLBACK").await.expect("its end");
    reader.batch_execute("BEGIN").await.expect("once more");
    assert_eq!(number(&reader, "SELECT COUNT(*) FROM t").await, 2);
    assert_eq!(number(&reader, "SELECT n FROM v").await, 2);
    other.batch_execute("INSERT INTO t VALUES (3)").await.expect("a row");
    reader.batch_execute("CREATE MATERIALIZED VIEW w AS SELECT MAX(id) AS n FROM t").await.expect("a view in a block");
    assert_eq!(number(&reader, "SELECT n FROM w").await, 3);
    assert_eq!(number(&reader, "SELECT n FROM v").await, 3);
    reader.batch_execute("COMMIT").await.expect("its end");
}
