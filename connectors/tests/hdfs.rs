//! HDFS as a store, on a Hadoop cluster (`scripts/hdfs.sh`): what checkpoints and sinks ask of any store, a NameNode that goes away, and
//! what is refused. In one test because starting a cluster takes seconds.

use eddyline_common::object_store::store_failure;
use eddyline_common::{SqlError, SqlState};
use eddyline_connectors::filesystem::{open_store, runtime};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

#[path = "../../sql-tests/src/program.rs"]
mod program;

fn store(cluster: &program::Program) -> Arc<dyn ObjectStore> {
    open_store(&format!("hdfs://127.0.0.1:{}/", cluster.port), &BTreeMap::new()).unwrap().0
}

#[track_caller]
fn said<T>(answer: Result<T>) -> SqlError {
    store_failure("write", "a", &answer.err().expect("it is refused"))
}

async fn names(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = store.list(Some(&prefix.into())).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

/// More than a block of the cluster's, in parts.
async fn parts(store: &dyn ObjectStore) {
    let path = Path::from("eddyline/a/parts");
    let mut upload = store.put_multipart(&path).await.unwrap();
    for part in 0..3_u8 {
        upload.put_part(PutPayload::from(vec![part; 5 << 20])).await.unwrap();
        assert!(!names(store, "eddyline/a").await.contains(&path.to_string()), "nobody sees it before it is whole");
    }
    upload.complete().await.unwrap();
    let across = store.get_range(&path, (5 << 20) - 2..(5 << 20) + 2).await.unwrap();
    assert_eq!(&across[..], [0, 0, 1, 1]);
    let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert!(whole.len() == 15 << 20 && whole.chunks(5 << 20).enumerate().all(|(i, part)| part.iter().all(|b| *b == i as u8)));
    let mut dropped = store.put_multipart(&"eddyline/a/dropped".into()).await.unwrap();
    dropped.put_part("x".into()).await.unwrap();
    dropped.abort().await.unwrap();
    assert_eq!(names(store, "eddyline/a").await, ["eddyline/a/one", "eddyline/a/parts"]);
}

async fn whole_files(store: &dyn ObjectStore) {
    let path = Path::from("eddyline/a/one");
    let create = || PutOptions::from(PutMode::Create);
    assert!(matches!(store.get(&path).await, Err(Error::NotFound { .. })));
    assert_eq!(names(store, "eddyline/nothing").await, [""; 0]);
    store.put_opts(&path, "first".into(), create()).await.unwrap();
    assert!(matches!(store.put_opts(&path, "second".into(), create()).await, Err(Error::AlreadyExists { .. })));
    // At the same time, only one makes it.
    let raced = Path::from("eddyline/raced");
    let racers = (0..4).map(|i| store.put_opts(&raced, PutPayload::from(format!("{i}")), create()));
    let made = futures::future::join_all(racers).await;
    assert_eq!(made.iter().filter(|answer| answer.is_ok()).count(), 1, "{made:?}");
    assert!(made.iter().all(|answer| matches!(answer, Ok(_) | Err(Error::AlreadyExists { .. }))), "{made:?}");
    store.put(&path, "third".into()).await.unwrap();
    assert_eq!(&store.get(&path).await.unwrap().bytes().await.unwrap()[..], b"third");
    let listed: Vec<_> = store.list(Some(&"eddyline/a".into())).try_collect().await.unwrap();
    assert_eq!(vec![store.head(&path).await.unwrap()], listed);
    store.put(&"eddyline/empty".into(), PutPayload::new()).await.unwrap();
    assert_eq!(store.get(&"eddyline/empty".into()).await.unwrap().bytes().await.unwrap().len(), 0);
    store.delete(&"eddyline/empty".into()).await.unwrap();
    store.delete(&"eddyline/empty".into()).await.unwrap();
}

#[test]
fn hdfs_is_a_store() {
    let mut cluster = program::Program::start("hdfs.sh").unwrap_or_else(|complaint| panic!("{complaint}"));
    // Who may write to one folder only. Nothing else runs in this process.
    unsafe { std::env::set_var("HADOOP_USER_NAME", "eddyline") };
    let store = store(&cluster);
    let runtime = runtime().unwrap();
    runtime.block_on(async {
        whole_files(&*store).await;
        parts(&*store).await;
        let denied = said(store.put(&"others".into(), "x".into()).await);
        assert_eq!(denied.state, SqlState::INSUFFICIENT_PRIVILEGE);
        assert!(denied.message.contains("user=eddyline") && !denied.message.contains("\tat "), "{}", denied.message);
        let hidden: Result<Vec<_>> = store.list(Some(&"secret".into())).try_collect().await;
        assert_eq!(said(hidden).state, SqlState::INSUFFICIENT_PRIVILEGE);
    });
    cluster.obey("stop");
    let path = Path::from("eddyline/a/one");
    runtime.block_on(async {
        for away in [said(store.head(&path).await), said(store.put(&path, "x".into()).await), said(store.get(&path).await)] {
            assert_eq!(away.state, SqlState::CONNECTION_FAILURE, "{}", away.message);
            assert!(away.hint.is_some_and(|hint| hint.contains("Check the endpoint")));
        }
    });
    cluster.obey("start");
    runtime.block_on(async {
        assert_eq!(&store.get(&path).await.unwrap().bytes().await.unwrap()[..], b"third");
        store.put(&path, "fourth".into()).await.unwrap();
        assert_eq!(names(&*store, "eddyline/a").await, ["eddyline/a/one", "eddyline/a/parts"]);
    });
}
