//! Checkpoints in a local directory (hard links) and in an object store that is not one (streamed): what is read back is what was
//! written or an error, damage falls back to the checkpoint before, pruning never takes what a manifest names.

use super::*;
use bytes::Bytes;
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Epoch, SqlState, StateTableId};
use object_store::memory::InMemory;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

struct Fixture {
    dir: TempDir,
    store: CheckpointStore,
}

impl Fixture {
    fn local() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::local(&dir.path().join("checkpoints")).unwrap();
        Fixture { dir, store }
    }

    fn remote() -> Fixture {
        Fixture { dir: tempfile::tempdir().unwrap(), store: CheckpointStore::new(Arc::new(InMemory::new()), "some/prefix") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A new file: the store may hold the old one by a hard link.
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        path
    }

    fn stored(&self, file: &FileRef) -> PathBuf {
        self.path("checkpoints/files").join(&file.name)
    }

    fn files(&self) -> usize {
        fs::read_dir(self.path("checkpoints/files")).unwrap().count()
    }

    /// A checkpoint of one new file with `content`, and the files of `base`.
    async fn checkpoint(&self, id: u64, content: &str, base: &[FileRef]) -> Manifest<Value> {
        let file = self.store.put_bytes(Bytes::from(content.to_string())).await.unwrap();
        let manifest = Manifest::new(id, Epoch(id * 10), [&[file], base].concat(), serde_json::json!({ "content": content }));
        self.store.commit(&manifest).await.unwrap();
        manifest
    }
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn bytes_and_manifests_come_back() {
    for fixture in [Fixture::local(), Fixture::remote()] {
        let store = &fixture.store;
        assert!(store.list().await.unwrap().is_empty());
        assert_eq!(store.next_id().await.unwrap(), 1);
        let empty = store.put_bytes(Bytes::new()).await.unwrap();
        assert_eq!(store.get_bytes(&empty).await.unwrap(), Bytes::new());
        let first = fixture.checkpoint(1, "one", &[empty]).await;
        let second = fixture.checkpoint(12, "two", &first.files).await;
        assert_eq!(store.list().await.unwrap(), [12, 1]);
        assert_eq!(store.next_id().await.unwrap(), 13);
        assert_eq!(store.load::<Value>(12).await.unwrap(), second);
        assert_eq!(store.load::<Value>(1).await.unwrap(), first);
        assert_eq!(store.get_bytes(&second.files[0]).await.unwrap(), "two");

        let again = store.commit(&first).await.unwrap_err();
        assert_eq!(again.state, SqlState::DUPLICATE_OBJECT);
    }
}

#[tokio::test]
async fn damaged_missing_and_truncated_files_are_noticed() {
    let fixture = Fixture::local();
    let store = &fixture.store;
    let manifest = fixture.checkpoint(1, "some content", &[]).await;
    let file = &manifest.files[0];
    let path = fixture.stored(file);
    let files = BTreeMap::from([("name".to_string(), file.clone())]);

    damage(&path);
    let error = store.get_bytes(file).await.unwrap_err();
    assert_eq!(error.state, SqlState::DATA_CORRUPTED);
    assert_eq!(error.message, format!("checkpoint file {} is damaged", file.name));
    assert_eq!(store.download_dir(&files, &fixture.path("out")).await.unwrap_err().state, SqlState::DATA_CORRUPTED);
    damage(&path);
    assert_eq!(store.get_bytes(file).await.unwrap(), "some content");

    fs::write(&path, "some conten").unwrap();
    assert_eq!(store.get_bytes(file).await.unwrap_err().state, SqlState::DATA_CORRUPTED);
    assert_eq!(store.load::<Value>(1).await.unwrap_err().state, SqlState::DATA_CORRUPTED);
    fs::remove_file(&path).unwrap();
    assert_eq!(store.get_bytes(file).await.unwrap_err().state, SqlState::DATA_CORRUPTED);
    assert_eq!(store.load::<Value>(1).await.unwrap_err().message, format!("checkpoint file {} is missing", file.name));
    assert_eq!(store.download_dir(&files, &fixture.path("out")).await.unwrap_err().state, SqlState::DATA_CORRUPTED);
}

#[tokio::test]
async fn a_placed_file_is_linked_or_kept_where_it_can_be() {
    // A small file is copied, also once more.
    for (fixture, length, links, kept) in
        [(Fixture::local(), 100_000, 2, true), (Fixture::local(), 100, 1, false), (Fixture::remote(), 100_000, 1, true)]
    {
        let content = vec![b'x'; length];
        let file = fixture.store.put_bytes(Bytes::from(content.clone())).await.unwrap();
        // As long as the file, but not it.
        let path = fixture.write("placed", &vec![b'y'; length]);
        fixture.store.place_file(&file, &path).await.unwrap();
        assert!(fs::read(&path).unwrap() == content);
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.nlink(), links);
        fixture.store.place_file(&file, &path).await.unwrap();
        assert!(!kept || fs::metadata(&path).unwrap().ino() == before.ino());
        assert!(fs::read(&path).unwrap() == content);
    }
    let fixture = Fixture::local();
    let file = fixture.store.put_bytes(Bytes::from("content")).await.unwrap();
    fs::remove_file(fixture.stored(&file)).unwrap();
    let missing = fixture.store.place_file(&file, &fixture.path("placed")).await.unwrap_err();
    assert_eq!(missing.state, SqlState::DATA_CORRUPTED);
}

#[tokio::test]
async fn an_upload_that_fails_says_where_it_goes() {
    let fixture = Fixture::local();
    fs::remove_dir_all(fixture.path("checkpoints/files")).unwrap();
    // One that would be linked, one that would be copied.
    for length in [100_000, 100] {
        let from = fixture.write("image", &vec![b'x'; length]);
        let error = fixture.store.put_file(&from).await.unwrap_err();
        assert!(error.message.contains(&from.display().to_string()) && error.message.contains("checkpoints/files/"), "{error}");
        assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("The checkpoint store is gone")), "{error}");
    }
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = local::not_uploaded(Path::new("from"), Path::new("to"))(full());
    assert_eq!(error.state, SqlState::DISK_FULL);
    assert!(error.hint.unwrap().contains("the checkpoint store's file system"));
}

#[test]
fn every_damage_of_a_manifest_is_noticed() {
    let file = FileRef { name: "f".into(), bytes: 1, crc32: 2 };
    let manifest = Manifest::new(3, Epoch(4), vec![file], serde_json::json!([1, "x\ny"]));
    let bytes = manifest.encode().unwrap();
    let decoded = |bytes: &[u8]| match manifest::decode::<Manifest<Value>>(bytes) {
        Some(manifest::Decoded::Manifest(manifest)) => Some(manifest),
        _ => None,
    };
    assert_eq!(decoded(&bytes), Some(manifest));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert_eq!(decoded(&damaged), None, "byte {at}");
        assert_eq!(decoded(&bytes[..at]), None, "length {at}");
    }
}

#[tokio::test]
async fn a_manifest_of_another_version_is_not_damage() {
    let fixture = Fixture::local();
    let mut manifest = Manifest::new(1, Epoch(1), vec![], ());
    manifest.version = 7;
    fixture.store.commit(&manifest).await.unwrap();
    let error = fixture.store.load::<()>(1).await.unwrap_err();
    assert_eq!(error.state, SqlState::FEATURE_NOT_SUPPORTED);
    assert!(error.message.contains("format version 7"), "{error}");
}

#[tokio::test]
async fn a_manifest_of_something_else_says_what_is_missing() {
    let fixture = Fixture::local();
    fixture.store.commit(&Manifest::new(1, Epoch(1), vec![], "a text")).await.unwrap();
    let error = fixture.store.load::<u64>(1).await.unwrap_err();
    assert_eq!(error.state, SqlState::DATA_CORRUPTED);
    assert!(error.message.contains("expected u64"), "{error}");
}

#[test]
fn recovery_falls_back_to_the_newest_intact_checkpoint() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = Fixture::local();
    let store = BlockingCheckpointStore::new(fixture.store.clone(), runtime.handle().clone());
    let content = |manifest: Manifest<Value>| store.get_bytes(&manifest.files[0]).map(|content| (manifest.id, content));
    assert_eq!(store.restore_newest(content).unwrap(), None);

    let manifests: Vec<Manifest<Value>> = (1..=4).map(|id| runtime.block_on(fixture.checkpoint(id, &format!("state {id}"), &[]))).collect();
    let restored = || store.restore_newest(content).unwrap();
    assert_eq!(restored(), Some((4, Bytes::from("state 4"))));
    damage(&fixture.stored(&manifests[3].files[0]));
    assert_eq!(restored(), Some((3, Bytes::from("state 3"))));
    damage(&fixture.path("checkpoints/manifests").join(format!("{:020}.json", 3)));
    assert_eq!(restored(), Some((2, Bytes::from("state 2"))));

    // The next checkpoint takes a new id, and pruning then removes the manifest that cannot be read.
    let id = store.next_id().unwrap();
    assert_eq!(id, 5);
    runtime.block_on(fixture.checkpoint(id, "state 5", &[]));
    store.prune(10).unwrap();
    assert_eq!(store.list().unwrap(), [5, 4, 2, 1]);

    fs::remove_dir_all(fixture.path("checkpoints/files")).unwrap();
    assert_eq!(store.restore_newest(content).unwrap_err().state, SqlState::DATA_CORRUPTED);
    // An error that is no damage is not an excuse for going back in time.
    fs::create_dir(fixture.path("checkpoints/files")).unwrap();
    runtime.block_on(fixture.checkpoint(6, "state 6", &[]));
    let refused = store.restore_newest::<Value, ()>(|_| Err(eddyline_common::SqlError::io("not now")));
    assert_eq!(refused.unwrap_err().message, "not now");
}

#[tokio::test]
async fn directories_are_uploaded_incrementally() {
    for (fixture, is_local) in [(Fixture::local(), true), (Fixture::remote(), false)] {
        let store = &fixture.store;
        // Larger than a part of an upload, and than a read.
        let large: Vec<u8> = (0..9_000_000u32).map(|byte| (byte % 251) as u8).collect();
        fixture.write("image/000001.sst", &large);
        fixture.write("image/000002.sst", b"two");
        fixture.write("image/CURRENT", b"MANIFEST-1\n");
        fs::create_dir(fixture.path("image/subdirectory")).unwrap();
        let first = store.upload_dir(&fixture.path("image"), &BTreeMap::new()).await.unwrap();
        assert_eq!(first.keys().collect::<Vec<_>>(), ["000001.sst", "000002.sst", "CURRENT"]);
        assert_eq!(first["000001.sst"].bytes, large.len() as u64);

        fixture.write("image/000003.sst", b"three");
        fixture.write("image/CURRENT", b"MANIFEST-2\n");
        fixture.write("image/000002.sst", b"longer");
        let second = store.upload_dir(&fixture.path("image"), &first).await.unwrap();
        let unchanged: Vec<&str> =
            second.iter().filter(|(name, file)| first.get(*name) == Some(file)).map(|(name, _)| name.as_str()).collect();
        assert_eq!(unchanged, ["000001.sst"]);

        for (files, current) in [(&first, "MANIFEST-1\n"), (&second, "MANIFEST-2\n")] {
            let out = fixture.path(&format!("out {}", current.trim()));
            store.download_dir(files, &out).await.unwrap();
            assert_eq!(fs::read(out.join("000001.sst")).unwrap(), large);
            assert_eq!(fs::read_to_string(out.join("CURRENT")).unwrap(), current);
            let shares =
                fs::metadata(out.join("000001.sst")).unwrap().ino() == fs::metadata(fixture.path("image/000001.sst")).unwrap().ino();
            assert_eq!(shares, is_local);
        }
    }
}

#[tokio::test]
async fn pruning_keeps_what_is_named_or_being_built() {
    let fixture = Fixture::local();
    let store = &fixture.store;
    let shared = store.put_bytes(Bytes::from("shared")).await.unwrap();
    let mut savepoint = Manifest::new(1, Epoch(1), vec![store.put_bytes(Bytes::from("saved")).await.unwrap()], ());
    savepoint.name = Some("before the upgrade".into());
    store.commit(&savepoint).await.unwrap();
    for id in 2..=6 {
        fixture.checkpoint(id, &format!("state {id}"), std::slice::from_ref(&shared)).await;
    }
    let building = store.put_bytes(Bytes::from("of the next checkpoint")).await.unwrap();

    let pruned = store.prune(2).await.unwrap();
    assert_eq!(pruned, Pruned { manifests: 3, files: 3 });
    assert_eq!(store.list().await.unwrap(), [6, 5, 1]);
    for id in [6, 5, 1] {
        for file in &store.load::<Value>(id).await.unwrap().files {
            store.get_bytes(file).await.unwrap();
        }
    }
    assert_eq!(store.get_bytes(&building).await.unwrap(), "of the next checkpoint");
    assert_eq!(store.prune(2).await.unwrap(), Pruned::default());
    // At least one is kept, whatever is asked.
    store.prune(0).await.unwrap();
    assert_eq!(store.list().await.unwrap(), [6, 1]);
}

#[tokio::test]
async fn files_of_abandoned_checkpoints_are_removed_in_time() {
    let fixture = Fixture::local();
    let abandoned = fixture.store.put_bytes(Bytes::from("abandoned")).await.unwrap();
    fixture.checkpoint(1, "one", &[]).await;
    fixture.store.prune(5).await.unwrap();
    assert!(fixture.stored(&abandoned).exists(), "may still be named by the next checkpoint");
    fixture.checkpoint(2, "two", &[]).await;
    assert_eq!(fixture.store.prune(5).await.unwrap(), Pruned { manifests: 0, files: 1 });
    assert!(!fixture.stored(&abandoned).exists());

    // Those of an earlier process at once, with what it was just writing.
    fixture.store.put_bytes(Bytes::from("of a killed process")).await.unwrap();
    fs::write(fixture.path("checkpoints/files/half#1"), "half").unwrap();
    assert_eq!(fixture.files(), 4);
    let reopened = CheckpointStore::local(&fixture.path("checkpoints")).unwrap();
    reopened.remove_staged().unwrap();
    assert_eq!(reopened.prune(5).await.unwrap(), Pruned { manifests: 0, files: 1 });
    assert_eq!(fixture.files(), 2);
}

/// A disk that is full of what failed attempts have uploaded would stay full.
#[tokio::test]
async fn what_was_uploaded_in_vain_is_removed_at_once() {
    let fixture = Fixture::local();
    let first = fixture.checkpoint(1, "one", &[]).await;
    fixture.store.put_bytes(Bytes::from("in vain")).await.unwrap();
    fixture.write("image/a", b"in vain, too");
    fixture.store.upload_dir(&fixture.path("image"), &BTreeMap::new()).await.unwrap();
    assert_eq!(fixture.files(), 3);
    fixture.store.discard(&fixture.store.uncommitted()).await.unwrap();
    assert_eq!(fixture.files(), 1);
    assert!(fixture.stored(&first.files[0]).exists());

    // A commit that failed may have come through.
    let offered = fixture.store.put_bytes(Bytes::from("offered")).await.unwrap();
    fixture.store.commit(&Manifest::new(1, Epoch(10), vec![offered.clone()], ())).await.unwrap_err();
    assert!(fixture.store.uncommitted().is_empty());
    fixture.store.discard(&fixture.store.uncommitted()).await.unwrap();
    assert!(fixture.stored(&offered).exists());
}

#[tokio::test]
async fn pruning_stops_where_it_does_not_know_what_is_named() {
    let fixture = Fixture::local();
    fixture.checkpoint(1, "one", &[]).await;
    damage(&fixture.path("checkpoints/manifests").join(format!("{:020}.json", 1)));
    assert_eq!(fixture.store.prune(1).await.unwrap_err().state, SqlState::DATA_CORRUPTED);
    assert_eq!(fixture.files(), 1);
}

#[tokio::test]
async fn a_store_can_be_used_from_spawned_tasks() {
    let fixture = Fixture::local();
    fixture.write("image/a", b"a");
    let (store, image) = (fixture.store.clone(), fixture.path("image"));
    let files = tokio::spawn(async move { store.upload_dir(&image, &BTreeMap::new()).await }).await.unwrap().unwrap();
    let (store, out) = (fixture.store.clone(), fixture.path("out"));
    tokio::spawn(async move { store.download_dir(&files, &out).await }).await.unwrap().unwrap();
    assert_eq!(fs::read(fixture.path("out/a")).unwrap(), b"a");
}

/// The whole way of operator state: store, image, checkpoint, damage of nothing, store.
#[test]
fn operator_state_survives_through_checkpoints() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = Fixture::local();
    let store = BlockingCheckpointStore::new(fixture.store.clone(), runtime.handle().clone());
    let mut known = BTreeMap::new();
    for generation in 1..=4u8 {
        let image = fixture.path("image");
        if generation > 1 {
            store.download_dir(&known, &image).unwrap();
        }
        let kv = crate::kv::RocksKv::open(&fixture.path("live"), (generation > 1).then_some(image.as_path()), 1 << 20).unwrap();
        let mut keys = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            keys += 1;
            Ok(true)
        };
        kv.scan(StateTableId(1), b"", None, &mut count).unwrap();
        assert_eq!(keys, generation as u32 * 100 - 100);
        let run: SortedRun = (0..100u8).map(|key| ([generation, key], Some([key; 50]))).collect();
        kv.ingest(vec![(StateTableId(1), run)]).unwrap();
        let _ = fs::remove_dir_all(&image);
        kv.checkpoint(&image).unwrap();
        let files = store.upload_dir(&image, &known).unwrap();
        let ssts = |files: &BTreeMap<String, FileRef>| files.keys().filter(|name| name.ends_with(".sst")).count();
        let new_ssts = files.iter().filter(|(name, file)| name.ends_with(".sst") && known.get(*name) != Some(file)).count();
        assert!(ssts(&files) >= 1 && new_ssts >= 1);
        let id = store.next_id().unwrap();
        store.commit(&Manifest::new(id, Epoch(id), files.values().cloned().collect(), ())).unwrap();
        store.prune(2).unwrap();
        store.load::<()>(id).unwrap();
        known = files;
        fs::remove_dir_all(&image).unwrap();
    }
}

#[tokio::test]
async fn a_location_has_one_owner() {
    let store = Arc::new(InMemory::new());
    let at = |prefix: &str| CheckpointStore::new(store.clone(), prefix);
    at("a").claim("one").await.unwrap();
    at("a").claim("one").await.unwrap();
    let refused = at("a").claim("two").await.unwrap_err();
    assert_eq!((refused.state, refused.hint.is_some()), (SqlState::OBJECT_IN_USE, true));
    at("b").claim("two").await.unwrap();
}

#[tokio::test]
async fn a_directory_has_one_owner_too() {
    let fixture = Fixture::local();
    // As an earlier server left it, with a checkpoint and no owner; or a power failure.
    fixture.checkpoint(1, "one", &[]).await;
    assert_eq!(fixture.store.owner().await.unwrap(), None);
    fs::write(fixture.path("checkpoints/owner"), "").unwrap();
    fixture.store.claim("one").await.unwrap();
    assert_eq!(fs::read_to_string(fixture.path("checkpoints/owner")).unwrap(), "one");
    let again = CheckpointStore::local(&fixture.path("checkpoints")).unwrap();
    again.claim("one").await.unwrap();
    let refused = again.claim("two").await.unwrap_err();
    assert_eq!((refused.state, refused.hint.is_some()), (SqlState::OBJECT_IN_USE, true));
    assert!(refused.detail.unwrap().contains("checkpoints/owner"));
    assert_eq!(again.owner().await.unwrap().as_deref(), Some("one"));
    assert_eq!(again.list().await.unwrap(), [1]);
}

/// HDFS lists a file that is being written under a hidden name: pruning takes those that nobody writes any more, a start all.
#[tokio::test]
async fn what_was_not_finished_goes_and_what_is_being_written_stays() {
    let fixture = Fixture::remote();
    let store = &fixture.store;
    let put = async |part: &str, name: &str| {
        let path = object_store::path::Path::from(format!("some/prefix/{part}/{name}"));
        object_store::ObjectStoreExt::put(store.object_store(), &path, "x".into()).await.unwrap();
    };
    store.claim("me").await.unwrap();
    let kept = fixture.checkpoint(1, "one", &[]).await;
    let name = store.new_file_name();
    for unfinished in [format!(".{name}.tmp.1"), ".other.tmp.2".to_string()] {
        put("files", &unfinished).await;
    }
    put("manifests", ".00000000000000000002.json.tmp.1").await;
    assert_eq!(store.prune(3).await.unwrap(), Pruned { manifests: 0, files: 1 });
    assert_eq!(store.list_objects("files").await.unwrap().len(), 2);
    store.claim("me").await.unwrap();
    let left = [store.list_objects("files").await.unwrap(), store.list_objects("manifests").await.unwrap()].concat();
    let names: Vec<&str> = left.iter().filter_map(|object| object.location.filename()).collect();
    assert_eq!(names, [kept.files[0].name.as_str(), "00000000000000000001.json"]);
}
