//! What a transaction may do, and what it keeps others from while it runs: where more than one session is needed, or more than one statement of one.

use eddyline_sql_tests::client::{number, numbers, refused, rows, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use futures::StreamExt;
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

async fn is_read_only(client: &Client, statement: &str) {
    assert_eq!(refused(client, statement).await.code().code(), "25006", "{statement}");
    // Outside a block it is a warning.
    run(client, "ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_session_writes_nothing() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let url = format!("host=127.0.0.1 port={} user=eddyline options='-c default_transaction_read_only=on'", server.port);
    let (by_options, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
    let ended = tokio::spawn(connection);
    run(&client, "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ").await;
    for client in [&client, &by_options] {
        for statement in [
            "INSERT INTO t VALUES (1)",
            "DELETE FROM t",
            "CREATE TABLE u (x INT)",
            "BEGIN; DELETE FROM t WHERE id = 1",
            "COPY t FROM STDIN",
        ] {
            is_read_only(client, statement).await;
        }
        run(client, "BEGIN READ WRITE; INSERT INTO t VALUES (1); ROLLBACK").await;
        run(client, "BEGIN; SET TRANSACTION READ WRITE; INSERT INTO t VALUES (1); ROLLBACK").await;
        for query in ["SELECT * FROM t; SET TRANSACTION READ WRITE", "SELECT set_config('transaction_read_only', 'off', true)"] {
            assert_eq!(refused(client, &format!("BEGIN; {query}")).await.code().code(), "25001", "{query}");
            run(client, "ROLLBACK").await;
        }
        assert_eq!(rows(client, "SHOW transaction_read_only").await, [[Some("on".to_string())]]);
        run(client, "SET default_transaction_read_only = off").await;
        run(client, "BEGIN; INSERT INTO t VALUES (1); ROLLBACK").await;
        for statement in ["BEGIN; SET transaction_read_only = on; DELETE FROM t", "BEGIN READ ONLY; DELETE FROM t"] {
            is_read_only(client, statement).await;
        }
        // Of the transaction alone, as in PostgreSQL.
        run(client, "SET transaction_read_only = on").await;
        run(client, "DELETE FROM t").await;
    }
    drop(by_options);
    ended.await.expect("no panic").expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transaction_is_shown_as_it_is_isolated() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    for begin in ["BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN; SET TRANSACTION ISOLATION LEVEL READ COMMITTED"] {
        run(&client, begin).await;
        assert_eq!(rows(&client, "SHOW TRANSACTION ISOLATION LEVEL").await, [[Some("repeatable read".to_string())]], "{begin}");
        assert_eq!(
            rows(&client, "SELECT current_setting('transaction_isolation')").await,
            [[Some("repeatable read".to_string())]],
            "{begin}"
        );
        run(&client, "COMMIT").await;
    }
}

/// What was declared and set since a savepoint goes with it: a cursor that stayed kept whoever tried again from declaring it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn savepoints_keep_cursors_and_settings() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let shown = async || rows(&client, "SHOW application_name").await[0][0].clone().expect("a name");
    run(&client, "SET application_name = 'outside'; BEGIN; DECLARE old CURSOR FOR SELECT 1; SAVEPOINT a; SET application_name = 'a'").await;
    run(&client, "SAVEPOINT b; SET LOCAL application_name = 'b'; DECLARE c CURSOR FOR SELECT 2").await;
    assert_eq!(refused(&client, "SELECT 1 / 0").await.code().code(), "22012");
    run(&client, "ROLLBACK TO b; DECLARE c CURSOR FOR SELECT 3").await;
    assert_eq!(shown().await, "a");
    run(&client, "RELEASE b").await;
    assert_eq!(rows(&client, "FETCH c").await, [[Some("3".to_string())]]);
    run(&client, "ROLLBACK TO a").await;
    assert_eq!(refused(&client, "FETCH c").await.code().code(), "34000");
    run(&client, "ROLLBACK TO a").await;
    assert_eq!((shown().await.as_str(), rows(&client, "FETCH old").await.len()), ("outside", 1));
    run(&client, "COMMIT").await;
    assert_eq!(shown().await, "outside");
}

/// As in PostgreSQL: what is set for the transaction alone hides what is set beside it only until its end, and what comes to nothing has set nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_last_as_long_as_what_set_them() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    for (statements, left) in [
        ("BEGIN; SET LOCAL application_name = 'a'; SET application_name = 'b'; COMMIT", "b"),
        ("BEGIN; SET application_name = 'c'; SET LOCAL application_name = 'd'; COMMIT", "c"),
        ("BEGIN; RESET ALL; ROLLBACK", "c"),
        ("BEGIN; RESET ALL; SET LOCAL application_name = 'e'; COMMIT", ""),
        ("SET application_name = 'f'; SET LOCAL application_name = 'g'", "f"),
    ] {
        run(&client, statements).await;
        assert_eq!(rows(&client, "SHOW application_name").await, [[Some(left.to_string())]], "{statements}");
    }
    assert_eq!(refused(&client, "SET application_name = 'h'; SELECT 1 / 0").await.code().code(), "22012");
    assert_eq!(rows(&client, "SHOW application_name").await, [[Some("f".to_string())]]);
}

/// Clients ask whether the server is there by sending nothing, and get no error for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_in_a_failed_block() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    assert_eq!(refused(&client, "BEGIN; SELECT 1 / 0").await.code().code(), "22012");
    for nothing in ["", ";", "-- there?"] {
        run(&client, nothing).await;
    }
    assert_eq!(refused(&client, "SELECT 1").await.code().code(), "25P02");
    run(&client, "ROLLBACK").await;
    for chained in ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN"] {
        assert_eq!(refused(&client, chained).await.code().code(), "25P01", "{chained}");
    }
}

/// A statement set that comes in pieces is given up with the block it is in, and nothing is run past it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends_with_its_open_statement_set() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY)").await;
    let opening = "EXECUTE STATEMENT SET BEGIN INSERT INTO t VALUES (1)";
    for wrong in [false, true] {
        run(&client, "BEGIN").await;
        run(&client, opening).await;
        if wrong {
            assert_eq!(refused(&client, "INSERT INTO nowhere VALUES (1)").await.code().code(), "42P01");
        }
        run(&client, "ROLLBACK").await;
        assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, 0);
    }
    // Of a set that failed END is the end, and not of the block.
    run(&client, "BEGIN").await;
    run(&client, opening).await;
    assert_eq!(refused(&client, "INSERT INTO nowhere VALUES (1)").await.code().code(), "42P01");
    assert_eq!(refused(&client, "END").await.code().code(), "25P02");
    assert_eq!(refused(&client, "INSERT INTO t VALUES (2)").await.code().code(), "25P02");
    run(&client, "ROLLBACK").await;
    // With parameters, or as if it had some.
    run(&client, opening).await;
    let past = client.execute("INSERT INTO t VALUES (3)", &[]).await.expect_err("the set is open");
    assert_eq!(past.code().map(|state| state.code()), Some("25P02"));
    client.execute("ROLLBACK", &[]).await.expect("the set is given up");
    assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, 0);
    run(&client, opening).await;
    client.execute("END", &[]).await.expect("the set is run");
    assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, 1);
}

async fn balance(client: &Client, of: &str) -> i64 {
    number(client, &format!("SELECT n FROM account WHERE id = {of} FOR UPDATE")).await
}

/// Nobody writes between another one's reading FOR UPDATE and the end of its transaction, and who waited reads what was written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_read_for_update_stay() {
    let server = Server::start(ServerOptions::default());
    let setup = server.connect().await;
    run(&setup, "CREATE TABLE account (id INT PRIMARY KEY, n BIGINT); INSERT INTO account VALUES (1, 0)").await;
    run(&setup, "CREATE MATERIALIZED VIEW total AS SELECT SUM(n)::bigint AS n FROM account").await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let client = server.connect().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..5 {
                run(&client, "BEGIN; SELECT n FROM account WHERE id = 2").await;
                let n = balance(&client, "1").await;
                run(&client, &format!("UPDATE account SET n = {} WHERE id = 1; COMMIT", n + 1)).await;
            }
        }));
    }
    for task in tasks {
        task.await.expect("every transaction commits");
    }
    assert_eq!(number(&setup, "SELECT n FROM account").await, 20);
    let (first, second) = (server.connect().await, server.connect().await);
    run(&first, "BEGIN; SELECT * FROM account FOR SHARE").await;
    // Beside a statement that fails it would be taken back.
    run(&second, "SET lock_timeout = '50ms'").await;
    for statement in [
        "SELECT * FROM account FOR UPDATE NOWAIT",
        "DELETE FROM account",
        "SELECT * FROM (SELECT * FROM account FOR UPDATE) AS a",
        "INSERT INTO account SELECT 2, n FROM account WHERE id = 1 FOR UPDATE",
    ] {
        assert_eq!(refused(&second, statement).await.code().code(), "55P03", "{statement}");
    }
    run(&first, "ROLLBACK").await;
    run(&second, "SELECT * FROM account FOR UPDATE NOWAIT").await;
    assert_eq!(refused(&second, "SELECT * FROM account FOR UPDATE SKIP LOCKED").await.code().code(), "0A000");
    assert_eq!(refused(&second, "SELECT * FROM total FOR UPDATE").await.code().code(), "42809");
    run(&second, "SELECT * FROM account, total FOR UPDATE OF account").await;
    is_read_only(&second, "BEGIN READ ONLY; SELECT * FROM account FOR UPDATE").await;
}

async fn yes(client: &Client, query: &str) -> bool {
    client.query_one(query, &[]).await.unwrap_or_else(|e| panic!("{query}: {e:?}")).get(0)
}

/// Numbers that sessions agree to hold one at a time, as tools for migrations do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advisory_locks_are_held() {
    let server = Server::start(ServerOptions::default());
    let (first, second) = (server.connect().await, server.connect().await);
    run(&first, "SELECT pg_advisory_lock(7); SELECT pg_advisory_lock(7); SELECT pg_advisory_lock_shared(1, 2)").await;
    assert!(!yes(&second, "SELECT pg_try_advisory_lock(7)").await);
    assert!(yes(&second, "SELECT pg_try_advisory_lock_shared(1, 2)").await);
    assert!(!yes(&second, "SELECT pg_try_advisory_lock(1, 2)").await);
    assert!(yes(&second, "SELECT pg_try_advisory_lock(8)").await);
    assert!(!yes(&second, "SELECT pg_advisory_unlock(7)").await);
    assert!(yes(&second, "SELECT pg_try_advisory_lock(NULL) IS NULL").await);
    assert_eq!(refused(&second, "SET lock_timeout = '50ms'; SELECT pg_advisory_lock(7)").await.code().code(), "55P03");
    run(&second, "SET lock_timeout = 0").await;
    // Twice taken, twice given back.
    assert!(yes(&first, "SELECT pg_advisory_unlock(7)").await);
    assert!(!yes(&second, "SELECT pg_try_advisory_lock(7)").await);
    let waiting = tokio::spawn(async move {
        run(&second, "SELECT pg_advisory_lock(7)").await;
        second
    });
    assert!(yes(&first, "SELECT pg_advisory_unlock(7)").await);
    let second = waiting.await.expect("the lock is had");
    // A transaction's go with it, however it ends.
    for end in ["COMMIT", "ROLLBACK"] {
        run(&first, "BEGIN; SELECT pg_advisory_xact_lock(9)").await;
        assert!(!yes(&second, "SELECT pg_try_advisory_xact_lock(9)").await);
        assert!(!yes(&first, "SELECT pg_advisory_unlock(9)").await);
        run(&first, end).await;
        assert!(yes(&second, "SELECT pg_try_advisory_xact_lock(9)").await, "{end}");
    }
    // What asyncpg sends when a connection goes back to its pool.
    run(&second, "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;").await;
    assert!(yes(&first, "SELECT pg_try_advisory_lock(7)").await);
    drop(first);
    run(&second, "SELECT pg_advisory_lock(7)").await;
}

/// What a statement had begun when its time was over goes on for a while, and takes nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_ended_leaves_no_advisory_locks() {
    let server = Server::start(ServerOptions::default());
    let (first, second) = (server.connect().await, server.connect().await);
    run(&first, "SET statement_timeout = '20ms'").await;
    if let Err(error) = first.batch_execute("SELECT count(pg_advisory_xact_lock(g)) FROM generate_series(1, 90000) AS g").await {
        assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
    }
    run(&second, "SET lock_timeout = '10s'; SELECT count(pg_advisory_lock(g)) FROM generate_series(1, 90000) AS g").await;
    let more = refused(&second, "SELECT count(pg_advisory_lock(g)) FROM generate_series(90001, 190000) AS g").await;
    assert_eq!(more.code().code(), "53200");
}

/// One waits for an advisory lock and has the table that the other, who has the lock, waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_an_advisory_lock_does_not_wait_for_a_table_for_ever() {
    let server = Server::start(ServerOptions::default());
    let (first, second) = (server.connect().await, server.connect().await);
    run(&first, "CREATE TABLE d (id INT); SELECT pg_advisory_lock(77)").await;
    run(&second, "BEGIN; INSERT INTO d VALUES (1)").await;
    let one = async {
        assert_eq!(refused(&first, "INSERT INTO d VALUES (2)").await.code().code(), "55P03");
        run(&first, "SELECT pg_advisory_unlock(77)").await;
    };
    tokio::join!(one, run(&second, "SELECT pg_advisory_lock(77); COMMIT"));
    assert_eq!(number(&first, "SELECT count(*) FROM d").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_wait_for_each_other_are_told() {
    let server = Server::start(ServerOptions::default());
    let (first, second) = (server.connect().await, server.connect().await);
    run(&first, "SELECT pg_advisory_lock(1)").await;
    run(&second, "SELECT pg_advisory_lock(2)").await;
    let locks = |client: Client, number: i32| async move {
        let done = client.batch_execute(&format!("SELECT pg_advisory_lock({number}); SELECT pg_advisory_unlock_all()")).await;
        run(&client, "SELECT pg_advisory_unlock_all()").await;
        done.err().and_then(|error| Some(error.as_db_error()?.code().code().to_string()))
    };
    let (one, other) = tokio::join!(locks(first, 2), locks(second, 1));
    // Whoever came last.
    assert!(one.is_some() != other.is_some(), "{one:?}, {other:?}");
    assert_eq!(one.or(other).as_deref(), Some("40P01"));
}

/// Rows that are not committed yet, as the server counts them.
fn uncommitted(server: &Server) -> f64 {
    tokio::task::block_in_place(|| server.metric("eddyline_uncommitted_bytes")).expect("the gauge is there")
}

/// INSERTs of a row each become batches, in which the block's statements, savepoints and its commit find what they found before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_inserts_are_put_together() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE keyed (k INT PRIMARY KEY, v INT); CREATE TABLE bag (v INT); INSERT INTO keyed VALUES (-1, 0)").await;
    let insert = |from: usize, to: usize| {
        let both = |i: usize| format!("INSERT INTO keyed VALUES ({i}, {i}); INSERT INTO bag VALUES ({})", i % 10);
        (from..to).map(both).collect::<Vec<_>>().join("; ")
    };
    run(&client, "BEGIN").await;
    run(&client, &insert(0, 700)).await;
    run(&client, "DELETE FROM keyed WHERE k = 5; UPDATE keyed SET v = -v WHERE k = 690; SAVEPOINT s").await;
    run(&client, &insert(700, 1_400)).await;
    run(&client, "ROLLBACK TO s").await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM keyed").await, 700);
    run(&client, &insert(1_400, 2_400)).await;
    // 3,400 batches would be 7 MB.
    let bytes = uncommitted(&server);
    assert!(bytes > 0.0 && bytes < 3e6, "{bytes} bytes");
    assert_eq!(refused(&client, "SAVEPOINT t; INSERT INTO keyed VALUES (1450, 0)").await.code().code(), "23505");
    run(&client, "ROLLBACK TO t; DELETE FROM keyed WHERE k = 1500; DELETE FROM bag WHERE v = 9; INSERT INTO keyed VALUES (5, 55)").await;
    let (sums, bags) = ("SELECT COUNT(*), SUM(v)::bigint FROM keyed", "SELECT COUNT(*), SUM(v)::bigint FROM bag");
    // Keys 0 to 699 and 1400 to 2399: without 1500, -690 for 690, 55 for 5; of the bag nine tenths.
    let v = (0..700).sum::<i64>() + (1_400..2_400).sum::<i64>() - 1_500 - 2 * 690 + 50;
    let (keyed, bag) = ([["1700".to_string(), v.to_string()].map(Some)], [["1530", "6120"].map(|n| Some(n.to_string()))]);
    for end in ["SAVEPOINT u", "COMMIT"] {
        assert_eq!(rows(&client, sums).await, keyed);
        assert_eq!(rows(&client, bags).await, bag);
        run(&client, end).await;
    }
    assert_eq!(rows(&client, sums).await, keyed);
    assert_eq!(rows(&client, bags).await, bag);
    assert_eq!(uncommitted(&server), 0.0);
}

/// What all sessions together have not committed is bounded; who finds no room fails, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_share_the_memory_for_writes() {
    let server = Server::start(ServerOptions { settings: &["--write-memory", "8MiB"], ..Default::default() });
    let (one, other) = (server.connect().await, server.connect().await);
    run(&one, "CREATE TABLE a (v TEXT); CREATE TABLE b (v TEXT); CREATE TABLE c (v TEXT)").await;
    let write = |table: &str| format!("INSERT INTO {table} SELECT repeat('x', 1000) FROM generate_series(1, 2500)");
    run(&one, &format!("BEGIN; {}", write("a"))).await;
    assert_eq!(refused(&other, &write("b")).await.code().code(), "53200");
    let made = "CREATE TABLE d AS SELECT repeat('x', 1000) AS v FROM generate_series(1, 2500)";
    assert_eq!(refused(&other, made).await.code().code(), "53200");
    run(&other, "INSERT INTO c VALUES ('a row has room')").await;
    run(&one, "COMMIT").await;
    run(&other, &write("b")).await;
    assert_eq!(refused(&other, &format!("BEGIN; {}; {}", write("b"), write("b"))).await.code().code(), "53200");
    run(&other, "ROLLBACK").await;
    assert_eq!(uncommitted(&server), 0.0);
    assert_eq!(number(&one, "SELECT COUNT(*) FROM b").await, 2_500);
}

/// FETCH of many rows hands them over as they are made, and the next one goes on behind them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_does_not_gather_its_rows() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "BEGIN; DECLARE c CURSOR FOR SELECT i, repeat('x', 1000) AS v FROM generate_series(1, 400000) AS t(i)").await;
    let before = server.peak_bytes();
    let mut fetched = pin!(client.query_raw("FETCH 390000 FROM c", Vec::<i32>::new()).await.expect("rows"));
    let mut count = 0;
    while let Some(row) = fetched.next().await {
        row.expect("a row");
        count += 1;
    }
    assert_eq!(count, 390_000);
    let grown = server.peak_bytes() - before;
    assert!(grown < 250_000_000, "{grown} bytes more");
    assert_eq!(rows(&client, "FETCH 2 FROM c").await.len(), 2);
    run(&client, "MOVE 9997 FROM c").await;
    assert_eq!(rows(&client, "FETCH 5 FROM c").await.len(), 1);
    assert_eq!(rows(&client, "FETCH 5 FROM c").await.len(), 0);
}

/// Others have no name for a session's own table. It goes with the session, also with one that ends as the server is killed: the catalog's name for it is
/// nobody's then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_table_goes_with_its_session() {
    let mut server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    let hidden = async |client: &Client| {
        let process = number(client, "SELECT pg_backend_pid()::BIGINT").await;
        format!("SELECT count(*) FROM pg_temp_{process}_1_own")
    };
    run(&client, "CREATE TEMP TABLE own AS SELECT 1 AS n").await;
    assert_eq!(refused(&other, "SELECT * FROM own").await.code().code(), "42P01");
    assert_eq!(number(&other, "SELECT count(*) FROM pg_class WHERE relname LIKE '%own'").await, 0);
    run(&other, "CREATE TABLE own (n INT)").await;
    assert_eq!((number(&client, "SELECT count(*) FROM own").await, number(&other, "SELECT count(*) FROM own").await), (1, 0));
    let rows_of_it = hidden(&client).await;
    assert_eq!(number(&other, &rows_of_it).await, 1);
    drop(client);
    until("the table goes with its session", || async { numbers(&other, &rows_of_it).await.is_none().then_some(()) }).await;

    let client = server.connect().await;
    run(&client, "CREATE TEMP TABLE own (n INT)").await;
    let rows_of_it = hidden(&client).await;
    assert_eq!(number(&other, &rows_of_it).await, 0);
    server.kill_and_restart();
    assert_eq!(refused(&server.connect().await, &rows_of_it).await.code().code(), "42P01");
}

/// A definition of another session takes long, and a COMMIT behind it longer than its statement may. It is done after all, with the table that the block has
/// made for rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_made_in_a_block_stays_with_a_commit_that_is_given_up() {
    let server = Server::start(ServerOptions { failpoints: "ddl.log=slow@3".into(), ..Default::default() });
    let (client, other) = (server.connect().await, server.connect().await);
    run(&client, "CREATE TABLE t (k BIGINT)").await;
    for statement in ["BEGIN", "CREATE TABLE made AS SELECT 1 AS one", "INSERT INTO t VALUES (1)", "SET statement_timeout = '1s'"] {
        run(&client, statement).await;
    }
    let slow = tokio::spawn(async move {
        run(&other, "CREATE TABLE slow (k BIGINT)").await;
        other
    });
    // By then it is under way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(refused(&client, "COMMIT").await.code().code(), "40003");
    let other = slow.await.expect("it ends");
    // What was to be dropped is, before this.
    run(&other, "CREATE TABLE later (k BIGINT)").await;
    for table in ["t", "made"] {
        let rows = format!("SELECT count(*) FROM {table}");
        until("what was committed is there", || async { (numbers(&other, &rows).await == Some(vec![1])).then_some(()) }).await;
    }
}

/// What a statement makes for rows, or for its session, is made when the statement has ended in its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_goes_whose_statement_was_given_up() {
    for (block, statement) in [("BEGIN", "CREATE TABLE made AS SELECT 1 AS one"), ("", "CREATE TEMP TABLE made (one INT)")] {
        let server = Server::start(ServerOptions { failpoints: "ddl.log=slow@1".into(), ..Default::default() });
        let (client, other) = (server.connect().await, server.connect().await);
        let process = number(&client, "SELECT pg_backend_pid()::BIGINT").await;
        for before in ["SET statement_timeout = '1s'", block] {
            run(&client, before).await;
        }
        assert_eq!(refused(&client, statement).await.code().code(), "40003");
        // It is made before this.
        run(&other, "CREATE TABLE later (k BIGINT)").await;
        for name in ["made".to_string(), format!("pg_temp_{process}_1_made")] {
            let rows = format!("SELECT count(*) FROM {name}");
            until("it goes again", || async { numbers(&other, &rows).await.is_none().then_some(()) }).await;
        }
    }
}
