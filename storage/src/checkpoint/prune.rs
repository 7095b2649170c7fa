//! Removing what is no longer needed: manifests beyond the newest few, then the files that no manifest names. A crash in
//! between leaves unnamed files only, and the next pruning removes them; as it does what an upload that failed left behind. What a checkpoint
//! that was given up had uploaded can be removed at once.

use super::CheckpointStore;
use super::manifest::Outline;
use super::store::{manifest_id, unfinished_name};
use crate::io::failed;
use eddyline_common::{Result, SqlState, failpoint};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// What a pruning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub manifests: usize,
    pub files: usize,
}

impl CheckpointStore {
    /// Keeps the newest `keep` (at least one) valid checkpoints and all named ones, with their files, and files uploaded
    /// for a checkpoint that is being built. Damaged manifests older than a valid one are removed.
    pub async fn prune(&self, keep: usize) -> Result<Pruned> {
        let mut kept = Vec::new();
        let mut dropped = Vec::new();
        let mut newest = 0;
        for id in self.list().await? {
            match self.read_outline(id).await {
                Ok(manifest) if newest < keep.max(1) => {
                    newest += 1;
                    kept.push(manifest);
                }
                Ok(manifest) if manifest.name.is_some() => kept.push(manifest),
                Ok(_) => dropped.push(id),
                Err(error) if error.state == SqlState::DATA_CORRUPTED && newest > 0 => dropped.push(id),
                // What it names is unknown, so nothing may be removed.
                Err(error) => return Err(error),
            }
        }
        if kept.is_empty() {
            return Ok(Pruned::default());
        }
        for id in &dropped {
            self.delete(&self.manifest_path(*id)).await?;
        }
        failpoint::hit("checkpoint.prune")?;
        let files = self.remove_unnamed(&kept).await?;
        Ok(Pruned { manifests: dropped.len(), files })
    }

    /// Removes files of a checkpoint that was given up. What cannot be removed now goes with the next pruning.
    pub async fn discard(&self, names: &[String]) -> Result<()> {
        self.forget(names);
        for name in names {
            self.delete(&self.file_path(name)).await?;
        }
        Ok(())
    }

    async fn remove_unnamed(&self, kept: &[Outline]) -> Result<usize> {
        let named: HashSet<&str> = kept.iter().flat_map(|manifest| &manifest.files).map(|file| file.name.as_str()).collect();
        let mut removed = 0;
        for object in self.list_objects("files").await? {
            let unnamed = object.location.filename().is_some_and(|name| !named.contains(name) && !self.is_fresh(name));
            if unnamed {
                self.delete(&object.location).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The id for the next checkpoint: above every one that is listed, damaged or not.
    pub async fn next_id(&self) -> Result<u64> {
        Ok(self.list_objects("manifests").await?.iter().filter_map(manifest_id).max().unwrap_or(0) + 1)
    }

    /// Removes what a killed process was just writing into a store that is not local. To be called before the first upload.
    pub(super) async fn remove_unfinished(&self) -> Result<()> {
        for part in ["files", "manifests"] {
            for object in self.list_objects(part).await? {
                if object.location.filename().and_then(unfinished_name).is_some() {
                    self.delete(&object.location).await?;
                }
            }
        }
        Ok(())
    }

    /// Removes what a killed process was just writing into a local store. To be called before the first upload.
    pub fn remove_staged(&self) -> Result<()> {
        for dir in ["files", "manifests"].into_iter().filter_map(|part| self.local_path(part)) {
            for entry in fs::read_dir(&dir).map_err(failed("list", &dir))? {
                let path = entry.map_err(failed("list", &dir))?.path();
                if is_staged(&path) {
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

/// The local object store writes to `<name>#<number>` and renames.
fn is_staged(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains('#'))
}
