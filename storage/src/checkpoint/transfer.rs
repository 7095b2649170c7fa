//! Whole directories into and out of the store. What an earlier checkpoint already holds is not uploaded again. A local store
//! gets a file by a hard link, and gives it by one; any other streams it in parts, so that memory stays
//! bounded whatever the size.

use super::local::{self, Linked};
use super::store::{off_runtime, store_error, verify};
use super::{CheckpointStore, FileRef};
use crate::io::failed;
use bytes::Bytes;
use eddyline_common::{Result, SqlError, failpoint};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Files in flight at once: enough to hide the latency of a remote store.
const FILES_AT_ONCE: usize = 4;
/// Bytes per part of a large upload; object stores ask for at least 5 MiB.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file in flight; with the files at once it bounds the memory of an upload.
const PARTS_AT_ONCE: usize = 2;

impl CheckpointStore {
    /// Stores a local file, which must not change any more, as a new file.
    pub async fn put_file(&self, path: &Path) -> Result<FileRef> {
        let name = self.new_file_name();
        let file = match self.local_path("files") {
            Some(files) => {
                let (from, to) = (path.to_path_buf(), files.join(&name));
                let (file, _) = off_runtime(move || link_in(&from, &to, name)).await?;
                self.note_unsynced(&file.name);
                file
            }
            None => self.stream_in(path, name).await?,
        };
        failpoint::hit("checkpoint.upload")?;
        Ok(file)
    }

    /// [`CheckpointStore::put_file`] into a local store, of a file whose content is known: nothing is read.
    pub async fn link_file(&self, path: &Path, bytes: u64, crc32: u32) -> Result<FileRef> {
        let Some(files) = self.local_path("files") else { return Err(SqlError::internal("only a local store takes links")) };
        let file = FileRef { name: self.new_file_name(), bytes, crc32 };
        let (from, to) = (path.to_path_buf(), files.join(&file.name));
        off_runtime(move || local::link_or_copy(&from, &to).map_err(local::not_uploaded(&from, &to))).await?;
        self.note_unsynced(&file.name);
        failpoint::hit("checkpoint.upload")?;
        Ok(file)
    }

    /// A file that was synced where it is; linked, it needs no further sync.
    async fn put_synced_file(&self, path: &Path) -> Result<FileRef> {
        let Some(files) = self.local_path("files") else { return self.put_file(path).await };
        let name = self.new_file_name();
        let (from, to) = (path.to_path_buf(), files.join(&name));
        let (file, linked) = off_runtime(move || link_in(&from, &to, name)).await?;
        if linked == Linked::Copy {
            self.note_unsynced(&file.name);
        }
        failpoint::hit("checkpoint.upload")?;
        Ok(file)
    }

    /// Writes a file's content to the new local file `path`, verified.
    pub async fn get_file(&self, file: &FileRef, path: &Path) -> Result<()> {
        match self.local_path("files") {
            Some(files) => {
                let (file, from, to) = (file.clone(), files.join(&file.name), path.to_path_buf());
                off_runtime(move || link_out(&file, &from, &to)).await
            }
            None => self.stream_out(file, path).await,
        }
    }

    /// Makes a file's content the local file `path`, which nobody may write to. Reads nothing where it need not: a local
    /// store gives a link, or a copy where the file is small, and so its damage shows; with a remote one a file that is at `path` already is kept
    /// if it is the right one. The caller verifies.
    pub async fn place_file(&self, file: &FileRef, path: &Path) -> Result<()> {
        let (wanted, target, local) = (file.clone(), path.to_path_buf(), self.local_path("files"));
        if off_runtime(move || place(&wanted, local.as_deref(), &target)).await? {
            return Ok(());
        }
        self.stream_out(file, path).await
    }

    /// Stores the files of `dir`, by their names there. They survive a power failure where they are, as those of a RocksDB image
    /// do. A `*.sst` file that `known` has with this name and length is
    /// taken over from there; files with names like CURRENT, whose content changes, are always stored anew.
    pub async fn upload_dir(&self, dir: &Path, known: &BTreeMap<String, FileRef>) -> Result<BTreeMap<String, FileRef>> {
        let uploads = list_dir(dir)?.into_iter().map(|(name, path, bytes)| async move {
            let unchanged = known.get(&name).filter(|file| name.ends_with(".sst") && file.bytes == bytes);
            let file = match unchanged {
                Some(file) => file.clone(),
                None => self.put_synced_file(&path).await?,
            };
            Ok::<_, SqlError>((name, file))
        });
        futures::stream::iter(uploads).buffer_unordered(FILES_AT_ONCE).try_collect().await
    }

    /// Recreates a directory that `upload_dir` stored as the new directory `dir`. Its files must not be written to: they
    /// may be the store's own.
    pub async fn download_dir(&self, files: &BTreeMap<String, FileRef>, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
        let files: Vec<(PathBuf, FileRef)> = files.iter().map(|(name, file)| (dir.join(name), file.clone())).collect();
        let downloads = files.into_iter().map(|(path, file)| async move { self.get_file(&file, &path).await });
        futures::stream::iter(downloads).buffer_unordered(FILES_AT_ONCE).try_collect().await
    }

    /// In parts, or in one request if it is smaller than one.
    async fn stream_in(&self, path: &Path, name: String) -> Result<FileRef> {
        let location = self.file_path(&name);
        let error = |error| store_error("write checkpoint file", &location, error);
        let source = File::open(path).map_err(failed("open", path))?;
        let (mut source, mut part) = read_part(source, path.to_path_buf()).await?;
        if part.len() < PART_BYTES {
            let file = FileRef { name, bytes: part.len() as u64, crc32: crc32fast::hash(&part) };
            self.object_store().put(&location, PutPayload::from(part)).await.map_err(error)?;
            return Ok(file);
        }
        let mut upload =
            WriteMultipart::new_with_chunk_size(self.object_store().put_multipart(&location).await.map_err(error)?, PART_BYTES);
        let (mut bytes, mut crc) = (0, crc32fast::Hasher::new());
        while !part.is_empty() {
            bytes += part.len() as u64;
            crc.update(&part);
            upload.put(part);
            upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(error)?;
            (source, part) = read_part(source, path.to_path_buf()).await?;
        }
        upload.finish().await.map_err(error)?;
        Ok(FileRef { name, bytes, crc32: crc.finalize() })
    }

    async fn stream_out(&self, file: &FileRef, path: &Path) -> Result<()> {
        let location = self.file_path(&file.name);
        let error = |error| store_error("read checkpoint file", &location, error);
        let mut parts = self.object_store().get(&location).await.map_err(error)?.into_stream();
        let mut target = File::create_new(path).map_err(failed("create", path))?;
        let (mut bytes, mut crc) = (0, crc32fast::Hasher::new());
        while let Some(part) = parts.try_next().await.map_err(error)? {
            bytes += part.len() as u64;
            crc.update(&part);
            target = write_part(target, part, path.to_path_buf()).await?;
        }
        verify(file, bytes, crc.finalize())
    }
}

/// Name, path and length of the regular files of a directory.
fn list_dir(dir: &Path) -> Result<Vec<(String, PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(failed("inspect", &path))?;
        let name = entry.file_name().into_string().map_err(|name| SqlError::internal(format!("file name {name:?} is not UTF-8")))?;
        if metadata.is_file() {
            files.push((name, path, metadata.len()));
        }
    }
    Ok(files)
}

fn link_in(from: &Path, to: &Path, name: String) -> Result<(FileRef, Linked)> {
    let linked = local::link_or_copy(from, to).map_err(local::not_uploaded(from, to))?;
    let (bytes, crc32) = local::measure(to).map_err(failed("read", to))?;
    Ok((FileRef { name, bytes, crc32 }, linked))
}

fn link_out(file: &FileRef, from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Err(SqlError::corrupt(format!("checkpoint file {} is missing", file.name)));
    }
    let (bytes, crc32) = local::measure(from).map_err(failed("read", from))?;
    verify(file, bytes, crc32)?;
    local::link_or_copy(from, to).map(drop).map_err(failed("download", from))
}

/// `false`: it has to be fetched to `to`, where nothing is any more.
fn place(file: &FileRef, files: Option<&Path>, to: &Path) -> Result<bool> {
    if files.is_none() && to.exists() {
        let (bytes, crc32) = local::measure(to).map_err(failed("read", to))?;
        if verify(file, bytes, crc32).is_ok() {
            return Ok(true);
        }
    }
    match fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", to)(error)),
        _ => {}
    }
    let Some(from) = files.map(|files| files.join(&file.name)) else { return Ok(false) };
    match local::link_or_copy(&from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(SqlError::corrupt(format!("checkpoint file {} is missing", file.name)))
        }
        linked => linked.map(|_| true).map_err(failed("download", &from)),
    }
}

async fn read_part(mut file: File, path: PathBuf) -> Result<(File, Bytes)> {
    off_runtime(move || {
        let mut part = Vec::with_capacity(PART_BYTES);
        (&mut file).take(PART_BYTES as u64).read_to_end(&mut part).map_err(failed("read", &path))?;
        Ok((file, Bytes::from(part)))
    })
    .await
}

async fn write_part(mut file: File, part: Bytes, path: PathBuf) -> Result<File> {
    off_runtime(move || {
        file.write_all(&part).map_err(failed("write", &path))?;
        Ok(file)
    })
    .await
}
