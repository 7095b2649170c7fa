//! What opening a log found, and the frames in it from any position. Frames are read a segment at a time.

use super::LogPosition;
use super::frame::{self, SEGMENT_HEADER_BYTES};
use super::segment::{self, Extent};
use crate::io::failed;
use bytes::Bytes;
use eddyline_common::runtime::FileSystem;
use eddyline_common::{Result, SqlError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The content of a log as it was opened; what is appended later is not part of it.
#[derive(Debug)]
pub struct Recovered {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    first_segment: u64,
    end: LogPosition,
    /// The length of the last segment's file, which is zeros after the end.
    allocated: u64,
    cut_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub position: LogPosition,
    pub kind: u8,
    pub payload: Bytes,
}

impl Recovered {
    /// Finds the end of the log in `dir`, cuts off a torn tail, makes the rest durable, and creates the first segment of an
    /// empty log. Nothing before `needed` is read from it.
    pub(super) fn open(fs: Arc<dyn FileSystem>, dir: PathBuf, needed: LogPosition) -> Result<Recovered> {
        fs.create_dir_all(&dir).map_err(failed("create log directory", &dir))?;
        let segments = segment::list(&*fs, &dir)?;
        let mut last_segment = segments.last().copied().unwrap_or(1);
        let mut path = segment::path(&dir, last_segment);
        let mut bytes = if segments.is_empty() { Vec::new() } else { segment::read(&*fs, &path)? };
        let Extent { mut valid, torn, is_sealed } = match needed.segment == last_segment {
            true => segment::extent_needed(&bytes, last_segment, &path, needed.offset)?,
            false => segment::extent(&bytes, last_segment, &path)?,
        };
        if is_sealed && torn == 0 {
            // Its end may be in the page cache only, and what follows it must not outlive it.
            settle(&*fs, &path, last_segment, valid, torn).map_err(failed("repair log segment", &path))?;
            last_segment += 1;
            path = segment::path(&dir, last_segment);
            (bytes, valid) = (Vec::new(), 0);
        } else if is_sealed {
            return Err(segment::damaged(&path, valid, "The segment ends there, and is written on after it."));
        }
        if torn > 0 {
            tracing::warn!(segment = %path.display(), offset = valid, torn, "cut off the torn tail of the log");
        }
        let allocated = if torn > 0 { valid } else { bytes.len() as u64 };
        let end = settle(&*fs, &path, last_segment, valid, torn).map_err(failed("repair log segment", &path))?;
        fs.sync_dir(&dir).map_err(failed("sync log directory", &dir))?;
        let first_segment = segments.first().copied().unwrap_or(1);
        let end = LogPosition { segment: last_segment, offset: end };
        Ok(Recovered { fs, dir, first_segment, end, allocated: allocated.max(end.offset), cut_bytes: torn })
    }

    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The position of the first frame that is still there.
    pub fn start(&self) -> LogPosition {
        LogPosition { segment: self.first_segment, offset: SEGMENT_HEADER_BYTES }
    }

    /// The position after the last frame.
    pub fn end(&self) -> LogPosition {
        self.end
    }

    /// Bytes of a torn tail that were cut off: written, but never durable.
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// The frames at and after `from`: a position that `append` or `Log::end` gave, or the default for all. An error if
    /// the log no longer, or not yet, contains that position.
    pub fn frames(&self, from: LogPosition) -> Result<Frames> {
        let whole = from == LogPosition::default() && self.first_segment == 1;
        let start = if whole { LogPosition { segment: 1, offset: SEGMENT_HEADER_BYTES } } else { from };
        if start.segment < self.first_segment {
            return Err(self.incomplete(from, format!("It begins at segment {}.", self.first_segment)));
        }
        if start > self.end {
            return Err(self.incomplete(from, format!("It ends at position {}.", self.end)));
        }
        Ok(Frames { fs: self.fs.clone(), dir: self.dir.clone(), next: start, end: self.end, loaded: None, failed: false })
    }

    fn incomplete(&self, from: LogPosition, detail: String) -> SqlError {
        SqlError::corrupt(format!("the log in \"{}\" does not contain position {from}", self.dir.display())).with_detail(detail)
    }
}

/// Truncates the last segment to `valid` bytes if its tail is torn, completes its header, and syncs it: bytes which survived a killed process in the
/// page cache are acted upon from now on. Returns its length.
fn settle(fs: &dyn FileSystem, path: &Path, number: u64, valid: u64, torn: u64) -> std::io::Result<u64> {
    let mut file = fs.open(path)?;
    if torn > 0 {
        file.truncate(valid)?;
    }
    if valid < SEGMENT_HEADER_BYTES {
        file.write_at(0, &frame::segment_header(number))?;
    }
    file.sync()?;
    Ok(valid.max(SEGMENT_HEADER_BYTES))
}

/// Iterates frames in order. Ends after the first error.
pub struct Frames {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    next: LogPosition,
    end: LogPosition,
    loaded: Option<(u64, Bytes)>,
    failed: bool,
}

impl Frames {
    /// From the start of a frame, or of the frames, of a segment, to the end of what is durable.
    pub(super) fn between(fs: Arc<dyn FileSystem>, dir: PathBuf, from: LogPosition, end: LogPosition) -> Frames {
        Frames { fs, dir, next: from, end, loaded: None, failed: false }
    }

    fn read(&mut self) -> Result<Option<Frame>> {
        while self.next < self.end {
            let path = segment::path(&self.dir, self.next.segment);
            let bytes = self.load(&path)?;
            let offset = self.next.offset as usize;
            if offset == bytes.len() && self.next.segment < self.end.segment {
                self.next = LogPosition { segment: self.next.segment + 1, offset: SEGMENT_HEADER_BYTES };
                continue;
            }
            let Some(parsed) = frame::parse(&bytes, self.next.segment, offset) else {
                return Err(segment::damaged(&path, self.next.offset, "No valid record starts there, and the log goes on after it."));
            };
            if parsed.kind == frame::SEAL {
                self.next = LogPosition { segment: self.next.segment + 1, offset: SEGMENT_HEADER_BYTES };
                continue;
            }
            let position = self.next;
            self.next.offset = parsed.payload.end as u64;
            return Ok(Some(Frame { position, kind: parsed.kind, payload: bytes.slice(parsed.payload) }));
        }
        Ok(None)
    }

    /// The bytes of the segment at `self.next`.
    fn load(&mut self, path: &Path) -> Result<Bytes> {
        let segment = self.next.segment;
        match &self.loaded {
            Some((loaded, bytes)) if *loaded == segment => Ok(bytes.clone()),
            _ => {
                let bytes = Bytes::from(segment::read(&*self.fs, path)?);
                if !segment::header_is_valid(&bytes, segment, path)? {
                    return Err(segment::damaged(path, 0, "Its header is not valid."));
                }
                self.loaded = Some((segment, bytes.clone()));
                Ok(bytes)
            }
        }
    }
}

impl Iterator for Frames {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        if self.failed {
            return None;
        }
        let frame = self.read().transpose();
        self.failed = matches!(frame, Some(Err(_)));
        frame
    }
}
