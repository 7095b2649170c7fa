//! Where a sink's files go: a folder of this machine, or a prefix in an object store. In either a file is there whole or not at all,
//! and durable before it is there.
//!
//! - In a folder it is written under a hidden name, synced, and renamed; then the folders are synced that it is in.
//! - In a store its parts are uploaded as they fill, and one request makes an object of them; a small file is one request. Parts of a
//!   process that was killed are not listed by anybody; the store removes them by a rule of the bucket's. HDFS has them as a file with a
//!   hidden name, which `clean` removes.

use super::super::stores::{CHECKED_WITHIN, answered, is_remote, open_store, runtime};
use bytes::Bytes;
use eddyline_common::object_store::store_failure;
use eddyline_common::{Result, SqlError, SqlState};
use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BUFFER_BYTES: usize = 64 << 10;
/// Of an upload. Stores ask for at least 5 MiB.
const PART_BYTES: usize = 8 << 20;
const UNFINISHED: &str = ".inprogress";

#[derive(Clone)]
pub enum Place {
    Folder(PathBuf),
    Store(Arc<StorePlace>),
}

pub struct StorePlace {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    /// As the user wrote it.
    url: String,
}

impl StorePlace {
    fn failed(&self, what: &str, path: &ObjectPath, error: &object_store::Error) -> SqlError {
        let failure = store_failure(what, path.as_ref(), error);
        SqlError { message: format!("{} (in {})", failure.message, self.url), ..failure }
    }
}

impl Place {
    pub fn new(path: &str, options: &BTreeMap<String, String>) -> Result<Place> {
        if is_remote(path) {
            let (store, prefix) = open_store(path, options)?;
            return Ok(Place::Store(Arc::new(StorePlace { store, prefix, url: path.to_string() })));
        }
        let dir = PathBuf::from(path.strip_prefix("file://").unwrap_or(path));
        if !dir.is_absolute() {
            let message = format!("option \"path\" must be an absolute path, not \"{}\"", dir.display());
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, message)
                .with_hint("Write path = '/data/out', 'file:///data/out' or 's3://bucket/out'."));
        }
        Ok(Place::Folder(dir))
    }

    /// That files can be made and removed there; `name` is one that nobody has.
    pub fn check(&self, name: &str) -> Result<()> {
        match self {
            Place::Folder(dir) => {
                fs::create_dir_all(dir).map_err(|e| failed("create folder", dir, &e))?;
                let probe = dir.join(hidden(name));
                File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|e| failed("write to folder", dir, &e))
            }
            Place::Store(place) => {
                let probe = place.prefix.clone().join(hidden(name));
                let asked = async {
                    place.store.put(&probe, PutPayload::new()).await.map_err(|e| place.failed("write", &probe, &e))?;
                    place.store.delete(&probe).await.map_err(|e| place.failed("remove", &probe, &e))
                };
                runtime()?.block_on(answered(&place.url, Some(CHECKED_WITHIN), asked))?
            }
        }
    }

    /// Removes files whose names `is_stale` says that of, in this many levels of folders, and what was not finished of names that
    /// begin with `prefix`.
    pub fn clean(&self, prefix: &str, levels: usize, is_stale: &dyn Fn(&str) -> bool) -> Result<()> {
        match self {
            Place::Folder(dir) => {
                fs::create_dir_all(dir).map_err(|e| failed("create folder", dir, &e))?;
                clean_folder(dir, &hidden_start(prefix), levels, is_stale)
            }
            Place::Store(place) => runtime()?.block_on(async {
                let hidden = hidden_start(prefix);
                let goes = |name: &str| name.starts_with(&hidden) || is_stale(name);
                let found: Vec<ObjectPath> = (place.store.list(Some(&place.prefix)))
                    .try_filter_map(async |meta| Ok(meta.location.filename().is_some_and(goes).then(|| meta.location.clone())))
                    .try_collect()
                    .await
                    .map_err(|e| place.failed("list", &place.prefix, &e))?;
                for path in found {
                    place.store.delete(&path).await.map_err(|e| place.failed("remove", &path, &e))?;
                }
                Ok(())
            }),
        }
    }

    /// A new file in a folder of the place, `a=1/b=2` or nothing.
    pub fn create(&self, folder: &str, name: &str) -> Result<Upload> {
        match self {
            Place::Folder(dir) => {
                let root = dir.clone();
                let dir = dir.join(folder);
                fs::create_dir_all(&dir).map_err(|e| failed("create folder", &dir, &e))?;
                let unfinished = dir.join(hidden(name));
                let file = File::create(&unfinished).map_err(|e| failed("create", &unfinished, &e))?;
                let file = BufWriter::with_capacity(BUFFER_BYTES, file);
                Ok(Upload { bytes: 0, to: Target::File { file, unfinished, path: dir.join(name), root } })
            }
            Place::Store(place) => {
                let parts = folder.split('/').chain([name]).filter(|part| !part.is_empty());
                // A folder's name is escaped already; the store must not do it again.
                let below = parts.collect::<Vec<_>>().join("/");
                let whole = if place.prefix.as_ref().is_empty() { below } else { format!("{}/{below}", place.prefix) };
                let path = ObjectPath::parse(whole).map_err(SqlError::internal)?;
                Ok(Upload { bytes: 0, to: Target::Object(Object { place: place.clone(), path, buffer: Vec::new(), parts: None }) })
            }
        }
    }
}

fn hidden(name: &str) -> String {
    format!("{}{UNFINISHED}", hidden_start(name))
}

fn hidden_start(name: &str) -> String {
    format!(".{name}")
}

fn clean_folder(dir: &Path, hidden: &str, levels: usize, is_stale: &dyn Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|e| failed("list", dir, &e))? {
        let path = entry.map_err(|e| failed("list", dir, &e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if levels > 0 && path.is_dir() {
            clean_folder(&path, hidden, levels - 1, is_stale)?;
        } else if name.starts_with(hidden) && name.ends_with(UNFINISHED) || is_stale(name) {
            fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
        }
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> SqlError {
    let failure = SqlError::from(std::io::Error::new(error.kind(), format!("cannot {what} \"{}\": {error}", path.display())));
    match error.kind() {
        // It stays so: the value is in the sink's log.
        std::io::ErrorKind::InvalidFilename => failure.with_hint(
            "The value of a column that makes folders is too long for the file system. Drop the sink, and create it of a query that cuts such values.",
        ),
        _ => failure,
    }
}

/// A file on its way, of which nobody sees anything yet. Dropped, it never was.
pub struct Upload {
    bytes: u64,
    to: Target,
}

enum Target {
    /// `root`: the sink's folder.
    File {
        file: BufWriter<File>,
        unfinished: PathBuf,
        path: PathBuf,
        root: PathBuf,
    },
    Object(Object),
}

struct Object {
    place: Arc<StorePlace>,
    path: ObjectPath,
    buffer: Vec<u8>,
    /// `None` while all of it is in the buffer.
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn buffered_bytes(&self) -> usize {
        match &self.to {
            Target::File { .. } => BUFFER_BYTES,
            Target::Object(object) => object.buffer.len(),
        }
    }

    /// All of it is outside, and durable if it is in a folder.
    fn settle(&mut self) -> Result<()> {
        match &mut self.to {
            Target::File { file, unfinished, .. } => {
                file.flush().map_err(|e| failed("write", unfinished, &e))?;
                file.get_ref().sync_all().map_err(|e| failed("sync", unfinished, &e))
            }
            Target::Object(object) if object.parts.is_some() && !object.buffer.is_empty() => object.put_part(),
            Target::Object(_) => Ok(()),
        }
    }

    /// Makes it visible, under its own name.
    fn show(&mut self) -> Result<()> {
        match &mut self.to {
            Target::File { unfinished, path, .. } => fs::rename(&*unfinished, &*path).map_err(|e| failed("rename", unfinished, &e)),
            Target::Object(object) => object.complete(),
        }
    }

    /// Whose content says that it is there: its folder, and those around it, which may be new.
    fn folders(&self) -> Vec<&Path> {
        match &self.to {
            Target::File { path, root, .. } => folders_of(path, root),
            Target::Object(_) => Vec::new(),
        }
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = match &mut self.to {
            Target::File { file, unfinished, .. } => {
                file.write(bytes).map_err(|e| std::io::Error::other(failed("write", unfinished, &e)))?
            }
            Target::Object(object) => {
                let room = bytes.len().min(PART_BYTES - object.buffer.len());
                object.buffer.extend_from_slice(&bytes[..room]);
                if object.buffer.len() >= PART_BYTES {
                    object.put_part().map_err(std::io::Error::other)?;
                }
                room
            }
        };
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Object {
    fn put_part(&mut self) -> Result<()> {
        let part = PutPayload::from(Bytes::from(std::mem::take(&mut self.buffer)));
        let (place, path) = (self.place.clone(), self.path.clone());
        let parts = &mut self.parts;
        runtime()?.block_on(async {
            let upload = match parts {
                Some(upload) => upload,
                none => none.insert(place.store.put_multipart(&path).await.map_err(|e| place.failed("begin", &path, &e))?),
            };
            upload.put_part(part).await.map_err(|e| place.failed("write", &path, &e))
        })
    }

    fn complete(&mut self) -> Result<()> {
        let (place, path) = (self.place.clone(), self.path.clone());
        let (parts, rest) = (&mut self.parts, std::mem::take(&mut self.buffer));
        runtime()?.block_on(async {
            let done = match parts {
                Some(upload) => upload.complete().await.map(drop),
                None => place.store.put(&path, PutPayload::from(Bytes::from(rest))).await.map(drop),
            };
            done.map_err(|e| place.failed("write", &path, &e))
        })?;
        self.parts = None;
        Ok(())
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let (Some(mut upload), Ok(runtime)) = (self.parts.take(), runtime()) else { return };
        let path = self.path.clone();
        // Nobody waits for it: the store may be away.
        runtime.spawn(async move {
            if let Err(error) = upload.abort().await {
                tracing::warn!("parts of \"{path}\", which was not finished, stay in the store: {error}");
            }
        });
    }
}

/// Makes files durable and shows them; then they can be acknowledged.
pub fn finish(mut uploads: Vec<Upload>) -> Result<()> {
    uploads.iter_mut().try_for_each(Upload::settle)?;
    uploads.iter_mut().try_for_each(Upload::show)?;
    let folders: BTreeSet<&Path> = uploads.iter().flat_map(Upload::folders).collect();
    for folder in folders {
        File::open(folder).and_then(|d| d.sync_all()).map_err(|e| failed("sync folder", folder, &e))?;
    }
    Ok(())
}

/// The folders that a file is in, up to that of its sink.
fn folders_of<'a>(path: &'a Path, root: &Path) -> Vec<&'a Path> {
    path.ancestors().skip(1).take_while(|above| above.starts_with(root)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_new_last_too() {
        let folders = folders_of(Path::new("/data/out/a=1/b=2/part.json"), Path::new("/data/out"));
        assert_eq!(folders, ["/data/out/a=1/b=2", "/data/out/a=1", "/data/out"].map(Path::new));
        assert_eq!(folders_of(Path::new("/data/out/part.json"), Path::new("/data/out")), [Path::new("/data/out")]);
    }
}
