//! The scenarios on a server that speaks the protocol of Azure's blob store.

use super::scenarios;
use eddyline_sql_tests::Server;
use eddyline_sql_tests::azure::AzureServer;
use eddyline_sql_tests::stores::Store;
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_as_any_other_store() {
    let mut azure = block_in_place(AzureServer::start).expect("a server: scripts/azurite.sh says what it lacks");
    scenarios::checkpoints_outlive_the_local_state(&azure).await;
    scenarios::a_store_that_goes_away_holds_up_checkpoints_only(&mut azure).await;
    scenarios::there_and_back(&mut azure, Vec::new(), "PARQUET").await;
    let server = Server::start(scenarios::options(&azure));
    let client = server.connect().await;
    scenarios::an_object_of_many_parts(&azure, &client).await;
    scenarios::a_right_that_is_lost(&azure, &client, "azure.access-key", "d3Jvbmc=").await;
    for (path, more, code, words) in [
        ("az://nowhere/a", "", "42704", "Create the bucket (or container)"),
        ("az://box/none/*.json", "", "42704", "no file fits"),
        ("az://box/big/*.json", ", azure.access-key = 'd3Jvbmc='", "42501", "refuses these credentials"),
        ("az://box/big/*.json", ", azure.endpoint = 'http://127.0.0.1:1/devstoreaccount1'", "08006", "Check the endpoint"),
    ] {
        let (found, said) = scenarios::refused_source(&client, path, more).await;
        assert!(found == code && said.contains(words), "{path}{more}: {found} {said}");
    }
    let error = scenarios::refused_start(scenarios::options(&azure), &azure.url("checkpoints/two"));
    assert!(error.contains("belongs to another server's data directory"), "{error}");
}
