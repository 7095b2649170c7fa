//! The thread that writes a sink's log: what the coordinator hands it, in order, made durable in groups. A disk that refuses is
//! tried again; meanwhile the job waits, as what is not logged is bounded. It starts the sender, and ends after it.

use super::super::Event;
use super::super::records::encode_json;
use super::frames::{self, Commit, KIND_COMMIT, KIND_ROWS};
use super::opening::{self, Opened};
use super::sender::SinkSender;
use super::shared::{LogAt, Logged, Shared};
use crossbeam_channel::{Receiver, Sender};
use eddyline_common::connector::{SinkConnector, SinkMonitor, SinkStep};
use eddyline_common::runtime::FileSystem;
use eddyline_common::{ChangeBatch, RelationId, Result, SqlError, SqlState, failpoint, panic_text};
use eddyline_storage::log::{Log, LogPosition};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Between attempts at a disk that refuses.
const RETRY: Duration = Duration::from_millis(250);

/// Pieces that are made durable together, and their bytes: what the log holds in memory besides the pieces.
const GROUP_MAX: usize = 64;
const GROUP_BYTES_MAX: usize = 8 << 20;

pub enum Piece {
    Rows(SinkStep, Vec<ChangeBatch>),
    Commit(Commit),
}

pub struct Logger {
    pub id: RelationId,
    pub name: String,
    pub shared: Arc<Shared>,
    pub fs: Arc<dyn FileSystem>,
    pub dir: PathBuf,
    /// `None`: the sink is new, and what lies in its directory is not its own.
    pub opened: Option<Opened>,
    /// Goes to the sender.
    pub connector: Option<Box<dyn SinkConnector>>,
    pub events: Sender<Event>,
}

impl Piece {
    /// In memory.
    pub fn bytes(&self) -> usize {
        match self {
            Piece::Rows(_, changes) => changes.iter().map(ChangeBatch::bytes).sum(),
            Piece::Commit(commit) => {
                let starts: usize = commit.sources.values().map(|starts| size_of_val(starts.as_slice())).sum();
                size_of::<Commit>() + starts
            }
        }
    }
}

impl Logger {
    /// A panic stops the sink's job, as does what cannot be encoded.
    pub fn run_guarded(self, pieces: &Receiver<Piece>) {
        let (id, events) = (self.id, self.events.clone());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run(pieces))) {
            let error = SqlError::internal(format!("the log of a sink panicked: {}", panic_text(panic.as_ref())));
            // A coordinator that is gone needs no news.
            let _gone = events.send(Event::SinkFailed(id, error));
        }
    }

    pub fn run(mut self, pieces: &Receiver<Piece>) {
        let Some(opened) = self.open() else { return self.end() };
        let sent = opened.sent;
        let log = Arc::new(opened.log);
        self.shared.opened(LogAt { log: log.clone(), start: opened.start, void: Arc::new(opened.void) });
        let Some(connector) = self.connector.take() else { return self.end() };
        let sender = SinkSender::new(self.name.clone(), self.shared.clone(), connector, sent);
        let shared = self.shared.clone();
        let send = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sender.run())) {
                let what = panic_text(panic.as_ref());
                shared.report(Some(format!("sending panicked, and goes on once the server is started again: {what}")));
            }
        };
        let thread = std::thread::Builder::new().name("sink-sender".into()).spawn(send);
        if let Err(error) = &thread {
            self.shared.report(Some(format!("no thread for sending: {error}")));
        }
        while let Ok(first) = pieces.recv() {
            let (mut bytes, mut group) = (first.bytes(), vec![first]);
            while group.len() < GROUP_MAX
                && bytes < GROUP_BYTES_MAX
                && let Ok(piece) = pieces.try_recv()
            {
                bytes += piece.bytes();
                group.push(piece);
            }
            if !self.log_group(&log, group) {
                break;
            }
        }
        self.shared.close(false);
        if let Ok(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(sink = %self.name, "the sender panicked");
        }
        if self.shared.is_discarded() {
            self.shared.let_go_of_log();
        }
        drop(log);
        self.end();
    }

    fn open(&mut self) -> Option<Opened> {
        if let Some(opened) = self.opened.take() {
            return Some(opened);
        }
        loop {
            let fresh = || -> Result<Opened> {
                if self.fs.exists(&self.dir) {
                    self.fs.remove_dir_all(&self.dir)?;
                }
                opening::open(self.fs.clone(), self.dir.clone())
            };
            match fresh() {
                Ok(opened) => return Some(opened),
                Err(error) => self.shared.cannot_open(error),
            }
            if !self.shared.sleep(RETRY) {
                return None;
            }
        }
    }

    fn end(&self) {
        if self.shared.is_discarded()
            && self.fs.exists(&self.dir)
            && let Err(error) = self.fs.remove_dir_all(&self.dir)
        {
            tracing::warn!(sink = %self.name, "the log of a dropped sink stays on disk: {error}");
        }
    }

    /// False when the sink was closed before all was durable, or its job cannot go on.
    fn log_group(&self, log: &Log, group: Vec<Piece>) -> bool {
        let mut at_hand = Vec::new();
        let mut last = None;
        let pieces = group.len() as u64;
        for piece in group {
            let Encoded { kind, number, payload, rows } = match encode(piece) {
                Ok(encoded) => encoded,
                Err(error) => {
                    let _gone = self.events.send(Event::SinkFailed(self.id, error));
                    return false;
                }
            };
            let Some(position) = self.append(log, kind, &payload) else { return false };
            last = Some(position);
            let bytes = payload.len() as u64;
            self.shared.waits(number, bytes);
            at_hand.extend(rows.map(|(step, changes)| Logged { step, changes, position, bytes }));
        }
        let Some(last) = last else { return true };
        while let Err(error) = self.shared.wait_durable(log, last) {
            // A failed sync: for good, until the server is started again. A checkpoint that waits for it learns of it.
            let _gone = self.events.send(Event::SinkLogged(self.id, 0));
            self.shared.report(Some(format!("its log cannot be written: {error}")));
            if !self.shared.sleep(RETRY) {
                return false;
            }
        }
        at_hand.into_iter().for_each(|logged| self.shared.queue(logged));
        let _gone = self.events.send(Event::SinkLogged(self.id, pieces));
        true
    }

    /// `None` when the sink was closed first, or the log will never take it.
    fn append(&self, log: &Log, kind: u8, payload: &[u8]) -> Option<LogPosition> {
        loop {
            match log.append(kind, payload) {
                Ok(position) => return Some(position),
                Err(error) if error.state == SqlState::LIMIT_EXCEEDED => {
                    let error = error.with_hint("More rows come of one step of the sink's query than its log takes at once.");
                    let _gone = self.events.send(Event::SinkFailed(self.id, error));
                    return None;
                }
                Err(error) => self.shared.report(Some(format!("its log cannot be written: {error}"))),
            }
            if !self.shared.sleep(RETRY) {
                return None;
            }
        }
    }
}

struct Encoded {
    kind: u8,
    /// What must be acknowledged before it is of no use any more.
    number: u64,
    payload: Vec<u8>,
    rows: Option<(SinkStep, ChangeBatch)>,
}

fn encode(piece: Piece) -> Result<Encoded> {
    failpoint::hit("sink.logging")?;
    match piece {
        Piece::Commit(commit) => Ok(Encoded { kind: KIND_COMMIT, number: commit.up_to, payload: encode_json(&commit)?, rows: None }),
        Piece::Rows(step, mut changes) => {
            let changes = match changes.len() {
                1 => changes.remove(0),
                _ => ChangeBatch::concat(&changes[0].schema(), &changes)?,
            };
            let payload = frames::encode_rows(step, &changes)?;
            Ok(Encoded { kind: KIND_ROWS, number: step.number, payload, rows: Some((step, changes)) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use eddyline_common::connector::PartitionStart;
    use eddyline_common::runtime::SystemFs;
    use eddyline_common::{Epoch, Offset, PartitionId, Timestamp};
    use eddyline_storage::log::LogOptions;
    use std::collections::BTreeMap;
    use std::sync::atomic::Ordering;

    /// A step of one row with a commit that says where a hundred partitions stand.
    fn step(number: u64) -> Vec<Piece> {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![number as i64]));
        let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
        let step = SinkStep { number, epoch: Epoch(number), now: Timestamp(0) };
        let starts = (0..100).map(|n| PartitionStart { partition: PartitionId(n), start: Offset(1_000_000) }).collect();
        let sources = BTreeMap::from([(RelationId(1), starts)]);
        let commit = Commit { up_to: number, from: Epoch(number - 1), epoch: Epoch(number), complete: true, sources };
        vec![Piece::Rows(step, vec![ChangeBatch::insertions(batch)]), Piece::Commit(commit)]
    }

    /// Commits take room in the log, more than the rows of small steps.
    #[test]
    fn commits_count_as_what_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (fs, path) = (Arc::new(SystemFs), dir.path().join("log"));
        let log = opening::open(fs.clone(), path.clone()).unwrap().log;
        let shared = Shared::new(Arc::default(), Default::default(), false);
        let (events, _told) = crossbeam_channel::unbounded();
        let (id, name) = (RelationId(2), "out".to_string());
        let logger = Logger { id, name, shared: shared.clone(), fs: fs.clone(), dir: path.clone(), opened: None, connector: None, events };
        for number in 1..=50 {
            let group = step(number);
            assert!(group[1].bytes() > 1_000, "nor is a commit nothing in memory");
            assert!(logger.log_group(&log, group));
        }
        let waiting = || shared.stats.waiting_bytes.load(Ordering::Relaxed);
        let all = waiting();
        let in_files: u64 = log.files().unwrap().iter().filter_map(|file| file.durable_bytes).sum();
        assert!(all <= in_files && in_files - all < 10_000, "{all} bytes wait, the log has {in_files}");
        drop((logger, log));
        assert_eq!(opening::open(fs, path).unwrap().waiting().bytes(), all, "as after a restart");
        shared.acknowledged(50);
        assert_eq!(waiting(), 0);
    }

    /// What no log takes was tried for ever, and checkpoints waited for it.
    #[test]
    fn a_step_that_is_too_large_for_the_log_stops_its_job() {
        let dir = tempfile::tempdir().unwrap();
        let (fs, path) = (Arc::new(SystemFs), dir.path().join("log"));
        let options = LogOptions { record_bytes_max: 100, ..LogOptions::default() };
        let (log, _empty) = Log::open(fs.clone(), path.clone(), options).unwrap();
        let shared = Shared::new(Arc::default(), Default::default(), false);
        let (events, told) = crossbeam_channel::unbounded();
        let (id, name) = (RelationId(2), "out".to_string());
        let logger = Logger { id, name, shared, fs, dir: path, opened: None, connector: None, events };
        assert!(!logger.log_group(&log, step(1)));
        let Ok(Event::SinkFailed(RelationId(2), error)) = told.try_recv() else { panic!("the job is to stop") };
        assert_eq!(error.state, SqlState::LIMIT_EXCEEDED);
    }
}
