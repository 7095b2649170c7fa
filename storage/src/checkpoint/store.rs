//! [`CheckpointStore`]: single files and manifests. Content is verified whenever it is read; a missing or damaged file is
//! 'data corrupted', so that the caller can fall back to an older checkpoint.

use super::manifest::{self, Decoded, Outline};
use super::{FileRef, Manifest, local};
use crate::io::failed;
use bytes::Bytes;
use eddyline_common::object_store::{is_missing, store_failure};
use eddyline_common::{Result, SqlError, SqlState, failpoint};
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// A file must be named by a manifest at the latest in the second commit after its upload; until then `prune` keeps
/// it. Two, because the files of the next checkpoint may be uploaded while one commits.
const COMMITS_TO_NAME_A_FILE: u64 = 2;

/// One location of checkpoints. Cheap to clone. There is one writer per location: the holder of the data directory.
#[derive(Clone)]
pub struct CheckpointStore {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    /// The directory that `prefix` is, if the store is a local file system.
    local_dir: Option<Arc<PathBuf>>,
    fresh: Arc<Mutex<Fresh>>,
}

/// Files uploaded by this process that no manifest names yet.
#[derive(Default)]
struct Fresh {
    commits: u64,
    files: HashMap<String, FreshFile>,
}

struct FreshFile {
    /// The number of commits before its upload.
    commits: u64,
    /// In a local store, not yet known to survive a power failure: the commit that names it sees to that.
    unsynced: bool,
    /// By a manifest whose commit was begun. It may be there although the store reported a failure.
    may_be_named: bool,
}

impl CheckpointStore {
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> CheckpointStore {
        CheckpointStore { store, prefix: ObjectPath::from(prefix), local_dir: None, fresh: Arc::default() }
    }

    /// Checkpoints in a local directory, which is created if it is missing. Files are shared by hard links where
    /// they can be, and a commit survives a power failure.
    pub fn local(dir: &Path) -> Result<CheckpointStore> {
        for part in ["files", "manifests"] {
            let dir = dir.join(part);
            std::fs::create_dir_all(&dir).map_err(failed("create checkpoint directory", &dir))?;
        }
        let dir = dir.canonicalize().map_err(failed("open checkpoint directory", dir))?;
        let store =
            LocalFileSystem::new_with_prefix(&dir).map_err(|error| store_error("open checkpoint directory", dir.display(), error))?;
        let mut checkpoints = CheckpointStore::new(Arc::new(store), "");
        checkpoints.local_dir = Some(Arc::new(dir));
        Ok(checkpoints)
    }

    /// Stores bytes as a new file.
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<FileRef> {
        let file = FileRef { name: self.new_file_name(), bytes: bytes.len() as u64, crc32: crc32fast::hash(&bytes) };
        let path = self.file_path(&file.name);
        self.store.put(&path, PutPayload::from(bytes)).await.map_err(|error| store_error("write checkpoint file", &path, error))?;
        self.note_unsynced(&file.name);
        failpoint::hit("checkpoint.upload")?;
        Ok(file)
    }

    /// The content of a file, verified.
    pub async fn get_bytes(&self, file: &FileRef) -> Result<Bytes> {
        let path = self.file_path(&file.name);
        let action = "read checkpoint file";
        let response = self.store.get(&path).await.map_err(|error| store_error(action, &path, error))?;
        let bytes = response.bytes().await.map_err(|error| store_error(action, &path, error))?;
        verify(file, bytes.len() as u64, crc32fast::hash(&bytes))?;
        Ok(bytes)
    }

    /// Makes a checkpoint of uploaded files. It exists when this returns; after an error it may exist or not, whole in
    /// either case. Fails with 42710 if there is one with this id.
    pub async fn commit(&self, manifest: &Manifest<impl Serialize>) -> Result<()> {
        let bytes = manifest.encode()?;
        self.sync_local_files(&manifest.files).await?;
        failpoint::hit("checkpoint.before_manifest")?;
        let path = self.manifest_path(manifest.id);
        let create = PutOptions::from(PutMode::Create);
        self.fresh.lock().offered(&manifest.files);
        match self.store.put_opts(&path, PutPayload::from(bytes), create).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) => {
                return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, format!("checkpoint {} already exists", manifest.id)));
            }
            // A store that cannot tell; there is one writer per location.
            Err(object_store::Error::NotImplemented { .. }) => self.put_manifest_unless_there(manifest).await?,
            Err(error) => return Err(store_error("write manifest", &path, error)),
        }
        self.sync_local_manifest(manifest.id).await?;
        self.fresh.lock().committed(&manifest.files);
        failpoint::hit("checkpoint.after_manifest")
    }

    async fn put_manifest_unless_there(&self, manifest: &Manifest<impl Serialize>) -> Result<()> {
        let path = self.manifest_path(manifest.id);
        match self.store.head(&path).await {
            Ok(_) => return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, format!("checkpoint {} already exists", manifest.id))),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(store_error("look at manifest", &path, error)),
        }
        let put = self.store.put(&path, PutPayload::from(manifest.encode()?)).await;
        put.map(drop).map_err(|error| store_error("write manifest", &path, error))
    }

    /// The ids of all manifests, newest first; also of damaged ones.
    pub async fn list(&self) -> Result<Vec<u64>> {
        let mut ids: Vec<u64> = self.list_objects("manifests").await?.iter().filter_map(manifest_id).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// Reads a manifest, and checks that it is intact and that all of its files are there with their lengths. Their content is
    /// verified when it is read.
    pub async fn load<B: DeserializeOwned>(&self, id: u64) -> Result<Manifest<B>> {
        let manifest: Manifest<B> = self.read(id, |manifest: &Manifest<B>| manifest.id).await?;
        let files = self.list_objects("files").await?;
        let lengths: HashMap<&str, u64> = files.iter().filter_map(|object| Some((object.location.filename()?, object.size))).collect();
        for file in &manifest.files {
            match lengths.get(file.name.as_str()) {
                Some(bytes) if *bytes == file.bytes => {}
                Some(bytes) => return Err(wrong_length(file, *bytes)),
                None => return Err(SqlError::corrupt(format!("checkpoint file {} is missing", file.name))),
            }
        }
        Ok(manifest)
    }

    pub(super) async fn read_outline(&self, id: u64) -> Result<Outline> {
        self.read(id, |outline: &Outline| outline.id).await
    }

    async fn read<T: DeserializeOwned>(&self, id: u64, id_of: fn(&T) -> u64) -> Result<T> {
        let path = self.manifest_path(id);
        let action = "read manifest";
        let response = self.store.get(&path).await.map_err(|error| store_error(action, &path, error))?;
        let bytes = response.bytes().await.map_err(|error| store_error(action, &path, error))?;
        match manifest::decode(&bytes) {
            Some(Decoded::Manifest(manifest)) if id_of(&manifest) == id => Ok(manifest),
            // Not damage: falling back to an older checkpoint would lose what a newer server did.
            Some(Decoded::OtherVersion(version)) => Err(SqlError::unsupported(format!(
                "checkpoint {id} has format version {version}, this server reads version {}",
                manifest::VERSION
            ))
            .with_hint("Start the version of the server that wrote it.")),
            Some(Decoded::Unreadable(error)) => Err(SqlError::corrupt(format!("the manifest of checkpoint {id} cannot be read: {error}"))
                .with_detail(format!("It is the object \"{path}\"."))),
            _ => Err(SqlError::corrupt(format!("the manifest of checkpoint {id} is damaged"))
                .with_detail(format!("It is the object \"{path}\"."))),
        }
    }

    pub(super) async fn list_objects(&self, part: &str) -> Result<Vec<ObjectMeta>> {
        let path = self.prefix.clone().join(part);
        self.store.list(Some(&path)).try_collect().await.map_err(|error| store_error("list", &path, error))
    }

    pub(super) async fn delete(&self, path: &ObjectPath) -> Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store_error("remove", path, error)),
        }
    }

    /// A name for a file that is about to be uploaded; `prune` leaves it alone from now on.
    pub(super) fn new_file_name(&self) -> String {
        let name = Uuid::new_v4().to_string();
        self.fresh.lock().add(name.clone());
        name
    }

    /// What the file holds may be in the page cache only.
    pub(super) fn note_unsynced(&self, name: &str) {
        if let Some(file) = self.fresh.lock().files.get_mut(name) {
            file.unsynced = self.local_dir.is_some();
        }
    }

    /// Files are shared with this machine's file system by links.
    pub fn is_local(&self) -> bool {
        self.local_dir.is_some()
    }

    /// Files of the checkpoint that is being built, if nobody can have committed it.
    pub fn uncommitted(&self) -> Vec<String> {
        let fresh = self.fresh.lock();
        fresh.files.iter().filter(|(_, file)| !file.may_be_named).map(|(name, _)| name.clone()).collect()
    }

    /// Whatever becomes of them, `prune` may remove them from now on.
    pub(super) fn forget(&self, names: &[String]) {
        let mut fresh = self.fresh.lock();
        for name in names {
            fresh.files.remove(name);
        }
    }

    pub(super) fn is_fresh(&self, name: &str) -> bool {
        let fresh = self.fresh.lock();
        fresh.files.contains_key(unfinished_name(name).unwrap_or(name))
    }

    pub(super) fn object_store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    pub(super) fn owner_path(&self) -> ObjectPath {
        self.prefix.clone().join("owner")
    }

    pub(super) fn file_path(&self, name: &str) -> ObjectPath {
        self.prefix.clone().join("files").join(name)
    }

    pub(super) fn manifest_path(&self, id: u64) -> ObjectPath {
        self.prefix.clone().join("manifests").join(manifest_name(id))
    }

    /// Where a part of a local store is, or a file in it.
    pub(super) fn local_path(&self, part: &str) -> Option<PathBuf> {
        self.local_dir.as_ref().map(|dir| dir.join(part))
    }

    /// All of a manifest's files in one go, after all of them were linked: the first sync that has to wait for the file
    /// system's journal waits for the others too.
    async fn sync_local_files(&self, files: &[FileRef]) -> Result<()> {
        let Some(dir) = self.local_path("files") else { return Ok(()) };
        let unsynced = self.fresh.lock().unsynced(files);
        let done = off_runtime(move || {
            for name in &unsynced {
                let path = dir.join(name);
                local::sync(&path).map_err(failed("sync", &path))?;
            }
            local::sync(&dir).map_err(failed("sync", &dir))?;
            Ok(unsynced)
        });
        let synced = done.await?;
        self.fresh.lock().synced(&synced);
        Ok(())
    }

    async fn sync_local_dir(&self, part: &str) -> Result<()> {
        self.sync_local(self.local_path(part)).await
    }

    async fn sync_local_manifest(&self, id: u64) -> Result<()> {
        self.sync_local(self.local_path("manifests").map(|dir| dir.join(manifest_name(id)))).await?;
        self.sync_local_dir("manifests").await
    }

    pub(super) async fn sync_local_owner(&self) -> Result<()> {
        self.sync_local(self.local_path("owner")).await?;
        self.sync_local_dir("").await
    }

    async fn sync_local(&self, path: Option<PathBuf>) -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        off_runtime(move || local::sync(&path).map_err(failed("sync", &path))).await
    }
}

impl Fresh {
    fn add(&mut self, name: String) {
        self.files.insert(name, FreshFile { commits: self.commits, unsynced: false, may_be_named: false });
    }

    fn unsynced(&self, files: &[FileRef]) -> Vec<String> {
        let unsynced = |name: &&String| self.files.get(*name).is_some_and(|file| file.unsynced);
        files.iter().map(|file| &file.name).filter(unsynced).cloned().collect()
    }

    fn synced(&mut self, names: &[String]) {
        for name in names {
            if let Some(file) = self.files.get_mut(name) {
                file.unsynced = false;
            }
        }
    }

    /// A manifest that names them is about to be put.
    fn offered(&mut self, files: &[FileRef]) {
        for file in files {
            if let Some(fresh) = self.files.get_mut(&file.name) {
                fresh.may_be_named = true;
            }
        }
    }

    fn committed(&mut self, files: &[FileRef]) {
        self.commits += 1;
        for file in files {
            self.files.remove(&file.name);
        }
        self.files.retain(|_, file| file.commits + COMMITS_TO_NAME_A_FILE > self.commits);
    }
}

fn manifest_name(id: u64) -> String {
    format!("{id:020}.json")
}

/// The name that a file will have, if it is one that is still being written: HDFS has it as `.NAME.tmp.1` until it is whole.
pub(super) fn unfinished_name(name: &str) -> Option<&str> {
    Some(name.strip_prefix('.')?.split_once(".tmp.")?.0)
}

pub(super) fn manifest_id(object: &ObjectMeta) -> Option<u64> {
    object.location.filename()?.strip_suffix(".json")?.parse().ok()
}

pub(super) fn verify(file: &FileRef, bytes: u64, crc32: u32) -> Result<()> {
    if bytes != file.bytes {
        return Err(wrong_length(file, bytes));
    }
    if crc32 != file.crc32 {
        let detail = format!("Its crc32 is {crc32:08x}, not {:08x}.", file.crc32);
        return Err(SqlError::corrupt(format!("checkpoint file {} is damaged", file.name)).with_detail(detail));
    }
    Ok(())
}

fn wrong_length(file: &FileRef, bytes: u64) -> SqlError {
    let detail = format!("It has {bytes} bytes, not {}.", file.bytes);
    SqlError::corrupt(format!("checkpoint file {} is damaged", file.name)).with_detail(detail)
}

/// Blocking file operations, away from the threads that drive connections.
pub(super) async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(SqlError::internal)?
}

/// A missing object is damage: nothing asks for one that was not written.
pub(super) fn store_error(action: &str, what: impl std::fmt::Display, error: object_store::Error) -> SqlError {
    let failure = store_failure(action, &what.to_string(), &error);
    if is_missing(&error) { SqlError::corrupt(failure.message) } else { failure }
}
