//! The checkpoint store for threads outside of the async runtime, and recovery's walk from the newest checkpoint to older ones.
//! Must not be used on a runtime's own threads.

use super::{CheckpointStore, FileRef, Manifest, Pruned};
use bytes::Bytes;
use eddyline_common::{Result, SqlError, SqlState};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use tokio::runtime::Handle;

/// [`CheckpointStore`], each call run to its end on `runtime`.
#[derive(Clone)]
pub struct BlockingCheckpointStore {
    store: CheckpointStore,
    runtime: Handle,
}

impl BlockingCheckpointStore {
    pub fn new(store: CheckpointStore, runtime: Handle) -> BlockingCheckpointStore {
        BlockingCheckpointStore { store, runtime }
    }

    pub fn store(&self) -> &CheckpointStore {
        &self.store
    }

    pub fn claim(&self, id: &str) -> Result<()> {
        self.runtime.block_on(self.store.claim(id))
    }

    pub fn owner(&self) -> Result<Option<String>> {
        self.runtime.block_on(self.store.owner())
    }

    pub fn put_bytes(&self, bytes: Bytes) -> Result<FileRef> {
        self.runtime.block_on(self.store.put_bytes(bytes))
    }

    pub fn get_bytes(&self, file: &FileRef) -> Result<Bytes> {
        self.runtime.block_on(self.store.get_bytes(file))
    }

    pub fn put_file(&self, path: &Path) -> Result<FileRef> {
        self.runtime.block_on(self.store.put_file(path))
    }

    pub fn link_file(&self, path: &Path, bytes: u64, crc32: u32) -> Result<FileRef> {
        self.runtime.block_on(self.store.link_file(path, bytes, crc32))
    }

    pub fn is_local(&self) -> bool {
        self.store.is_local()
    }

    pub fn get_file(&self, file: &FileRef, path: &Path) -> Result<()> {
        self.runtime.block_on(self.store.get_file(file, path))
    }

    pub fn place_file(&self, file: &FileRef, path: &Path) -> Result<()> {
        self.runtime.block_on(self.store.place_file(file, path))
    }

    pub fn upload_dir(&self, dir: &Path, known: &BTreeMap<String, FileRef>) -> Result<BTreeMap<String, FileRef>> {
        self.runtime.block_on(self.store.upload_dir(dir, known))
    }

    pub fn download_dir(&self, files: &BTreeMap<String, FileRef>, dir: &Path) -> Result<()> {
        self.runtime.block_on(self.store.download_dir(files, dir))
    }

    pub fn commit(&self, manifest: &Manifest<impl Serialize>) -> Result<()> {
        self.runtime.block_on(self.store.commit(manifest))
    }

    pub fn list(&self) -> Result<Vec<u64>> {
        self.runtime.block_on(self.store.list())
    }

    pub fn load<B: DeserializeOwned>(&self, id: u64) -> Result<Manifest<B>> {
        self.runtime.block_on(self.store.load(id))
    }

    pub fn next_id(&self) -> Result<u64> {
        self.runtime.block_on(self.store.next_id())
    }

    pub fn uncommitted(&self) -> Vec<String> {
        self.store.uncommitted()
    }

    pub fn discard(&self, names: &[String]) -> Result<()> {
        self.runtime.block_on(self.store.discard(names))
    }

    pub fn prune(&self, keep: usize) -> Result<Pruned> {
        self.runtime.block_on(self.store.prune(keep))
    }

    /// Restores the newest checkpoint that is intact: where its manifest, its files or `restore` report damage, says so
    /// and tries the one before. `None` if there is no checkpoint at all; the error of the newest if none is intact.
    pub fn restore_newest<B: DeserializeOwned, T>(&self, mut restore: impl FnMut(Manifest<B>) -> Result<T>) -> Result<Option<T>> {
        let mut newest_error: Option<SqlError> = None;
        for id in self.list()? {
            match self.load(id).and_then(&mut restore) {
                Ok(restored) => return Ok(Some(restored)),
                Err(error) if error.state == SqlState::DATA_CORRUPTED => {
                    tracing::error!(checkpoint = id, %error, "a checkpoint is damaged, falling back to the one before");
                    newest_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        newest_error.map_or(Ok(None), Err)
    }
}
