//! Sources that need no other service, through kills in mid-stream: every row of a file, of a generator and of a request
//! counts once.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use eddyline_sql_tests::client::{number, numbers, problem_of, run, shows};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use parquet::arrow::ArrowWriter;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const FILES_PER_ROUND: i64 = 3;
const ROWS_PER_FILE: i64 = 2_000;

fn options() -> ServerOptions {
    ServerOptions { checkpoint_interval: "100ms", state_cache: "1MiB", ..Default::default() }
}

/// The next file appears whole, by renaming, as whoever hands over files should do it. Keys recur in every file.
fn put(dir: &Path, file: i64) {
    let rows = file * ROWS_PER_FILE..(file + 1) * ROWS_PER_FILE;
    let row = |n: i64| format!("{{\"n\":{n},\"k\":{},\"at\":{}}}\n", n % 1_000, 1_700_000_000_000 + n);
    put_text(dir, file, rows.map(row).collect());
}

/// A file that shows when it is whole.
pub(super) fn put_text(dir: &Path, file: i64, text: String) {
    let hidden = dir.join(format!(".{file:04}.json"));
    std::fs::write(&hidden, text).expect("a file is written");
    std::fs::rename(hidden, dir.join(format!("{file:04}.json"))).expect("a file is renamed");
}

const COUNTS: &str = "SELECT (SELECT COUNT(*) FROM seen), (SELECT COUNT(DISTINCT n) FROM seen), (SELECT SUM(n)::bigint FROM per_window), \
     (SELECT COUNT(*) FROM latest), (SELECT SUM(n)::bigint FROM latest), (SELECT n FROM of_latest)";

/// What `COUNTS` must give for so many files.
fn expected(files: i64) -> Vec<i64> {
    let rows = files * ROWS_PER_FILE;
    let last: i64 = (rows - 1_000..rows).sum();
    vec![rows, rows, rows, 1_000, last, last]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_through_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(options());
    let client = server.connect().await;
    let with = format!(
        "WITH (connector = 'filesystem', path = '{}/*.json', source.monitor-interval = '20 ms') FORMAT PLAIN ENCODE JSON",
        dir.path().display()
    );
    for statement in [
        format!("CREATE SOURCE files (n BIGINT, k BIGINT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second') {with}"),
        format!("CREATE SOURCE latest (n BIGINT, k BIGINT PRIMARY KEY, at TIMESTAMP) {with}"),
        "CREATE MATERIALIZED VIEW seen AS SELECT n FROM files".to_string(),
        "CREATE MATERIALIZED VIEW per_window AS SELECT window_start, COUNT(*) AS n \
         FROM TABLE(TUMBLE(TABLE files, DESCRIPTOR(at), INTERVAL '1' SECOND)) GROUP BY window_start, window_end"
            .to_string(),
        "CREATE MATERIALIZED VIEW of_latest AS SELECT SUM(n) AS n FROM latest".to_string(),
    ] {
        client.batch_execute(&statement).await.expect("the definitions are accepted");
    }
    for round in 0..4 {
        let files = (round + 1) * FILES_PER_ROUND;
        std::thread::scope(|scope| {
            scope.spawn(|| (files - FILES_PER_ROUND..files).for_each(|file| put(dir.path(), file)));
            server.kill();
            server.launch().expect("the server starts again");
        });
        let client = server.connect().await;
        until("every row is in every view once", || async {
            let counts = numbers(&client, COUNTS).await?;
            assert!(counts[0] == counts[1] && counts[0] <= files * ROWS_PER_FILE, "no row is there twice: {counts:?}");
            assert_eq!(counts[4], counts[5], "a view of a keyed source follows it");
            (counts == expected(files)).then_some(())
        })
        .await;
    }
    server.kill_and_restart();
    let client = server.connect().await;
    // A view that is made now finds the same, in a private reading of all files.
    client.batch_execute("CREATE MATERIALIZED VIEW again AS SELECT n FROM files").await.expect("the view is accepted");
    let rows = 4 * FILES_PER_ROUND * ROWS_PER_FILE;
    let again = "SELECT (SELECT COUNT(*) FROM again), (SELECT COUNT(DISTINCT n) FROM again), (SELECT COUNT(*) FROM files)";
    until("a new view has them too", || async { (numbers(&client, again).await? == [rows, rows, rows]).then_some(()) }).await;
    // What was read and then changed cannot be read again, and says so.
    std::fs::write(dir.path().join("0000.json"), "{\"n\":1}\n").expect("a file is written");
    client.batch_execute("CREATE MATERIALIZED VIEW stuck AS SELECT n FROM files").await.expect("the view is accepted");
    until("the change is told", || async { problem_of(&client, "files").await.filter(|p| p.contains("0000.json\" was cut")) }).await;
}

/// A query right after CREATE finds all that was in a folder that is watched, of which the last file is empty: of its first view, of a source that
/// keeps a row per key and of a view over one, also after a kill in the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_watched_folder_is_waited_for() {
    const FILES: i64 = 40;
    let dir = tempfile::tempdir().expect("a directory");
    (0..FILES).for_each(|file| put(dir.path(), file));
    put_text(dir.path(), FILES, String::new());
    let mut server = Server::start(options());
    let source = |name: &str, key: &str| {
        format!(
            "CREATE SOURCE {name} (n BIGINT, k BIGINT {key}) \
             WITH (connector = 'filesystem', path = '{}/*.json', source.monitor-interval = '50 ms') FORMAT PLAIN ENCODE JSON",
            dir.path().display()
        )
    };
    let last: i64 = (FILES * ROWS_PER_FILE - 1_000..FILES * ROWS_PER_FILE).sum();
    for (round, is_killed) in [false, true].into_iter().enumerate() {
        let client = server.connect().await;
        run(&client, &source(&format!("files{round}"), "")).await;
        run(&client, &format!("CREATE MATERIALIZED VIEW seen{round} AS SELECT n FROM files{round}")).await;
        if is_killed {
            tokio::task::block_in_place(|| server.kill_and_restart());
        }
        let client = server.connect().await;
        assert_eq!(number(&client, &format!("SELECT COUNT(*) FROM seen{round}")).await, FILES * ROWS_PER_FILE);
        run(&client, &source(&format!("latest{round}"), "PRIMARY KEY")).await;
        if is_killed {
            tokio::task::block_in_place(|| server.kill_and_restart());
        }
        let client = server.connect().await;
        assert_eq!(number(&client, &format!("SELECT SUM(n)::bigint FROM latest{round}")).await, last);
        run(&client, &source(&format!("beneath{round}"), "PRIMARY KEY")).await;
        run(&client, &format!("CREATE MATERIALIZED VIEW above{round} AS SELECT SUM(n) AS n FROM beneath{round}")).await;
        if is_killed {
            tokio::task::block_in_place(|| server.kill_and_restart());
        }
        let client = server.connect().await;
        assert_eq!(number(&client, &format!("SELECT n::bigint FROM above{round}")).await, last);
        let filling =
            format!("SELECT COUNT(*) FROM eddyline.jobs WHERE backfill_permille < 1000 AND job IN ('seen{round}', 'above{round}')");
        until("nothing is shown as being filled", || async { (number(&client, &filling).await == 0).then_some(()) }).await;
    }
    // What comes later is read as it comes.
    put(dir.path(), FILES + 1);
    let client = server.connect().await;
    let rows = (FILES + 1) * ROWS_PER_FILE;
    until("a new file is read", || async { (number(&client, "SELECT COUNT(*) FROM seen0").await == rows).then_some(()) }).await;
}

/// One file of rows of which every tenth has a value of another type in a column.
fn put_wide(dir: &Path, file: i64) {
    let row = |n: i64| {
        let b = if n % 10 == 3 { "\"none\"".to_string() } else { (n * 2).to_string() };
        format!("{{\"n\":{n},\"a\":\"text of {n}\",\"b\":{b},\"c\":1}}\n")
    };
    put_text(dir, file, (file * ROWS_PER_FILE..(file + 1) * ROWS_PER_FILE).map(row).collect());
}

/// Columns that no view reads are checked and not kept. A view that reads others has them of every row, whenever it is made, and which
/// records can be decoded does not depend on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_that_read_other_columns() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(options());
    let client = server.connect().await;
    let with = format!(
        "WITH (connector = 'filesystem', path = '{}/*.json', source.monitor-interval = '20 ms') FORMAT PLAIN ENCODE JSON",
        dir.path().display()
    );
    let source = format!("CREATE SOURCE wide (n BIGINT, a TEXT, b BIGINT, c BIGINT NOT NULL) {with}");
    client.batch_execute(&source).await.expect("the source is accepted");
    let views = ["COUNT(n), SUM(c)::bigint", "COUNT(a), COUNT(DISTINCT a)", "COUNT(b), (SUM(b) - SUM(n))::bigint"];
    for round in 0..6 {
        if let Some(columns) = views.get(round as usize / 2).filter(|_| round % 2 == 0) {
            let sql = format!("CREATE MATERIALIZED VIEW v{} (x, y) AS SELECT {columns} FROM wide", round / 2);
            server.connect().await.batch_execute(&sql).await.expect("the view is accepted");
        }
        put_wide(dir.path(), 2 * round);
        if round % 2 == 1 {
            server.kill_and_restart();
        }
        put_wide(dir.path(), 2 * round + 1);
        let files = 2 * round + 2;
        let good: Vec<i64> = (0..files * ROWS_PER_FILE).filter(|n| n % 10 != 3).collect();
        let (count, sum) = (good.len() as i64, good.iter().sum::<i64>());
        let client = server.connect().await;
        for view in 0..=round / 2 {
            let expected = vec![count, if view == 2 { sum } else { count }];
            until("every row is in every view", || async {
                let found = numbers(&client, &format!("SELECT x, y FROM v{view}")).await?;
                (found == expected).then_some(())
            })
            .await;
        }
        let undecodable = numbers(&client, "SELECT undecodable FROM eddyline.sources WHERE source = 'wide'").await;
        assert_eq!(undecodable, Some(vec![files * ROWS_PER_FILE / 10]), "whoever reads it, a record can be decoded or not");
    }
}

/// A file of rows `n` and `t` = `text of N`. `damaged`: in the bytes of `t` of the last rows.
fn put_parquet(dir: &Path, file: i64, damaged: bool) {
    let n = file * ROWS_PER_FILE..(file + 1) * ROWS_PER_FILE;
    let t: ArrayRef = Arc::new(StringArray::from_iter_values(n.clone().map(|n| format!("text of {n}"))));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(n));
    let rows = RecordBatch::try_from_iter([("n", n), ("t", t)]).expect("columns of one length");
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).expect("a writer");
    writer.write(&rows).expect("rows are written");
    let mut bytes = writer.into_inner().expect("a file is written");
    if damaged {
        let last = format!("text of {}", (file + 1) * ROWS_PER_FILE - 2);
        let at = bytes.windows(last.len()).position(|part| part == last.as_bytes()).expect("texts are not packed");
        bytes[at..at + last.len()].fill(0xff);
    }
    std::fs::write(dir.join(format!(".{file}")), bytes).expect("a file is written");
    std::fs::rename(dir.join(format!(".{file}")), dir.join(format!("{file}.parquet"))).expect("a file is renamed");
}

/// A column of a Parquet file that nobody reads is not read, so nobody notices its damage. Who reads it later rejects its rows; to the others they
/// are there, also when they are read again together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_column_concerns_those_who_read_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut server = Server::start(options());
    let client = server.connect().await;
    put_parquet(dir.path(), 0, false);
    put_parquet(dir.path(), 1, true);
    let with = format!(
        "WITH (connector = 'filesystem', path = '{}/*.parquet', source.monitor-interval = '20 ms') FORMAT PLAIN ENCODE PARQUET",
        dir.path().display()
    );
    client.batch_execute(&format!("CREATE SOURCE p (n BIGINT, t TEXT) {with}")).await.expect("the source is accepted");
    client.batch_execute("CREATE MATERIALIZED VIEW ns AS SELECT COUNT(*) AS x, SUM(n)::bigint AS s FROM p").await.expect("a view");
    let seen = "SELECT (SELECT x FROM ns), (SELECT s FROM ns), (SELECT COUNT(*) FROM p), (SELECT undecodable FROM eddyline.sources)";
    let all = |files: i64| vec![files * ROWS_PER_FILE, (0..files * ROWS_PER_FILE).sum(), files * ROWS_PER_FILE, 0];
    until("all rows are there", || async { (numbers(&client, seen).await? == all(2)).then_some(()) }).await;
    client.batch_execute("CREATE MATERIALIZED VIEW ts AS SELECT COUNT(*) AS x, COUNT(t) AS t FROM p").await.expect("a view");
    let texts = "SELECT (SELECT x FROM ts), (SELECT t FROM ts), (SELECT COALESCE(SUM(weight), 0)::bigint FROM eddyline.rejected_rows WHERE view = 'ts'), \
         (SELECT COUNT(t) FROM p)";
    for files in 2..5 {
        if files > 2 {
            put_parquet(dir.path(), files - 1, files == 4);
            server.kill_and_restart();
        }
        let client = server.connect().await;
        until("all rows are there", || async { (numbers(&client, seen).await? == all(files)).then_some(()) }).await;
        let damaged = if files < 4 { ROWS_PER_FILE } else { 2 * ROWS_PER_FILE };
        let readable = files * ROWS_PER_FILE - damaged;
        until("the others are rejected", || async {
            (numbers(&client, texts).await? == [readable, readable, damaged, readable]).then_some(())
        })
        .await;
    }
    // A file that was found and is another one now is not read again, though it has as many bytes. What was read of it stays.
    put_parquet(dir.path(), 0, true);
    let client = server.connect().await;
    client.batch_execute("CREATE MATERIALIZED VIEW stuck AS SELECT n FROM p").await.expect("the view is accepted");
    until("the change is told", || async { problem_of(&client, "p").await.filter(|p| p.contains("0.parquet\" was changed")) }).await;
    assert_eq!(numbers(&client, "SELECT x, s FROM ns").await, Some(all(4)[..2].to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_rows_through_kills() {
    let mut server = Server::start(options());
    let client = server.connect().await;
    for statement in [
        "CREATE SOURCE g (id BIGINT, v INT, at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'datagen', number-of-rows = '20000', \
         rows-per-second = '20000', fields.id.kind = 'sequence', fields.id.start = '1', fields.id.end = '20000', fields.v.min = '0', \
         fields.v.max = '9')",
        "CREATE MATERIALIZED VIEW by_v AS SELECT v, COUNT(*) AS n, SUM(id) AS ids FROM g GROUP BY v",
    ] {
        client.batch_execute(statement).await.expect("the definitions are accepted");
    }
    for _ in 0..3 {
        let before = numbers(&client, "SELECT COALESCE(SUM(n), 0)::bigint FROM by_v").await;
        server.kill_and_restart();
        let client = server.connect().await;
        let after = numbers(&client, "SELECT COALESCE(SUM(n), 0)::bigint FROM by_v").await;
        assert!(after >= before, "what was seen is still there: {before:?}, {after:?}");
    }
    let client = server.connect().await;
    let all = "SELECT (SELECT SUM(n)::bigint FROM by_v), (SELECT SUM(ids)::bigint FROM by_v)";
    until("all rows are there", || async { (numbers(&client, all).await? == [20_000, 200_010_000]).then_some(()) }).await;
    let differing = "SELECT COUNT(*) FROM (SELECT v, COUNT(*) AS n, SUM(id) AS ids FROM g GROUP BY v EXCEPT SELECT * FROM by_v) AS d";
    assert_eq!(numbers(&client, differing).await, Some(vec![0]), "a row is the same whenever it is made");
}

fn post(port: u16, path: &str, headers: &str, body: &str) -> (u16, String) {
    send(port, &format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
}

/// A record with a longer text than its column may have is put aside with its reason; blanks that are too many are cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_that_are_too_long_are_put_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let texts = ["abc", "abcd", "ab     ", "\u{e4}\u{f6}\u{fc}"];
    put_text(dir.path(), 0, texts.iter().enumerate().map(|(n, text)| format!("{{\"n\":{n},\"code\":\"{text}\"}}\n")).collect());
    let mut server = Server::start(options());
    let client = server.connect().await;
    let with = format!("WITH (connector = 'filesystem', path = '{}/*.json') FORMAT PLAIN ENCODE JSON", dir.path().display());
    run(&client, &format!("CREATE SOURCE coded (n BIGINT, code VARCHAR(3)) {with}")).await;
    // A view that does not read the column has the same rows.
    run(&client, "CREATE MATERIALIZED VIEW codes AS SELECT n, code || '.' AS code FROM coded").await;
    run(&client, "CREATE MATERIALIZED VIEW ns AS SELECT n FROM coded").await;
    for is_again in [false, true] {
        if is_again {
            tokio::task::block_in_place(|| server.kill_and_restart());
        }
        let client = server.connect().await;
        shows(&client, "SELECT n, code FROM codes ORDER BY n", &[&["0", "abc."], &["2", "ab ."], &["3", "\u{e4}\u{f6}\u{fc}."]]).await;
        shows(&client, "SELECT n FROM ns ORDER BY n", &[&["0"], &["2"], &["3"]]).await;
        let reasons = "SELECT reason FROM eddyline.undecodable_records WHERE source = 'coded'";
        let reason = format!("file \"{}/0000.json\": column code: the text is longer than 3 characters", dir.path().display());
        shows(&client, reasons, &[&[reason.as_str()]]).await;
    }
    let read_once = "SELECT n FROM coded ORDER BY n";
    shows(&server.connect().await, read_once, &[&["0"], &["2"], &["3"]]).await;
}

/// Sends a request and gives the answer's status and body.
fn send(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP port is open");
    stream.write_all(request.as_bytes()).expect("a request is sent");
    let mut answer = Vec::new();
    // A server that does not want the rest may close before it has all.
    let _end = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).expect("an answer is text");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_kept_when_they_are_answered() {
    let mut server = Server::start(options());
    let client = server.connect().await;
    for statement in [
        "CREATE SOURCE hook (id BIGINT NOT NULL, v VARCHAR) WITH (connector = 'webhook') FORMAT PLAIN ENCODE JSON",
        "CREATE SOURCE state (id BIGINT PRIMARY KEY, v VARCHAR) WITH (connector = 'http', webhook.token = 'abc') FORMAT PLAIN ENCODE JSON",
        "CREATE SOURCE of_lines (id BIGINT NOT NULL, v VARCHAR) WITH (connector = 'webhook', csv.allow-comments = 'true') FORMAT PLAIN ENCODE CSV",
        "CREATE MATERIALIZED VIEW total AS SELECT COUNT(*) AS n, SUM(id) AS ids FROM hook",
    ] {
        client.batch_execute(statement).await.expect("the definitions are accepted");
    }
    let counts = "SELECT n, ids::bigint, (SELECT COUNT(*) FROM hook), (SELECT SUM(id)::bigint FROM state) FROM total";
    let (mut rows, mut ids) = (0, 0);
    for round in 1..=3 {
        let port = server.http_port;
        assert_eq!(post(port, "/source/hook", "", "{\"id\":1,\"v\":\"a\"}\n{\"id\":2}\n").0, 200);
        assert_eq!(post(port, "/source/hook", "", "[{\"id\":3}, {\"id\":4}]").0, 200);
        let keyed = format!("{{\"id\":{round}}} {{\"id\":100,\"v\":\"x\"}} {{\"id\":100,\"v\":\"{round}\"}}");
        assert_eq!(post(port, "/source/state", "Authorization: Bearer abc\r\n", &keyed).0, 200);
        (rows, ids) = (rows + 4, ids + 10);
        server.kill_and_restart();
        let client = server.connect().await;
        let keys = (1..=round).sum::<i64>() + 100;
        assert_eq!(numbers(&client, counts).await, Some(vec![rows, ids, rows, keys]));
    }
    let (status, body) = post(server.http_port, "/source/of_lines", "", "# id, v\n7,a\n#\n");
    assert!(status == 200 && body.contains("\"rows\":1"), "comments are no rows: {status} {body}");
    refusals(&server, rows).await;
}

/// A row whose sender does not wait for the answer may be written all the same, and the next one of its key must find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_leaves_one_row_of_a_key() {
    let server = Server::start(options());
    let client = server.connect().await;
    let source = "CREATE SOURCE state (id BIGINT PRIMARY KEY, v VARCHAR) WITH (connector = 'webhook') FORMAT PLAIN ENCODE JSON";
    client.batch_execute(source).await.expect("the definition is accepted");
    for n in 0..300 {
        let body = format!("{{\"id\":1,\"v\":\"{n}\"}}");
        let request = format!("POST /source/state HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut stream = TcpStream::connect(("127.0.0.1", server.http_port)).expect("the HTTP port is open");
        stream.write_all(request.as_bytes()).expect("it is sent");
        // At some of these moments the row is on its way to the log.
        tokio::time::sleep(Duration::from_micros(n % 20 * 100)).await;
    }
    assert_eq!(post(server.http_port, "/source/state", "", "{\"id\":1}").0, 200);
    assert_eq!(numbers(&client, "SELECT COUNT(*) FROM state").await, Some(vec![1]));
}

/// Or else the requests that wait for it would soon have the places of all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_source_is_told_of() {
    let server = Server::start(options());
    let client = server.connect().await;
    run(&client, "CREATE SOURCE state (id BIGINT PRIMARY KEY, v VARCHAR) WITH (connector = 'webhook') FORMAT PLAIN ENCODE JSON").await;
    run(&client, "BEGIN; SELECT * FROM state FOR UPDATE").await;
    let (status, body) = post(server.http_port, "/source/state", "", "{\"id\":1}");
    assert!(status == 503 && body.contains("55P03"), "{status} {body}");
    run(&client, "COMMIT").await;
    assert_eq!(post(server.http_port, "/source/state", "", "{\"id\":1}").0, 200);
    assert_eq!(numbers(&client, "SELECT COUNT(*) FROM state").await, Some(vec![1]));
}

/// What is wrong is answered with its reason, and nothing of it is kept.
async fn refusals(server: &Server, rows: i64) {
    let port = server.http_port;
    let (status, body) = post(port, "/source/hook", "", "{\"id\":1}\n{\"v\":\"x\"}");
    assert_eq!((status, body.as_str()), (400, r#"{"error":"column id: the field is missing, but the column is NOT NULL","row":2}"#));
    assert_eq!(post(port, "/source/hook", "", "{\"id\":").0, 400);
    assert_eq!(post(port, "/source/other", "", "{}").0, 404);
    assert_eq!(post(port, "/source/total", "", "{}").0, 404);
    assert_eq!(post(port, "/source/state", "", "{\"id\":1}").0, 401);
    assert_eq!(send(port, "POST /source/hook HTTP/1.1\r\nHost: x\r\nContent-Length: 17000000\r\n\r\n{").0, 413);
    // Requests that are under way hold their places until they are done; some may find none themselves.
    let waiting = RefCell::new(Vec::new());
    until("one more is refused", || async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP port is open");
        stream.write_all(b"POST /source/hook HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").expect("a part is sent");
        waiting.borrow_mut().push(stream);
        (post(port, "/source/hook", "", "{\"id\":0}").0 == 429).then_some(())
    })
    .await;
    // Who may not write is told so, and takes no place.
    assert_eq!(post(port, "/source/state", "", "[]").0, 401);
    drop(waiting);
    until("there is room again", || async { (post(port, "/source/hook", "", "[]").0 == 200).then_some(()) }).await;
    let client = server.connect().await;
    let kept = numbers(&client, "SELECT COUNT(*) FROM hook WHERE id > 0").await;
    assert_eq!(kept, Some(vec![rows]), "nothing of a refused request is kept");
}
