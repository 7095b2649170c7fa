//! The server as a Postgres client sees it: one process of the real binary for all tests, each with tables of its
//! own. What views contain is tested elsewhere; here it is protocol, transactions, cursors, COPY, limits.

use futures::{SinkExt, StreamExt, TryStreamExt};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

struct Server {
    child: Child,
    address: SocketAddr,
    _data: tempfile::TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_eddyline"))
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", "1", "--data-dir"])
            .arg(data.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("no ready line: {line:?}")).parse().unwrap();
        Server { child, address, _data: data }
    }

    async fn try_connect(&self, options: &str) -> Result<Client, Error> {
        let url = format!("host={} port={} {options}", self.address.ip(), self.address.port());
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn connect(&self) -> Client {
        self.try_connect("user=eddyline dbname=eddyline").await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.child.kill().and_then(|()| self.child.wait());
        assert!(stopped.is_ok() || std::thread::panicking(), "{stopped:?}");
    }
}

/// The server that tests at the same time share; the last of them stops it.
fn server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start(&["--max-connections", "40"]));
        *shared = Arc::downgrade(&server);
        server
    })
}

fn state(error: &Error) -> &str {
    error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).code().code()
}

/// All rows of a simple query as text.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(String::from)).collect()),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

async fn one(client: &Client, sql: &str) -> String {
    rows(client, sql).await[0][0].clone().unwrap_or_else(|| "null".to_string())
}

#[tokio::test]
async fn values_in_both_formats() {
    let server = server();
    let client = server.connect().await;
    assert_eq!(one(&client, "SELECT 1 + 1").await, "2");
    assert_eq!(one(&client, "SELECT 1.50::numeric(10,2)").await, "1.50");
    assert_eq!(one(&client, "SELECT NULL").await, "null");
    let row = client.query_one("SELECT $1::int, $2::text || 'x', $3::bigint, $4::float8", &[&41i32, &"a", &7i64, &0.5f64]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1), row.get::<_, i64>(2), row.get::<_, f64>(3)), (41, "ax", 7, 0.5));
    let missing: Option<i32> = None;
    assert_eq!(client.query_one("SELECT $1::int", &[&missing]).await.unwrap().get::<_, Option<i32>>(0), None);
}

#[tokio::test]
async fn errors_carry_their_state_and_leave_the_session_usable() {
    let server = server();
    let client = server.connect().await;
    for (sql, expected) in [
        ("SELEC 1", "42601"),
        ("SELECT nothing", "42703"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT 1/0", "22012"),
        ("SELECT 9223372036854775807 + 1", "22003"),
        ("SELECT sum(x) FROM (VALUES (9223372036854775807), (1)) t(x)", "22003"),
        ("FETCH 1 FROM nothing", "34000"),
        ("EXECUTE nothing", "26000"),
        ("SHOW nothing", "42704"),
    ] {
        let error = client.simple_query(sql).await.unwrap_err();
        assert_eq!(state(&error), expected, "{sql}: {error:?}");
    }
    let error = client.simple_query("SELECT * FROM nowhere").await.unwrap_err();
    assert!(error.as_db_error().unwrap().position().is_some() || error.as_db_error().unwrap().message().contains("nowhere"));
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

#[tokio::test]
async fn tables_are_written_and_read_back() {
    let server = server();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE items (id INT PRIMARY KEY, name TEXT NOT NULL, n BIGINT DEFAULT 5)").await.unwrap();
    assert_eq!(client.execute("INSERT INTO items (id, name) VALUES (1, 'one'), (2, 'two')", &[]).await.unwrap(), 2);
    assert_eq!(rows(&client, "SELECT n FROM items WHERE id = 2").await, vec![vec![Some("5".to_string())]]);
    let duplicate = client.execute("INSERT INTO items (id, name) VALUES (1, 'again')", &[]).await.unwrap_err();
    assert_eq!(state(&duplicate), "23505");
    assert_eq!(duplicate.as_db_error().unwrap().detail(), Some("Key (id)=(1) already exists."));
    let null = client.execute("INSERT INTO items (id, name) VALUES (3, NULL)", &[]).await.unwrap_err();
    assert_eq!(state(&null), "23502");
    let skipped = client.execute("INSERT INTO items (id, name) VALUES (1, 'x'), (4, 'four') ON CONFLICT DO NOTHING", &[]).await.unwrap();
    assert_eq!(skipped, 1);
    client
        .execute("INSERT INTO items (id, name) VALUES (1, 'y') ON CONFLICT (id) DO UPDATE SET name = excluded.name, n = items.n + 1", &[])
        .await
        .unwrap();
    assert_eq!(rows(&client, "SELECT name, n FROM items WHERE id = 1").await[0], [Some("y".to_string()), Some("6".to_string())]);
    let updated = client.query("UPDATE items SET n = n * 2 WHERE id <= $1 RETURNING id, n", &[&2i32]).await.unwrap();
    let mut updated: Vec<(i32, i64)> = updated.iter().map(|r| (r.get(0), r.get(1))).collect();
    updated.sort_unstable();
    assert_eq!(updated, [(1, 12), (2, 10)]);
    assert_eq!(client.execute("DELETE FROM items WHERE id = 2", &[]).await.unwrap(), 1);
    assert_eq!(one(&client, "SELECT count(*) FROM items").await, "2");
    let dropped = client.batch_execute("DROP TABLE items; DROP TABLE IF EXISTS items").await;
    dropped.unwrap();
}

#[tokio::test]
async fn transactions_commit_and_roll_back() {
    let server = server();
    let client = server.connect().await;
    let other = server.connect().await;
    client.batch_execute("CREATE TABLE accounts (id INT PRIMARY KEY, v INT)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 10); INSERT INTO accounts VALUES (2, 20)").await.unwrap();
    assert_eq!(one(&client, "SELECT count(*) FROM accounts").await, "2", "own writes are seen");
    assert_eq!(one(&other, "SELECT count(*) FROM accounts").await, "0", "others' are not");
    client.batch_execute("SAVEPOINT s; UPDATE accounts SET v = 0; ROLLBACK TO SAVEPOINT s").await.unwrap();
    assert_eq!(one(&client, "SELECT sum(v) FROM accounts").await, "30");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(one(&other, "SELECT sum(v) FROM accounts").await, "30");
    client.batch_execute("BEGIN; DELETE FROM accounts WHERE id = 1; INSERT INTO accounts VALUES (1, 11); ROLLBACK").await.unwrap();
    assert_eq!(one(&client, "SELECT v FROM accounts WHERE id = 1").await, "10");
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(state(&client.batch_execute("SELECT 1/0").await.unwrap_err()), "22012");
    assert_eq!(state(&client.batch_execute("SELECT 1").await.unwrap_err()), "25P02");
    client.batch_execute("ROLLBACK").await.unwrap();
    let both = client.batch_execute("INSERT INTO accounts VALUES (3, 3); INSERT INTO accounts VALUES (3, 4)").await.unwrap_err();
    assert_eq!(state(&both), "23505");
    assert_eq!(one(&client, "SELECT count(*) FROM accounts WHERE id = 3").await, "0", "one message is one transaction");
}

#[tokio::test]
async fn cursors_and_portals_stream() {
    let server = server();
    let mut client = server.connect().await;
    client.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 100000) AS s(n)").await.unwrap();
    assert_eq!(rows(&client, "FETCH 2 FROM c").await.len(), 2);
    client.batch_execute("MOVE 10 FROM c").await.unwrap();
    assert_eq!(one(&client, "FETCH NEXT FROM c").await, "13");
    client.batch_execute("CLOSE c; COMMIT").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT n::bigint FROM generate_series(1, 25) AS s(n)", &[]).await.unwrap();
    let mut sizes = Vec::new();
    loop {
        let part = transaction.query_portal(&portal, 10).await.unwrap();
        sizes.push(part.len());
        if part.len() < 10 {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
}

#[tokio::test]
async fn a_cancel_ends_a_query_while_its_rows_stream() {
    let server = server();
    let client = server.connect().await;
    let stream = client.query_raw("SELECT n::bigint FROM generate_series(1, 1000000000) AS s(n)", std::iter::empty::<i32>()).await.unwrap();
    futures::pin_mut!(stream);
    assert!(stream.next().await.unwrap().is_ok());
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    let started = Instant::now();
    let error = loop {
        match stream.next().await {
            Some(Ok(_)) => assert!(started.elapsed() < Duration::from_secs(20), "still streaming"),
            Some(Err(error)) => break error,
            None => panic!("the rows ended"),
        }
    };
    assert_eq!(state(&error), "57014");
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

#[tokio::test]
async fn a_timeout_ends_a_query() {
    let server = server();
    let client = server.connect().await;
    client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
    let error = client.batch_execute("SELECT count(*) FROM generate_series(1, 100000000000)").await.unwrap_err();
    assert_eq!(state(&error), "57014");
    client.batch_execute("RESET statement_timeout").await.unwrap();
    assert_eq!(one(&client, "SHOW statement_timeout").await, "0");
}

#[tokio::test]
async fn copy_goes_in_and_out() {
    let server = server();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE copied (id INT PRIMARY KEY, t TEXT, d DATE)").await.unwrap();
    let sink = client.copy_in("COPY copied FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"1\ta\\tb\t2024-01-02\n2\t\\N")).await.unwrap();
    sink.send(bytes::Bytes::from_static(b"\t\\N\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    let sink = client.copy_in("COPY copied (t, id) FROM STDIN WITH (FORMAT csv, HEADER)").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"t,id\n\"x, \"\"y\"\"\n\",3\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 1);
    let out = client.copy_out("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT").await.unwrap();
    let bytes: Vec<bytes::Bytes> = out.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"1\ta\\tb\t2024-01-02\n2\t\\N\t\\N\n3\tx, \"y\"\\n\t\\N\n");
    let sink = client.copy_in("COPY copied FROM STDIN").await.unwrap();
    futures::pin_mut!(sink);
    sink.send(bytes::Bytes::from_static(b"x\ta\t\\N\n")).await.unwrap();
    let error = sink.finish().await.unwrap_err();
    assert_eq!(state(&error), "22P02");
    assert_eq!(error.as_db_error().unwrap().detail(), Some("COPY copied, line 1, column id."));
    assert_eq!(one(&client, "SELECT count(*) FROM copied").await, "3");
}

#[tokio::test]
async fn settings_are_shown_and_reset() {
    let server = server();
    let client = server.connect().await;
    assert!(one(&client, "SHOW server_version").await.starts_with("15"));
    client.batch_execute("SET TimeZone = 'Europe/Berlin'").await.unwrap();
    assert_eq!(one(&client, "SELECT '2024-07-01 00:00:00+00'::timestamptz").await, "2024-07-01 02:00:00+02");
    client.batch_execute("BEGIN; SET LOCAL application_name = 'inner'; COMMIT").await.unwrap();
    assert_eq!(one(&client, "SHOW application_name").await, "");
    assert_eq!(one(&client, "SELECT current_setting('search_path')").await, "\"$user\", public");
    assert_eq!(one(&client, "SELECT set_config('application_name', 'set', false)").await, "set");
    assert_eq!(one(&client, "SHOW application_name").await, "set");
    client.batch_execute("PREPARE p (int) AS SELECT $1 + 1").await.unwrap();
    assert_eq!(one(&client, "EXECUTE p (41)").await, "42");
    client.batch_execute("DISCARD ALL").await.unwrap();
    assert_eq!(state(&client.batch_execute("EXECUTE p (41)").await.unwrap_err()), "26000");
}

#[tokio::test]
async fn views_see_the_sessions_own_writes() {
    let server = server();
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE sales (id INT PRIMARY KEY, shop TEXT, n BIGINT); CREATE MATERIALIZED VIEW by_shop AS SELECT shop, SUM(n) AS total FROM sales GROUP BY shop").await.unwrap();
    for id in 0..20i32 {
        client.execute("INSERT INTO sales VALUES ($1, 'a', 1)", &[&id]).await.unwrap();
        assert_eq!(one(&client, "SELECT total FROM by_shop").await, (id + 1).to_string());
    }
    client.batch_execute("DELETE FROM sales").await.unwrap();
    assert_eq!(rows(&client, "SELECT * FROM by_shop").await.len(), 0);
    let used = client.batch_execute("DROP TABLE sales").await.unwrap_err();
    assert_eq!(state(&used), "2BP01");
}

/// Clients that send Flush instead of Sync wait for what failed.
#[test]
fn an_error_comes_without_sync() {
    let server = server();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let message = |tag: &[u8], body: &[u8]| [tag, &(body.len() as u32 + 4).to_be_bytes(), body].concat();
    let startup = [&196_608_u32.to_be_bytes()[..], b"user\0eddyline\0database\0eddyline\0\0"].concat();
    stream.write_all(&message(b"", &startup)).unwrap();
    assert_eq!(until_message(&mut stream, b'Z'), b"I");
    let parse = message(b"P", b"\0SELECT nosuch\0\0\0");
    stream.write_all(&[parse, message(b"H", b"")].concat()).unwrap();
    let error = until_message(&mut stream, b'E');
    assert!(String::from_utf8_lossy(&error).contains("42703"), "{error:?}");
    stream.write_all(&message(b"S", b"")).unwrap();
    assert_eq!(until_message(&mut stream, b'Z'), b"I", "it goes on after Sync");
}

/// The body of the next message of a kind.
fn until_message(stream: &mut TcpStream, wanted: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).expect("a message");
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("its body");
        if head[0] == wanted {
            return body;
        }
    }
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let server = server();
    let wrong = server.try_connect("user=eddyline dbname=other").await.map(|_| ()).unwrap_err();
    assert_eq!(state(&wrong), "3D000");
    let small = Server::start(&["--max-connections", "2"]);
    let (_first, _second) = (small.connect().await, small.connect().await);
    let third = small.try_connect("user=eddyline dbname=eddyline").await.map(|_| ()).unwrap_err();
    assert_eq!(state(&third), "53300");
}

#[tokio::test]
async fn large_and_deep_statements_are_answered() {
    let server = server();
    let client = server.connect().await;
    let long = format!("SELECT length('{}')", "x".repeat(10 << 20));
    assert_eq!(one(&client, &long).await, (10 << 20).to_string());
    let deep = format!("SELECT {}1{}", "(".repeat(1000), ")".repeat(1000));
    match client.simple_query(&deep).await {
        Ok(_) => {}
        Err(error) => assert_eq!(state(&error), "54001"),
    }
    assert_eq!(one(&client, "SELECT 1").await, "1");
}
