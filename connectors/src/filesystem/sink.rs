//! Files as sinks: JSON or CSV lines, in folders by the values of columns if the sink says so.
//!
//! Rows collect in hidden files, which are made durable and renamed together once they are large or old enough. A file is
//! there whole or not at all. Its name carries the first step that is in it, so that what comes again after a
//! crash takes the place of what was there: each row is in the files once.

use crate::format::csv::CsvSyntax;
use crate::format::csv::encode::CsvEncoder;
use crate::format::json::encode::{JsonEncoder, Times, utc};
use arrow::array::RecordBatch;
use bytes::BytesMut;
use eddyline_common::connector::*;
use eddyline_common::postgres::encode::{RowFormat, ValueWriter};
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Column, Result, SqlError, SqlState, options};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROLL_BYTES: u64 = 128 << 20;
const ROLL_INTERVAL: Duration = Duration::from_secs(60);
/// Folders that are written to at the same time; more of them make the files roll.
const OPEN_FILES_MAX: usize = 128;
const BUFFER_BYTES: usize = 64 << 10;
/// What Hive calls the folder of NULL.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";
const UNFINISHED: &str = ".inprogress";

#[derive(Clone)]
pub struct FilesystemSink {
    name: String,
    dir: PathBuf,
    /// What this sink's files begin with.
    prefix: String,
    lines: Arc<Lines>,
    roll_bytes: u64,
    roll_interval: Duration,
}

/// How rows become lines, and where they belong.
struct Lines {
    form: Form,
    /// Columns that make folders, with their names.
    folders: Vec<usize>,
    names: Vec<String>,
    folder_format: RowFormat,
}

enum Form {
    Json(JsonEncoder),
    Csv { encoder: Box<CsvEncoder>, header: bool },
}

impl FilesystemSink {
    pub fn new(spec: &SinkSpec) -> Result<Self> {
        let path = spec.options.get(options::PATH).map_or("", String::as_str);
        let path = path.strip_prefix("file://").unwrap_or(path);
        let dir = PathBuf::from(path);
        if !dir.is_absolute() {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"path\" must be an absolute path, not \"{path}\""))
                .with_hint("Write path = '/data/out' or 'file:///data/out'."));
        }
        if spec.mode != SinkMode::Append {
            return Err(SqlError::unsupported("files take new rows only").with_hint("Use FORMAT PLAIN."));
        }
        let named = |name: &String| spec.columns.iter().position(|c| c.external_name.eq_ignore_ascii_case(name));
        let names = spec.options.get(options::PARTITION_BY).map(|text| options::names(text)).unwrap_or_default();
        let folders = names.iter().filter_map(named).collect::<Vec<usize>>();
        let fields = || {
            let left = (0..spec.columns.len()).filter(|i| !folders.contains(i));
            left.map(|i| (i, spec.columns[i].external_name.clone(), spec.columns[i].ty.clone())).collect::<Vec<_>>().into_iter()
        };
        if fields().len() == 0 {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "every column makes folders, so that nothing is left for the files"));
        }
        let form = match spec.options.get(options::FORMAT).map(String::as_str) {
            Some("csv") => {
                let encoder = CsvEncoder::new(fields(), CsvSyntax::new(&spec.options)?);
                Form::Csv { encoder: Box::new(encoder), header: options::boolean(&spec.options, options::CSV_HEADER) }
            }
            _ => Form::Json(JsonEncoder::new(fields(), Times::of(&spec.options))),
        };
        let columns: Vec<Column> = folders.iter().map(|i| Column::new("", spec.columns[*i].ty.clone(), true)).collect();
        let names = folders.iter().map(|i| spec.columns[*i].external_name.clone()).collect();
        let folder_format = RowFormat::text(arrow_schema(&columns), utc());
        let roll_interval = options::duration_micros(&spec.options, options::ROLL_INTERVAL)?;
        Ok(FilesystemSink {
            name: spec.name.clone(),
            dir,
            prefix: format!("part-{}-", spec.incarnation.get(..12).unwrap_or(&spec.incarnation)),
            lines: Arc::new(Lines { form, folders, names, folder_format }),
            roll_bytes: options::bytes(&spec.options, options::ROLL_BYTES)?.unwrap_or(ROLL_BYTES),
            roll_interval: roll_interval.map_or(ROLL_INTERVAL, |micros| Duration::from_micros(micros as u64)),
        })
    }

    fn failed(&self, what: &str, path: &Path, error: &std::io::Error) -> SqlError {
        let mut failure = SqlError::from(std::io::Error::new(error.kind(), format!("cannot {what} \"{}\": {error}", path.display())));
        failure.hint = Some(format!("Sink \"{}\" goes on by itself once it can.", self.name));
        failure
    }

    fn suffix(&self) -> &'static str {
        match self.lines.form {
            Form::Json(_) => ".json",
            Form::Csv { .. } => ".csv",
        }
    }

    /// Removes what was not finished, and finished files of steps that come again.
    fn clean(&self, dir: &Path, after: u64, depth: usize) -> Result<()> {
        for entry in fs::read_dir(dir).map_err(|e| self.failed("list", dir, &e))? {
            let path = entry.map_err(|e| self.failed("list", dir, &e))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if depth > 0 && path.is_dir() {
                self.clean(&path, after, depth - 1)?;
                continue;
            }
            let is_unfinished = name.starts_with('.') && name.ends_with(UNFINISHED);
            let Some(rest) = name.trim_start_matches('.').strip_prefix(&self.prefix) else { continue };
            let first: Option<u64> = rest.split('.').next().and_then(|n| n.parse().ok());
            if is_unfinished || first.is_some_and(|first| first > after) {
                fs::remove_file(&path).map_err(|e| self.failed("remove", &path, &e))?;
            }
        }
        Ok(())
    }
}

impl SinkConnector for FilesystemSink {
    fn check(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(|e| self.failed("create folder", &self.dir, &e))?;
        let probe = self.dir.join(format!(".{}probe{UNFINISHED}", self.prefix));
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|e| self.failed("write to folder", &self.dir, &e))
    }

    fn open(&self, after: u64, _monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>> {
        fs::create_dir_all(&self.dir).map_err(|e| self.failed("create folder", &self.dir, &e))?;
        self.clean(&self.dir, after, self.lines.folders.len())?;
        Ok(Box::new(FilesystemWriter {
            sink: self.clone(),
            parts: BTreeMap::new(),
            bytes: 0,
            begun: None,
            steps: None,
            finished: None,
            line: BytesMut::new(),
            scratch: BytesMut::new(),
        }))
    }
}

struct FilesystemWriter {
    sink: FilesystemSink,
    /// Unfinished files by folder, relative to the sink's.
    parts: BTreeMap<String, Part>,
    bytes: u64,
    /// When the first row of the unfinished files came.
    begun: Option<Instant>,
    /// The first and the last step in them.
    steps: Option<(u64, u64)>,
    finished: Option<u64>,
    line: BytesMut,
    scratch: BytesMut,
}

struct Part {
    file: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl FilesystemWriter {
    fn part(&mut self, folder: String, first: u64) -> Result<&mut Part> {
        if !self.parts.contains_key(&folder) {
            let sink = &self.sink;
            let dir = sink.dir.join(&folder);
            fs::create_dir_all(&dir).map_err(|e| sink.failed("create folder", &dir, &e))?;
            let name = format!("{}{first:020}{}", sink.prefix, sink.suffix());
            let unfinished = dir.join(format!(".{name}{UNFINISHED}"));
            let file = File::create(&unfinished).map_err(|e| sink.failed("create", &unfinished, &e))?;
            let mut part = Part { file: BufWriter::with_capacity(BUFFER_BYTES, file), unfinished, path: dir.join(name) };
            if let Form::Csv { encoder, header: true } = &sink.lines.form {
                part.file.write_all(encoder.header()).map_err(|e| sink.failed("write", &part.unfinished, &e))?;
            }
            self.parts.insert(folder.clone(), part);
        }
        self.parts.get_mut(&folder).ok_or_else(|| SqlError::internal("a file that was just opened is gone"))
    }

    fn write_rows(&mut self, first: u64, changes: &ChangeBatch) -> Result<()> {
        let lines = self.sink.lines.clone();
        let folder_columns = changes.rows.project(&lines.folders)?;
        let folder_rows = lines.folder_format.bind(&folder_columns)?;
        let folder_writers = folder_rows.text_writers();
        let mut line = std::mem::take(&mut self.line);
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut each = |write: &mut dyn FnMut(usize, &mut BytesMut, &mut BytesMut)| -> Result<()> {
            for row in 0..changes.num_rows() {
                let folder = folder_of(&lines.names, &folder_writers, row, &mut scratch);
                line.clear();
                write(row, &mut scratch, &mut line);
                let part = self.part(folder, first)?;
                let written = part.file.write_all(&line);
                let path = part.unfinished.clone();
                written.map_err(|e| self.sink.failed("write", &path, &e))?;
                self.bytes += line.len() as u64;
            }
            Ok(())
        };
        match &lines.form {
            Form::Json(encoder) => {
                let rows = encoder.bind(&changes.rows)?;
                each(&mut |row, _, line| {
                    rows.write(row, line);
                    line.extend_from_slice(b"\n");
                })?;
            }
            Form::Csv { encoder, .. } => {
                let projected: RecordBatch = encoder.project(&changes.rows)?;
                let rows = encoder.bind(&changes.rows, &projected)?;
                let writers = rows.writers();
                each(&mut |row, scratch, line| rows.write(&writers, row, scratch, line))?;
            }
        }
        (self.line, self.scratch) = (line, scratch);
        Ok(())
    }

    /// Makes the files durable and shows them.
    fn finish(&mut self) -> Result<()> {
        let Some((_, last)) = self.steps.take() else { return Ok(()) };
        let sink = &self.sink;
        let mut folders = Vec::new();
        for (folder, part) in std::mem::take(&mut self.parts) {
            let file = part.file.into_inner().map_err(|e| sink.failed("write", &part.unfinished, e.error()))?;
            file.sync_all().map_err(|e| sink.failed("sync", &part.unfinished, &e))?;
            folders.push((folder, part.unfinished, part.path));
        }
        for (_, unfinished, path) in &folders {
            fs::rename(unfinished, path).map_err(|e| sink.failed("rename", unfinished, &e))?;
        }
        for (folder, ..) in &folders {
            let dir = sink.dir.join(folder);
            File::open(&dir).and_then(|d| d.sync_all()).map_err(|e| sink.failed("sync folder", &dir, &e))?;
        }
        (self.bytes, self.begun, self.finished) = (0, None, Some(last));
        Ok(())
    }
}

impl SinkWriter for FilesystemWriter {
    fn write(&mut self, step: SinkStep, changes: &ChangeBatch) -> Result<()> {
        if self.parts.len() >= OPEN_FILES_MAX {
            self.finish()?;
        }
        let first = self.steps.map_or(step.number, |(first, _)| first);
        self.write_rows(first, changes)?;
        self.steps = Some((first, step.number));
        self.begun.get_or_insert_with(Instant::now);
        Ok(())
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

/// `a=1/b=x`; whatever could be taken for more than a name is escaped as in a URL.
fn folder_of(names: &[String], writers: &[ValueWriter], row: usize, scratch: &mut BytesMut) -> String {
    let mut folder = String::new();
    for (name, writer) in names.iter().zip(writers) {
        if !folder.is_empty() {
            folder.push('/');
        }
        escape(name.as_bytes(), &mut folder);
        folder.push('=');
        if writer.is_null(row) {
            folder.push_str(NULL_FOLDER);
        } else {
            scratch.clear();
            writer.text(row, scratch);
            escape(scratch, &mut folder);
        }
    }
    folder
}

fn escape(text: &[u8], out: &mut String) {
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b' ' | b'+' | b',' => out.push(*byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
}

#[cfg(test)]
mod tests;
