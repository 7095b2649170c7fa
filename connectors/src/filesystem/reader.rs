//! The reader of a source's files: one thread that goes through them, decodes records into batches, and looks for new
//! files when it has read all there are. Trouble is reported and tried again; nothing is left out because of it.

use super::batch::{BatchBuilder, Content, Opened};
use super::catalogue::{File, offset, place_of};
use super::parquet::{ParquetRows, Rows};
use super::stored::StoredFile;
use super::text::{Fault, FileText, RECORD_BYTES_MAX};
use super::{Files, PARTITION};
use crate::format::undecodable;
use crate::threads;
use arrow::datatypes::TimeUnit;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use eddyline_common::connector::*;
use eddyline_common::{Offset, Result, SqlError, failpoint, options};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Between attempts at a file that cannot be read: twice as long each time.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

pub struct FileReader {
    /// Closed to stop the thread.
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl SourceReader for FileReader {}

impl FileReader {
    pub fn start(files: Arc<Files>, ranges: Vec<PartitionRange>, kept: Option<&[bool]>, sink: Arc<dyn BatchSink>) -> Result<Self> {
        let (stop, stopped) = bounded(0);
        let mut reader = FileReader { stop: Some(stop), threads: Vec::new() };
        for range in ranges {
            let mut reading = Reading {
                builder: BatchBuilder::new(&files.layout, kept)?,
                kept: kept.map(<[bool]>::to_vec),
                notes_from: files.known.lock().noted(),
                start: range.start.0,
                next: range.start.0,
                end: range.end.map(|end| end.0),
                files: files.clone(),
                sink: sink.clone(),
                stopped: stopped.clone(),
                problem: None,
                changed: None,
                retry: RETRY_MIN,
            };
            let told = sink.clone();
            reader.threads.push(threads::spawn("files", move || reading.run(), move |problem| told.report(Some(problem)))?);
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
    sink: Arc<dyn BatchSink>,
    stopped: Receiver<()>,
    builder: BatchBuilder,
    /// Columns that anybody reads; `None`: all.
    kept: Option<Vec<bool>>,
    /// Where the next batch starts, and what is to be read next: only the end of a file lies between.
    start: i64,
    next: i64,
    end: Option<i64>,
    /// The first file of which no batch has brought a note.
    notes_from: usize,
    problem: Option<String>,
    /// A file that is not what it was when it was read.
    changed: Option<String>,
    /// How long to wait after the next failure.
    retry: Duration,
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
                Ok(Step::More) => self.well(Duration::ZERO),
                Ok(Step::Wait(pause)) => self.well(pause),
                Err(error) => {
                    self.tell(Some(error.to_string()));
                    let pause = self.retry;
                    self.retry = (pause * 2).min(RETRY_MAX);
                    pause
                }
            };
            if self.sink.is_closed() || self.stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn well(&mut self, pause: Duration) -> Duration {
        self.tell(None);
        self.retry = RETRY_MIN;
        pause
    }

    fn tell(&mut self, problem: Option<String>) {
        let problem = problem.or_else(|| self.changed.clone());
        if problem != self.problem {
            self.problem = problem.clone();
            self.sink.report(problem);
        }
    }

    fn step(&mut self) -> Result<Step> {
        let nothing = Opened { file: File { path: String::new(), bytes: 0, modified: 0 }, name: String::new(), folders: Vec::new() };
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
            Some(file) if place >= self.files.layout.end_of(&file) => {
                self.next = offset(number + 1, 0);
                Ok(Step::More)
            }
            Some(file) => self.read(number, place, file),
            None if self.end.is_some() => Err(SqlError::corrupt(format!("it is not known which file is file {number}"))),
            None => self.look_for_more(&nothing),
        }
    }

    fn look_for_more(&mut self, nothing: &Opened) -> Result<Step> {
        let bounded = self.files.monitor.is_none();
        let known = self.files.known.lock().len();
        if known > place_of(self.next).0 {
            // Another reader of the source has found it meanwhile.
            return Ok(Step::More);
        }
        if !(bounded && known > 0) {
            let found = self.files.look()?;
            let mut known = self.files.known.lock();
            self.changed = known.add(found, self.files.order).map(|(path, why)| self.files.location.said_of(&path, &why));
            if known.len() > place_of(self.next).0 {
                return Ok(Step::More);
            }
        }
        match self.files.monitor {
            Some(interval) => {
                self.sink.note_all_read(PARTITION, Offset(self.start));
                Ok(Step::Wait(interval))
            }
            None => {
                let mut last = self.batch(nothing, self.start)?;
                last.finished = true;
                self.sink.push(last);
                Ok(Step::Over)
            }
        }
    }

    fn batch(&mut self, of: &Opened, end: i64) -> Result<SourceBatch> {
        let notes = self.notes()?;
        let batch = self.builder.take(&self.files.layout, of, self.start, end, notes)?;
        (self.start, self.next) = (end, end);
        Ok(batch)
    }

    /// Which files have come since the last batch.
    fn notes(&mut self) -> Result<Vec<SourceNote>> {
        if self.end.is_some() {
            return Ok(Vec::new());
        }
        let known = self.files.known.lock();
        let notes = known.notes_from(self.notes_from)?;
        self.notes_from = known.len();
        Ok(notes)
    }

    /// Passes on what has been read up to `end`; false if nobody wants more.
    fn flush(&mut self, of: &Opened, end: i64) -> Result<bool> {
        failpoint::hit("files.batch")?;
        let batch = self.batch(of, end)?;
        Ok(self.sink.push(batch))
    }

    fn flushed(&mut self, of: &Opened, end: i64) -> Result<Step> {
        Ok(if self.flush(of, end)? { Step::More } else { Step::Over })
    }

    /// The file from a place on, to its end or that of the range.
    fn read(&mut self, number: usize, place: u64, file: File) -> Result<Step> {
        let location = &self.files.location;
        let now = location.head(&file.path)?;
        if let Some(why) = file.differs(&now) {
            return Err(SqlError::io(location.said_of(&file.path, &why)));
        }
        let name = location.shown(&file.path);
        // What an attempt that failed left is read again.
        self.builder = BatchBuilder::new(&self.files.layout, self.kept.as_deref())?;
        let folders = self.files.layout.folders.values(&file.path)?;
        let (folders, refused) = match folders {
            Ok(folders) => (folders, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let of = Opened { file, name, folders };
        if let Some(why) = refused {
            return self.refuse_rest(number, place, &of, why);
        }
        let step = match self.files.layout.by_rows {
            true => self.read_rows(number, place, &of),
            false => self.read_text(number, place, &of),
        };
        match step {
            Ok(step) => Ok(step),
            Err(Fault::Trouble(error)) => Err(error),
            // The content of a file is what it is, so that it is no reason to hold up those behind it.
            Err(Fault::Content(why)) => {
                let at = place_of(self.next).1.max(place);
                self.refuse_rest(number, at, &of, why)
            }
        }
    }

    /// Passes over a file from a place on, and what has been read of it since the last batch goes with it.
    fn refuse_rest(&mut self, number: usize, place: u64, of: &Opened, why: String) -> Result<Step> {
        let end = offset(number, self.files.layout.end_of(&of.file));
        // The range may end within what could be read.
        let end = self.end.map_or(end, |range| range.min(end));
        let at = offset(number, place);
        if at < end {
            self.builder.refuse(at, why, of.name.as_bytes());
        }
        self.flushed(of, end)
    }

    fn read_text(&mut self, number: usize, place: u64, of: &Opened) -> Result<Step, Fault> {
        let files = self.files.clone();
        let end = offset(number, files.layout.end_of(&of.file));
        let stored = StoredFile::new(files.clone(), of.file.clone());
        let mut text = FileText::open(stored, files.layout.packing_of(&of.file))?;
        if files.layout.header {
            // Of a file without even that there is nothing to read.
            let Some(header) = text.next(&files.layout.splitter)? else { return Ok(self.flushed(of, end)?) };
            let record = text.record(&header).to_vec();
            self.builder.header(&record).map_err(Fault::Content)?;
        }
        text.seek(place.max(text.position()))?;
        loop {
            let record = match text.next(&files.layout.splitter) {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(self.flushed(of, end)?),
                Err(Fault::Content(why)) => {
                    // What came before it is good.
                    let at = text.position();
                    return Ok(self.refuse_rest(number, at, of, why)?);
                }
                Err(trouble) => return Err(trouble),
            };
            let start = offset(number, record.place);
            if self.end.is_some_and(|end| start >= end) {
                return Ok(self.flushed(of, start)?);
            }
            match record.too_long {
                true => self.builder.refuse(start, format!("a record of more than {RECORD_BYTES_MAX} bytes"), text.record(&record)),
                false => self.builder.push(&files.layout, start, text.record(&record)),
            }
            if self.builder.is_full() && !self.flush(of, offset(number, text.position()))? {
                return Ok(Step::Over);
            }
        }
    }

    fn read_rows(&mut self, number: usize, place: u64, of: &Opened) -> Result<Step, Fault> {
        let files = self.files.clone();
        let last = offset(number, files.layout.end_of(&of.file));
        let stored = StoredFile::new(files.clone(), of.file.clone());
        let kept = match &self.kept {
            Some(kept) => files.layout.payload_kept(kept),
            None => vec![true; files.layout.payload.len()],
        };
        let mut rows = ParquetRows::open(stored, &files.layout.payload, &kept, self.number_unit(), place)?;
        let mut at = place;
        loop {
            let start = offset(number, at);
            // The range may end within the file.
            let wanted = self.end.map_or(usize::MAX, |end| end.saturating_sub(start).max(0) as usize);
            if wanted == 0 {
                return Ok(self.flushed(of, start)?);
            }
            let Some(found) = rows.next(wanted)? else { return Ok(self.flushed(of, last)?) };
            let Rows { columns, total, refused, unreadable } = found;
            let kept = (0..total).filter(|row| refused.is_empty() || !refused.contains_key(row));
            let offsets = kept.map(|row| start + row as i64).collect();
            let refuse = |(row, why): (usize, String)| {
                let excerpt = format!("row {}", at + row as u64);
                undecodable(Offset(start + row as i64), why, excerpt.as_bytes())
            };
            let unreadable = unreadable.into_iter().map(|(column, why)| (column, format!("file \"{}\": {why}", of.name))).collect();
            let undecodable = refused.into_iter().map(refuse).collect();
            let content = Content { columns, weights: None, offsets, undecodable, unreadable };
            failpoint::hit("files.batch")?;
            at += total as u64;
            let end = offset(number, at);
            let notes = self.notes()?;
            let batch = files.layout.batch(content, of, self.start, end, notes)?;
            (self.start, self.next) = (end, end);
            if !self.sink.push(batch) {
                return Ok(Step::Over);
            }
        }
    }

    /// What an integer counts in the place of a timestamp.
    fn number_unit(&self) -> TimeUnit {
        match self.files.layout.options.get(options::TIMESTAMP_UNIT).map(String::as_str) {
            Some("second") => TimeUnit::Second,
            Some("micro") => TimeUnit::Microsecond,
            Some("nano") => TimeUnit::Nanosecond,
            _ => TimeUnit::Millisecond,
        }
    }
}
