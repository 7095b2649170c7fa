//! Segment files: their names, their order, and where the last one ends. A torn tail is cut off here;
//! damage that no crash explains is an error that names file and offset.

use super::frame::{self, Header, SEGMENT_HEADER_BYTES, VERSION};
use crate::io::failed;
use eddyline_common::runtime::FileSystem;
use eddyline_common::{Result, SqlError};
use std::path::{Path, PathBuf};

/// Where a log in `dir` has this segment.
pub fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}.log"))
}

/// The numbers of the segments in `dir`, which follow each other without a gap.
pub(super) fn list(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<u64>> {
    let mut segments: Vec<u64> = fs.list(dir).map_err(failed("list log directory", dir))?.iter().filter_map(|path| number(path)).collect();
    segments.sort_unstable();
    match segments.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        Some(gap) => {
            Err(SqlError::corrupt(format!("log segment \"{}\" is missing", path(dir, gap[0] + 1).display())).with_hint(FROM_A_BACKUP))
        }
        None => Ok(segments),
    }
}

fn number(path: &Path) -> Option<u64> {
    (path.extension()? == "log").then(|| path.file_stem()?.to_str()?.parse().ok())?
}

pub(super) fn read(fs: &dyn FileSystem, path: &Path) -> Result<Vec<u8>> {
    fs.read(path).map_err(failed("read log segment", path))
}

/// Errors for a header of another version; says whether it is intact.
pub(super) fn header_is_valid(bytes: &[u8], segment: u64, path: &Path) -> Result<bool> {
    match frame::check_header(bytes, segment) {
        Header::Valid => Ok(true),
        Header::Damaged => Ok(false),
        Header::OtherVersion(version) => Err(SqlError::unsupported(format!(
            "log segment \"{}\" has format version {version}, this server reads version {VERSION}",
            path.display()
        ))
        .with_hint("Start the version of the server that wrote this data directory.")),
    }
}

pub(super) fn damaged(path: &Path, offset: u64, detail: impl Into<String>) -> SqlError {
    SqlError::corrupt(format!("log segment \"{}\" is damaged at offset {offset}", path.display()))
        .with_detail(detail)
        .with_hint(FROM_A_BACKUP)
}

/// The log alone has what came after the newest checkpoint.
const FROM_A_BACKUP: &str =
    "The disk does not have what was written to it. Restore the data directory and the checkpoint store from a backup of both.";

/// What the last segment holds.
pub(super) struct Extent {
    /// Bytes that are valid: 0 if not even the header is. What follows them was never durable.
    pub valid: u64,
    /// Bytes after those that are not zeros: a torn tail.
    pub torn: u64,
    /// It has its end, so the next one is in use.
    pub is_sealed: bool,
}

pub(super) fn extent(bytes: &[u8], segment: u64, path: &Path) -> Result<Extent> {
    extent_from(bytes, segment, path, SEGMENT_HEADER_BYTES)
}

/// The same of a segment of which nothing before `needed` is read: damage there is no reason to lose what follows. Whether the log had come to
/// `needed` a record says that begins or ends there.
pub(super) fn extent_needed(bytes: &[u8], segment: u64, path: &Path, needed: u64) -> Result<Extent> {
    let whole = extent(bytes, segment, path);
    if whole.as_ref().is_ok_and(|extent| extent.valid >= needed) || !borders_on_a_record(bytes, segment, needed as usize) {
        return whole;
    }
    let found = whole.map_or_else(|error| error.message, |extent| format!("valid records end at offset {}", extent.valid));
    tracing::warn!(segment = %path.display(), "a damaged part of the log is left out, as a checkpoint has what was there: {found}");
    extent_from(bytes, segment, path, needed)
}

fn borders_on_a_record(bytes: &[u8], segment: u64, offset: usize) -> bool {
    if frame::parse(bytes, segment, offset).is_some() {
        return true;
    }
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while let Some(found) = frame::find_marker(bytes, at).filter(|found| *found < offset) {
        at = match frame::parse(bytes, segment, found) {
            Some(frame) if frame.payload.end == offset => return true,
            Some(frame) => frame.payload.end,
            None => found + 1,
        };
    }
    false
}

/// `begin`: where the first record is that counts.
fn extent_from(bytes: &[u8], segment: u64, path: &Path, begin: u64) -> Result<Extent> {
    let (mut valid, mut is_sealed) = (0, false);
    if header_is_valid(bytes, segment, path)? {
        valid = begin as usize;
        while !is_sealed && let Some(frame) = frame::parse(bytes, segment, valid) {
            valid = frame.payload.end;
            is_sealed = frame.kind == frame::SEAL;
        }
    }
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1).max(valid);
    match written_after_durable(&bytes[..written], segment, valid) {
        Some(later) => {
            Err(damaged(path, valid as u64, format!("The record at offset {later} was written after this one had become durable.")))
        }
        None => Ok(Extent { valid: valid as u64, torn: (written - valid) as u64, is_sealed }),
    }
}

/// The offset of a valid frame which proves that the bytes at `damage` had been durable.
fn written_after_durable(bytes: &[u8], segment: u64, damage: usize) -> Option<usize> {
    let mut at = damage;
    while let Some(found) = frame::find_marker(bytes, at) {
        at = match frame::parse(bytes, segment, found) {
            Some(frame) if frame.synced > damage as u64 => return Some(found),
            Some(frame) => frame.payload.end,
            None => found + 1,
        };
    }
    None
}
