//! Jobs that stop, and what must be in a checkpoint nevertheless: the rows of a table whose own job failed, and what a sink makes
//! of rows that it has not come to. What a job is at has one name.

use super::sinks::lines;
use eddyline_sql_tests::client::{number, rows, run};
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Client;

const CHECKPOINTS: &str = "SELECT COALESCE(MAX(checkpoint), 0) FROM eddyline.checkpoints WHERE problem IS NULL";

/// Writes to `other`, which works, until there is a new checkpoint.
async fn another_checkpoint(client: &Client) {
    let before = number(client, CHECKPOINTS).await;
    until("another checkpoint", || async {
        run(client, "INSERT INTO other VALUES (1)").await;
        (number(client, CHECKPOINTS).await > before).then_some(())
    })
    .await;
}

/// Table `t` with two rows in a checkpoint and one at which its job stops, beside a table that goes on.
async fn with_a_stopped_table() -> (Server, Client) {
    let server = Server::start(ServerOptions {
        workers: 1,
        checkpoint_interval: "20ms",
        failpoints: "view.apply=error@3".into(),
        ..Default::default()
    });
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (id INT)").await;
    run(&client, "CREATE TABLE other (id INT)").await;
    for n in 1..=2 {
        let before = number(&client, CHECKPOINTS).await;
        run(&client, &format!("INSERT INTO t VALUES ({n})")).await;
        assert_eq!(number(&client, "SELECT COUNT(*) FROM t").await, n);
        until("a checkpoint has it", || async { (number(&client, CHECKPOINTS).await > before).then_some(()) }).await;
    }
    // Nothing may be lost of what was acknowledged, whether the job meets it before the statement ends or later.
    let _stopped = client.batch_execute("INSERT INTO t VALUES (3)").await;
    for statement in ["SELECT * FROM t", "INSERT INTO t VALUES (4)"] {
        let refused = client.batch_execute(statement).await.expect_err("the table has stopped");
        let refused = refused.as_db_error().expect("an error of the server");
        assert_eq!((refused.code().code(), refused.message()), ("55000", "table \"t\" has stopped"), "{statement}");
    }
    (server, client)
}

/// A checkpoint without the table's rows would let go of the log that has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_has_stopped_loses_nothing() {
    for killed in [true, false] {
        nothing_is_lost(killed).await;
    }
}

async fn nothing_is_lost(killed: bool) {
    let (mut server, client) = with_a_stopped_table().await;
    // One may have been under way.
    let before = number(&client, CHECKPOINTS).await;
    for _ in 0..50 {
        run(&client, "INSERT INTO other VALUES (1)").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(number(&client, CHECKPOINTS).await <= before + 1, "there are checkpoints; log:\n{}", server.log());
    assert_eq!(number(&client, "SELECT COUNT(*) FROM other").await, 50, "other tables go on");
    assert_eq!(waits_for(&client).await.as_deref(), Some("none is taken while table \"t\" has stopped"));
    server.options.failpoints.clear();
    tokio::task::block_in_place(|| {
        // The last checkpoint of a server that stops would have it no better.
        if killed {
            server.kill();
        } else {
            server.stop();
        }
        server.launch().expect("the server starts again");
    });
    let client = server.connect().await;
    assert_eq!(number(&client, "SELECT SUM(id) FROM t").await, 6);
    assert_eq!(number(&client, "SELECT COUNT(*) FROM other").await, 50);
    run(&client, "INSERT INTO t VALUES (4)").await;
    another_checkpoint(&client).await;
    assert_eq!(number(&client, "SELECT SUM(id) FROM t").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_go_on_without_a_stopped_table() {
    let (_server, client) = with_a_stopped_table().await;
    run(&client, "DROP TABLE t").await;
    another_checkpoint(&client).await;
}

/// What the next checkpoint waits for.
async fn waits_for(client: &Client) -> Option<String> {
    let row = client.query_opt("SELECT problem FROM eddyline.checkpoints WHERE epoch IS NULL", &[]).await.expect("the relation");
    row.map(|row| row.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_says_which_source_it_waits_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (files, away) = (folder.path().join("files"), folder.path().join("away"));
    std::fs::create_dir(&files).expect("a folder");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "1h", ..Default::default() });
    let client = server.connect().await;
    let place = files.display();
    let source = format!("CREATE SOURCE s (id INT) WITH (connector = 'filesystem', path = '{place}', source.monitor-interval = '10 ms')");
    run(&client, &format!("{source} FORMAT PLAIN ENCODE JSON")).await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM s").await;
    add(&files, "a", r#"{"id": 1}"#);
    until("the row is here", || async { (number(&client, "SELECT n FROM counted").await == 1).then_some(()) }).await;
    assert_eq!(waits_for(&client).await, None);
    tokio::task::block_in_place(|| {
        server.kill();
        std::fs::rename(&files, &away).expect("the source goes");
        server.launch().expect("the server starts again");
    });
    let client = server.connect().await;
    assert_eq!(waits_for(&client).await.as_deref(), Some("waits until source \"s\" has been read again as far as before the restart"));
    std::fs::rename(&away, &files).expect("the source comes back");
    until("the source is read again", || async { waits_for(&client).await.is_none().then_some(()) }).await;
    assert_eq!(number(&client, "SELECT n FROM counted").await, 1);
}

async fn state_of(client: &Client, job: &str) -> Option<String> {
    let row = client.query_one("SELECT state FROM eddyline.jobs WHERE job = $1", &[&job]).await.ok()?;
    Some(row.get(0))
}

fn add(folder: &Path, name: &str, line: &str) {
    let hidden = folder.join(format!(".{name}"));
    std::fs::write(&hidden, format!("{line}\n")).expect("a file");
    std::fs::rename(hidden, folder.join(name)).expect("it shows");
}

/// A sink that stands before a row that fails, when another policy is given: what counts for that row is in the checkpoint, so it is the same whether
/// the server goes on or starts again from there. What becomes of the sink.
async fn standing(policy: &str, altered: &str, restarts: bool) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(ServerOptions { checkpoint_interval: "20ms", ..Default::default() });
    let mut client = server.connect().await;
    let source = format!(
        "CREATE SOURCE s (id INT, b INT) WITH (connector = 'filesystem', path = '{}', source.monitor-interval = '10 ms') FORMAT PLAIN ENCODE JSON",
        folder.path().display()
    );
    run(&client, &source).await;
    run(&client, "CREATE TABLE other (id INT)").await;
    run(&client, "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM s").await;
    let options = format!("connector = 'blackhole', sink.log-size = '1', on_error = '{policy}'");
    run(&client, &format!("CREATE SINK out AS SELECT id, 100 / b AS q FROM s WITH ({options})")).await;
    run(&client, "ALTER JOB out PAUSE").await;
    add(folder.path(), "a", r#"{"id": 1, "b": 1}"#);
    until("the log is full", || async { state_of(&client, "out").await.filter(|state| state == "waiting for the sink") }).await;
    add(folder.path(), "b", r#"{"id": 2, "b": 0}"#);
    until("the row is here", || async { (number(&client, "SELECT n FROM counted").await == 2).then_some(()) }).await;
    run(&client, &format!("ALTER SINK out SET (on_error = '{altered}')")).await;
    // One that was under way, and one that began since.
    another_checkpoint(&client).await;
    another_checkpoint(&client).await;
    if restarts {
        tokio::task::block_in_place(|| server.kill_and_restart());
        client = server.connect().await;
    }
    run(&client, "ALTER JOB out RESUME").await;
    add(folder.path(), "c", r#"{"id": 3, "b": 1}"#);
    let ended = async || match state_of(&client, "out").await?.as_str() {
        "stopped" => Some("stopped".to_string()),
        _ => (number(&client, "SELECT COALESCE(SUM(rows_sent), 0)::bigint FROM eddyline.sinks").await == 2).then(|| "sent".to_string()),
    };
    until("the sink stops, or sends what it can", ended).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standing_sink_goes_on_as_after_a_restart() {
    for restarts in [false, true] {
        assert_eq!(standing("reject", "stop", restarts).await, "stopped", "restarts: {restarts}");
        assert_eq!(standing("stop", "reject", restarts).await, "sent", "restarts: {restarts}");
    }
}

/// What a job is at, as `eddyline.jobs`, SHOW JOBS and EXPLAIN ANALYZE have it.
async fn shown_states(client: &Client, job: &str) -> [Option<String>; 3] {
    let listed = rows(client, "SHOW JOBS").await.into_iter().find(|row| row[0].as_deref() == Some(job)).and_then(|row| row[1].clone());
    let explained = rows(client, &format!("EXPLAIN ANALYZE JOB {job}")).await.swap_remove(0).swap_remove(0);
    let explained = explained.and_then(|line| Some(line.strip_prefix(&format!("Job {job}: "))?.split(" epoch=").next()?.to_string()));
    [state_of(client, job).await, listed, explained]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_has_one_name_wherever_it_is_shown() {
    let (folder, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (sent, away) = (out.path().join("sent"), out.path().join("away"));
    let server = Server::start(ServerOptions { checkpoint_interval: "50ms", ..Default::default() });
    let client = server.connect().await;
    let source = format!(
        "CREATE SOURCE s (id INT, b INT) WITH (connector = 'filesystem', path = '{}', source.monitor-interval = '10 ms') FORMAT PLAIN ENCODE JSON",
        folder.path().display()
    );
    let retries = format!(
        "CREATE SINK sending AS SELECT id FROM s WITH (connector = 'filesystem', path = '{}', sink.rolling-policy.rollover-interval = '20 ms') \
         FORMAT PLAIN ENCODE JSON",
        sent.display()
    );
    for statement in [
        source.as_str(),
        "CREATE MATERIALIZED VIEW counted AS SELECT COUNT(*) AS n FROM s",
        "CREATE MATERIALIZED VIEW staying AS SELECT id FROM s",
        "CREATE MATERIALIZED VIEW halted AS SELECT id, 100 / b AS q FROM s WITH (on_error = 'stop')",
        "CREATE SINK filled AS SELECT id FROM s WITH (connector = 'blackhole', sink.log-size = '1')",
        "CREATE SINK held AS SELECT id FROM s WITH (connector = 'blackhole')",
        retries.as_str(),
        "ALTER MATERIALIZED VIEW staying PAUSE",
        "ALTER JOB filled PAUSE",
        "ALTER JOB held PAUSE",
    ] {
        run(&client, statement).await;
    }
    add(folder.path(), "a", r#"{"id": 1, "b": 1}"#);
    until("the row is sent", || async { (lines(&sent).len() == 1).then_some(()) }).await;
    std::fs::rename(&sent, &away).expect("the folder moves");
    std::fs::write(&sent, "").expect("a file in its place");
    add(folder.path(), "b", r#"{"id": 2, "b": 0}"#);
    for (job, state) in [
        ("counted", "running"),
        ("staying", "paused"),
        ("halted", "stopped"),
        ("filled", "waiting for the sink"),
        ("held", "paused"),
        ("sending", "retrying"),
    ] {
        until(state, || async { state_of(&client, job).await.filter(|found| found == state) }).await;
        assert_eq!(shown_states(&client, job).await, [(); 3].map(|()| Some(state.to_string())), "{job}");
    }
}
