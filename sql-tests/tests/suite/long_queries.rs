//! Queries that go on for minutes: whoever asks for little is answered meanwhile, and they end when they are told to, or when nobody waits for them.

use eddyline_sql_tests::client::{number, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Error, NoTls};

/// Each looks at ten thousand million pairs of rows or more, and gives a row or two in the end. One keeps one pair of a hundred thousand, and the last one runs a subquery for each row.
const LONG: [&str; 5] = [
    "SELECT COUNT(*) FROM t x JOIN t y ON x.a % 7 = y.a % 7 AND x.a + y.a < 0",
    "SELECT COUNT(*) FROM t x JOIN t y ON x.a % 7 = y.a % 7 AND x.a + y.a > 5",
    "SELECT COUNT(*) FROM t x, t y WHERE x.a + y.a < 0",
    "SELECT COUNT(*) FROM t x LEFT JOIN t y ON x.a % 7 = y.a % 7 AND (x.a + y.a) % 100003 = 1",
    "SELECT (SELECT COUNT(*) FROM t x JOIN t y ON x.a % 7 = y.a % 7 AND x.a + y.a > 5 + g) FROM generate_series(1, 2) AS q(g)",
];

/// Subqueries in other places that run for each row, of a CREATE TABLE AS too, and one that has no condition to look at.
const CORRELATED: [&str; 5] = [
    "SELECT g FROM generate_series(1, 2) AS q(g) WHERE EXISTS (SELECT 1 FROM t x JOIN t y ON x.a % 7 = y.a % 7 AND x.a + y.a < 0 - g)",
    "SELECT g FROM generate_series(1, 2) AS q(g) WHERE g IN (SELECT x.a FROM t x JOIN t y ON x.a % 7 = y.a % 7 AND x.a + y.a < 0 - g)",
    "SELECT g, n FROM generate_series(1, 2) AS q(g),
        LATERAL (SELECT COUNT(*) AS n FROM t x JOIN t y ON x.a % 7 = y.a % 7 AND x.a + y.a > 5 + g) AS r",
    "SELECT (SELECT MAX(x.a + y.a + g) FROM t x, t y) FROM generate_series(1, 2) AS q(g)",
    "CREATE TABLE made AS
        SELECT (SELECT COUNT(*) FROM t x JOIN t y ON x.a % 7 = y.a % 7 AND x.a + y.a > 5 + g) AS n FROM generate_series(1, 2) AS q(g)",
];

/// Statements that others send meanwhile, and how long all of them may take: thousands of times what they take alone. They are never answered if they wait for the long ones.
const ROUNDS: i64 = 20;
const ROUNDS_TAKE: Duration = Duration::from_secs(20);

/// A session with a long query.
struct Long {
    pid: i64,
    cancel: CancelToken,
    ended: JoinHandle<Result<(), Error>>,
}

async fn begin(server: &Server, query: &'static str) -> Long {
    let client = server.connect().await;
    let pid = number(&client, "SELECT pg_backend_pid()::bigint").await;
    let cancel = client.cancel_token();
    Long { pid, cancel, ended: tokio::spawn(async move { client.batch_execute(query).await }) }
}

/// The SQLSTATE by which a statement ended; none if the connection did.
async fn state_of(ended: JoinHandle<Result<(), Error>>) -> Option<String> {
    let error = ended.await.expect("the task ends").expect_err("it does not come to its end");
    error.code().map(|state| state.code().to_string())
}

async fn with_rows() -> Server {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (a BIGINT)").await;
    run(&client, "INSERT INTO t SELECT g FROM generate_series(1, 300000) AS q(g)").await;
    run(&client, "CREATE TABLE small (id BIGINT PRIMARY KEY, n BIGINT)").await;
    run(&client, "CREATE MATERIALIZED VIEW totals AS SELECT id, MAX(n) AS n FROM small GROUP BY id").await;
    server
}

/// Sessions that have been at one statement for a second.
const AT_WORK: &str = "SELECT COUNT(*) FROM eddyline.sessions
    WHERE state = 'active' AND pid <> pg_backend_pid() AND since < now() - INTERVAL '1 second'";

/// Clock ticks that the threads of queries have run for.
fn ticks_of_queries(server: &Server) -> u64 {
    let tasks = format!("/proc/{}/task", server.pid().expect("it runs"));
    let threads = std::fs::read_dir(tasks).expect("its threads").filter_map(Result::ok);
    let ticks = |stat: String| {
        let (name, fields) = stat.rsplit_once(')').expect("a name");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().map(|i| fields[*i].parse::<u64>().expect("a number")).sum();
        if name.ends_with("query") { ticks } else { 0 }
    };
    // A thread that has ended by now does nothing any more.
    threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok()).map(ticks).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_for_little_is_answered() {
    let server = with_rows().await;
    let client = server.connect().await;
    let mut long = Vec::new();
    for query in LONG.into_iter().chain(LONG) {
        long.push(begin(&server, query).await);
    }
    let all = long.len() as i64;
    until("all are at work", || async { (number(&client, AT_WORK).await == all).then_some(()) }).await;
    let rounds = async {
        for round in 1..=ROUNDS {
            // A session that is new, and one that is not.
            for session in [&client, &server.connect().await] {
                assert_eq!(number(session, "SELECT 1::bigint").await, 1);
                run(session, &format!("INSERT INTO small VALUES (1, {round})")).await;
                assert_eq!(number(session, "SELECT n FROM totals WHERE id = 1").await, round);
                assert_eq!(number(session, "SELECT SUM(n)::bigint FROM small").await, round);
                run(session, "DELETE FROM small").await;
            }
        }
    };
    tokio::time::timeout(ROUNDS_TAKE, rounds).await.expect("they are answered in time");
    for (query, long) in LONG.into_iter().chain(LONG).zip(&long) {
        assert!(!long.ended.is_finished(), "it is long enough for this test: {query}");
    }
    for (at, long) in long.into_iter().enumerate() {
        let expected = if at % 2 == 0 {
            long.cancel.cancel_query(NoTls).await.expect("the request is sent");
            "57014"
        } else {
            run(&client, &format!("SELECT pg_terminate_backend({})", long.pid)).await;
            "57P01"
        };
        assert_eq!(state_of(long.ended).await.as_deref(), Some(expected));
    }
    nothing_runs(&server).await;
}

/// What nobody waits for any more comes to its end.
async fn nothing_runs(server: &Server) {
    until("queries have ended", || async {
        let before = ticks_of_queries(server);
        tokio::time::sleep(Duration::from_millis(200)).await;
        (ticks_of_queries(server) == before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_queries_end_by_their_timeout() {
    let server = with_rows().await;
    let client = server.connect().await;
    run(&client, "SET statement_timeout = '200ms'").await;
    for query in LONG.into_iter().chain(CORRELATED) {
        let error = client.batch_execute(query).await.expect_err("it takes longer");
        assert_eq!(error.code().map(|state| state.code()), Some("57014"), "{query}");
    }
    nothing_runs(&server).await;
}

/// A client that says that it leaves, and one that goes without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_queries_end_with_their_clients() {
    let server = with_rows().await;
    let client = server.connect().await;
    for says_so in [true, false] {
        let mut leaving = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
        let startup = b"\0\x03\0\0user\0eddyline\0database\0eddyline\0\0";
        let mut sent = (startup.len() as u32 + 4).to_be_bytes().to_vec();
        sent.extend(startup);
        let mut message = |kind: u8, body: &[u8]| {
            sent.push(kind);
            sent.extend((body.len() as u32 + 4).to_be_bytes());
            sent.extend(body);
            leaving.write_all(&std::mem::take(&mut sent)).expect("the socket takes it");
        };
        message(b'Q', format!("{}\0", LONG[0]).as_bytes());
        until("it is at work", || async { (number(&client, AT_WORK).await == 1).then_some(()) }).await;
        if says_so {
            message(b'X', b"");
        }
        // The one that says so keeps its socket.
        let _kept = says_so.then_some(leaving);
        until("the session has ended", || async { (number(&client, "SELECT COUNT(*) FROM eddyline.sessions").await == 1).then_some(()) })
            .await;
    }
    nothing_runs(&server).await;
}
