//! A sink's log as it is found at start: what was sent, what was committed, and what must not be sent because the job that
//! wrote it comes back at an earlier point and will write something else.

use super::frames::{self, Commit, KIND_COMMIT, KIND_ROWS, KIND_SENT, KIND_VOID, Sent, Void};
use eddyline_common::runtime::FileSystem;
use eddyline_common::{Epoch, Result, SqlError};
use eddyline_storage::log::{Log, LogOptions, LogPosition};
use std::path::PathBuf;
use std::sync::Arc;

/// Read back whole, and removed when all of it has been sent.
const SEGMENT_BYTES: u64 = 8 << 20;

pub struct Opened {
    pub log: Log,
    /// Where reading begins.
    pub start: LogPosition,
    pub sent: Sent,
    /// The highest number there ever was.
    pub last: u64,
    /// In order; those that are void left out.
    pub commits: Vec<Commit>,
    /// Numbers and bytes of rows that wait.
    rows: Vec<(u64, u64)>,
    pub void: Vec<Void>,
}

/// At which point a restart brings the job back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// At the content of an epoch.
    AtEpoch,
    /// In the middle of a private reading, with the rows up to this number behind it.
    Reading { logged: u64 },
}

pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf) -> Result<Opened> {
    let (log, recovered) = Log::open(
        fs,
        dir,
        LogOptions {
            segment_bytes: SEGMENT_BYTES,
            room_bytes_max: SEGMENT_BYTES / 4,
            sync_failpoint: "sink.log_synced",
            ..Default::default()
        },
    )?;
    let start = recovered.start();
    let mut opened = Opened { log, start, sent: Sent::default(), last: 0, commits: Vec::new(), rows: Vec::new(), void: Vec::new() };
    for frame in recovered.frames(start)? {
        let frame = frame?;
        match frame.kind {
            KIND_ROWS => {
                let (step, _) = frames::step_of(&frame.payload)?;
                opened.last = opened.last.max(step.number);
                opened.rows.push((step.number, frame.payload.len() as u64));
            }
            KIND_COMMIT => opened.commits.push(frames::decode_json(&frame.payload)?),
            KIND_SENT => opened.sent = frames::decode_json(&frame.payload)?,
            KIND_VOID => opened.forget(frames::decode_json(&frame.payload)?),
            other => return Err(SqlError::corrupt(format!("a sink's log has a record of unknown kind {other}"))),
        }
    }
    opened.last = opened.last.max(opened.sent.up_to);
    Ok(opened)
}

impl Opened {
    fn forget(&mut self, void: Void) {
        self.last = self.last.max(void.up_to);
        self.commits.retain(|c| !void.covers(c.up_to));
        self.rows.retain(|(number, _)| !void.covers(*number));
        self.void.push(void);
    }

    /// Makes void what does not belong to the job as it comes back; `last_cut` is the newest epoch there is. Returns the
    /// epoch up to which the log has everything that the job will emit again.
    pub fn settle(&mut self, back: Back, last_cut: Epoch) -> Result<Option<Epoch>> {
        self.commits.retain(|c| c.epoch <= last_cut);
        let newest = self.commits.iter().rev().find(|c| c.complete);
        let (keep, complete) = match back {
            Back::AtEpoch => (newest.map_or(0, |c| c.up_to), newest.map(|c| c.epoch).max(self.sent.complete)),
            Back::Reading { logged } => (logged, None),
        };
        let keep = keep.max(self.sent.up_to);
        if self.last > keep {
            let void = Void { after: keep, up_to: self.last };
            let payload = super::super::records::encode_json(&void)?;
            self.log.append(KIND_VOID, &payload)?;
            self.log.sync()?;
            self.forget(void);
        }
        self.commits.retain(|c| c.up_to > self.sent.up_to);
        Ok(complete)
    }

    /// Bytes of the rows that wait.
    pub fn waiting_bytes(&self) -> u64 {
        self.rows.iter().filter(|(number, _)| *number > self.sent.up_to).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests;
