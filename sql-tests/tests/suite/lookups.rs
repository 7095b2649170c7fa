//! Lookup joins with tables in a real PostgreSQL: what is joined, for how long an answer is used again, what is taken back, through kills
//! and while the database is away.

use super::oracle::postgres::Cluster;
use eddyline_sql_tests::client::{number, rows, run, shows};
use eddyline_sql_tests::wait::{PATIENCE, until};
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const THERE: &str = "CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE customers (id INT PRIMARY KEY, \"fullName\" VARCHAR(40), credit NUMERIC(12,3), vip BOOLEAN, since DATE, seen TIMESTAMPTZ,
      wall TIMESTAMP, score REAL, part FLOAT8, small INT2, big INT8, felt mood, code CHAR(4));
    INSERT INTO customers VALUES
      (1, 'Ada', 10.5, true, '2020-02-29', '2024-01-01 12:00:00+02', '2024-01-01 12:00:00.123456', 1.5, 0.1, 7, 9000000000, 'glad', 'x'),
      (2, 'Grace', -0.001, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

const COLUMNS: &str = "id BIGINT, `fullName` STRING, credit DECIMAL(12,2), vip BOOLEAN, since DATE, seen TIMESTAMP_LTZ(3), wall TIMESTAMP(6), \
     score REAL, part DOUBLE, small INT, big BIGINT, felt STRING, code STRING";

/// The definition of a table that is looked up, of these columns and with more options.
fn table(cluster: &Cluster, name: &str, columns: &str, more: &str) -> String {
    format!(
        "CREATE TABLE {name} ({columns}, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'jdbc', \
         'url' = 'jdbc:postgresql://127.0.0.1:{}/postgres', 'table-name' = 'customers', 'username' = 'oracle', 'password' = 'hush'{more})",
        cluster.port()
    )
}

/// A view of orders, each with a customer's name.
fn named(view: &str, customers: &str) -> String {
    format!(
        "CREATE MATERIALIZED VIEW {view} AS SELECT o.id, c.`fullName` AS name FROM orders AS o \
         LEFT JOIN {customers} FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.cid = c.id"
    )
}

async fn start(options: ServerOptions) -> (Cluster, Client, Server, Client) {
    let cluster = Cluster::start();
    let there = cluster.connect().await;
    run(&there, THERE).await;
    let server = Server::start(options);
    let client = server.connect().await;
    run(&client, "CREATE TABLE orders (id INT PRIMARY KEY, cid BIGINT)").await;
    (cluster, there, server, client)
}

/// A checkpoint has been taken at the epoch of the job, or later.
async fn saved(server: &Server, client: &Client, job: &str) {
    let epoch = number(client, &format!("SELECT epoch FROM eddyline.jobs WHERE job = '{job}'")).await as f64;
    until("a checkpoint is taken", || async { (server.metric("eddyline_checkpoint_epoch")? >= epoch).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_taken_back_as_they_were_joined() {
    let (cluster, there, mut server, client) = start(ServerOptions { checkpoint_interval: "200ms", ..Default::default() }).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    run(&client, &named("joined", "customers")).await;
    run(
        &client,
        "CREATE MATERIALIZED VIEW wide AS SELECT o.id, c.credit, c.vip, c.since, c.seen, c.wall, c.score, c.part, c.small, c.big, c.felt, \
         c.code FROM orders AS o JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.cid = c.id AND c.credit > 0",
    )
    .await;
    run(&client, "INSERT INTO orders VALUES (1, 1), (2, 2), (3, 9), (4, NULL)").await;
    let joined = "SELECT id, name FROM joined ORDER BY id";
    assert_eq!(texts(&client, joined).await, ["1 Ada", "2 Grace", "3 NULL", "4 NULL"]);
    let wide = "1 10.50 t 2020-02-29 2024-01-01 10:00:00+00 2024-01-01 12:00:00.123456 1.5 0.1 7 9000000000 glad x";
    assert_eq!(texts(&client, "SELECT * FROM wide").await, [wide]);
    // What becomes of a row over there is seen by later rows alone.
    run(&there, "UPDATE customers SET \"fullName\" = 'Lovelace' WHERE id = 1").await;
    run(&client, "INSERT INTO orders VALUES (5, 1)").await;
    assert_eq!(texts(&client, joined).await, ["1 Ada", "2 Grace", "3 NULL", "4 NULL", "5 Lovelace"]);
    run(&client, "UPDATE orders SET cid = 2 WHERE id = 5").await;
    run(&client, "DELETE FROM orders WHERE id IN (1, 4)").await;
    assert_eq!(texts(&client, joined).await, ["2 Grace", "3 NULL", "5 Grace"]);
    assert!(texts(&client, "SELECT * FROM wide").await.is_empty());
    // What a checkpoint has is not asked for again, and leaves as it came.
    saved(&server, &client, "joined").await;
    run(&there, "DELETE FROM customers; INSERT INTO customers (id, \"fullName\") VALUES (9, 'Hedy')").await;
    server.kill_and_restart();
    let client = server.connect().await;
    assert_eq!(texts(&client, joined).await, ["2 Grace", "3 NULL", "5 Grace"]);
    run(&client, "UPDATE orders SET cid = 9 WHERE id = 2").await;
    run(&client, "DELETE FROM orders WHERE id = 5").await;
    assert_eq!(texts(&client, joined).await, ["2 Hedy", "3 NULL"]);
    // So does what the log alone has, however it is joined when it is replayed.
    run(&client, "INSERT INTO orders VALUES (6, 9), (7, 9)").await;
    server.kill_and_restart();
    let client = server.connect().await;
    run(&client, "DELETE FROM orders WHERE id <> 7").await;
    assert_eq!(texts(&client, joined).await, ["7 Hedy"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_used_again_until_its_time_is_over() {
    let (cluster, there, _server, client) = start(ServerOptions::default()).await;
    run(&client, &table(&cluster, "kept_long", COLUMNS, ", 'lookup.cache.ttl' = '1 hour', 'lookup.cache.max-rows' = '100'")).await;
    run(&client, &table(&cluster, "kept_briefly", COLUMNS, ", 'lookup.cache.ttl' = '50 ms'")).await;
    run(&client, &named("by_long", "kept_long")).await;
    run(&client, &named("by_brief", "kept_briefly")).await;
    run(&client, "INSERT INTO orders VALUES (1, 1), (2, 9)").await;
    assert_eq!(texts(&client, "SELECT id, name FROM by_long ORDER BY id").await, ["1 Ada", "2 NULL"]);
    run(&there, "UPDATE customers SET \"fullName\" = 'Lovelace'; INSERT INTO customers (id, \"fullName\") VALUES (9, 'Hedy')").await;
    let mut next = 2;
    let mut name_of_another = async |view: &str| {
        next += 1;
        run(&client, &format!("INSERT INTO orders VALUES ({next}, 1)")).await;
        texts(&client, &format!("SELECT name FROM {view} WHERE id = {next}")).await.remove(0)
    };
    let deadline = Instant::now() + PATIENCE;
    while name_of_another("by_brief").await != "Lovelace" {
        assert!(Instant::now() < deadline, "an answer is used for ever");
    }
    assert_eq!(name_of_another("by_long").await, "Ada");
    run(&client, "INSERT INTO orders VALUES (1000, 9)").await;
    assert_eq!(texts(&client, "SELECT id, name FROM by_long WHERE id = 1000").await, ["1000 NULL"], "that there is nothing is an answer");
}

/// A view that says in a hint how it asks has a way of its own to the table, which is there after a restart and goes with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_is_for_the_view_that_has_it() {
    let (cluster, there, mut server, client) = start(ServerOptions { checkpoint_interval: "200ms", ..Default::default() }).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    run(&client, &named("joined", "customers /*+ OPTIONS('lookup.cache.ttl' = '1 hour') */")).await;
    run(&client, &named("plain", "customers")).await;
    run(&client, "INSERT INTO orders VALUES (1, 1)").await;
    let of = |view: &str| format!("SELECT id, name FROM {view} ORDER BY id");
    assert_eq!(texts(&client, &of("joined")).await, ["1 Ada"]);
    run(&there, "UPDATE customers SET \"fullName\" = 'Lovelace' WHERE id = 1").await;
    run(&client, "INSERT INTO orders VALUES (2, 1)").await;
    assert_eq!(texts(&client, &of("plain")).await, ["1 Ada", "2 Lovelace"]);
    assert_eq!(texts(&client, &of("joined")).await, ["1 Ada", "2 Ada"]);
    saved(&server, &client, "joined").await;
    server.kill_and_restart();
    let client = server.connect().await;
    run(&client, "INSERT INTO orders VALUES (3, 2)").await;
    assert_eq!(texts(&client, &of("joined")).await, ["1 Ada", "2 Ada", "3 Grace"]);
    run(&client, "DROP MATERIALIZED VIEW joined").await;
    run(&client, "DELETE FROM orders WHERE id = 1").await;
    assert_eq!(texts(&client, &of("plain")).await, ["2 Lovelace", "3 Grace"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_holds_up_those_alone_that_ask_it() {
    let (cluster, _, mut server, client) = start(ServerOptions::default()).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    run(&client, &table(&cluster, "impatient", COLUMNS, ", 'lookup.max-retries' = '0'")).await;
    run(&client, &named("joined", "customers")).await;
    run(&client, &named("given_up", "impatient")).await;
    run(&client, "CREATE MATERIALIZED VIEW plain AS SELECT id FROM orders").await;
    run(&client, "INSERT INTO orders VALUES (1, 1)").await;
    assert_eq!(texts(&client, "SELECT id, name FROM joined").await, ["1 Ada"]);
    saved(&server, &client, "joined").await;
    cluster.stop();
    run(&client, "INSERT INTO orders VALUES (2, 2)").await;
    assert_eq!(texts(&client, "SELECT id FROM plain ORDER BY id").await, ["1", "2"]);
    let state = "SELECT state, error LIKE '%PostgreSQL at 127.0.0.1%' FROM eddyline.jobs WHERE job = 'joined'";
    shows(&client, state, &[&["retrying", "t"]]).await;
    shows(&client, "SELECT DISTINCT part FROM eddyline.errors WHERE relation = 'customers'", &[&["lookups"]]).await;
    let rejected = "SELECT view, weight FROM eddyline.rejected_rows";
    shows(&client, rejected, &[&["given_up", "1"]]).await;
    let error = client.batch_execute(&table(&cluster, "another", COLUMNS, "")).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("08006"), "{error:?}");
    // A checkpoint does not wait for it.
    run(&client, "INSERT INTO orders VALUES (4, NULL)").await;
    assert_eq!(texts(&client, "SELECT id FROM plain ORDER BY id").await, ["1", "2", "4"]);
    saved(&server, &client, "plain").await;
    run(&client, "DELETE FROM orders WHERE id = 4").await;
    // A start does not wait for it either.
    server.kill_and_restart();
    let client = server.connect().await;
    shows(&client, "SELECT error LIKE '%PostgreSQL at 127.0.0.1%' FROM eddyline.jobs WHERE job = 'joined'", &[&["t"]]).await;
    run(&client, "INSERT INTO orders VALUES (3, 9)").await;
    assert_eq!(texts(&client, "SELECT id FROM plain ORDER BY id").await, ["1", "2", "3"]);
    cluster.resume();
    assert_eq!(texts(&client, "SELECT id, name FROM joined ORDER BY id").await, ["1 Ada", "2 Grace", "3 NULL"]);
    shows(&client, "SELECT state, error FROM eddyline.jobs WHERE job = 'joined'", &[&["running", "NULL"]]).await;
    saved(&server, &client, "joined").await;
    // What was given up stays so until it is taken back.
    run(&client, "DELETE FROM orders").await;
    shows(&client, rejected, &[]).await;
    assert!(texts(&client, "SELECT * FROM given_up").await.is_empty());
}

/// A checkpoint has all but what waits at its epoch, and what waits as an earlier one had it, with all that it reads. A restart gives it what
/// it lacks from there, whether the database is there again or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_go_on_while_a_database_is_away() {
    for (backend, workers) in [("rocksdb", 1), ("rocksdb", 2), ("memory", 1), ("memory", 2)] {
        checkpoints_go_on(ServerOptions { backend, workers, checkpoint_interval: "100ms", ..Default::default() }).await;
    }
}

async fn checkpoints_go_on(options: ServerOptions) {
    let (cluster, _, mut server, client) = start(options).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    // What waits reads a view, which another one reads that does not wait, and is read by one. Only the last one has nothing to do with it.
    for view in [
        "CREATE MATERIALIZED VIEW per_customer AS SELECT cid, COUNT(*) AS n FROM orders GROUP BY cid",
        "CREATE MATERIALIZED VIEW joined AS SELECT p.cid, p.n, c.`fullName` AS name FROM per_customer AS p \
         LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON p.cid = c.id",
        "CREATE MATERIALIZED VIEW by_name AS SELECT name, SUM(n) AS n FROM joined GROUP BY name",
        "CREATE MATERIALIZED VIEW total AS SELECT SUM(n) AS n FROM per_customer",
        "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM orders",
    ] {
        run(&client, view).await;
    }
    let by_name = "SELECT name, n FROM by_name ORDER BY name";
    run(&client, "INSERT INTO orders VALUES (1, 1), (2, 1), (3, 2)").await;
    assert_eq!(texts(&client, by_name).await, ["Ada 2", "Grace 1"]);
    saved(&server, &client, "by_name").await;
    cluster.stop();
    run(&client, "INSERT INTO orders VALUES (4, 1)").await;
    shows(&client, "SELECT state FROM eddyline.jobs WHERE job = 'joined'", &[&["retrying"]]).await;
    run(&client, "INSERT INTO orders VALUES (5, 2), (6, 9)").await;
    let totals = "SELECT t.n, c.n FROM total AS t CROSS JOIN counted AS c";
    assert_eq!(texts(&client, totals).await, ["6 6"]);
    saved(&server, &client, "counted").await;
    // What is made meanwhile is in checkpoints too: a new sink sends nothing before one has it.
    for statement in [
        "CREATE TABLE log (id BIGINT) APPEND ONLY",
        "CREATE TABLE copies (id BIGINT)",
        "CREATE SINK into_copies INTO copies FROM log",
        "INSERT INTO log VALUES (1), (2)",
    ] {
        run(&client, statement).await;
    }
    let copies = "SELECT id FROM copies ORDER BY id";
    shows(&client, copies, &[&["1"], &["2"]]).await;
    for round in 0..2 {
        server.kill_and_restart();
        let client = server.connect().await;
        shows(&client, by_name, &[&["Ada", "2"], &["Grace", "1"]]).await;
        assert_eq!(texts(&client, totals).await, ["6 6"], "restart {round}");
        assert_eq!(texts(&client, copies).await.len(), 2 + round, "restart {round}");
        // A block reads what it can at one epoch, and waits for nothing that it does not name.
        for (query, found) in [(by_name, ["Ada 2", "Grace 1"].as_slice()), (totals, &["6 6"])] {
            let client = server.connect().await;
            run(&client, "SET statement_timeout = '30 s'; BEGIN").await;
            assert_eq!(texts(&client, query).await, found, "restart {round}");
        }
        run(&client, &format!("INSERT INTO log VALUES ({})", 3 + round)).await;
        until("it is sent", || async { (texts(&client, copies).await.len() == 3 + round).then_some(()) }).await;
        run(&client, "UPDATE orders SET cid = 2 WHERE id = 2").await;
        assert_eq!(texts(&client, totals).await, ["6 6"]);
        saved(&server, &client, "counted").await;
    }
    cluster.resume();
    let client = server.connect().await;
    let all = ["Ada 2", "Grace 3", "NULL 1"];
    until("it has what it lacked", || async { (texts(&client, by_name).await == all).then_some(()) }).await;
    // That is saved too, though nothing else has come, and needs the database no more.
    assert!(server.stop().success());
    cluster.stop();
    server.launch().expect("it starts");
    let client = server.connect().await;
    assert_eq!(texts(&client, by_name).await, all);
    assert_eq!(texts(&client, "SELECT cid, n, name FROM joined ORDER BY cid").await, ["1 2 Ada", "2 3 Grace", "9 1 NULL"]);
    assert_eq!(texts(&client, totals).await, ["6 6"]);
    assert_eq!(texts(&client, copies).await, ["1", "2", "3", "4"]);
}

/// Workers may still freeze for a checkpoint that is given up: what they freeze is not the next one's, which begins after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_given_up_is_over_before_the_next_one() {
    let options = ServerOptions { checkpoint_interval: "1h", failpoints: "job.freeze=slow".to_string(), ..Default::default() };
    let (cluster, there, server, client) = start(options).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    run(&client, &named("joined", "customers")).await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT cid, COUNT(*) AS n FROM orders GROUP BY cid").await;
    run(&client, "INSERT INTO orders VALUES (1, 1)").await;
    assert_eq!(texts(&client, "SELECT id, name FROM joined").await, ["1 Ada"]);
    // It is asked, and neither answers nor fails: the first checkpoint waits for the view.
    run(&there, "BEGIN; LOCK TABLE customers").await;
    run(&client, "INSERT INTO orders VALUES (2, 2)").await;
    let counted = "SELECT n FROM counted WHERE cid = 2";
    assert_eq!(texts(&client, counted).await, ["1"]);
    run(&client, "ALTER SYSTEM SET checkpoint_interval = '100 ms'").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.stop();
    let given_up = "SELECT COUNT(*) FROM eddyline.checkpoints WHERE problem LIKE '%waits for a table outside%'";
    until("it is given up", || async { (number(&client, given_up).await > 0).then_some(()) }).await;
    let written = "SELECT COUNT(*) FROM eddyline.checkpoints WHERE problem IS NULL";
    until("another one is written", || async { (number(&client, written).await > 0).then_some(()) }).await;
    run(&client, "INSERT INTO orders VALUES (3, 2)").await;
    assert_eq!(texts(&client, counted).await, ["2"], "no job has stopped");
    assert!(server.metric("eddyline_checkpoint_failures_total").is_some_and(|failures| failures < 2.0), "one was given up");
}

/// Old rows are kept for a view that waits where it reads them, and nowhere else. Who reads it together with others waits with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_keeps_no_old_rows_of_others() {
    let (cluster, _, server, client) = start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() }).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    run(&client, &named("joined", "customers")).await;
    run(&client, "CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    run(&client, "INSERT INTO t SELECT i, 0 FROM generate_series(1, 50000) AS s(i)").await;
    run(&client, "INSERT INTO orders VALUES (1, 1)").await;
    let joined = "SELECT id, name FROM joined ORDER BY id";
    assert_eq!(texts(&client, joined).await, ["1 Ada"]);
    cluster.stop();
    run(&client, "INSERT INTO orders VALUES (2, 2)").await;
    shows(&client, "SELECT state FROM eddyline.jobs WHERE job = 'joined'", &[&["retrying"]]).await;
    for _ in 0..20 {
        run(&client, "UPDATE t SET n = n + 1").await;
    }
    until("a million old rows are gone", || async {
        run(&client, "UPDATE t SET n = n + 1 WHERE id = 3").await;
        (server.metric("eddyline_view_bytes")? < 30e6).then_some(())
    })
    .await;
    // A block that names what waits goes without what has gone on.
    let block = server.connect().await;
    run(&block, "SET statement_timeout = '30 s'; BEGIN").await;
    assert_eq!(texts(&block, joined).await, ["1 Ada"]);
    cluster.resume();
    let both = "SELECT j.name, t.n FROM joined AS j JOIN t ON t.id = j.id ORDER BY j.id";
    until("both have an epoch in common", || async { (texts(&client, both).await == ["Ada 20", "Grace 20"]).then_some(()) }).await;
}

/// What is altered of a view that waits counts from there on, as if it had not waited: also if a checkpoint has the view as it was before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_waits_is_altered_where_it_was() {
    let (cluster, _, mut server, client) = start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() }).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    let divided = "CREATE MATERIALIZED VIEW divided AS SELECT o.id, c.`fullName` AS name, 6 / (o.cid - 3) AS share FROM orders AS o \
         LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.cid = c.id";
    run(&client, divided).await;
    run(&client, "CREATE MATERIALIZED VIEW plain AS SELECT id FROM orders").await;
    run(&client, "INSERT INTO orders VALUES (1, 1)").await;
    let shares = "SELECT id, name, share FROM divided ORDER BY id";
    assert_eq!(texts(&client, shares).await, ["1 Ada -3"]);
    saved(&server, &client, "divided").await;
    cluster.stop();
    run(&client, "INSERT INTO orders VALUES (2, 2)").await;
    let state = "SELECT state FROM eddyline.jobs WHERE job = 'divided'";
    shows(&client, state, &[&["retrying"]]).await;
    run(&client, "INSERT INTO orders VALUES (3, 3)").await;
    run(&client, "ALTER MATERIALIZED VIEW divided SET (on_error = 'stop')").await;
    run(&client, "INSERT INTO orders VALUES (4, 4)").await;
    assert_eq!(texts(&client, "SELECT id FROM plain ORDER BY id").await, ["1", "2", "3", "4"]);
    saved(&server, &client, "plain").await;
    server.kill_and_restart();
    cluster.resume();
    let client = server.connect().await;
    let all = ["1 Ada -3", "2 Grace -6", "4 NULL 6"];
    until("it has what it lacked", || async { (texts(&client, shares).await == all).then_some(()) }).await;
    shows(&client, "SELECT view, weight FROM eddyline.rejected_rows", &[&["divided", "1"]]).await;
    run(&client, "INSERT INTO orders VALUES (5, 3)").await;
    shows(&client, state, &[&["stopped"]]).await;
}

/// A view has no room for more, as one waits that was made since the last checkpoint: it is in the next one as it was in that, with its place
/// in its source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_view_holds_up_loses_and_doubles_nothing() {
    let options = ServerOptions { ring_size: "64KiB", checkpoint_interval: "3600s", ..Default::default() };
    let (cluster, _, mut server, client) = start(options).await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    let bids = "CREATE SOURCE bids (auction BIGINT, price BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', \
         nexmark.rate = '4000', nexmark.event.num = '40000')";
    run(&client, bids).await;
    run(&client, "CREATE MATERIALIZED VIEW prices AS SELECT auction, price FROM bids").await;
    let count = "SELECT COUNT(*) FROM prices";
    until("some rows have come", || async { (number(&client, count).await > 1000).then_some(()) }).await;
    // The last checkpoint of a server that stops knows nobody who asks the database.
    assert!(server.stop().success());
    cluster.stop();
    server.launch().expect("it starts");
    let client = server.connect().await;
    let joined = "CREATE MATERIALIZED VIEW joined AS SELECT p.price, c.`fullName` AS name FROM prices AS p \
         LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON p.auction % 50 = c.id";
    run(&client, joined).await;
    until("the view has no room for more", || async {
        let before = number(&client, count).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let stands = number(&client, count).await == before;
        (stands && server.metric("eddyline_ring_bytes")? > 65_536.0).then_some(())
    })
    .await;
    run(&client, "ALTER SYSTEM SET checkpoint_interval = '50 ms'").await;
    until("a checkpoint is taken", || async { (server.metric("eddyline_checkpoints_total")? >= 1.0).then_some(()) }).await;
    server.kill();
    cluster.resume();
    server.launch().expect("it starts");
    let client = server.connect().await;
    let sums = |relation: &str| format!("SELECT COUNT(*), SUM(price) FROM {relation}");
    let expected = texts(&client, &sums("bids")).await;
    for view in ["prices", "joined"] {
        until(view, || async { (texts(&client, &sums(view)).await == expected).then_some(()) }).await;
    }
}

/// A keyed source that a restart brings back at an earlier epoch than a view over it comes exactly to where that stands, also if it reads on its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ahead_of_a_keyed_source_takes_each_change_once() {
    let options = ServerOptions { ring_size: "64KiB", checkpoint_interval: "100ms", ..Default::default() };
    let (cluster, _, mut server, client) = start(options).await;
    let files = tempfile::tempdir().expect("a directory");
    let write = |number: usize| {
        let line = |id: usize| format!("{{\"id\": {id}, \"n\": {}}}\n", number * 1000 + id);
        let unseen = files.path().join("unseen");
        std::fs::write(&unseen, (0..1000).map(line).collect::<String>()).expect("rows are written");
        std::fs::rename(unseen, files.path().join(format!("{number:03}.json"))).expect("and shown");
    };
    write(0);
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    let keyed = format!(
        "CREATE SOURCE newest (id BIGINT PRIMARY KEY, n BIGINT) WITH (connector = 'filesystem', path = '{}/*.json', \
         source.monitor-interval = '50 ms') FORMAT PLAIN ENCODE JSON",
        files.path().display()
    );
    run(&client, &keyed).await;
    run(&client, "CREATE MATERIALIZED VIEW summed AS SELECT COUNT(*) AS n, SUM(n) AS s FROM newest").await;
    let joined = "CREATE MATERIALIZED VIEW joined AS SELECT k.id, k.n, c.`fullName` AS name FROM newest AS k \
         LEFT JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON k.id = c.id";
    run(&client, joined).await;
    let summed = "SELECT n, s FROM summed";
    let expected = |number: usize| [["1000".to_string(), (number * 1_000_000 + 499_500).to_string()].join(" ")];
    until("the first rows are joined", || async { (texts(&client, "SELECT COUNT(*) FROM joined").await == ["1000"]).then_some(()) }).await;
    saved(&server, &client, "joined").await;
    cluster.stop();
    for number in 1..=12 {
        write(number);
        until("it is summed", || async { (texts(&client, summed).await == expected(number)).then_some(()) }).await;
        if number == 6 {
            saved(&server, &client, "summed").await;
            run(&client, "ALTER SYSTEM SET checkpoint_interval = '1h'").await;
        }
    }
    for _ in 0..4 {
        server.kill_and_restart();
        let client = server.connect().await;
        assert_eq!(texts(&client, summed).await, expected(12));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_declared_is_refused() {
    let (cluster, there, _server, client) = start(ServerOptions::default()).await;
    let refused = async |sql: &str, state: &str, words: &str| {
        let error = client.batch_execute(sql).await.expect_err(sql);
        let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        assert_eq!(error.code().code(), state, "{sql}: {error:?}");
        let told = format!("{} {}", error.message(), error.hint().unwrap_or_default());
        assert!(told.contains(words), "{sql}: {told}");
    };
    refused(&table(&cluster, "c", "id BIGINT, name STRING", ""), "42703", "no column \"name\"").await;
    refused(&table(&cluster, "c", "id SMALLINT", ""), "42804", "Declare it as INT").await;
    let elsewhere = table(&cluster, "c", "id INT", "").replace("'customers'", "'nowhere'");
    refused(&elsewhere, "42P01", "nowhere").await;
    refused(&table(&cluster, "c", "id INT", ", 'lookup.cache.tll' = '1 s'"), "42704", "lookup.cache.ttl").await;
    run(&there, "CREATE ROLE stranger LOGIN").await;
    let stranger = table(&cluster, "c", "id INT", "").replace("'oracle'", "'stranger'");
    refused(&stranger, "42501", "permission denied").await;
    run(&client, &table(&cluster, "customers", COLUMNS, "")).await;
    refused("SELECT * FROM customers", "0A000", "FOR SYSTEM_TIME AS OF PROCTIME()").await;
    let plain = "CREATE MATERIALIZED VIEW m AS SELECT c.id FROM orders AS o JOIN customers AS c ON o.cid = c.id";
    refused(plain, "0A000", "FOR SYSTEM_TIME AS OF PROCTIME()").await;
    let shown = texts(&client, "SHOW CREATE TABLE customers").await.remove(0);
    assert!(shown.contains("'password' = '***'") && !shown.contains("hush"), "{shown}");
    assert!(rows(&client, "SELECT value FROM eddyline.options WHERE value LIKE '%hush%'").await.is_empty());
    // A value that a column here cannot hold is its row's affair.
    run(&client, &named("joined", "customers")).await;
    let credits = "CREATE MATERIALIZED VIEW credits AS SELECT o.id, c.credit FROM orders AS o \
         JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.cid = c.id";
    run(&client, credits).await;
    run(&there, "UPDATE customers SET credit = 'NaN' WHERE id = 1").await;
    run(&client, "INSERT INTO orders VALUES (1, 1), (2, 2)").await;
    assert_eq!(texts(&client, "SELECT id, credit FROM credits").await, ["2 0.00"]);
    shows(&client, "SELECT view, reason LIKE '%credit%' FROM eddyline.rejected_rows", &[&["credits", "t"]]).await;
    assert_eq!(texts(&client, "SELECT id, name FROM joined ORDER BY id").await, ["1 Ada", "2 Grace"], "it does not ask for that column");
    // Times without an end are held.
    let times = "CREATE MATERIALIZED VIEW times AS SELECT o.id, c.since, c.seen FROM orders AS o \
         JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.cid = c.id";
    run(&client, times).await;
    run(&there, "UPDATE customers SET since = 'infinity', seen = '-infinity' WHERE id = 2").await;
    run(&client, "INSERT INTO orders VALUES (3, 2)").await;
    assert_eq!(texts(&client, "SELECT since, seen FROM times WHERE id = 3").await, ["infinity -infinity"]);
}

/// The rows of a query, each on a line.
async fn texts(client: &Client, query: &str) -> Vec<String> {
    let line =
        |row: Vec<Option<String>>| row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_string())).collect::<Vec<_>>().join(" ");
    rows(client, query).await.into_iter().map(line).collect()
}
