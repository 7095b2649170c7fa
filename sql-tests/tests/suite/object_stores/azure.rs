//! The scenarios on a server that speaks the protocol of Azure's blob store.

use super::scenarios::{Wrong, as_any_other_store};
use eddyline_sql_tests::azure::AzureServer;
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_as_any_other_store() {
    let mut azure = block_in_place(AzureServer::start).expect("a server: scripts/azurite.sh says what it lacks");
    let wrong = Wrong {
        url: "az://nowhere/a",
        key: ("azure.access-key", "d3Jvbmc="),
        endpoint: ("azure.endpoint", "http://127.0.0.1:1/devstoreaccount1"),
    };
    as_any_other_store(&mut azure, &wrong).await;
}
