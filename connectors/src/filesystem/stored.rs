//! A file's bytes as readers of other crates want them: from any place on, or a range. What has just been read is kept for a
//! while, since columns of a Parquet file are read side by side, a page at a time, and a request to a store costs as much as a
//! megabyte.
//!
//! Those readers wrap errors in their own. `trouble` tells that of the store, which passes, from one of the file's content, which
//! does not.

use super::Files;
use super::catalogue::File;
use bytes::{Buf, Bytes};
use eddyline_common::{Result, SqlError};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

/// Read at once where less is asked for.
const AHEAD_BYTES: u64 = 1 << 20;
/// Kept, over all places: enough for 64 columns.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Of the file's end, where Parquet has what it is about.
const TAIL_BYTES: u64 = 64 << 10;

pub struct StoredFile {
    files: Arc<Files>,
    pub file: File,
    kept: Mutex<VecDeque<(u64, Bytes)>>,
    trouble: Mutex<Option<SqlError>>,
}

impl StoredFile {
    pub fn new(files: Arc<Files>, file: File) -> Arc<Self> {
        Arc::new(StoredFile { files, file, kept: Mutex::default(), trouble: Mutex::default() })
    }

    /// What a reader's error was if it was the store's.
    pub fn trouble(&self) -> Option<SqlError> {
        self.trouble.lock().take()
    }

    /// The bytes from a place on: at least one, at most `len`; none at the end.
    fn some(&self, from: u64, len: u64) -> Result<Bytes> {
        let len = len.min(self.file.bytes.saturating_sub(from));
        if len == 0 {
            return Ok(Bytes::new());
        }
        let mut kept = self.kept.lock();
        let holds = |(at, bytes): &(u64, Bytes)| (*at..*at + bytes.len() as u64).contains(&from);
        if let Some(found) = kept.iter().position(holds)
            && let Some((at, bytes)) = kept.remove(found)
        {
            let start = (from - at) as usize;
            let part = bytes.slice(start..bytes.len().min(start + len as usize));
            kept.push_back((at, bytes));
            return Ok(part);
        }
        let tail = self.file.bytes.saturating_sub(TAIL_BYTES);
        let at = if from > tail { tail } else { from };
        let to = (from + len.max(AHEAD_BYTES)).min(self.file.bytes);
        let bytes = self.files.location.read(&self.file, at..to).inspect_err(|e| *self.trouble.lock() = Some(e.clone()))?;
        let start = (from - at) as usize;
        let part = bytes.slice(start..start + len as usize);
        kept.push_back((at, bytes));
        while kept.len() > 1 && kept.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > KEPT_BYTES_MAX {
            kept.pop_front();
        }
        Ok(part)
    }

    /// Exactly these bytes, which are not kept.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.files.location.read(&self.file, range)
    }

    /// Exactly these bytes.
    pub fn range(&self, from: u64, len: usize) -> Result<Bytes> {
        let first = self.some(from, len as u64)?;
        if first.len() == len {
            return Ok(first);
        }
        let mut all = Vec::with_capacity(first.len());
        all.extend_from_slice(&first);
        while all.len() < len {
            let more = self.some(from + all.len() as u64, (len - all.len()) as u64)?;
            if more.is_empty() {
                return Err(SqlError::corrupt(format!("byte {} is asked for, of {}", from + len as u64, self.file.bytes)));
            }
            all.extend_from_slice(&more);
        }
        Ok(Bytes::from(all))
    }

    /// From a place to the end.
    pub fn reader(self: &Arc<Self>, from: u64) -> StoredBytes {
        StoredBytes { stored: self.clone(), at: from, buffer: Bytes::new() }
    }
}

pub struct StoredBytes {
    stored: Arc<StoredFile>,
    at: u64,
    buffer: Bytes,
}

impl Read for StoredBytes {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer = self.stored.some(self.at, AHEAD_BYTES).map_err(std::io::Error::other)?;
            self.at += self.buffer.len() as u64;
        }
        let taken = out.len().min(self.buffer.len());
        self.buffer.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}
