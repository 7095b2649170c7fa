//! Files as sinks: JSON or CSV lines or Parquet, in folders by the values of columns if the sink says so.
//!
//! Rows collect in files that nobody sees (`place`), which are made durable and shown together once they are large or old enough. A
//! file is there whole or not at all. Its name carries the first step that is in it, so that what comes again after a
//! crash takes the place of what was there: each row is in the files once.
//!
//! A step comes to each of its folders once. So it may show the files that it has come to before it opens more of them, and needs
//! no second name in a folder.

mod form;
mod place;

use super::folders::folder_of;
use crate::format::json::encode::utc;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use bytes::BytesMut;
use eddyline_common::connector::*;
use eddyline_common::postgres::encode::RowFormat;
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Result, SqlError, SqlState, SqlType, options};
use form::{Form, Output};
use place::Place;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROLL_BYTES: u64 = 128 << 20;
const ROLL_INTERVAL: Duration = Duration::from_secs(60);
/// Folders that are written to at the same time; more of them make the files roll.
const OPEN_FILES_MAX: usize = 128;
/// What waits in memory to be passed on, over all folders; more of it makes the files roll.
const BUFFERED_BYTES_MAX: usize = 128 << 20;
/// Rows of Parquet files that wait in memory to be written as row groups, over all folders.
const ROW_GROUP_BYTES: usize = 64 << 20;

#[derive(Clone)]
pub struct FilesystemSink {
    name: String,
    place: Place,
    /// What this sink's files begin with.
    prefix: String,
    lines: Arc<Lines>,
    roll_bytes: u64,
    roll_interval: Duration,
}

/// How rows are written, and where they belong.
struct Lines {
    form: Form,
    /// Columns that make folders, with their names and types.
    folders: Vec<usize>,
    named: Vec<(String, SqlType)>,
    folder_format: RowFormat,
}

impl FilesystemSink {
    pub fn new(spec: &SinkSpec) -> Result<Self> {
        let place = Place::new(spec.options.get(options::PATH).map_or("", String::as_str), &spec.options)?;
        if spec.mode != SinkMode::Append {
            return Err(SqlError::unsupported("files take new rows only").with_hint("Use FORMAT PLAIN."));
        }
        let named = |name: &String| spec.columns.iter().position(|c| c.external_name.eq_ignore_ascii_case(name));
        let names = spec.options.get(options::PARTITION_BY).map(|text| options::names(text)).unwrap_or_default();
        let folders = names.iter().filter_map(named).collect::<Vec<usize>>();
        let left = (0..spec.columns.len()).filter(|i| !folders.contains(i));
        let fields: Vec<_> = left.map(|i| (i, spec.columns[i].external_name.clone(), spec.columns[i].ty.clone())).collect();
        if fields.is_empty() {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "every column makes folders, so that nothing is left for the files"));
        }
        let columns: Vec<Column> = folders.iter().map(|i| Column::new("", spec.columns[*i].ty.clone(), true)).collect();
        let of_folder = |i: &usize| (spec.columns[*i].external_name.clone(), spec.columns[*i].ty.clone());
        let named = folders.iter().map(of_folder).collect();
        let folder_format = RowFormat::text(arrow_schema(&columns), utc());
        let roll_interval = options::duration_micros(&spec.options, options::ROLL_INTERVAL)?;
        Ok(FilesystemSink {
            name: spec.name.clone(),
            place,
            prefix: format!("part-{}-", spec.incarnation.get(..12).unwrap_or(&spec.incarnation)),
            lines: Arc::new(Lines { form: Form::new(spec, fields)?, folders, named, folder_format }),
            roll_bytes: options::bytes(&spec.options, options::ROLL_BYTES)?.unwrap_or(ROLL_BYTES),
            roll_interval: roll_interval.map_or(ROLL_INTERVAL, |micros| Duration::from_micros(micros as u64)),
        })
    }

    /// What passes by itself says so, of a sink that is there.
    fn explained(&self, error: SqlError) -> SqlError {
        match error.hint {
            Some(_) => error,
            None => error.with_hint(format!("Sink \"{}\" goes on by itself once it can.", self.name)),
        }
    }

    /// Removes what was not finished, and finished files of steps that come again.
    fn clean(&self, after: u64) -> Result<()> {
        let is_stale = |name: &str| {
            let first: Option<u64> = name.strip_prefix(&self.prefix).and_then(|rest| rest.split('.').next()?.parse().ok());
            first.is_some_and(|first| first > after)
        };
        self.place.clean(&self.prefix, self.lines.folders.len(), &is_stale).map_err(|e| self.explained(e))
    }
}

impl SinkConnector for FilesystemSink {
    fn check(&self) -> Result<()> {
        self.place.check(&format!("{}probe", self.prefix)).map_err(|error| match error.hint {
            Some(_) => error,
            None => error.with_hint("Check the option \"path\", and that the server may make folders and files there."),
        })
    }

    fn open(&self, after: u64, monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>> {
        self.clean(after)?;
        // The store answers, and it may be long until a file is finished.
        monitor.report(None);
        let (sink, parts) = (self.clone(), BTreeMap::new());
        Ok(Box::new(FilesystemWriter { sink, parts, bytes: 0, begun: None, last: None, is_partly_shown: false, finished: None }))
    }
}

struct FilesystemWriter {
    sink: FilesystemSink,
    /// Unfinished files by folder, relative to the sink's.
    parts: BTreeMap<String, Output>,
    /// Of the unfinished files.
    bytes: u64,
    /// When the first row of the unfinished files came.
    begun: Option<Instant>,
    /// The last step in them.
    last: Option<u64>,
    /// Rows of their steps show already.
    is_partly_shown: bool,
    finished: Option<u64>,
}

impl Lines {
    /// The rows of each folder.
    fn by_folder(&self, rows: &RecordBatch) -> Result<BTreeMap<String, Vec<u32>>> {
        let columns = rows.project(&self.folders)?;
        let bound = self.folder_format.bind(&columns)?;
        let writers = bound.text_writers();
        let (mut found, mut scratch) = (BTreeMap::<String, Vec<u32>>::new(), BytesMut::new());
        for row in 0..rows.num_rows() {
            found.entry(folder_of(&self.named, &writers, row, &mut scratch)).or_default().push(row as u32);
        }
        Ok(found)
    }
}

impl FilesystemWriter {
    /// The unfinished file of a folder; a new one is of this step.
    fn part(&mut self, folder: &str, step: u64) -> Result<&mut Output> {
        if !self.parts.contains_key(folder) {
            if self.is_crowded() {
                self.show()?;
                self.is_partly_shown = true;
            }
            let sink = &self.sink;
            let name = format!("{}{step:020}{}", sink.prefix, sink.lines.form.suffix());
            let output = sink.lines.form.begin(sink.place.create(folder, &name)?)?;
            self.parts.insert(folder.to_string(), output);
        }
        self.parts.get_mut(folder).ok_or_else(|| SqlError::internal("a file that was just opened is gone"))
    }

    fn write_rows(&mut self, step: u64, changes: &ChangeBatch) -> Result<()> {
        let lines = self.sink.lines.clone();
        let found = lines.by_folder(&changes.rows)?;
        let each = found.iter().flat_map(|(folder, rows)| rows.iter().map(move |row| (folder, *row as usize)));
        let has_lines = lines.form.lines(&changes.rows, each, |folder, line| {
            self.part(folder, step)?.write_line(line)?;
            self.bytes += line.len() as u64;
            Ok(())
        })?;
        if has_lines {
            return Ok(());
        }
        let rows = lines.form.projected(&changes.rows)?;
        for (folder, places) in found {
            let all = places.len() == rows.num_rows();
            let of_folder = if all { rows.clone() } else { take_record_batch(&rows, &UInt32Array::from(places))? };
            self.part(&folder, step)?.write_rows(&of_folder)?;
        }
        if self.parts.values().map(Output::pending_bytes).sum::<usize>() > ROW_GROUP_BYTES {
            self.parts.values_mut().try_for_each(Output::end_group)?;
        }
        self.bytes = self.parts.values().map(Output::bytes).sum();
        Ok(())
    }

    /// Makes the files durable and shows them.
    fn show(&mut self) -> Result<()> {
        self.bytes = 0;
        let uploads = std::mem::take(&mut self.parts).into_values().map(Output::end).collect::<Result<Vec<_>>>()?;
        place::finish(uploads)
    }

    /// The steps are in files that show.
    fn finish(&mut self) -> Result<()> {
        let Some(last) = self.last.take() else { return Ok(()) };
        self.show().map_err(|e| self.sink.explained(e))?;
        (self.begun, self.is_partly_shown, self.finished) = (None, false, Some(last));
        Ok(())
    }

    fn is_crowded(&self) -> bool {
        let buffered = || self.parts.values().map(Output::buffered_bytes).sum::<usize>();
        self.parts.len() >= OPEN_FILES_MAX || buffered() > BUFFERED_BYTES_MAX
    }
}

impl SinkWriter for FilesystemWriter {
    fn write(&mut self, step: SinkStep, changes: &ChangeBatch) -> Result<u64> {
        if self.is_crowded() {
            self.finish()?;
        }
        let written = self.write_rows(step.number, changes);
        written.map_err(|e| self.sink.explained(e))?;
        self.last = Some(step.number);
        self.begun.get_or_insert_with(Instant::now);
        if self.is_partly_shown {
            // Until it is acknowledged, a crash takes back what shows.
            self.finish()?;
        }
        Ok(changes.num_rows() as u64)
    }

    fn flush(&mut self, all: bool) -> Result<Option<u64>> {
        let is_old = self.begun.is_some_and(|begun| begun.elapsed() >= self.sink.roll_interval);
        if all || is_old || self.bytes >= self.sink.roll_bytes {
            self.finish()?;
        }
        Ok(self.finished)
    }

    fn flush_after(&self) -> Option<Duration> {
        self.begun.map(|begun| self.sink.roll_interval.saturating_sub(begun.elapsed()))
    }
}
