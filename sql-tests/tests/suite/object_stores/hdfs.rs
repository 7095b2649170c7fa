//! The scenarios on a Hadoop cluster, one after the other because starting it takes seconds.

use super::scenarios;
use eddyline_sql_tests::hdfs::HdfsCluster;
use eddyline_sql_tests::stores::Store;
use eddyline_sql_tests::{Server, ServerOptions};
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hdfs_as_any_other_store() {
    let mut hdfs = block_in_place(HdfsCluster::start).expect("a cluster: scripts/hdfs.sh says what it lacks");
    scenarios::checkpoints_outlive_the_local_state(&hdfs).await;
    scenarios::a_store_that_goes_away_holds_up_checkpoints_only(&mut hdfs).await;
    let variables = hdfs.variables();
    scenarios::there_and_back(&mut hdfs, variables.clone(), "PARQUET").await;
    scenarios::there_and_back(&mut hdfs, variables, "JSON").await;
    let server = Server::start(scenarios::options(&hdfs));
    scenarios::an_object_of_many_parts(&hdfs, &server.connect().await).await;
    refusals(&hdfs, &server).await;
}

/// What is refused says what to do.
async fn refusals(hdfs: &HdfsCluster, server: &Server) {
    let client = server.connect().await;
    for (path, code, words) in [
        (hdfs.url("none/*.json"), "42704", "no file fits"),
        (hdfs.at("secret/*.json"), "42501", "Permission denied: user=eddyline"),
        ("hdfs://127.0.0.1:1/a".to_string(), "08006", "Check the endpoint"),
        ("hdfs://nameservice/a".to_string(), "22023", "HADOOP_CONF_DIR"),
    ] {
        let (found, said) = scenarios::refused_source(&client, &path, "").await;
        assert!(found == code && said.contains(words) && !said.contains("\tat "), "{path}: {found} {said}");
    }
    let nameservice = ", store.dfs.ha.namenodes.ns = 'one', store.dfs.namenode.rpc-address.ns.one = '127.0.0.1:1'";
    assert_eq!(scenarios::refused_source(&client, "hdfs://ns/a", nameservice).await.0, "08006");
    let sink = format!("WITH (connector = 'filesystem', path = '{}') FORMAT PLAIN ENCODE JSON", hdfs.at("others"));
    let error = client.batch_execute(&format!("CREATE SINK no FROM log {sink}")).await.expect_err("the folder is another's");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), "42501", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("HADOOP_USER_NAME")), "{error:?}");
    let refused = |place: &str, options: ServerOptions| scenarios::refused_start(options, place);
    let error = refused(&hdfs.at("others"), scenarios::options(hdfs));
    assert!(error.contains("The store refuses these credentials"), "{error}");
    let error = refused(&hdfs.url("checkpoints/two"), scenarios::options(hdfs));
    assert!(error.contains("belongs to another server's data directory"), "{error}");
}
