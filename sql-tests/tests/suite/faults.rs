//! The world's faults, from outside: a full disk, damaged files, a directory that cannot be used, clients that vanish or
//! come in crowds. Each gets a clear error, everything else runs on, and nothing acknowledged is lost.

use super::sinks::lines;
use eddyline_sql_tests::client::{number, rows};
use eddyline_sql_tests::process::binary;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use futures::future::join_all;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

const PAD_BYTES: usize = 64 << 10;

fn state(error: &Error) -> &str {
    error.code().map_or("", |c| c.code())
}

async fn insert(client: &Client, id: i64) -> Result<(), Error> {
    client.batch_execute(&format!("INSERT INTO t VALUES ({id}, '{}')", "x".repeat(PAD_BYTES))).await
}

/// One row after the other until it is stopped; `written` is the id of the last one that was acknowledged.
async fn insert_many(client: Client, written: Arc<AtomicI64>) -> Error {
    loop {
        let id = written.load(Ordering::SeqCst) + 1;
        match insert(&client, id).await {
            Ok(()) => written.store(id, Ordering::SeqCst),
            // Refused, so it is not there: once more.
            Err(error) if state(&error) == "53100" => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return error,
        }
    }
}

/// The error of a statement for which there is no room.
async fn refusal(client: &Client, statement: &str) -> Option<Error> {
    client.batch_execute(statement).await.err().filter(|error| state(error) == "53100")
}

async fn create(client: &Client) {
    for statement in
        ["CREATE TABLE t (id BIGINT PRIMARY KEY, pad VARCHAR)", "CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n, MAX(id) AS m FROM t"]
    {
        client.batch_execute(statement).await.expect("the definitions are accepted");
    }
}

/// A file on the server's own disk.
fn ballast(server: &Server) -> PathBuf {
    let pid = server.pid().expect("it runs");
    PathBuf::from(format!("/proc/{pid}/root{}", server.data_dir().join("data/ballast").display()))
}

/// Takes all the room that is left on the disk of `file`.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).expect("the ballast is created");
    for chunk in [vec![1; 64 << 10], vec![1; 512]] {
        while file.write_all(&chunk).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_writes_until_there_is_room() {
    let server = Server::start(ServerOptions { disk: Some("48m"), checkpoint_interval: "200ms", ..Default::default() });
    let client = server.connect().await;
    create(&client).await;
    client.batch_execute("CREATE TABLE other (id BIGINT)").await.expect("there is room");
    insert(&client, 1).await.expect("there is room");
    let ballast = ballast(&server);
    fill(&ballast);
    // The record that finds no room is kept until there is some, and its writer waits; whoever comes later is refused.
    let written = Arc::new(AtomicI64::new(1));
    let writer = tokio::spawn(insert_many(server.connect().await, written.clone()));
    let other = server.connect().await;
    until("the log notices", || async { server.log().contains("the log cannot be written").then_some(()) }).await;
    let error = refusal(&other, "INSERT INTO other VALUES (1)").await.expect("whoever comes later is refused");
    assert!(error.as_db_error().is_some_and(|e| e.hint().is_some()), "{error:?}");
    let acknowledged = written.load(Ordering::SeqCst);
    let seen = number(&client, "SELECT n FROM v").await;
    assert_eq!(seen, acknowledged, "reads go on, and show what was acknowledged");

    std::fs::remove_file(&ballast).expect("there is room again");
    until("the writer goes on by itself", || async { (written.load(Ordering::SeqCst) >= acknowledged + 3).then_some(()) }).await;
    until("others too", || async { other.batch_execute("INSERT INTO other VALUES (1)").await.ok() }).await;
    writer.abort();
    let acknowledged = written.load(Ordering::SeqCst);
    let kept = number(&client, &format!("SELECT COUNT(*) FROM t WHERE id <= {acknowledged}")).await;
    assert_eq!(kept, acknowledged, "nothing acknowledged is lost, and nothing is there twice");
    let both = client.query_one("SELECT (SELECT COUNT(*) FROM t), (SELECT n FROM v)", &[]).await.expect("the query runs");
    assert_eq!(both.get::<_, i64>(0), both.get::<_, i64>(1), "the view follows the table");
    until("checkpoints work again", || async { (server.metric("eddyline_checkpoint_epoch")? >= seen as f64).then_some(()) }).await;
}

/// Each second of event time by channel.
const BATCH: &str = "SELECT window_start, channel, COUNT(*) AS n, SUM(price) AS s FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), \
                     INTERVAL '1' SECOND)) GROUP BY window_start, window_end, channel ORDER BY 1, 2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_halts_a_source_until_there_is_room() {
    let server = Server::start(ServerOptions { disk: Some("48m"), checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    let source = "CREATE SOURCE bid (auction BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP, WATERMARK FOR date_time AS \
                  date_time - INTERVAL '1 second') WITH (connector = 'nexmark', nexmark.table.type = 'bid', nexmark.event.num = '30000', \
                  nexmark.rate = '3000')";
    let view = format!("CREATE MATERIALIZED VIEW windows AS {}", BATCH.split(" ORDER").next().expect("a query"));
    for statement in [source, &view, "CREATE TABLE t (id BIGINT, pad VARCHAR)"] {
        client.batch_execute(statement).await.expect("the definitions are accepted");
    }
    let epoch = || server.metric("eddyline_epoch").unwrap_or_default();
    until("the source runs", || async { (epoch() > 10.0).then_some(()) }).await;
    let ballast = ballast(&server);
    fill(&ballast);
    let writer = tokio::spawn(insert_many(server.connect().await, Arc::default()));
    until("the log notices", || async { server.log().contains("the log cannot be written").then_some(()) }).await;
    let problem = "SELECT COUNT(*) FROM eddyline.sources WHERE problem LIKE '%not read on%No space left%'";
    assert!(number(&client, problem).await > 0, "the source says why it stands still");
    let health = server.page("/healthz").expect("an answer");
    assert!(
        health.starts_with("HTTP/1.1 200") && health.contains("ok\nwrites are refused: ") && health.contains("No space left"),
        "{health}"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    writer.abort();
    let told = rows(&client, "SELECT part, COUNT(*) FROM eddyline.errors GROUP BY part HAVING COUNT(*) > 3").await;
    assert_eq!(told, Vec::<Vec<_>>::new(), "it is told once, not with every attempt");
    let stalled = epoch();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(epoch(), stalled, "nothing is durable meanwhile");
    std::fs::remove_file(&ballast).expect("there is room again");
    until("epochs go on", || async { (epoch() > stalled + 20.0).then_some(()) }).await;
    assert_eq!(number(&client, problem).await, 0);
    assert!(server.page("/healthz").expect("an answer").ends_with("\r\n\r\nok\n"));
    let bids = number(&client, "SELECT COUNT(*) FROM bid").await;
    let counted = "SELECT COALESCE(SUM(n), 0)::bigint FROM windows";
    until("the view has every bid", || async { (number(&client, counted).await == bids).then_some(()) }).await;
    let view = rows(&client, "SELECT window_start, channel, n, s FROM windows ORDER BY 1, 2").await;
    assert_eq!(view, rows(&client, BATCH).await);
    assert_eq!(rows(&client, "SELECT * FROM eddyline.late_rows").await, Vec::<Vec<_>>::new(), "no row is late");
}

/// A row by one of the ways there are, within three seconds; the error's state, and whether it says more.
async fn write(server: &Server, client: &Client, way: &str, id: i64) -> Result<(), (String, bool)> {
    let pad = "x".repeat(PAD_BYTES);
    let told = |error: Error| (state(&error).to_string(), error.as_db_error().is_some_and(|e| e.hint().is_some()));
    match way {
        "a simple query" => insert(client, id).await.map_err(told),
        "parameters" => client.execute("INSERT INTO t VALUES ($1, $2)", &[&id, &pad]).await.map(drop).map_err(told),
        _ => tokio::task::block_in_place(|| {
            let script = format!("\\set VERBOSITY verbose\nSET statement_timeout = '3s';\nCOPY t FROM STDIN;\n{id}\t{pad}\n\\.\n");
            let file = server.data_dir().join("copy.sql");
            std::fs::write(&file, script).expect("a script");
            let output = Command::new("psql")
                .args(["--no-psqlrc", "--host", "127.0.0.1", "--username", "eddyline", "--port", &server.port.to_string()])
                .args(["-v", "ON_ERROR_STOP=1", "--file"])
                .arg(file)
                .output()
                .expect("psql is installed");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            match text.split_once("ERROR:  ") {
                None => Ok(()),
                Some((_, error)) => Err((error.chars().take(5).collect(), error.contains("HINT:"))),
            }
        }),
    }
}

/// The statement's record is accepted, and there is no room for it: it ends in its time with what is known, which is nothing.
/// What comes later is refused at once, whatever it would have to see first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_keeps_no_statement_beyond_its_time() {
    for way in ["a simple query", "parameters", "copy"] {
        let server = Server::start(ServerOptions { disk: Some("48m"), checkpoint_interval: "3600s", ..Default::default() });
        let client = server.connect().await;
        create(&client).await;
        client.batch_execute("CREATE TABLE other (id BIGINT)").await.expect("there is room");
        let ballast = ballast(&server);
        fill(&ballast);
        client.batch_execute("SET statement_timeout = '3s'").await.expect("a setting");
        let mut id = 0;
        let error = loop {
            id += 1;
            let begun = Instant::now();
            if let Err(error) = write(&server, &client, way, id).await {
                assert!(begun.elapsed() < Duration::from_secs(20), "{way}: it ends in its time");
                break error;
            }
        };
        assert_eq!(error, ("40003".to_string(), true), "{way}");

        let other = server.connect().await;
        let statements =
            ["INSERT INTO t VALUES (-1, '')", "UPDATE t SET pad = '' WHERE id = 1", "INSERT INTO other SELECT id FROM t", "DELETE FROM t"];
        for statement in statements {
            let begun = Instant::now();
            let error = refusal(&other, statement).await.expect("it is refused");
            assert!(error.as_db_error().is_some_and(|e| e.hint().is_some()), "{error:?}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{statement}: at once");
        }
        for way in ["parameters", "copy"] {
            assert_eq!(write(&server, &other, way, id + 1).await, Err(("53100".to_string(), true)), "{way}");
        }
        assert_eq!(number(&other, "SELECT COUNT(*) FROM t").await, id - 1, "{way}: reads go on");

        std::fs::remove_file(&ballast).expect("there is room again");
        until("others write again", || async { other.batch_execute("INSERT INTO other VALUES (1)").await.ok() }).await;
        assert_eq!(number(&other, "SELECT COUNT(*) FROM t").await, id, "{way}: what was accepted is there, once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_full_disk_can_be_cancelled() {
    let server = Server::start(ServerOptions { disk: Some("48m"), checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    create(&client).await;
    let ballast = ballast(&server);
    fill(&ballast);
    let writer = server.connect().await;
    let cancel = writer.cancel_token();
    let written = Arc::new(AtomicI64::new(0));
    let writer = tokio::spawn(insert_many(writer, written.clone()));
    until("the log notices", || async { server.log().contains("the log cannot be written").then_some(()) }).await;
    cancel.cancel_query(tokio_postgres::NoTls).await.expect("the request is sent");
    let error = writer.await.expect("the writer ends");
    assert_eq!(state(&error), "40003", "{error:?}");
    std::fs::remove_file(&ballast).expect("there is room again");
    let acknowledged = written.load(Ordering::SeqCst);
    let all = format!("SELECT COUNT(*) FROM t WHERE id <= {}", acknowledged + 1);
    until("what was accepted is there", || async { (number(&client, &all).await == acknowledged + 1).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ddl_without_room_changes_nothing() {
    let server = Server::start(ServerOptions { disk: Some("48m"), checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    create(&client).await;
    client.batch_execute("CREATE VIEW w AS SELECT 1 AS one").await.expect("there is room");
    let ballast = ballast(&server);
    fill(&ballast);
    let writer = tokio::spawn(insert_many(server.connect().await, Arc::default()));
    until("the log notices", || async { server.log().contains("the log cannot be written").then_some(()) }).await;
    let changes =
        ["CREATE TABLE more (id BIGINT)", "CREATE MATERIALIZED VIEW m AS SELECT id FROM t", "DROP MATERIALIZED VIEW v", "DROP VIEW w"];
    for statement in changes.into_iter().chain(["CREATE OR REPLACE VIEW w AS SELECT 2 AS one"]) {
        assert!(refusal(&client, statement).await.is_some(), "{statement} is refused");
    }
    for gone in ["more", "m"] {
        let error = client.batch_execute(&format!("SELECT * FROM {gone}")).await.expect_err("it was not created");
        assert_eq!(state(&error), "42P01", "{error:?}");
    }
    assert_eq!(rows(&client, "SELECT one FROM w").await, [[Some("1".to_string())]], "it was not replaced");
    writer.abort();
    std::fs::remove_file(&ballast).expect("there is room again");
    until("the view goes on", || async { (number(&client, "SELECT n FROM v").await > 0).then_some(()) }).await;
    for statement in changes {
        until("it is done once there is room", || async { client.batch_execute(statement).await.ok() }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_full_disk_still_stops() {
    let mut server = Server::start(ServerOptions { disk: Some("48m"), checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    create(&client).await;
    fill(&ballast(&server));
    let writer = tokio::spawn(insert_many(client, Arc::default()));
    until("the log notices", || async { server.log().contains("the log cannot be written").then_some(()) }).await;
    let begun = Instant::now();
    let status = tokio::task::block_in_place(|| server.stop());
    assert!(status.success(), "{status}: {}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(20), "it waits for no room");
    writer.await.expect("the writer ends");
}

/// Runs a server that is expected to end by itself.
fn refused(data_dir: &Path) -> Output {
    refused_by(Command::new(binary()), data_dir)
}

/// The same on a disk that nobody may write to, mounted at `disk` for this process alone. Modes of files would not keep root from writing.
fn refused_on_a_read_only_disk(disk: &Path, data_dir: &Path) -> Output {
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o ro tmpfs "$0" && exec "$@""#;
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(disk).arg(binary());
    refused_by(command, data_dir)
}

fn refused_by(mut command: Command, data_dir: &Path) -> Output {
    let begun = Instant::now();
    let mut child = command
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A server that goes on would never end.
    while child.try_wait().expect("it is asked").is_none() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = child.try_wait().expect("it is asked").is_some();
    if !ended {
        child.kill().expect("it ends");
    }
    let output = child.wait_with_output().expect("it ends");
    assert!(ended && !output.status.success(), "it is refused");
    assert!(output.stdout.is_empty(), "it was never ready");
    output
}

fn says(output: &Output, what: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(what), "expected {what:?} in:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_used_is_refused() {
    let server = Server::start(ServerOptions::default());
    let second = refused(&server.data_dir().join("data"));
    says(&second, "is in use by another server");
    says(&second, &server.pid().expect("it runs").to_string());
    server.connect().await.batch_execute("SELECT 1").await.expect("the first one runs on");

    let in_the_way = server.data_dir().join("file");
    std::fs::write(&in_the_way, "not a directory").expect("a file");
    says(&refused(&in_the_way.join("data")), "Not a directory");

    let disk = tempfile::tempdir().expect("a directory");
    let there = refused_on_a_read_only_disk(disk.path(), disk.path());
    says(&there, "cannot open the lock file of the data directory");
    says(&there, "Read-only file system");
    says(&there, "choose another directory with --data-dir");
    let new = refused_on_a_read_only_disk(disk.path(), &disk.path().join("data"));
    says(&new, "cannot create data directory");
    says(&new, "Read-only file system");
}

/// Inverts a byte in the middle.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("the file is read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(file, bytes).expect("the file is written");
}

/// The files below `dir` with `word` in their name, the newest last.
fn files(dir: &Path, word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.strip_prefix(dir).is_ok_and(|p| p.to_string_lossy().contains(word)) {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|p| (p.metadata().and_then(|m| m.modified()).expect("a time"), p.clone()));
    found
}

/// Rows that lie in several checkpoints, and none of them in the log alone.
async fn write_checkpoints(server: &Server) -> i64 {
    let client = server.connect().await;
    create(&client).await;
    let epoch = || server.metric("eddyline_checkpoint_epoch").unwrap_or_default();
    for id in 1..=30 {
        let before = epoch();
        insert(&client, id).await.expect("a row");
        if id % 10 == 0 {
            until("a checkpoint holds it", || async { (epoch() > before).then_some(()) }).await;
        }
    }
    30
}

async fn has_all(server: &Server, rows: i64) {
    let client = server.connect().await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, rows);
    assert_eq!(number(&client, "SELECT n FROM v").await, rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_checkpoint_is_reported_and_the_one_before_taken() {
    for what in ["manifest", "file"] {
        let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
        let rows = write_checkpoints(&server).await;
        server.stop();
        let checkpoints = server.data_dir().join("data/checkpoints");
        let manifests = files(&checkpoints, "manifest");
        assert!(manifests.len() > 1, "there is one to fall back to");
        let newest = manifests.last().expect("not empty");
        if what == "manifest" {
            damage(newest);
        } else {
            damage(&only_in_the_newest(&checkpoints, &manifests));
        }
        server.launch().expect("the server starts");
        assert!(server.log().contains("damaged"), "it says so:\n{}", server.log());
        has_all(&server, rows).await;
    }
}

/// What a sink has sent is not sent again by a server that begins at an older checkpoint: the sink's log knows more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_go_on_from_an_older_checkpoint() {
    const ROWS: i64 = 30;
    let out = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let client = server.connect().await;
    let files_sink = format!(
        "CREATE SINK files FROM log WITH (connector = 'filesystem', path = '{}', sink.rolling-policy.rollover-interval = '20 ms') \
         FORMAT PLAIN ENCODE JSON",
        out.path().display()
    );
    for statement in [
        "CREATE TABLE log (id BIGINT) APPEND ONLY",
        "CREATE TABLE copies (id BIGINT)",
        files_sink.as_str(),
        "CREATE SINK c INTO copies FROM log",
    ] {
        client.batch_execute(statement).await.expect("the definitions are accepted");
    }
    let sent = async |rows: i64| {
        lines(out.path()).len() as i64 == rows && number(&server.connect().await, "SELECT COUNT(*) FROM copies").await == rows
    };
    for id in 1..=ROWS {
        let before = server.metric("eddyline_checkpoint_epoch");
        client.batch_execute(&format!("INSERT INTO log VALUES ({id})")).await.expect("a row");
        if id % 10 == 0 {
            until("all is sent", || async { sent(id).await.then_some(()) }).await;
            until("a checkpoint has it", || async { (server.metric("eddyline_checkpoint_epoch") > before).then_some(()) }).await;
        }
    }
    server.stop();
    let manifests = files(&server.data_dir().join("data/checkpoints"), "manifest");
    assert!(manifests.len() > 1, "there is one to fall back to");
    damage(manifests.last().expect("not empty"));
    server.launch().expect("the server starts");
    assert!(server.log().contains("damaged"), "it says so:\n{}", server.log());
    let client = server.connect().await;
    client.batch_execute(&format!("INSERT INTO log VALUES ({})", ROWS + 1)).await.expect("a row");
    until("the next row is sent", || async {
        let copied = number(&client, "SELECT COUNT(*) FROM copies").await;
        assert!(copied <= ROWS + 1, "{copied} rows were copied");
        (lines(out.path()).len() as i64 == ROWS + 1 && copied == ROWS + 1).then_some(())
    })
    .await;
}

/// A data file that the newest manifest names and the one before does not.
fn only_in_the_newest(checkpoints: &Path, manifests: &[PathBuf]) -> PathBuf {
    let [.., before, newest] = manifests else { panic!("two manifests") };
    let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("a manifest")).into_owned();
    let (before, newest) = (text(before), text(newest));
    let data = files(checkpoints, "").into_iter().filter(|f| !manifests.contains(f));
    let named = |file: &PathBuf| {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        newest.contains(&name) && !before.contains(&name)
    };
    data.into_iter().find(named).expect("the newest checkpoint has a file of its own")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_damaged_before_its_end_is_refused() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "3600s", ..Default::default() });
    let client = server.connect().await;
    create(&client).await;
    for id in 1..=30 {
        insert(&client, id).await.expect("a row");
    }
    server.kill();
    let log = files(&server.data_dir().join("data/log"), "");
    let largest = log.iter().max_by_key(|f| f.metadata().map_or(0, |m| m.len())).expect("a log");
    damage(largest);
    let output = refused(&server.data_dir().join("data"));
    says(&output, &largest.file_name().expect("a name").to_string_lossy());
    says(&output, "damaged");
    damage(largest);
    server.launch().expect("the server starts");
    has_all(&server, 30).await;
}

/// What a checkpoint has is not read from the log, and what the log has from the beginning needs no checkpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_checkpoints_stand_in_for_each_other() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let rows = write_checkpoints(&server).await;
    server.kill();
    let log =
        files(&server.data_dir().join("data/log"), "").into_iter().max_by_key(|f| f.metadata().map_or(0, |m| m.len())).expect("a log");
    let invert = |offset: usize| {
        let mut bytes = std::fs::read(&log).expect("the log is read");
        bytes[offset] ^= 0xff;
        std::fs::write(&log, bytes).expect("the log is written");
    };
    // In the first record's kind.
    let early = 24 + 16;
    invert(early);
    server.launch().expect("the server starts");
    assert!(server.log().contains("a damaged part of the log is left out"), "it says so:\n{}", server.log());
    has_all(&server, rows).await;
    server.kill();
    invert(early);
    let manifests = files(&server.data_dir().join("data/checkpoints"), "manifest");
    let lose = |manifest: &PathBuf| std::fs::write(manifest, "lost").expect("a manifest");
    manifests.iter().for_each(lose);
    server.launch().expect("the server starts");
    assert!(server.log().contains("no checkpoint is intact"), "it says so:\n{}", server.log());
    has_all(&server, rows).await;
    insert(&server.connect().await, rows + 1).await.expect("it goes on");
    server.kill_and_restart();
    has_all(&server, rows + 1).await;
    // A sink would send again what it has sent.
    let create = "CREATE SINK out FROM t WITH (connector = 'blackhole')";
    server.connect().await.batch_execute(create).await.expect("a sink");
    let sinks = server.data_dir().join("data/sinks");
    until("the sink's log", || async { (sinks.exists() && !files(&sinks, "").is_empty()).then_some(()) }).await;
    server.kill();
    files(&server.data_dir().join("data/checkpoints"), "manifest").iter().for_each(lose);
    let output = refused(&server.data_dir().join("data"));
    says(&output, "the manifest of checkpoint");
    says(&output, "sinks send all of it again");
    std::fs::remove_dir_all(&sinks).expect("the sinks' logs");
    server.launch().expect("the server starts");
    has_all(&server, rows + 1).await;
    // Neither alone.
    until("the sink's log", || async { sinks.exists().then_some(()) }).await;
    server.kill();
    std::fs::remove_dir_all(&sinks).expect("the sinks' logs");
    invert(early);
    files(&server.data_dir().join("data/checkpoints"), "manifest").iter().for_each(lose);
    let output = refused(&server.data_dir().join("data"));
    says(&output, "is damaged at offset 24");
    says(&output, "from a backup of both");
}

/// Checkpoints in a place of their own: nothing of them is in the data directory, and a killed server starts from them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_elsewhere_are_started_from() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let place = elsewhere.path().join("store");
    for store in [place.display().to_string(), format!("file://{}", place.display())] {
        let options = ServerOptions { checkpoint_interval: "100ms", checkpoint_store: Some(store.clone()), ..Default::default() };
        let mut server = Server::start(options);
        let rows = write_checkpoints(&server).await;
        assert!(!server.data_dir().join("data/checkpoints").exists());
        assert!(!files(&place, "manifest").is_empty());
        let second = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--checkpoint-store", &store, "--data-dir"])
            .arg(elsewhere.path().join("other"))
            .output()
            .expect("the binary starts");
        assert!(!second.status.success());
        says(&second, "checkpoint store");
        says(&second, "is in use by another server");
        server.kill_and_restart();
        has_all(&server, rows).await;
        server.kill();
        // Without its data directory it has lost the log, and is refused instead of going on with less.
        let alone = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--checkpoint-store", &store, "--data-dir"])
            .arg(elsewhere.path().join("empty"))
            .output()
            .expect("the binary starts");
        assert!(!alone.status.success());
        says(&alone, "the checkpoint store belongs to another server's data directory");
        says(&alone, "A server that moves takes its data directory along");
        server.launch().expect("it starts again");
        has_all(&server, rows).await;
        server.kill();
        std::fs::remove_dir_all(&place).expect("the store is removed");
    }
    let refused =
        Command::new(binary()).args(["serve", "--checkpoint-store", "viewfs://name/eddyline"]).output().expect("the binary starts");
    assert!(!refused.status.success());
    says(&refused, "\"viewfs://name/eddyline\": there is no viewfs:// store");
    says(&refused, "Give a path, or a URL with file://, s3://, gs://, az:// or hdfs://");
}

/// The checkpoints in a data directory are its own, while its server runs and when it has stopped; a copy of the whole directory goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_server_takes_the_checkpoints_of_a_data_directory() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let rows = write_checkpoints(&server).await;
    let place = server.data_dir().join("data/checkpoints");
    let other = || {
        Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--checkpoint-store"])
            .arg(&place)
            .arg("--data-dir")
            .arg(elsewhere.path().join("other"))
            .output()
            .expect("the binary starts")
    };
    let running = other();
    assert!(!running.status.success());
    says(&running, "is in use by another server");
    server.stop();
    let stopped = other();
    assert!(!stopped.status.success());
    says(&stopped, "the checkpoint store belongs to another server's data directory");

    let mut copy = Server::prepare(ServerOptions::default());
    let to = copy.data_dir().join("data");
    let copied = Command::new("cp").arg("-r").arg(server.data_dir().join("data")).arg(&to).status().expect("cp starts");
    assert!(copied.success());
    // What earlier servers left has neither.
    for lost in ["id", "checkpoints/owner"] {
        copy.launch().expect("the copy starts");
        has_all(&copy, rows).await;
        copy.stop();
        std::fs::remove_file(to.join(lost)).expect("it was there");
    }
    copy.launch().expect("the copy starts");
    has_all(&copy, rows).await;
    server.launch().expect("it starts again");
    has_all(&server, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_leaves_nothing_running() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE n (i BIGINT PRIMARY KEY)").await.expect("a table");
    client.batch_execute("INSERT INTO n SELECT * FROM generate_series(1, 20000)").await.expect("rows");
    let sessions = |count: f64| {
        let server = &server;
        until(
            "the sessions are as many as the clients",
            move || async move { (server.metric("eddyline_sessions")? == count).then_some(()) },
        )
    };
    sessions(1.0).await;
    let queries = [
        "SELECT COUNT(*) FROM n a, n b, n c WHERE a.i + b.i + c.i = 7",
        "SELECT a.i, b.i FROM n a, n b",
        // A condition over all three that keeps few rows: the last join has 40,000 million pairs to look at, and gives no batch for long.
        "SELECT COUNT(*) FROM generate_series(1, 100) AS c(n), n a, n b WHERE (a.i * b.i + c.n) % 1000003 = 1000002",
        "SELECT COUNT(*) FROM generate_series(1, 100) AS c(n) JOIN n b ON c.n % 1 = b.i % 1 \
         JOIN n a ON a.i % 1 = b.i % 1 AND (a.i * b.i + c.n) % 1000003 = 1000002",
    ];
    for query in queries {
        let mut gone = psql(&server, query);
        sessions(2.0).await;
        let before = cpu_ticks(&server);
        until("the query runs", || async { (cpu_ticks(&server) > before + 20).then_some(()) }).await;
        gone.kill().expect("psql runs");
        gone.wait().expect("psql is gone");
        sessions(1.0).await;
    }
    until("the server has nothing to do", || async {
        let before = cpu_ticks(&server);
        tokio::time::sleep(Duration::from_millis(500)).await;
        (cpu_ticks(&server) - before <= 5).then_some(())
    })
    .await;
    assert_eq!(number(&client, "SELECT COUNT(*) FROM n").await, 20_000);
}

/// A client process that sends one query.
fn psql(server: &Server, query: &str) -> std::process::Child {
    Command::new("psql")
        .args(["--no-psqlrc", "--host", "127.0.0.1", "--username", "eddyline", "--port", &server.port.to_string(), "--command", query])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("psql is installed")
}

/// Processor time of the server so far, in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid().expect("it runs"))).expect("a process");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    [11, 12].iter().map(|i| fields[*i].parse::<u64>().expect("a number")).sum()
}

/// Operators in a long row are as deep in plans as there are of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_chains_are_computed() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (i BIGINT)").await.expect("a table");
    client.batch_execute("INSERT INTO t VALUES (1)").await.expect("a row");
    let sum = format!("i{}", " + 1".repeat(200));
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW v AS SELECT {sum} AS n FROM t")).await.expect("a view");
    assert_eq!(number(&client, "SELECT n FROM v").await, 201);
    let nested = format!("{}i{}", "ABS(".repeat(60), ")".repeat(60));
    assert_eq!(number(&client, &format!("SELECT {nested} FROM t")).await, 1);
    assert_eq!(number(&client, &format!("SELECT {sum} FROM t")).await, 201);
    let longest = " + 1".repeat(400);
    assert_eq!(number(&client, &format!("SELECT i{longest} FROM t")).await, 401);
    let texts = "i::text || ".repeat(399);
    assert_eq!(number(&client, &format!("SELECT length({texts}'')::bigint FROM t")).await, 399);
    let coalesced = format!("{}i{}", "COALESCE(NULLIF(i, 1), ".repeat(40), ")".repeat(40));
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW w AS SELECT {coalesced} AS n FROM t")).await.expect("a view");
    assert_eq!(number(&client, "SELECT n FROM w").await, 1);
}

/// A CASE is no deeper than what is inside it, and what it gives may be compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_of_many_whens_is_computed() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (i BIGINT)").await.expect("a table");
    client.batch_execute("INSERT INTO t VALUES (1), (1499), (1500)").await.expect("rows");
    let whens: String = (0..1_500).map(|n| format!("WHEN i = {n} THEN '{n}' ")).collect();
    let case = format!("CASE {whens} ELSE 'x' END");
    let asked = Instant::now();
    assert_eq!(number(&client, &format!("SELECT SUM(length({case}))::bigint FROM t")).await, 6);
    assert_eq!(number(&client, &format!("SELECT COUNT(*) FROM t WHERE {case} = '1499'")).await, 1);
    let view = format!("CREATE MATERIALIZED VIEW v AS SELECT {case} AS n, {case} <> 'x' AS is_there FROM t");
    client.batch_execute(&view).await.expect("a view");
    client.batch_execute(&format!("CREATE MATERIALIZED VIEW w AS SELECT i FROM t WHERE {case} = '1'")).await.expect("a view");
    assert_eq!(number(&client, "SELECT COUNT(*) FROM v WHERE is_there AND n = '1499'").await, 1);
    assert_eq!(number(&client, "SELECT i FROM w").await, 1);
    assert!(asked.elapsed() < MEANWHILE, "it took {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once_are_served_or_told_why_not() {
    // Sockets of this process, and of the server, which inherits the limit.
    let _raised = Command::new("prlimit").args(["--pid", &std::process::id().to_string(), "--nofile=8192:"]).status();
    let server = Server::start(ServerOptions::default());
    let mut served = Vec::new();
    let mut turned_away = 0;
    for connected in join_all((0..1000).map(|_| server.try_connect())).await {
        match connected {
            Ok(client) => served.push(client),
            Err(error) => {
                assert_eq!(state(&error), "53300", "{error:?}");
                assert!(error.as_db_error().is_some_and(|e| e.hint().is_some()), "{error:?}");
                turned_away += 1;
            }
        }
    }
    assert_eq!((served.len(), turned_away), (200, 800), "max_connections is 200 by default");
    assert_eq!(join_all(served.iter().map(|client| number(client, "SELECT 1::bigint"))).await, vec![1; 200]);
    drop(served);
    until("there is room again", || async { server.try_connect().await.ok() }).await;
}

/// What another session waits for an answer while a statement is planned that takes long.
const MEANWHILE: Duration = Duration::from_secs(20);

/// A statement of ten megabytes is run as any other, and one that is nested too deeply is refused; other sessions work meanwhile and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_any_size_concern_their_session_alone() {
    let server = Server::start(ServerOptions::default());
    let (client, other) = (server.connect().await, server.connect().await);
    create(&client).await;
    let pid = number(&client, "SELECT pg_backend_pid()::bigint").await;
    let rows: Vec<String> = (0..60_000).map(|id| format!("({id}, '{id}:{}')", "x".repeat(512))).collect();
    let large = format!("INSERT INTO t VALUES {}", rows.join(", "));
    assert!(large.len() > 10_000_000);
    let large = tokio::spawn(async move {
        let done = client.simple_query(&large).await.expect("a large statement");
        assert!(matches!(done.as_slice(), [SimpleQueryMessage::CommandComplete(60_000)]), "{done:?}");
        client
    });
    // Answers that say that the statement is being run came while it was.
    let at_it =
        format!("SELECT COUNT(*) FROM eddyline.sessions WHERE pid = {pid} AND state = 'active' AND statement LIKE 'INSERT INTO t%'");
    let mut meanwhile = 0;
    while !large.is_finished() {
        let asked = Instant::now();
        let seen = number(&other, "SELECT n FROM v").await;
        assert!(seen == 0 || seen == 60_000, "{seen} rows of one statement");
        meanwhile += number(&other, &at_it).await;
        assert!(asked.elapsed() < MEANWHILE, "another session waited for {:?}", asked.elapsed());
    }
    let client = large.await.expect("it is run");
    assert!(meanwhile > 0, "nobody was answered while it was run");
    assert_eq!(number(&other, "SELECT n FROM v").await, 60_000);
    let as_written = format!("SELECT COUNT(*) FROM t WHERE pad = CAST(id AS VARCHAR) || ':{}'", "x".repeat(512));
    assert_eq!(number(&other, &as_written).await, 60_000);
    assert_eq!(number(&other, "SELECT MAX(id) - MIN(id) FROM t").await, 59_999);
    for (open, inner, close) in
        [("(", "1", ")"), ("ABS(", "1", ")"), ("(SELECT ", "1", ")"), ("CASE WHEN true THEN ", "1", " END"), ("NOT ", "true", "")]
    {
        let nested = format!("SELECT {}{inner}{}", open.repeat(1_000), close.repeat(1_000));
        let asked = Instant::now();
        let (refused, meanwhile) = tokio::join!(client.batch_execute(&nested), number(&other, "SELECT n FROM v"));
        let error = refused.expect_err(open);
        assert_eq!((state(&error), meanwhile), ("54001", 60_000), "{open}: {error:?}");
        assert!(asked.elapsed() < MEANWHILE, "{open}: it took {:?}", asked.elapsed());
        assert_eq!(number(&client, "SELECT n FROM v").await, 60_000, "the session goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_statements_and_leaves_a_clean_directory() {
    let mut server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    create(&client).await;
    insert(&client, 1).await.expect("a row");
    client.batch_execute("CREATE TABLE n (i BIGINT PRIMARY KEY)").await.expect("a table");
    client.batch_execute("INSERT INTO n SELECT * FROM generate_series(1, 20000)").await.expect("rows");
    let running =
        tokio::spawn(async move { client.simple_query("SELECT COUNT(*) FROM n a, n b, n c WHERE a.i + b.i + c.i = 7").await.map(|_| ()) });
    let before = cpu_ticks(&server);
    until("the query runs", || async { (cpu_ticks(&server) > before + 20).then_some(()) }).await;
    let status = tokio::task::block_in_place(|| server.stop());
    assert!(status.success(), "{status}: {}", server.log());
    let error = running.await.expect("the client ends").expect_err("the query was ended");
    assert_eq!(state(&error), "57P01", "{error:?}");
    server.launch().expect("the server starts again");
    has_all(&server, 1).await;
}

/// What fails in the background is reported and tried again; nothing stands still for it, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_in_the_background_are_survived() {
    let points =
        ["view.freeze=panic", "view.vacuum=panic", "checkpoint.upload=panic", "checkpoint.before_manifest=panic", "checkpoint.prune=error"];
    for point in points {
        let failpoints = format!("{point}@2");
        let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", failpoints, ..Default::default() });
        let client = server.connect().await;
        create(&client).await;
        let mut rows = 0;
        let name = point.split('=').next().expect("a name");
        let reported = format!("failpoint {name}");
        until("it fails and goes on", || {
            rows += 1;
            let (client, server, reported, id) = (&client, &server, &reported, rows);
            async move {
                insert(client, id).await.expect("a row");
                server.log().contains(reported).then_some(())
            }
        })
        .await;
        let done = server.metric("eddyline_checkpoints_total").unwrap_or_default();
        until("checkpoints go on", || {
            rows += 1;
            let (client, server, id) = (&client, &server, rows);
            async move {
                insert(client, id).await.expect("a row");
                (server.metric("eddyline_checkpoints_total")? > done + 2.0).then_some(())
            }
        })
        .await;
        let failures = server.metric("eddyline_checkpoint_failures_total").unwrap_or_default();
        assert_eq!(failures > 0.0, !["view.vacuum", "checkpoint.prune"].contains(&name), "{name}: a checkpoint that is there did not fail");
        has_all(&server, rows).await;
        server.kill_and_restart();
        has_all(&server, rows).await;
    }
}

/// What panics while a job's operators are built fails the statement that makes the job, or the start that brings it back, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_a_job_is_built_is_an_error() {
    // Both workers build the table's job, then the view's: on the second of them, when the first has its part already.
    let mut server = Server::start(ServerOptions { workers: 2, failpoints: "job.build=panic@4".into(), ..Default::default() });
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, pad VARCHAR)").await.expect("a table");
    insert(&client, 1).await.expect("a row");
    let view = "CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n, MAX(id) AS m FROM t";
    let error = client.batch_execute(view).await.expect_err("its operators cannot be built");
    assert_eq!(state(&error), "XX000", "{error:?}");
    assert!(error.as_db_error().is_some_and(|e| e.message().contains("failpoint job.build")), "{error:?}");
    let error = client.batch_execute("SELECT * FROM v").await.expect_err("it was not created");
    assert_eq!(state(&error), "42P01", "{error:?}");
    insert(&client, 2).await.expect("the server goes on");
    client.batch_execute(view).await.expect("the same statement works");
    insert(&client, 3).await.expect("a row");
    has_all(&server, 3).await;

    server.kill();
    server.options.failpoints = "job.build=panic".into();
    let refused = tokio::task::block_in_place(|| server.launch().expect_err("the start fails").to_string());
    assert!(refused.contains("an operator panicked: failpoint job.build"), "{refused}");
    server.options.failpoints.clear();
    server.launch().expect("the server starts");
    has_all(&server, 3).await;
}

/// A thread of a source or a sink that panics does nothing any more; who looks is told, and everything else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_reader_or_a_sink_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("rows.json"), "{\"id\": 1}\n").expect("a file");
    let rows_of = format!("connector = 'filesystem', path = '{}/*.json'", dir.path().display());
    let reads = [
        format!("CREATE SOURCE s (id BIGINT) WITH ({rows_of}) FORMAT PLAIN ENCODE JSON"),
        "CREATE MATERIALIZED VIEW of_s AS SELECT id FROM s".to_string(),
    ];
    let sends = ["CREATE SINK k FROM t WITH (connector = 'blackhole')".to_string()];
    for (point, statements, told) in [
        ("files.batch", &reads[..], "SELECT COUNT(*) FROM eddyline.sources WHERE problem LIKE 'reading panicked%failpoint files.batch%'"),
        ("sink.write", &sends[..], "SELECT COUNT(*) FROM eddyline.sinks WHERE problem LIKE 'sending panicked%failpoint sink.write%'"),
        ("sink.logging", &sends[..], "SELECT COUNT(*) FROM eddyline.jobs WHERE job = 'k' AND error LIKE '%failpoint sink.logging%'"),
    ] {
        let failpoints = format!("{point}=panic@1");
        let server = Server::start(ServerOptions { checkpoint_interval: "100ms", failpoints, ..Default::default() });
        let client = server.connect().await;
        create(&client).await;
        for statement in statements {
            client.batch_execute(statement).await.expect("the definitions are accepted");
        }
        insert(&client, 1).await.expect("a row");
        until("it is told", || async { (number(&client, told).await == 1).then_some(()) }).await;
        insert(&client, 2).await.expect("the server goes on");
        has_all(&server, 2).await;
    }
}
