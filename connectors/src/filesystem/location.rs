//! Where files are: a store and a prefix in it, from a path or a URL. Also used for checkpoints.

use super::Files;
use super::catalogue::{File, PLACE_MAX};
use super::glob::Glob;
use eddyline_common::{Result, SqlError, SqlState, options};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;

/// The store that a URL names, and the place in it. `options` are the store's own (`region`, `endpoint`, ...); what they leave
/// open comes from the environment (`AWS_REGION`, ...).
pub fn open_store(url: &str, options: &[(String, String)]) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let invalid = |why: String| SqlError::new(SqlState::INVALID_PARAMETER, format!("\"{url}\" cannot be opened: {why}"));
    let absolute = if url.contains("://") {
        Url::parse(url).map_err(|e| invalid(e.to_string()))?
    } else {
        let path = std::path::absolute(url).map_err(|e| invalid(e.to_string()))?;
        Url::from_file_path(path).map_err(|()| invalid("not a path".to_string()))?
    };
    // What the options say goes before what the environment says.
    let known = ["aws_", "google_", "azure_"];
    let environment =
        std::env::vars().map(|(key, value)| (key.to_lowercase(), value)).filter(|(key, _)| known.iter().any(|k| key.starts_with(k)));
    let all = environment.chain(options.iter().cloned());
    let (store, path) = object_store::parse_url_opts(&absolute, all).map_err(|e| invalid(e.to_string()))?;
    Ok((Arc::from(store), path))
}

#[derive(Clone)]
pub struct Location {
    pub store: Arc<dyn ObjectStore>,
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
        let of_store =
            options.iter().filter_map(|(key, value)| Some((key.strip_prefix(options::STORE_PREFIX)?.to_string(), value.clone())));
        let (store, prefix) = open_store(if base.is_empty() { "." } else { base }, &of_store.collect::<Vec<_>>())?;
        Ok((Location { store, prefix, path: path.to_string() }, glob))
    }

    fn failed(&self, what: &str, error: object_store::Error) -> SqlError {
        match error {
            object_store::Error::NotFound { path, .. } => SqlError::new(SqlState::UNDEFINED_OBJECT, format!("there is no file \"{path}\"")),
            error => SqlError::io(format!("{what} \"{}\": {error}", self.path)),
        }
    }

    /// The file as it is now.
    pub async fn head(&self, path: &str) -> Result<File> {
        let path = Path::parse(path).map_err(SqlError::internal)?;
        self.store.head(&path).await.map(|meta| File::of(&meta)).map_err(|e| self.failed("look at", e))
    }

    pub async fn read(&self, path: &str, range: std::ops::Range<u64>) -> Result<bytes::Bytes> {
        let path = Path::parse(path).map_err(SqlError::internal)?;
        self.store.get_range(&path, range).await.map_err(|e| self.failed("read", e))
    }

    /// All files that fit the pattern; a path without one may also be a file itself.
    async fn list(&self, pattern: &Glob) -> Result<Vec<File>> {
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
            Err(error) => return Err(self.failed("list", error)),
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

impl Files {
    /// The files there are now. Blocks.
    pub fn look(&self) -> Result<Vec<File>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.list())
    }

    pub async fn list(&self) -> Result<Vec<File>> {
        let files = self.location.list(&self.pattern).await?;
        match files.iter().find(|file| file.bytes > PLACE_MAX) {
            Some(file) => Err(SqlError::unsupported(format!("file \"{}\" is larger than 2^40 bytes", file.path))),
            None => Ok(files),
        }
    }
}
