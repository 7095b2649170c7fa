//! The reader of a source's files: one thread that goes through them, decodes records into batches, and looks for new
//! files when it has read all there are. Trouble is reported and tried again; nothing is left out because of it.

use super::Files;
use super::batch::BatchBuilder;
use super::catalogue::{File, offset, place_of};
use crate::format::split::Splitter;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use eddyline_common::connector::*;
use eddyline_common::{Result, SqlError, failpoint};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Bytes asked for at once: a request's latency to an object store is worth about as many.
const CHUNK_BYTES: u64 = 4 << 20;
/// A record without end is refused when it has come to this.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// Between attempts at a file that cannot be read.
const RETRY: Duration = Duration::from_secs(1);

pub struct FileReader {
    /// Closed to stop the thread.
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl SourceReader for FileReader {}

impl FileReader {
    pub fn start(files: Arc<Files>, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Self> {
        let (stop, stopped) = bounded(0);
        let mut reader = FileReader { stop: Some(stop), threads: Vec::new() };
        for range in ranges {
            let mut reading = Reading {
                builder: BatchBuilder::new(&files.layout)?,
                splitter: Splitter::new(&files.layout.options)?,
                notes_from: files.known.lock().noted(),
                start: range.start.0,
                next: range.start.0,
                end: range.end.map(|end| end.0),
                files: files.clone(),
                runtime: Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?),
                sink: sink.clone(),
                stopped: stopped.clone(),
                problem: None,
                changed: None,
            };
            let work = move || reading.run();
            reader.threads.push(std::thread::Builder::new().name("files".to_string()).spawn(work)?);
        }
        Ok(reader)
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reader of files panicked");
            }
        }
    }
}

struct Reading {
    files: Arc<Files>,
    /// Stores are asked through it, and nothing else: a sink may block.
    runtime: Arc<Runtime>,
    sink: Arc<dyn BatchSink>,
    stopped: Receiver<()>,
    splitter: Splitter,
    builder: BatchBuilder,
    /// Where the next batch starts, and what is to be read next: only the end of a file lies between.
    start: i64,
    next: i64,
    end: Option<i64>,
    /// The first file of which no batch has brought a note.
    notes_from: usize,
    problem: Option<String>,
    /// A file that is not what it was when it was read.
    changed: Option<String>,
}

enum Step {
    More,
    Wait(Duration),
    /// There is nothing more to read, or nobody who wants it.
    Over,
}

impl Reading {
    fn run(&mut self) {
        loop {
            let pause = match self.step() {
                Ok(Step::Over) => return,
                Ok(Step::More) => {
                    self.tell(None);
                    Duration::ZERO
                }
                Ok(Step::Wait(pause)) => {
                    self.tell(None);
                    pause
                }
                Err(error) => {
                    self.tell(Some(error.to_string()));
                    RETRY
                }
            };
            if self.sink.is_closed() || self.stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn tell(&mut self, problem: Option<String>) {
        let problem = problem.or_else(|| self.changed.clone());
        if problem != self.problem {
            self.problem = problem.clone();
            self.sink.report(problem);
        }
    }

    fn step(&mut self) -> Result<Step> {
        let nothing = File { path: String::new(), bytes: 0, modified: 0 };
        if let Some(end) = self.end.filter(|end| self.next >= *end) {
            // Files of no bytes may be all that is left.
            if self.start < end {
                self.flush(&nothing, end)?;
            }
            return Ok(Step::Over);
        }
        let (number, place) = place_of(self.next);
        let file = self.files.known.lock().get(number);
        match file {
            Some(file) if place >= file.bytes => {
                self.next = offset(number + 1, 0);
                Ok(Step::More)
            }
            Some(file) => self.read(number, place, &file),
            None if self.end.is_some() => Err(SqlError::corrupt(format!("it is not known which file is file {number}"))),
            None => self.look_for_more(&nothing),
        }
    }

    fn look_for_more(&mut self, nothing: &File) -> Result<Step> {
        let bounded = self.files.monitor.is_none();
        if !(bounded && self.files.known.lock().len() > 0) {
            let found = self.runtime.block_on(self.files.list())?;
            let mut known = self.files.known.lock();
            let before = known.len();
            self.changed = known.add(found, self.files.order);
            if known.len() > before {
                return Ok(Step::More);
            }
        }
        match self.files.monitor {
            Some(interval) => Ok(Step::Wait(interval)),
            None => {
                let mut last = self.batch(nothing, self.start)?;
                last.finished = true;
                self.sink.push(last);
                Ok(Step::Over)
            }
        }
    }

    fn batch(&mut self, file: &File, end: i64) -> Result<SourceBatch> {
        let mut notes = Vec::new();
        if self.end.is_none() {
            let known = self.files.known.lock();
            notes = known.notes_from(self.notes_from)?;
            self.notes_from = known.len();
        }
        let batch = self.builder.take(&self.files.layout, file, self.start, end, notes)?;
        self.start = end;
        self.next = end;
        Ok(batch)
    }

    /// Passes on what has been read up to `end`; false if nobody wants more.
    fn flush(&mut self, file: &File, end: i64) -> Result<bool> {
        failpoint::hit("files.batch")?;
        let batch = self.batch(file, end)?;
        Ok(self.sink.push(batch))
    }

    /// The file from a place on, to its end or that of the range.
    fn read(&mut self, number: usize, place: u64, file: &File) -> Result<Step> {
        let now = self.runtime.block_on(self.files.location.head(&file.path))?;
        if let Some(problem) = file.differs(&now) {
            return Err(SqlError::io(problem));
        }
        // What an attempt that failed left is read again.
        self.builder = BatchBuilder::new(&self.files.layout)?;
        let mut text = FileText {
            files: self.files.clone(),
            runtime: self.runtime.clone(),
            file: file.clone(),
            buffer: Vec::new(),
            at: 0,
            consumed: 0,
        };
        if self.files.layout.header {
            // Of a file without even that there is nothing to read.
            let Some(header) = text.next(&self.splitter)? else { return self.flushed(file, offset(number, file.bytes)) };
            let record = text.record(&header).to_vec();
            self.builder.header(&record).map_err(|why| SqlError::io(format!("file \"{}\": {why}", file.path)))?;
        }
        text.seek(place.max(text.position()));
        while let Some(record) = text.next(&self.splitter)? {
            let start = offset(number, record.place);
            if self.end.is_some_and(|end| start >= end) {
                return self.flushed(file, start);
            }
            match record.too_long {
                true => self.builder.refuse(start, format!("a record of more than {RECORD_BYTES_MAX} bytes"), text.record(&record)),
                false => self.builder.push(&self.files.layout, start, text.record(&record)),
            }
            if self.builder.is_full() && !self.flush(file, offset(number, text.position()))? {
                return Ok(Step::Over);
            }
        }
        self.flushed(file, offset(number, file.bytes))
    }

    fn flushed(&mut self, file: &File, end: i64) -> Result<Step> {
        Ok(if self.flush(file, end)? { Step::More } else { Step::Over })
    }
}

/// A file's text, as much of it as is being looked at.
struct FileText {
    files: Arc<Files>,
    runtime: Arc<Runtime>,
    file: File,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins, and how much of it has been given out.
    at: u64,
    consumed: usize,
}

/// A record within the buffer.
struct Found {
    place: u64,
    from: usize,
    to: usize,
    /// Only its beginning is there.
    too_long: bool,
}

impl FileText {
    fn position(&self) -> u64 {
        self.at + self.consumed as u64
    }

    fn seek(&mut self, place: u64) {
        let within = place.checked_sub(self.at).filter(|n| *n <= self.buffer.len() as u64);
        match within {
            Some(consumed) => self.consumed = consumed as usize,
            None => {
                self.buffer.clear();
                self.at = place;
                self.consumed = 0;
            }
        }
    }

    fn record(&self, found: &Found) -> &[u8] {
        &self.buffer[found.from..found.to]
    }

    fn is_whole(&self) -> bool {
        self.at + self.buffer.len() as u64 >= self.file.bytes
    }

    /// The next record; `None` at the end.
    fn next(&mut self, splitter: &Splitter) -> Result<Option<Found>> {
        loop {
            let rest = &self.buffer[self.consumed..];
            let len = splitter.record_len(rest).or((self.is_whole() && !rest.is_empty()).then_some(rest.len()));
            if let Some(len) = len {
                let (place, from) = (self.position(), self.consumed);
                self.consumed += len;
                return Ok(Some(Found { place, from, to: from + len, too_long: false }));
            }
            if self.is_whole() {
                return Ok(None);
            }
            if rest.len() > RECORD_BYTES_MAX {
                return self.skip_line().map(Some);
            }
            self.fill()?;
        }
    }

    /// Leaves out what is up to the end of the line, but for the start of it.
    fn skip_line(&mut self) -> Result<Found> {
        let place = self.position();
        let mut start = self.buffer[self.consumed..].iter().take(1_024).copied().collect::<Vec<u8>>();
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[self.consumed..]) {
                self.consumed += end + 1;
                break;
            }
            self.consumed = self.buffer.len();
            if self.is_whole() {
                break;
            }
            self.fill()?;
        }
        // The start goes where the buffer has been given out already.
        let shown = start.len();
        start.extend_from_slice(&self.buffer[self.consumed..]);
        self.at = self.position() - shown as u64;
        self.buffer = start;
        self.consumed = shown;
        Ok(Found { place, from: 0, to: shown, too_long: true })
    }

    /// Reads on.
    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.consumed);
        self.at += self.consumed as u64;
        self.consumed = 0;
        let from = self.at + self.buffer.len() as u64;
        let to = (from + CHUNK_BYTES).min(self.file.bytes);
        let bytes = self.runtime.block_on(self.files.location.read(&self.file.path, from..to))?;
        if (bytes.len() as u64) < to - from {
            let message = format!("file \"{}\" ends at byte {} of {}", self.file.path, from + bytes.len() as u64, self.file.bytes);
            return Err(SqlError::io(message));
        }
        self.buffer.extend_from_slice(&bytes);
        Ok(())
    }
}
