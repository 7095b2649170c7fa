//! Checkpoints, sources and sinks in stores that go away in between: nothing is lost, nothing is there twice, and what is wrong is told
//! where one looks. On a server that speaks S3 (here), one that speaks Azure's protocol, a stand-in for Google's store, and HDFS.

mod azure;
mod gcs;
mod hdfs;
mod scenarios;

use eddyline_sql_tests::Server;
use eddyline_sql_tests::client::problem_of;
use eddyline_sql_tests::s3::{S3Server, SECRET_KEY};
use eddyline_sql_tests::stores::Store;
use eddyline_sql_tests::wait::until;
use scenarios::*;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_in_s3_outlive_the_local_state() {
    checkpoints_outlive_the_local_state(&S3Server::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_goes_away_holds_up_checkpoints_only() {
    let mut s3 = S3Server::start();
    a_store_that_goes_away_holds_up_checkpoints_only(&mut s3).await;
    // What a start is refused for says what to do.
    let refused = |place: &str, secret: &str| {
        let mut options = options(&s3);
        options.variables.push(("AWS_SECRET_ACCESS_KEY".to_string(), secret.to_string()));
        refused_start(options, place)
    };
    let error = refused("s3://nowhere/a", SECRET_KEY);
    assert!(error.contains("Create the bucket"), "{error}");
    let error = refused("s3://bucket/a", "wrong");
    assert!(error.contains("The store refuses these credentials"), "{error}");
    let error = refused("s3://bucket/checkpoints/two", SECRET_KEY);
    assert!(error.contains("belongs to another server's data directory"), "{error}");
}

/// A store that lets nothing be removed, for lack of a right or by a rule, keeps what it was given. The log is none of its business.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_refuses_deletes_does_not_keep_the_log() {
    let s3 = S3Server::start();
    let server = Server::start(with_checkpoints(&s3, "checkpoints/four"));
    let client = server.connect().await;
    run(&client, "CREATE TABLE ticks (n INT) APPEND ONLY; CREATE TABLE t (v TEXT) APPEND ONLY").await;
    s3.keep_all(true);
    // More than a file of the log holds.
    run(&client, "INSERT INTO t SELECT repeat('x', 1000) || x FROM generate_series(1, 20000) AS s(x)").await;
    for _ in 0..5 {
        checkpoint(&client).await;
    }
    let first = server.data_dir().join("data/log").join(format!("{:020}.log", 1));
    until("the log is cut", || async { (!first.exists()).then_some(()) }).await;
    let problem = "SELECT problem FROM eddyline.checkpoints WHERE problem LIKE 'durable, but %'";
    let told = until("what is not removed is told", || async { text(&client, problem).await }).await;
    assert!(told.contains("may list, read, write"), "{told}");
    let failures = server.metric("eddyline_checkpoint_failures_total").unwrap_or_default();
    assert!(failures < 1.0, "the checkpoints are there");
    s3.keep_all(false);
    checkpoint(&client).await;
    until("all is removed", || async { text(&client, problem).await.is_none().then_some(()) }).await;
}

/// A signal ends a start that waits for its store, as it ends a server, and nothing is lost by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_waits_for_its_store_can_be_stopped() {
    let mut s3 = S3Server::start();
    let mut server = Server::start(with_checkpoints(&s3, "checkpoints/three"));
    let client = server.connect().await;
    run(&client, "CREATE TABLE t (n INT) APPEND ONLY; CREATE MATERIALIZED VIEW v AS SELECT COUNT(*) AS n FROM t").await;
    run(&client, "INSERT INTO t VALUES (1), (2)").await;
    server.kill();
    let waited = |server: &Server| server.log().matches("the checkpoint store is away").count();
    for signal in ["TERM", "INT"] {
        block_in_place(|| s3.stop());
        let before = waited(&server);
        let _lines = server.begin();
        until("it waits for the store", || async { (waited(&server) > before).then_some(()) }).await;
        let begun = Instant::now();
        let status = block_in_place(|| server.stop_by(signal));
        assert!(status.success(), "SIG{signal}: {status}; log:\n{}", server.log());
        // Far less than it would have waited for the store.
        assert!(begun.elapsed() < Duration::from_secs(15), "SIG{signal}: it took {:?}", begun.elapsed());
        block_in_place(|| s3.restart());
    }
    block_in_place(|| server.launch().expect("the server starts once the store is there"));
    assert_eq!(number(&server.connect().await, "SELECT n FROM v").await, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_to_s3_and_back() {
    there_and_back(&mut S3Server::start(), Vec::new(), "PARQUET").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_to_s3_and_back() {
    there_and_back(&mut S3Server::start(), Vec::new(), "JSON").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_to_s3_that_is_lost() {
    let s3 = S3Server::start();
    let server = Server::start(options(&s3));
    a_right_that_is_lost(&s3, &server.connect().await, ("s3.secret-key", "wrong")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_in_s3_and_what_is_refused() {
    let s3 = S3Server::start();
    let server = Server::start(options(&s3));
    let client = server.connect().await;
    an_object_of_many_parts(&s3, &client).await;
    let wrong = Wrong { url: "s3://nowhere/a", key: ("s3.secret-key", "wrong"), endpoint: ("s3.endpoint", "http://127.0.0.1:1") };
    what_is_refused(&s3, &client, &wrong).await;
    let (code, said) = refused_source(&client, &s3.url("big/*.json"), ", s3.endpont = 'x'").await;
    assert!(code == "42704" && said.contains("Perhaps you meant \"s3.endpoint\""), "{code} {said}");
}

/// What the environment gave a source and a sink may not be there at a start: both wait for it, and nothing else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_without_what_its_environment_gave() {
    let s3 = S3Server::start();
    let mut server = Server::start(options(&s3));
    let client = server.connect().await;
    let place = format!("connector = 'filesystem', path = '{}'", s3.url("given"));
    let (rolled, watched) = ("sink.rolling-policy.rollover-interval = '100 ms'", "source.monitor-interval = '50 ms'");
    run(&client, "CREATE TABLE log (id BIGINT) APPEND ONLY").await;
    run(&client, &format!("CREATE SINK leaving FROM log WITH ({place}, {rolled}) FORMAT PLAIN ENCODE JSON")).await;
    run(&client, &format!("CREATE SOURCE back (id BIGINT) WITH ({place}, {watched}) FORMAT PLAIN ENCODE JSON")).await;
    run(&client, "CREATE MATERIALIZED VIEW seen AS SELECT id FROM back").await;
    run(&client, "INSERT INTO log VALUES (1)").await;
    let seen = "SELECT COUNT(*) FROM seen";
    until("a row has come back", || async { (number(&client, seen).await? == 1).then_some(()) }).await;
    let nowhere = vec![("AWS_ENDPOINT_URL".to_string(), "nowhere".to_string())];
    let given = std::mem::replace(&mut server.options.variables, nowhere);
    // Neither a checkpoint nor the log alone has what was made here: both bring it back.
    for id in [2, 3] {
        block_in_place(|| server.kill_and_restart());
        let client = server.connect().await;
        run(&client, &format!("INSERT INTO log VALUES ({id})")).await;
        assert_eq!(number(&client, "SELECT COUNT(*) FROM log").await, Some(id));
        let told = until("the source says why it is not read", || problem_of(&client, "back")).await;
        assert!(told.contains("an invalid endpoint"), "{told}");
        let problem = "SELECT problem FROM eddyline.sinks WHERE sink = 'leaving'";
        let told = until("the sink says why it sends nothing", || async { text(&client, problem).await }).await;
        assert!(told.contains("an invalid endpoint"), "{told}");
    }
    server.options.variables = given;
    block_in_place(|| server.kill_and_restart());
    let client = server.connect().await;
    until("all rows have come back", || async { (number(&client, seen).await? == 3).then_some(()) }).await;
}
