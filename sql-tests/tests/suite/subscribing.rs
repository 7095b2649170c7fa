//! SUBSCRIBE: the deltas of a view add up to the view at every epoch, in every way of getting them; who is too slow is told, and
//! who comes back goes on where it was.

use eddyline_sql_tests::client::{number, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::{Client, SimpleQueryMessage};

const ACCOUNTS: i64 = 20;
const TOTAL: i64 = ACCOUNTS * 100;

/// A view's rows and how often each is there, after the deltas so far.
#[derive(Default)]
struct Followed {
    epoch: i64,
    rows: BTreeMap<(i64, i64), i64>,
    epochs: usize,
}

impl Followed {
    /// One change. When another epoch begins, the one before is complete.
    fn take(&mut self, epoch: i64, weight: i64, row: (i64, i64)) {
        if epoch != self.epoch {
            assert!(epoch > self.epoch, "epochs only grow");
            self.check();
            self.epoch = epoch;
            self.epochs += 1;
        }
        let times = self.rows.entry(row).or_default();
        *times += weight;
        if *times == 0 {
            self.rows.remove(&row);
        }
    }

    /// Whatever was moved between accounts, nothing came or went.
    fn check(&self) {
        assert!(self.rows.values().all(|times| *times == 1), "each row once at epoch {}: {:?}", self.epoch, self.rows);
        if !self.rows.is_empty() {
            assert_eq!(self.rows.keys().map(|(_, balance)| balance).sum::<i64>(), TOTAL, "no delta is torn at epoch {}", self.epoch);
        }
    }

    fn line(&mut self, line: &str) {
        let cells: Vec<i64> = line.trim().split('\t').map(|cell| cell.parse().expect("a number")).collect();
        self.take(cells[0], cells[1], (cells[2], cells[3]));
    }

    fn sees(&self, account: i64, balance: i64) -> bool {
        self.rows.contains_key(&(account, balance))
    }
}

async fn accounts(server: &Server) -> Client {
    let client = server.connect().await;
    run(&client, "CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT)").await;
    run(&client, "CREATE MATERIALIZED VIEW shown AS SELECT id, balance FROM account").await;
    run(&client, &format!("INSERT INTO account SELECT x, 100 FROM generate_series(1, {ACCOUNTS}) AS s(x)")).await;
    client
}

async fn transfers(client: &Client, from: i64, to: i64) {
    for n in from..to {
        let (payer, payee) = (n % ACCOUNTS + 1, (n * 7 + 3) % ACCOUNTS + 1);
        let transfer = format!(
            "BEGIN; UPDATE account SET balance = balance - 1 WHERE id = {payer}; UPDATE account SET balance = balance + 1 WHERE id = {payee}; COMMIT"
        );
        run(client, &transfer).await;
    }
}

/// Follows a COPY until it shows a row; the last epoch that is known to be whole.
async fn follow(client: &Client, copy: &str, followed: &mut Followed, until_row: (i64, i64)) {
    let lines = client.copy_out(copy).await.expect("a subscription");
    let mut lines = std::pin::pin!(lines);
    let all = async {
        while !followed.sees(until_row.0, until_row.1) {
            let piece = lines.next().await.expect("it has no end").expect("a line");
            String::from_utf8(piece.to_vec()).expect("text").lines().for_each(|line| followed.line(line));
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), all).await.expect("the changes come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_add_up_at_every_epoch_and_go_on_where_they_were() {
    let server = Server::start(ServerOptions { checkpoint_interval: "200ms", ..Default::default() });
    let writer = accounts(&server).await;
    let reader = server.connect().await;
    transfers(&writer, 0, 150).await;
    let last = number(&writer, "SELECT balance FROM account WHERE id = 1").await;
    let mut followed = Followed::default();
    follow(&reader, "COPY (SUBSCRIBE TO shown) TO STDOUT", &mut followed, (1, last)).await;
    // While rows are written.
    let client = server.connect().await;
    let (mut live, done) = (Followed::default(), AtomicBool::new(false));
    let writing = async {
        let mut next = 150;
        while !done.load(Ordering::SeqCst) {
            transfers(&writer, next, next + 10).await;
            next += 10;
        }
    };
    let reading = async {
        let lines = client.copy_out("COPY (SUBSCRIBE TO account) TO STDOUT").await.expect("a subscription");
        let mut lines = std::pin::pin!(lines);
        while live.epochs < 20 {
            let piece = lines.next().await.expect("it has no end").expect("a line");
            String::from_utf8(piece.to_vec()).expect("text").lines().for_each(|line| live.line(line));
        }
        done.store(true, Ordering::SeqCst);
    };
    let both = async { tokio::join!(writing, reading) };
    tokio::time::timeout(std::time::Duration::from_secs(60), both).await.expect("changes come as they are written");
}

type Row = (i64, i64, (i64, i64));

/// So many rows of a cursor, which gives what there is each time.
async fn take(client: &Client, cursor: &str, count: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for _ in 0..60 {
        rows.extend(fetched(client, &format!("FETCH {} FROM {cursor}", count - rows.len())).await);
        if rows.len() == count {
            break;
        }
    }
    assert_eq!(rows.len(), count, "{rows:?}");
    rows
}

async fn fetched(client: &Client, fetch: &str) -> Vec<Row> {
    let messages = client.simple_query(fetch).await.expect("rows");
    let number = |row: &tokio_postgres::SimpleQueryRow, at: usize| row.get(at).expect("a value").parse::<i64>().expect("a number");
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((number(row, 0), number(row, 1), (number(row, 2), number(row, 3)))),
        _ => None,
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_give_what_there_is_and_resume() {
    let server = Server::start(ServerOptions::default());
    let writer = accounts(&server).await;
    // Keeps what changes from here on.
    let keeper = server.connect().await;
    run(&keeper, "BEGIN; SELECT COUNT(*) FROM shown").await;
    let reader = server.connect().await;
    run(&reader, "BEGIN").await;
    run(&reader, "DECLARE c CURSOR FOR SUBSCRIBE TO shown").await;
    take(&reader, "c", 5).await;
    let rest = take(&reader, "c", ACCOUNTS as usize - 5).await;
    assert!(rest.iter().all(|(_, weight, _)| *weight == 1));
    let epoch = rest[0].0;
    assert!(fetched(&reader, "FETCH ALL FROM c").await.is_empty(), "nothing has changed, and it does not wait for ever");
    run(&writer, "UPDATE account SET balance = 1 WHERE id = 1").await;
    let changed = |rows: Vec<Row>| {
        let mut changes: Vec<_> = rows.into_iter().map(|(_, weight, row)| (weight, row)).collect();
        changes.sort_unstable();
        changes
    };
    let wanted = vec![(-1, (1, 100)), (1, (1, 1))];
    assert_eq!(changed(take(&reader, "c", 2).await), wanted);
    run(&reader, "CLOSE c; COMMIT").await;
    // What was changed and changed back is no change.
    run(&writer, "UPDATE account SET balance = 50 WHERE id = 2").await;
    run(&writer, "UPDATE account SET balance = 100 WHERE id = 2").await;
    // Who wrote reads what was written; after that so does everybody else.
    run(&writer, "SELECT COUNT(*) FROM shown").await;
    run(&reader, "BEGIN").await;
    run(&reader, &format!("DECLARE again CURSOR FOR SUBSCRIBE TO shown AS OF {epoch}")).await;
    assert_eq!(changed(take(&reader, "again", 2).await), wanted, "goes on after the epoch");
    run(&reader, "ROLLBACK").await;
    run(&reader, "BEGIN; DECLARE later CURSOR FOR SUBSCRIBE TO shown WITH (SNAPSHOT = false)").await;
    run(&writer, "DELETE FROM account WHERE id = 3").await;
    assert_eq!(changed(take(&reader, "later", 1).await), [(-1, (3, 100))]);
    // The view goes, and the subscription with it.
    run(&writer, "DROP MATERIALIZED VIEW shown").await;
    let error = until("the subscription ends", || async { reader.simple_query("FETCH 1 FROM later").await.err() }).await;
    assert_eq!(error.code().map(|c| c.code()), Some("42P01"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_cancelled_and_fall_behind() {
    let server = Server::start(ServerOptions { settings: &["--snapshot-age", "2s"], ..Default::default() });
    let writer = accounts(&server).await;
    let reader = server.connect().await;
    let cancel = reader.cancel_token();
    let (result, ()) = tokio::join!(reader.simple_query("SUBSCRIBE TO shown"), async {
        // Longer than an epoch is kept: one that keeps up lasts.
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.expect("a cancel request");
    });
    assert_eq!(result.err().and_then(|e| e.code().cloned()).map(|c| c.code().to_string()).as_deref(), Some("57014"));
    // A cursor that nobody fetches from keeps nothing for longer than that.
    run(&writer, "CREATE TABLE big (id BIGINT PRIMARY KEY, n BIGINT)").await;
    run(&writer, "INSERT INTO big SELECT x, 0 FROM generate_series(1, 100000) AS s(x)").await;
    run(&reader, "BEGIN; DECLARE slow CURSOR FOR SUBSCRIBE TO big").await;
    assert_eq!(fetched_big(&reader, "FETCH 10 FROM slow").await.expect("rows"), 10);
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let error = until("it is told", || async { fetched_big(&reader, "FETCH 50000 FROM slow").await.err() }).await;
    let error = error.as_db_error().expect("an error of the server").clone();
    assert_eq!((error.code().code(), error.message()), ("72000", "subscription fell behind"));
    assert!(error.hint().is_some_and(|hint| hint.contains("SUBSCRIBE again")));
}

/// What a paused view lacked comes to a subscription that had come to the newest epoch meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_paused_view_missed_comes_when_it_goes_on() {
    const BIDS: i64 = 9_200;
    let server = Server::start(ServerOptions::default());
    let writer = server.connect().await;
    run(
        &writer,
        "CREATE SOURCE bid (auction BIGINT) WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '10000', nexmark.rate = '5000')",
    )
    .await;
    run(&writer, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n, 1 AS one FROM bid").await;
    run(&writer, "CREATE MATERIALIZED VIEW goes_on AS SELECT COUNT(*) AS n FROM bid").await;
    let reader = server.connect().await;
    run(&reader, "BEGIN; DECLARE c CURSOR FOR SUBSCRIBE TO counted").await;
    let mut seen = fetched(&reader, "FETCH ALL FROM c").await;
    run(&writer, "ALTER MATERIALIZED VIEW counted PAUSE").await;
    let at_rest = || async { (number(&writer, "SELECT n FROM goes_on").await == BIDS).then_some(()) };
    until("the source has ended", at_rest).await;
    assert!(number(&writer, "SELECT n FROM counted").await < BIDS, "the view was paused too late to lack anything");
    // Each waits for up to a second, in which the subscription comes to the newest epoch.
    for _ in 0..3 {
        seen.extend(fetched(&reader, "FETCH ALL FROM c").await);
    }
    run(&writer, "ALTER MATERIALIZED VIEW counted RESUME").await;
    let net = |seen: &[Row]| seen.iter().map(|(_, weight, (n, _))| weight * n).sum::<i64>();
    for _ in 0..60 {
        seen.extend(fetched(&reader, "FETCH ALL FROM c").await);
        if net(&seen) == BIDS {
            break;
        }
    }
    assert_eq!(net(&seen), BIDS, "{seen:?}");
}

async fn fetched_big(client: &Client, fetch: &str) -> Result<usize, tokio_postgres::Error> {
    let messages = client.simple_query(fetch).await?;
    Ok(messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count())
}
