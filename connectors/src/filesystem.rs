//! Files as a source: a path, a directory or a glob, on the local file system or in an object store; and as a sink (`sink`).
//!
//! A source has one partition. Its files come one after the other, in order of name or time, new ones behind those that
//! are there; an offset is a file's number in that order and a place in it (`catalogue`). Which file has which number is
//! a note that the cut with the file's first rows keeps, so that any range can be read again.
//!
//! Invariants: a file is read once; what has been read is read again from files that are as they were, or not at all:
//! a file that changed, shrank or is gone is trouble that is reported and does not pass by itself.

mod batch;
mod catalogue;
mod folders;
mod glob;
mod location;
mod packing;
mod parquet;
mod reader;
mod sink;
mod stored;
mod stores;
mod text;

pub use sink::FilesystemSink;
use stores::CHECKED_WITHIN;
pub use stores::{is_remote, open_store, runtime};

use batch::Layout;
use catalogue::{Catalogue, File, Order};
use eddyline_common::connector::*;
use eddyline_common::{Offset, PartitionId, Result, SqlError, SqlState, options};
use glob::Glob;
use location::Location;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// What all readers of one source share.
struct Files {
    layout: Layout,
    location: Location,
    pattern: Glob,
    order: Order,
    /// How often to look for new files; `None`: the files of the first look are all.
    monitor: Option<Duration>,
    known: Mutex<Catalogue>,
}

impl Files {
    /// The files there are now. Blocks.
    fn look(&self) -> Result<Vec<File>> {
        self.location.list(&self.pattern, None)
    }
}

pub struct FileConnector {
    files: Arc<Files>,
}

/// All files are one partition: order, and with it the watermark, goes through them.
const PARTITION: PartitionId = PartitionId(0);

impl FileConnector {
    pub fn new(spec: &SourceSpec) -> Result<Self> {
        let missing = || SqlError::new(SqlState::INVALID_PARAMETER, "connector \"filesystem\" needs the option \"path\"");
        let path = spec.options.get(options::PATH).ok_or_else(missing)?;
        let (location, glob) = Location::new(path, &spec.options)?;
        let pattern = match (spec.options.get(options::FILE_PATTERN), glob) {
            (Some(_), Some(_)) => {
                let message = "the path and the option \"source.path.pattern\" cannot both be patterns";
                return Err(SqlError::new(SqlState::INVALID_PARAMETER, message));
            }
            (Some(pattern), None) => Glob::new(pattern)?,
            (None, Some(glob)) => Glob::new(&glob)?,
            (None, None) => Glob::all(),
        };
        let monitor = match spec.options.get(options::MONITOR_INTERVAL).map(String::as_str) {
            None | Some("none") => None,
            Some(text) => Some(Duration::from_micros(options::duration(options::MONITOR_INTERVAL, text)?.max(10_000) as u64)),
        };
        let by_time = spec.options.get(options::FILE_ORDER).is_some_and(|order| order == "time");
        let files = Files {
            layout: Layout::new(spec)?,
            location,
            pattern,
            order: if by_time { Order::Time } else { Order::Name },
            monitor,
            known: Mutex::default(),
        };
        Ok(FileConnector { files: Arc::new(files) })
    }
}

impl SourceConnector for FileConnector {
    fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
        // Whether there is anything to read is known now rather than later.
        let found = self.files.location.list(&self.files.pattern, Some(CHECKED_WITHIN))?;
        if found.is_empty() && self.files.monitor.is_none() {
            let message = format!("no file fits the path \"{}\"", self.files.location.path);
            let hint = format!("Check the path; with the option \"{}\" the source waits for files to come.", options::MONITOR_INTERVAL);
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).with_hint(hint));
        }
        Ok(vec![PartitionStart { partition: PARTITION, start: Offset(0) }])
    }

    fn empty_start(&self) -> Result<Vec<PartitionStart>> {
        Ok(vec![PartitionStart { partition: PARTITION, start: Offset(0) }])
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        let found = self.files.look()?;
        let mut known = self.files.known.lock();
        known.add(found, self.files.order);
        Ok(Some(vec![PartitionRange { partition: PARTITION, start: Offset(0), end: Some(known.end()) }]))
    }

    fn remember(&self, notes: &[SourceNote]) -> Result<()> {
        self.files.known.lock().remember(notes)
    }

    fn read(&self, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.start(ranges, None, sink)
    }

    fn read_columns(&self, ranges: Vec<PartitionRange>, kept: &[bool], sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.start(ranges, Some(kept), sink)
    }
}

impl FileConnector {
    fn start(&self, ranges: Vec<PartitionRange>, kept: Option<&[bool]>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        if let Some(range) = ranges.iter().find(|range| range.partition != PARTITION) {
            return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("a source of files has no partition {}", range.partition)));
        }
        Ok(Box::new(reader::FileReader::start(self.files.clone(), ranges, kept, sink)?))
    }
}

#[cfg(test)]
mod tests;
