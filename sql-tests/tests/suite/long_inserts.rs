//! INSERT of thousands of literal rows in one statement, as tools that load tables send them: what comes of it, and of what is wrong in it, is what comes of a list that
//! goes through the grammar as a whole (one with a cell in parentheses does), in a fraction of the memory.

use eddyline_sql_tests::client::{number, refused, rows, run};
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::error::{DbError, ErrorPosition};

const ROWS: usize = 5_000;

/// The statement, and with the first cell in parentheses: two bytes longer, and planned as any other.
fn both(head: &str, row: impl Fn(usize) -> String, tail: &str) -> [String; 2] {
    let rest: Vec<String> = (1..ROWS).map(row).collect();
    let behind_key = &rest[0][rest[0].find([',', ')']).expect("an end")..];
    ["0", "(0)"].map(|first| format!("{head} VALUES ({first}{behind_key}, {} {tail}", rest.join(", ")))
}

fn cells(i: usize) -> String {
    let number = [format!("{i}.005"), format!("-{i}"), "1e2".into(), "NULL".into(), "'7.25'".into()];
    let time = ["'2024-01-31 10:00:00.123456'", "NULL", "'2024-02-29'", "'2024-02-29'::date"];
    let flag = ["true", "FALSE", "'on'", "null"];
    let text = [format!("'it''s {i}'"), format!("{i}"), "''".into(), "NULL".into()];
    let of = |values: &[String]| values[i % values.len()].clone();
    let id = format!("'00000000-0000-4000-8000-{i:012}'{}", if i % 2 == 0 { "::uuid" } else { "" });
    let json = format!("'{{\"i\": {i}}}'{}", if i % 3 == 0 { "::jsonb" } else { "" });
    format!("({i}, {}, {}, {}, {}, {id}, {json}, {}, '{{{i},NULL}}')", of(&number), of(&number), time[i % 4], flag[i % 4], of(&text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_list_is_a_list() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let columns = "n NUMERIC(12,2), f DOUBLE PRECISION, at TIMESTAMP(3), ok BOOLEAN, u UUID, j JSONB, t VARCHAR(12), a INT[], \
        rest TEXT DEFAULT 'none'";
    for table in ["apart", "whole"] {
        run(&client, &format!("CREATE TABLE {table} (k BIGINT PRIMARY KEY, {columns})")).await;
    }
    let named = "(k, n, f, at, ok, u, j, t, a)";
    let [apart, _] = both(&format!("INSERT INTO apart {named}"), cells, "");
    let [_, whole] = both(&format!("INSERT INTO whole {named}"), cells, "");
    run(&client, &apart).await;
    run(&client, &whole).await;
    let read = |table: &str| format!("SELECT * FROM {table} ORDER BY k");
    let (apart, whole) = (rows(&client, &read("apart")).await, rows(&client, &read("whole")).await);
    assert_eq!(apart.len(), ROWS);
    assert_eq!(apart, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_taken_in_their_order() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (7, 'old')").await;
    let upsert = "ON CONFLICT (k) DO UPDATE SET v = t.v || excluded.v RETURNING k, v";
    let [list, _] = both("INSERT INTO t", |i| format!("({i}, 'new')"), upsert);
    let returned = rows(&client, &list).await;
    assert_eq!(returned.len(), ROWS);
    let keys: Vec<usize> = returned.iter().map(|row| row[0].as_deref().expect("a key").parse().expect("a number")).collect();
    assert!(keys.is_sorted(), "{:?}", &keys[..20]);
    assert_eq!(returned[7][1].as_deref(), Some("oldnew"));
    // In a statement of several, and as one that was prepared.
    let [list, _] = both("INSERT INTO t", |i| format!("({i}, 'newer')"), "ON CONFLICT DO NOTHING");
    run(&client, &format!("DELETE FROM t WHERE k >= 4000; {list}; UPDATE t SET v = 'x' WHERE k = 1")).await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM t WHERE v = 'newer'").await, 1_000);
    run(&client, "DELETE FROM t").await;
    let prepared = client.prepare(&list).await.expect("a statement");
    assert_eq!(client.execute(&prepared, &[]).await.expect("rows"), ROWS as u64);
    assert_eq!(client.execute(&prepared, &[]).await.expect("none"), 0);
}

/// Message and all, and the position, which is behind two bytes more.
fn said(error: &DbError, shift: u32) -> (String, String, Option<String>, Option<String>, Option<u32>) {
    let position = error.position().map(|position| match position {
        ErrorPosition::Original(at) => at + shift,
        ErrorPosition::Internal { position, .. } => position + shift,
    });
    let text = |text: Option<&str>| text.map(str::to_string);
    (error.code().code().into(), error.message().into(), text(error.detail()), text(error.hint()), position)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_as_ever() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k INT PRIMARY KEY, v INT NOT NULL, at DATE)").await;
    for (state, bad) in [
        ("22P02", "(4000, 'x', NULL)"),
        ("42804", "(4000, true, NULL)"),
        ("22003", "(4000, 3000000000, NULL)"),
        ("23502", "(4000, NULL, NULL)"),
        ("23505", "(3, 1, NULL)"),
        ("42601", "(4000, 1, NULL, 2)"),
        ("42703", "(4000, w, NULL)"),
    ] {
        let row = |i: usize| if i == 4_000 { bad.to_string() } else { format!("({i}, {i}, '2024-01-01')") };
        let [apart, whole] = both("INSERT INTO t", row, "");
        let (apart, whole) = (refused(&client, &apart).await, refused(&client, &whole).await);
        assert_eq!(apart.code().code(), state, "{bad}");
        assert_eq!(said(&apart, 2), said(&whole, 0), "{bad}");
    }
    assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, 0);
    // It may stand behind what it needs.
    let [list, _] = both("INSERT INTO made", |i| format!("({i})"), "");
    run(&client, &format!("CREATE TABLE made (k INT); {list}")).await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM made").await, ROWS as i64);
}

/// Also where the statement is too long for the grammar.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_very_long_list_is_said() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT)").await;
    for (state, bad) in [("22P02", "('x')"), ("22P02", "('y'::bigint)"), ("42804", "(true)"), ("0A000", "(1 + 1)"), ("42601", "(1, 2)")] {
        let row = |i: usize| if i == 500_000 { bad.to_string() } else { format!("({i})") };
        let sql = format!("INSERT INTO t VALUES {}", (0..600_000).map(row).collect::<Vec<_>>().join(","));
        let error = refused(&client, &sql).await;
        assert_eq!(error.code().code(), state, "{bad}: {error}");
        let Some(ErrorPosition::Original(at)) = error.position() else { panic!("no position: {error}") };
        let there = &sql[*at as usize - 1..];
        assert!(there.starts_with(bad) || there.starts_with(&bad[1..]), "{bad}: {}", &there[..20]);
    }
    assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, 0);
}

/// 400,000 values took 1.1 GB when each became a tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_does_not_take_kilobytes() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (k BIGINT)").await;
    let values: Vec<String> = (0..400_000).map(|i| format!("({i})")).collect();
    let before = server.peak_bytes();
    run(&client, &format!("INSERT INTO t VALUES {}", values.join(","))).await;
    let grown = server.peak_bytes() - before;
    assert!(grown < 700_000_000, "{grown} bytes more");
    assert_eq!(number(&client, "SELECT SUM(k)::bigint FROM t").await, 79_999_800_000);
}
