//! The thread that takes a sink's rows outside: in order, step by step, from memory or read back from the log, and notes in the
//! log how far they are durable there. When the outside fails, it begins again after the last step that was
//! acknowledged, later and later. Nobody waits for it.

use super::super::records::encode_json;
use super::frames::{self, KIND_ROWS, KIND_SENT, Sent};
use super::shared::{LogAt, Logged, Shared, Work};
use eddyline_common::connector::{SinkConnector, SinkMonitor, SinkWriter};
use eddyline_common::{Result, SqlError, failpoint};
use eddyline_storage::log::{Frames, LogPosition};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// An outside that comes back is noticed within this.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Between flushes of a sender that has more to send: what is sent again after a crash, and what a writer has in flight.
const FLUSH_BYTES: u64 = 32 << 20;
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// The longest wait, so that no timer is missed.
const WAIT_MAX: Duration = Duration::from_secs(3600);

pub struct SinkSender {
    name: String,
    shared: Arc<Shared>,
    connector: Box<dyn SinkConnector>,
    sent: Sent,
    /// Steps given to the writer and not acknowledged.
    unacknowledged: VecDeque<Outline>,
    /// Where the first row that is not acknowledged may begin.
    position: LogPosition,
    /// The oldest segment of the log that is still there.
    kept: u64,
}

/// What remains to be known of a step that was written.
struct Outline {
    number: u64,
    records: u64,
    epoch: u64,
    position: LogPosition,
}

/// Why a writer is given up.
enum End {
    Closed,
    Failed(SqlError),
}

impl From<SqlError> for End {
    fn from(error: SqlError) -> Self {
        End::Failed(error)
    }
}

/// Reads back what is not at hand.
struct Reading {
    from: LogPosition,
    frames: Option<Frames>,
    /// Read, and not to be sent yet.
    ahead: Option<Logged>,
}

impl SinkSender {
    pub fn new(name: String, shared: Arc<Shared>, connector: Box<dyn SinkConnector>, sent: Sent) -> Self {
        let position = LogPosition::default();
        SinkSender { name, shared, connector, sent, unacknowledged: VecDeque::new(), position, kept: 0 }
    }

    pub fn run(mut self) {
        let Some(log) = self.shared.log() else { return };
        self.position = log.start;
        let mut backoff = BACKOFF_MIN;
        loop {
            let before = self.sent.up_to;
            match self.write(&log) {
                Err(End::Closed) => return,
                Ok(()) => {}
                Err(End::Failed(_)) if self.shared.is_replaced() => backoff = BACKOFF_MIN,
                Err(End::Failed(error)) => {
                    if self.sent.up_to > before {
                        backoff = BACKOFF_MIN;
                    }
                    tracing::warn!(sink = %self.name, "sending failed, it is tried again: {error}");
                    self.shared.report(Some(error.to_string()));
                    self.shared.stats.failures.fetch_add(1, Ordering::Relaxed);
                    if !self.shared.sleep(backoff) {
                        return;
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Writes with one writer until it fails, or the sink is closed or paused.
    fn write(&mut self, log: &LogAt) -> Result<(), End> {
        self.unacknowledged.clear();
        if let Some(connector) = self.shared.take_connector() {
            self.connector = connector;
        }
        let far = Instant::now() + WAIT_MAX;
        match self.shared.work(self.sent.up_to, far) {
            Work::Closed => return Err(End::Closed),
            Work::Paused => return if self.shared.wait_resumed() { Ok(()) } else { Err(End::Closed) },
            Work::Wait | Work::Replaced => return Ok(()),
            Work::Send(_) => {}
        }
        let mut writer = self.connector.open(self.sent.up_to, self.shared.clone())?;
        let mut reading = Reading { from: self.position, frames: None, ahead: None };
        let mut next = self.sent.up_to + 1;
        let mut unflushed = 0;
        let mut flushed = Instant::now();
        loop {
            let until = Instant::now() + writer.flush_after().unwrap_or(WAIT_MAX);
            match self.shared.work(next - 1, if unflushed > 0 { Instant::now() } else { until }) {
                Work::Closed => {
                    self.flush(writer.as_mut(), log, false)?;
                    return Err(End::Closed);
                }
                Work::Paused => {
                    self.flush(writer.as_mut(), log, true)?;
                    return if self.shared.wait_resumed() { Ok(()) } else { Err(End::Closed) };
                }
                // What is under way may never be acknowledged: it is sent again.
                Work::Replaced => return Ok(()),
                Work::Send(up_to) => match self.next_rows(log, &mut reading, next, up_to)? {
                    Some(logged) => {
                        next = logged.step.number + 1;
                        unflushed += logged.bytes;
                        self.write_rows(writer.as_mut(), logged)?;
                    }
                    None => next = up_to + 1,
                },
                Work::Wait => {
                    self.flush(writer.as_mut(), log, self.shared.stats.is_full())?;
                    (unflushed, flushed) = (0, Instant::now());
                }
            }
            if unflushed >= FLUSH_BYTES || (unflushed > 0 && flushed.elapsed() >= FLUSH_INTERVAL) {
                self.flush(writer.as_mut(), log, self.shared.stats.is_full())?;
                (unflushed, flushed) = (0, Instant::now());
            }
        }
    }

    fn write_rows(&mut self, writer: &mut dyn SinkWriter, logged: Logged) -> Result<()> {
        let Logged { step, changes, position, .. } = logged;
        failpoint::hit("sink.write")?;
        let records = writer.write(step, &changes)?;
        self.unacknowledged.push_back(Outline { number: step.number, records, epoch: step.epoch.0, position });
        Ok(())
    }

    fn flush(&mut self, writer: &mut dyn SinkWriter, log: &LogAt, all: bool) -> Result<()> {
        failpoint::hit("sink.before_flush")?;
        let acknowledged = writer.flush(all)?;
        failpoint::hit("sink.flushed")?;
        match acknowledged.filter(|number| *number > self.sent.up_to) {
            Some(number) => self.acknowledge(number, log),
            None => Ok(()),
        }
    }

    /// Everything up to a step is durable outside: notes it, and lets go of what nobody needs any more.
    fn acknowledge(&mut self, number: u64, log: &LogAt) -> Result<()> {
        let complete = self.shared.complete_up_to(number).max(self.sent.complete);
        self.sent = Sent { up_to: number, complete };
        let stats = &self.shared.stats;
        while let Some(outline) = self.unacknowledged.front()
            && outline.number <= number
        {
            stats.records.fetch_add(outline.records, Ordering::Relaxed);
            stats.epoch.store(outline.epoch, Ordering::Relaxed);
            self.position = outline.position;
            self.unacknowledged.pop_front();
        }
        self.shared.acknowledged(number);
        if let Some(outline) = self.unacknowledged.front() {
            self.position = outline.position;
        }
        let position = log.log.append_done(KIND_SENT, &encode_json(&self.sent)?)?;
        if self.position.segment > self.kept {
            // What says how far the rows went must not be lost together with them.
            self.shared.wait_durable(&log.log, position)?;
            log.log.truncate_before(self.position)?;
            self.kept = self.position.segment;
        }
        self.shared.report(None);
        Ok(())
    }

    /// The first rows from `next` to `up_to`; `None` if the log has none.
    fn next_rows(&self, log: &LogAt, reading: &mut Reading, next: u64, up_to: u64) -> Result<Option<Logged>> {
        if let Some(logged) = self.shared.take(next) {
            reading.frames = None;
            reading.ahead = None;
            reading.from = logged.position;
            return Ok(Some(logged));
        }
        loop {
            if let Some(ahead) = &reading.ahead {
                return Ok(if ahead.step.number <= up_to { reading.ahead.take() } else { None });
            }
            let resumed = reading.frames.is_some();
            let frames = reading.frames.get_or_insert_with(|| log.log.frames(reading.from));
            reading.ahead = read_rows(frames, next, log)?;
            match &reading.ahead {
                Some(logged) => reading.from = logged.position,
                // The log may have grown since these frames were asked for.
                None if resumed => reading.frames = None,
                None => {
                    reading.frames = None;
                    return Ok(None);
                }
            }
        }
    }
}

fn read_rows(frames: &mut Frames, next: u64, log: &LogAt) -> Result<Option<Logged>> {
    for frame in frames {
        let frame = frame?;
        if frame.kind != KIND_ROWS {
            continue;
        }
        let (step, _) = frames::step_of(&frame.payload)?;
        if step.number < next || log.void.iter().any(|v| v.covers(step.number)) {
            continue;
        }
        let (step, changes) = frames::decode_rows(&frame.payload)?;
        return Ok(Some(Logged { step, changes, position: frame.position, bytes: frame.payload.len() as u64 }));
    }
    Ok(None)
}
