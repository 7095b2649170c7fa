//! Lookup joins with tables in a real PostgreSQL: what is joined, for how long an answer is used again, what is taken back, through kills
//! and while the database is away.

use super::oracle::postgres::Cluster;
use eddyline_sql_tests::client::{number, rows, run, shows};
use eddyline_sql_tests::wait::{PATIENCE, until};
use eddyline_sql_tests::{Server, ServerOptions};
use std::time::Instant;
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

/// A checkpoint has all that the view shows.
async fn saved(server: &Server, client: &Client) {
    let epoch = number(client, "SELECT epoch FROM eddyline.jobs WHERE job = 'joined'").await as f64;
    until("a checkpoint has it", || async { (server.metric("eddyline_checkpoint_epoch")? >= epoch).then_some(()) }).await;
}

/// What a checkpoint waits for.
async fn awaited(client: &Client) -> Option<String> {
    rows(client, "SELECT problem FROM eddyline.checkpoints WHERE epoch IS NULL").await.into_iter().flatten().flatten().next()
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
    saved(&server, &client).await;
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
    saved(&server, &client).await;
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
    saved(&server, &client).await;
    run(&client, "ALTER SYSTEM SET checkpoint_interval = '1h'").await;
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
    // So does a checkpoint, whether it has begun or not.
    let held_up = "waits until job \"joined\" has looked its rows up: ";
    let is_held_up = || async { awaited(&client).await.filter(|why| why.starts_with(held_up) && why.contains("PostgreSQL at 127.0.0.1")) };
    until("the next checkpoint says what it will wait for", is_held_up).await;
    run(&client, "ALTER SYSTEM SET checkpoint_interval = '50 ms'").await;
    run(&client, "INSERT INTO orders VALUES (4, NULL)").await;
    assert_eq!(texts(&client, "SELECT id FROM plain ORDER BY id").await, ["1", "2", "4"]);
    until("the checkpoint under way says what it waits for", is_held_up).await;
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
    until("checkpoints go on", || async { awaited(&client).await.is_none().then_some(()) }).await;
    // What was given up stays so until it is taken back.
    run(&client, "DELETE FROM orders").await;
    shows(&client, rejected, &[]).await;
    assert!(texts(&client, "SELECT * FROM given_up").await.is_empty());
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
