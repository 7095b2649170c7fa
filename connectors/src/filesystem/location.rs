//! Where a source's files are: a store and a prefix in it, from a path or a URL, and what is asked of them. Each call waits for
//! the store's answer, and must not be made on a runtime's own threads.

use super::catalogue::{File, PLACE_MAX};
use super::glob::Glob;
use super::stores::{answered, is_remote, open_store, runtime};
use bytes::Bytes;
use eddyline_common::object_store::{is_missing, store_failure};
use eddyline_common::{Result, SqlError, SqlState};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// As the user wrote it.
    pub path: String,
    is_remote: bool,
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
        Ok((Location { store, prefix, path: path.to_string(), is_remote: is_remote(path) }, glob))
    }

    /// A file's path as users know it. Stores have none that begins with a slash.
    pub fn shown(&self, path: &str) -> String {
        if self.is_remote { path.to_string() } else { format!("/{path}") }
    }

    pub fn said_of(&self, path: &str, what: &str) -> String {
        format!("file \"{}\" {what}", self.shown(path))
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
        let end = range.start + bytes.len() as u64;
        Err(SqlError::io(self.said_of(&file.path, &format!("ends at byte {end} of {}", file.bytes))))
    }

    /// All files that fit the pattern; a path without one may also be a file itself. `patience`: how long each answer of the store
    /// may take, if not as long as its requests may.
    pub fn list(&self, pattern: &Glob, patience: Option<Duration>) -> Result<Vec<File>> {
        let files = runtime()?.block_on(self.listed(pattern, patience))?;
        match files.iter().find(|file| file.bytes > PLACE_MAX) {
            Some(file) => Err(SqlError::unsupported(self.said_of(&file.path, "is larger than 2^40 bytes"))),
            None => Ok(files),
        }
    }

    async fn listed(&self, pattern: &Glob, patience: Option<Duration>) -> Result<Vec<File>> {
        let below = |location: &Path| {
            let parts: Vec<String> = location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_string()).collect();
            Some(parts.join("/"))
        };
        let mut listed = self.store.list(Some(&self.prefix));
        let (mut files, mut trouble) = (Vec::new(), None);
        while let Some(found) = answered(&self.path, patience, listed.next()).await? {
            match found {
                Ok(meta) => {
                    let fits = below(&meta.location).is_some_and(|path| !path.is_empty() && pattern.matches(&path));
                    files.extend(fits.then(|| File::of(&meta)));
                }
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            }
        }
        if trouble.is_none() && (!files.is_empty() || self.prefix.as_ref().is_empty()) {
            return Ok(files);
        }
        // The path may be a file's, which a local directory's list fails on.
        match (answered(&self.path, patience, self.store.head(&self.prefix)).await?, trouble) {
            (Ok(meta), _) => Ok(vec![File::of(&meta)]),
            (Err(_), Some(error)) => Err(self.failed("list", &error)),
            (Err(_), None) => Ok(files),
        }
    }
}
