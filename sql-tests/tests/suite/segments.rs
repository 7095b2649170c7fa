//! Rows of tables and views in mapped files: what is on disk while the server runs, after it was killed, and what happens when
//! such a file is damaged.

use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tokio_postgres::Client;

const ROWS: i64 = 20_000;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// The manifests, oldest first: of each, the names that views have for files, and those of the files in the store.
fn checkpoints(data: &Path) -> Vec<BTreeMap<String, String>> {
    let manifest = |path: PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let manifest: Value = serde_json::from_str(text.lines().next()?).ok()?;
        let named = manifest["body"]["view_files"].as_object()?;
        Some(named.iter().map(|(name, file)| (name.clone(), file["name"].as_str().unwrap_or_default().to_string())).collect())
    };
    files(&data.join("checkpoints/manifests")).into_iter().filter_map(manifest).collect()
}

async fn load(client: &Client) {
    client.batch_execute("CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT, v BIGINT)").await.expect("a table");
    client.batch_execute("CREATE MATERIALIZED VIEW large AS SELECT id, name FROM t WHERE v >= 100").await.expect("a view");
    for first in (0..ROWS).step_by(1000) {
        let rows: Vec<String> = (first..first + 1000).map(|id| format!("({id}, 'name {id}', {})", id % 1000)).collect();
        client.batch_execute(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await.expect("rows");
    }
}

/// Counts and sums over both relations, and one row looked up by its key.
async fn content(client: &Client) -> Vec<i64> {
    let query = "SELECT (SELECT COUNT(*) FROM t), (SELECT SUM(v)::bigint FROM t), (SELECT COUNT(*) FROM large), (SELECT SUM(id)::bigint FROM large), \
                 (SELECT COUNT(*) FROM t WHERE id = 7777 AND name = 'name 7777')";
    let row = client.query_one(query, &[]).await.expect("the views can be read");
    (0..5).map(|i| row.get::<_, Option<i64>>(i).unwrap_or(0)).collect()
}

/// Waits for a checkpoint that the last one is not.
async fn next_checkpoint(data: &Path, client: &Client) {
    let manifests = data.join("checkpoints/manifests");
    let before = files(&manifests).pop();
    client.batch_execute("UPDATE t SET v = v + 1 WHERE id % 97 = 0").await.expect("an update");
    until("a checkpoint is written", || async { (files(&manifests).pop() > before).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mapped_rows_survive_kills_and_damage_is_noticed() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let data = server.data_dir().join("data");
    let client = server.connect().await;
    load(&client).await;
    client.batch_execute("DELETE FROM t WHERE id % 10 = 3").await.expect("a deletion");
    next_checkpoint(&data, &client).await;
    next_checkpoint(&data, &client).await;
    let expected = content(&client).await;
    assert_eq!((expected[0], expected[4]), (ROWS * 9 / 10, 1));
    assert!(!files(&data.join("state/views")).is_empty(), "rows are in files");
    // What an earlier process left is swept away, what the checkpoint needs is mapped again.
    let stray = data.join("state/views/view-stray");
    fs::write(&stray, "nobody's").expect("a file");
    server.kill_and_restart();
    let client = server.connect().await;
    assert_eq!(content(&client).await, expected);
    assert!(!stray.exists());

    // Of these two the second has files that the first has not.
    next_checkpoint(&data, &client).await;
    next_checkpoint(&data, &client).await;
    let expected = content(&client).await;
    server.kill();
    let checkpoints = checkpoints(&data);
    let [.., before, newest] = checkpoints.as_slice() else { panic!("{} checkpoints are kept", checkpoints.len()) };
    let (_, only_there) = newest.iter().find(|(name, _)| !before.contains_key(*name)).expect("the newest checkpoint has new files");
    let path = data.join("checkpoints/files").join(only_there);
    let mut bytes = fs::read(&path).expect("a checkpoint file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("a damaged file");
    server.launch().expect("the server starts from the checkpoint before");
    assert!(server.log().contains("falling back to the one before"));
    assert_eq!(content(&server.connect().await).await, expected);
    assert!(server.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_dropped_views_are_removed() {
    let server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let data = server.data_dir().join("data");
    let client = server.connect().await;
    load(&client).await;
    next_checkpoint(&data, &client).await;
    assert!(!files(&data.join("state/views")).is_empty());
    client.batch_execute("DROP TABLE t CASCADE").await.expect("a drop");
    until("the files are gone", || async { files(&data.join("state/views")).is_empty().then_some(()) }).await;
}
