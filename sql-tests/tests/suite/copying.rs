//! COPY in its formats, in both directions: other delimiters, nulls and quotes than the usual ones, and binary, as drivers send and read it.

use eddyline_sql_tests::client::{rows, run};
use eddyline_sql_tests::{Server, ServerOptions};
use futures::{SinkExt, StreamExt};
use std::io::Cursor;
use std::pin::pin;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

async fn copy_in(client: &Client, statement: &str, data: &[u8]) -> Result<u64, Error> {
    let mut sink = pin!(client.copy_in(statement).await?);
    sink.send(Cursor::new(data.to_vec())).await?;
    sink.finish().await
}

async fn copy_out(client: &Client, statement: &str) -> Vec<u8> {
    let mut pieces = pin!(client.copy_out(statement).await.expect(statement));
    let mut data = Vec::new();
    while let Some(piece) = pieces.next().await {
        data.extend_from_slice(&piece.expect(statement));
    }
    data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_spelled_as_options_say() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT PRIMARY KEY, a TEXT, b TEXT)").await;
    let old = copy_in(&client, "COPY t FROM STDIN WITH DELIMITER AS '|' NULL AS ''", b"1|x\ty|\n2||\\|\n").await;
    assert_eq!(old.expect("two rows"), 2);
    let csv = "COPY t FROM STDIN (FORMAT csv, DELIMITER ';', QUOTE '''', NULL '-', HEADER, ENCODING 'UTF8', FORCE_NULL (b))";
    assert_eq!(copy_in(&client, csv, b"id;a;b\n3;'it''s;';'-'\n4;-;''\n").await.expect("two rows"), 2);
    let found = rows(&client, "SELECT * FROM t ORDER BY id").await;
    let text = |text: &str| Some(text.to_string());
    let expected =
        [[text("1"), text("x\ty"), None], [text("2"), None, text("|")], [text("3"), text("it's;"), None], [text("4"), None, text("")]];
    assert_eq!(found, expected);
    for (options, lines) in [
        ("DELIMITER '|' NULL ''", "1|x\\ty|\n2||\\|\n3|it's;|\n4||\n"),
        ("(HEADER)", "id\ta\tb\n1\tx\\ty\t\\N\n2\t\\N\t|\n3\tit's;\t\\N\n4\t\\N\t\n"),
        ("(FORMAT csv, FORCE_QUOTE (a))", "1,\"x\ty\",\n2,,|\n3,\"it's;\",\n4,,\"\"\n"),
        ("CSV DELIMITER ';' NULL '-' QUOTE '''' ESCAPE '+'", "1;x\ty;-\n2;-;|\n3;'it+'s;';-\n4;-;\n"),
    ] {
        let data = copy_out(&client, &format!("COPY (SELECT * FROM t ORDER BY id) TO STDOUT {options}")).await;
        assert_eq!(String::from_utf8(data).expect("text"), lines, "{options}");
    }
    let unknown = copy_in(&client, "COPY t (id, a) FROM STDIN (FORMAT csv, FORCE_NULL (b))", b"").await;
    assert_eq!(unknown.expect_err("b is not copied").code().map(|state| state.code()), Some("42P10"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_have_the_digits_of_their_columns() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT, at TIMESTAMP(3), day TIME(0) DEFAULT '10:00:00.6')").await;
    copy_in(&client, "COPY t (id, at) FROM STDIN", b"1\t2024-01-01 00:00:00.0006\n2\tinfinity\n").await.expect("two rows");
    let data = copy_out(&client, "COPY (SELECT * FROM t ORDER BY id) TO STDOUT").await;
    assert_eq!(String::from_utf8(data).expect("text"), "1\t2024-01-01 00:00:00.001\t10:00:01\n2\tinfinity\t10:00:01\n");
}

/// Where a client looks for the header that reads message by message, as psycopg does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_tuple_comes_with_the_header() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    for (rows, lengths) in [(0, vec![21]), (2, vec![29, 10, 2])] {
        let statement = format!("COPY (SELECT g FROM generate_series(1, {rows}) AS s(g)) TO STDOUT (FORMAT binary)");
        let mut pieces = pin!(client.copy_out(&statement).await.expect("it begins"));
        let mut found = Vec::new();
        while let Some(piece) = pieces.next().await {
            found.push(piece.expect("a piece").len());
        }
        assert_eq!(found, lengths);
    }
}

/// COPY took the times of a session elsewhere for those of Greenwich.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_without_a_zone_are_in_the_sessions() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT, at TIMESTAMPTZ); SET TimeZone = 'Europe/Berlin'").await;
    let given = b"1\t2024-01-01 00:00\n2\t2024-07-01 00:00\n3\t2024-01-01 00:00Z\n";
    copy_in(&client, "COPY t FROM STDIN", given).await.expect("three rows");
    run(&client, "PREPARE p (INT, TIMESTAMPTZ) AS INSERT INTO t VALUES ($1, $2); EXECUTE p(4, '2024-01-01 00:00')").await;
    let data = copy_out(&client, "COPY (SELECT at AT TIME ZONE 'UTC' FROM t ORDER BY id) TO STDOUT").await;
    let expected = "2023-12-31 23:00:00\n2024-06-30 22:00:00\n2024-01-01 00:00:00\n2023-12-31 23:00:00\n";
    assert_eq!(String::from_utf8(data).expect("text"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_tuples_go_both_ways() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let columns = "id INT PRIMARY KEY, n NUMERIC(10,2), at TIMESTAMPTZ, j JSONB, u UUID, a INT[], f REAL, t TEXT, d DATE, y BYTEA";
    run(&client, &format!("CREATE TABLE x ({columns}); CREATE TABLE y ({columns})")).await;
    run(
        &client,
        "INSERT INTO x VALUES (1, -1234.5, '2024-02-29 12:30:00.5+02', '{\"a\": [1, null]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,NULL,3}',
            0.25, 'a\tb', '1969-07-20', '\\x00ff'), (2, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL, NULL)",
    )
    .await;
    let data = copy_out(&client, "COPY (SELECT * FROM x ORDER BY id) TO STDOUT (FORMAT binary)").await;
    assert!(data.starts_with(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x0a\0\0\0\x04\0\0\0\x01"), "{data:?}");
    assert!(data.ends_with(b"\xff\xff"), "{data:?}");
    assert_eq!(copy_in(&client, "COPY y FROM STDIN WITH BINARY", &data).await.expect("two rows"), 2);
    assert_eq!(rows(&client, "SELECT * FROM y ORDER BY id").await, rows(&client, "SELECT * FROM x ORDER BY id").await);
    let sink = client.copy_in("COPY y (t, id) FROM STDIN (FORMAT binary)").await.expect("it begins");
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::INT4]));
    for id in 3..20_000i32 {
        writer.as_mut().write(&[&"some text", &id]).await.expect("a row is sent");
    }
    assert_eq!(writer.finish().await.expect("the rows are written"), 19_997);
    assert_eq!(rows(&client, "SELECT COUNT(*), MAX(id) FROM y WHERE t = 'some text'").await[0][1].as_deref(), Some("19999"));
    // Two of them, one after the other, are none: the rows of the second would be missing.
    let twice = [&data[..], &data[..]].concat();
    assert_eq!(
        copy_in(&client, "COPY x FROM STDIN (FORMAT binary)", &twice).await.expect_err("data goes on").code().map(|state| state.code()),
        Some("22P04")
    );
    for wrong in [&b"4\t5\n"[..], &data[..15], &data[..30], &data[..19]] {
        let into = copy_in(&client, "COPY y (id) FROM STDIN (FORMAT binary)", wrong).await;
        match wrong.len() {
            // What ends where a tuple may begin has ended.
            19 => assert_eq!(into.expect("nothing is copied"), 0),
            _ => assert_eq!(into.expect_err("no tuples").code().map(|state| state.code()), Some("22P04"), "{wrong:?}"),
        }
    }
}
