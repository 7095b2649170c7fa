//! The scenarios on the stand-in for Google Cloud Storage.

use super::scenarios::{Wrong, as_any_other_store, refused_source, run};
use eddyline_sql_tests::gcs::{GcsServer, KEY_ID, service_account};
use eddyline_sql_tests::stores::Store;
use eddyline_sql_tests::{Server, ServerOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcs_as_any_other_store() {
    let other = service_account("other-key");
    let wrong = Wrong { url: "gs://nowhere/a", key: ("gs.service-account-key", &other), endpoint: ("gs.endpoint", "http://127.0.0.1:1") };
    as_any_other_store(&mut GcsServer::start(), &wrong).await;
}

/// A statement's account goes before the environment's, though one is a file and the other a file's content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_a_statement_names() {
    let gcs = GcsServer::start();
    let variables = vec![("GOOGLE_SERVICE_ACCOUNT".to_string(), "/nowhere.json".to_string())];
    let server = Server::start(ServerOptions { variables, ..Default::default() });
    let client = server.connect().await;
    let (code, said) = refused_source(&client, &gcs.url("none/*.json"), "").await;
    assert!(code == "22023" && said.contains("/nowhere.json"), "{code} {said}");
    let (_, endpoint) = &gcs.options()[0];
    // Also an endpoint with a slash at its end.
    let own = format!("gs.endpoint = '{endpoint}/', gs.service-account-key = '{}'", service_account(KEY_ID));
    let written = format!("WITH (connector = 'filesystem', path = '{}', {own}) FORMAT PLAIN ENCODE JSON", gcs.url("own"));
    run(&client, "CREATE TABLE sent (id BIGINT) APPEND ONLY").await;
    run(&client, &format!("CREATE SINK own FROM sent {written}")).await;
    let (code, said) = refused_source(&client, &gcs.url("none/*.json"), &format!(", {own}")).await;
    assert!(code == "42704" && said.contains("no file fits"), "{code} {said}");
}
