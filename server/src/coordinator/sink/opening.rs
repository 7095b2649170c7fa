//! A sink's log as it is found at start: what was sent, what was committed, and what must not be sent because the job that
//! wrote it comes back at an earlier point and will write something else.

use super::frames::{self, Commit, KIND_COMMIT, KIND_ROWS, KIND_SENT, KIND_VOID, Sent, Void};
use super::waiting::Waiting;
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
    /// Numbers and bytes of rows and commits, in order; those that are void left out.
    records: Vec<(u64, u64)>,
    pub void: Vec<Void>,
}

/// At which point a restart brings the job back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// At the content of an epoch.
    AtEpoch,
    /// In the middle of a private reading, with the rows up to this number behind it.
    Reading { logged: u64 },
    /// It emits nothing any more.
    Stopped,
}

/// A sink of a checkpoint, until the server's own log has been replayed and says what counts of the sink's.
pub struct Returning {
    pub back: Back,
    /// That it cannot be opened matters only if the sink is not dropped further on.
    pub opened: Result<Opened>,
}

impl Returning {
    pub fn open(fs: Arc<dyn FileSystem>, dir: PathBuf, back: Back) -> Self {
        Returning { back, opened: open(fs, dir) }
    }

    /// Epochs up to which its log may turn out to be complete.
    pub fn complete(&self) -> impl Iterator<Item = Epoch> {
        let commits = self.opened.iter().flat_map(|opened| &opened.commits);
        let sent = self.opened.iter().filter_map(|opened| opened.sent.complete);
        commits.filter(|commit| commit.complete).map(|commit| commit.epoch).chain(sent)
    }

    /// The first of them after one.
    pub fn complete_after(&self, epoch: Epoch) -> Option<Epoch> {
        let opened = self.opened.as_ref().ok()?;
        let next = opened.commits.partition_point(|commit| commit.epoch <= epoch);
        let commit = opened.commits[next..].iter().find(|commit| commit.complete).map(|commit| commit.epoch);
        commit.into_iter().chain(opened.sent.complete.filter(|sent| *sent > epoch)).min()
    }
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
    let mut opened = Opened { log, start, sent: Sent::default(), last: 0, commits: Vec::new(), records: Vec::new(), void: Vec::new() };
    for frame in recovered.frames(start)? {
        let frame = frame?;
        let bytes = frame.payload.len() as u64;
        match frame.kind {
            KIND_ROWS => {
                let (step, _) = frames::step_of(&frame.payload)?;
                opened.last = opened.last.max(step.number);
                opened.records.push((step.number, bytes));
            }
            KIND_COMMIT => {
                let commit: Commit = frames::decode_json(&frame.payload)?;
                opened.records.push((commit.up_to, bytes));
                opened.commits.push(commit);
            }
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
        self.records.retain(|(number, _)| !void.covers(*number));
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
            Back::Stopped => (self.commits.last().map_or(0, |c| c.up_to), None),
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

    /// What is to be sent.
    pub fn waiting(&self) -> Waiting {
        let mut waiting = Waiting::after(self.sent.up_to);
        self.records.iter().for_each(|(number, bytes)| waiting.add(*number, *bytes));
        waiting
    }
}

#[cfg(test)]
mod tests;
