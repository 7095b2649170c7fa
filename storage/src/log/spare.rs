//! The next segment's file, made in the background: all of its blocks written with zeros and synced, so that records are written
//! over them in place, and their sync has neither a length nor blocks to make durable with them. An old segment that goes
//! becomes the next one, which spares the file system both the removal and the allocation.

use crate::io::failed;
use crate::priority;
use eddyline_common::Result;
use eddyline_common::runtime::{FileSystem, Process, Turn};
use eddyline_common::telling::Told;
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Zeros are written in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    /// There may be a file, of any content.
    Raw,
    Preparing,
    /// Zeros throughout, of the length of a segment.
    Ready,
}

struct State {
    spare: Spare,
    wanted: bool,
    closing: bool,
    /// It is wanted again with every record, however full the disk is.
    told: Told,
}

/// Prepares files until `close`.
pub(super) struct Preparer(pub Arc<Spares>);

impl Process for Preparer {
    fn turn(&mut self, may_wait: bool) -> Turn {
        self.0.prepare_if_wanted(may_wait)
    }

    fn begin(&mut self) {
        priority::lower();
    }
}

/// Shared by the flusher, who takes the file, the log, which gives old ones, and the thread that prepares it.
pub(super) struct Spares {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Spares {
    pub(super) fn new(fs: Arc<dyn FileSystem>, dir: &Path, segment_bytes: u64) -> Arc<Spares> {
        let state = Mutex::new(State { spare: Spare::Raw, wanted: false, closing: false, told: Told::default() });
        Arc::new(Spares { fs, path: dir.join("spare"), segment_bytes, state, changed: Condvar::new() })
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    /// The segment in use is filling up.
    pub(super) fn want(&self) {
        let mut state = self.state.lock();
        if state.spare == Spare::Raw && !state.wanted {
            state.wanted = true;
            self.changed.notify_all();
        }
    }

    /// Gives the prepared file the name `to`; its length, or `None` if there is none. The caller syncs the directory.
    pub(super) fn take(&self, to: &Path) -> Result<Option<u64>> {
        let mut state = self.state.lock();
        if state.spare != Spare::Ready {
            return Ok(None);
        }
        self.fs.rename(&self.path, to).map_err(failed("rename to a log segment", &self.path))?;
        state.spare = Spare::Raw;
        Ok(Some(self.segment_bytes))
    }

    /// A segment that nobody needs any more becomes the spare file, if there is none. `false`: it is to be removed.
    pub(super) fn give(&self, old: &Path) -> Result<bool> {
        let state = self.state.lock();
        if state.spare != Spare::Raw || self.fs.exists(&self.path) {
            return Ok(false);
        }
        let bytes = self.fs.len(old).map_err(failed("inspect log segment", old))?;
        if bytes < self.segment_bytes || bytes > 2 * self.segment_bytes {
            return Ok(false);
        }
        self.fs.rename(old, &self.path).map_err(failed("rename log segment", old))?;
        Ok(true)
    }

    #[cfg(test)]
    pub(super) fn is_ready(&self) -> bool {
        self.state.lock().spare == Spare::Ready
    }

    fn prepare_if_wanted(&self, may_wait: bool) -> Turn {
        let mut state = self.state.lock();
        while may_wait && !state.wanted && !state.closing {
            self.changed.wait(&mut state);
        }
        if state.closing {
            return Turn::Ended;
        }
        if !state.wanted {
            return Turn::Idle;
        }
        (state.wanted, state.spare) = (false, Spare::Preparing);
        drop(state);
        let prepared = self.prepare();
        if let Err(error) = &prepared {
            if self.state.lock().told.is_due(error.state, Instant::now()) {
                tracing::warn!("the next log segment is not prepared, and grows as it is written: {error}");
            }
            // Room for records goes before room for zeros. What cannot be removed is written over the next time.
            let _gone = self.fs.remove_file(&self.path);
        }
        self.state.lock().spare = if matches!(prepared, Ok(true)) { Spare::Ready } else { Spare::Raw };
        Turn::Worked
    }

    /// `false`: the log closes.
    fn prepare(&self) -> Result<bool> {
        let error = || failed("prepare a log segment", &self.path);
        let mut file = self.fs.open(&self.path).map_err(error())?;
        let zeros = vec![0; PIECE_BYTES.min(self.segment_bytes as usize)];
        let mut at = 0;
        while at < self.segment_bytes {
            if self.state.lock().closing {
                return Ok(false);
            }
            let piece = zeros.len().min((self.segment_bytes - at) as usize);
            file.write_at(at, &zeros[..piece]).map_err(error())?;
            at += piece as u64;
        }
        file.truncate(self.segment_bytes).map_err(error())?;
        file.sync().map_err(error())?;
        Ok(true)
    }
}
