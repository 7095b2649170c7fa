//! Where a source's files are: a store and a prefix in it, from a path or a URL, and what is asked of them. Each call waits for
//! the store's answer, and must not be made on a runtime's own threads.

use super::catalogue::{File, PLACE_MAX};
use super::glob::Glob;
use super::stores::{open_store, runtime};
use bytes::Bytes;
use eddyline_common::object_store::{is_missing, store_failure};
use eddyline_common::{Result, SqlError, SqlState};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// As the user wrote it.
    pub path: String,
}

impl Location {
    /// The location before the first part that is a pattern, and the pattern from there on.
    pub fn new(path: &str, options: &BTreeMap<String, String>) -> Result<(Location, Option<String>)> {
        let start = path.find("://").map_or(0, |at| at + 3);
        let (base, glob) = match path[start..].find(['*', '?', '[', '{']) {
            Some(at) => {
                let cut = path[..start + at].rfind('/').map_or(0, |slash| slash + 1).max(start);
                (&path[..cut], Some(path[cut..].to_string()))
            }
            None => (path, None),
        };
        debug_assert!(glob.as_ref().is_none_or(|glob| Glob::is_one(glob)));
        let (store, prefix) = open_store(if base.is_empty() { "." } else { base }, options)?;
        Ok((Location { store, prefix, path: path.to_string() }, glob))
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> SqlError {
        match error {
            object_store::Error::NotFound { path, .. } if is_missing(error) => {
                SqlError::new(SqlState::UNDEFINED_OBJECT, format!("there is no file \"{path}\""))
            }
            error => store_failure(what, &self.path, error),
        }
    }

    /// The file as it is now.
    pub fn head(&self, path: &str) -> Result<File> {
        let path = Path::parse(path).map_err(SqlError::internal)?;
        let head = runtime()?.block_on(self.store.head(&path));
        head.map(|meta| File::of(&meta)).map_err(|e| self.failed("look at", &e))
    }

    /// These bytes of a file, all of them.
    pub fn read(&self, file: &File, range: Range<u64>) -> Result<Bytes> {
        let path = Path::parse(&file.path).map_err(SqlError::internal)?;
        let bytes = runtime()?.block_on(self.store.get_range(&path, range.clone())).map_err(|e| self.failed("read", &e))?;
        if bytes.len() as u64 == range.end - range.start {
            return Ok(bytes);
        }
        Err(SqlError::io(format!("file \"{}\" ends at byte {} of {}", file.path, range.start + bytes.len() as u64, file.bytes)))
    }

    /// All files that fit the pattern; a path without one may also be a file itself.
    pub fn list(&self, pattern: &Glob) -> Result<Vec<File>> {
        let files = runtime()?.block_on(self.listed(pattern))?;
        match files.iter().find(|file| file.bytes > PLACE_MAX) {
            Some(file) => Err(SqlError::unsupported(format!("file \"{}\" is larger than 2^40 bytes", file.path))),
            None => Ok(files),
        }
    }

    async fn listed(&self, pattern: &Glob) -> Result<Vec<File>> {
        let below = |location: &Path| {
            let parts: Vec<String> = location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_string()).collect();
            Some(parts.join("/"))
        };
        let listed = self.store.list(Some(&self.prefix)).try_filter_map(async |meta| {
            let fits = below(&meta.location).is_some_and(|path| !path.is_empty() && pattern.matches(&path));
            Ok(fits.then(|| File::of(&meta)))
        });
        let mut files: Vec<File> = match listed.try_collect().await {
            Ok(files) => files,
            // A local path that is a file is no directory.
            Err(_) if self.is_file().await => Vec::new(),
            Err(error) => return Err(self.failed("list", &error)),
        };
        if files.is_empty() && !self.prefix.as_ref().is_empty() {
            files.extend(self.store.head(&self.prefix).await.ok().map(|meta| File::of(&meta)));
        }
        Ok(files)
    }

    async fn is_file(&self) -> bool {
        self.store.head(&self.prefix).await.is_ok()
    }
}
