//! COPY. In: bytes to rows of the table's stored columns, in text or csv, piece by piece; the rows are one
//! statement's write. Out: rows to lines. It knows nothing of the messages that carry the bytes.

use super::{Outcome, Session};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use bytes::{BufMut, BytesMut};
use eddyline_common::postgres::decode::{ColumnBuilder, utf8};
use eddyline_common::postgres::encode::{RowFormat, ValueWriter};
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, Result, SqlError, SqlState, bytes_of};
use eddyline_planner::plan::Expr;
use eddyline_planner::statement::CopyFormat;
use eddyline_planner::{Relation, RelationKind};
use std::sync::Arc;

/// Rows that are turned into columns at a time.
const BATCH_ROWS: usize = 8192;

/// A line is never longer; without a bound a missing newline would fill memory.
const LINE_BYTES_MAX: usize = 64 << 20;

/// COPY FROM in progress.
pub struct CopyIn {
    relation: Arc<Relation>,
    schema: SchemaRef,
    /// Stored columns in the order of the fields.
    columns: Vec<usize>,
    format: CopyFormat,
    buffer: BytesMut,
    header_left: bool,
    ended: bool,
    line: u64,
    builders: Vec<ColumnBuilder>,
    rows: usize,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Session {
    pub(super) fn copy_in(&mut self, table: RelationId, columns: Vec<usize>, format: CopyFormat) -> Result<Outcome> {
        let relation = self.services().coordinator.catalog().get(table).cloned();
        let relation = relation.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the table does not exist any more"))?;
        Ok(Outcome::CopyIn(CopyIn::new(relation, columns, format)?))
    }

    /// The end of the data: writes the rows. Returns how many.
    pub async fn finish_copy(&mut self, copy: CopyIn) -> Result<u64> {
        let table = copy.relation.id;
        let mut total = 0;
        for rows in copy.finish()? {
            total += self.copy_rows(table, rows).await?;
        }
        Ok(total)
    }
}

impl CopyIn {
    fn new(relation: Arc<Relation>, columns: Vec<usize>, format: CopyFormat) -> Result<Self> {
        let schema = crate::serving::dml::loose(&arrow_schema(&relation.columns));
        let builders = columns.iter().map(|c| ColumnBuilder::new(&relation.columns[*c].ty)).collect::<Result<_>>()?;
        let header_left = matches!(format, CopyFormat::Csv { header: true });
        Ok(CopyIn {
            relation,
            schema,
            columns,
            format,
            buffer: BytesMut::new(),
            header_left,
            ended: false,
            line: 0,
            builders,
            rows: 0,
            batches: Vec::new(),
            bytes: 0,
        })
    }

    pub fn fields(&self) -> usize {
        self.columns.len()
    }

    /// Takes a piece of the data; lines may be cut anywhere.
    pub fn data(&mut self, piece: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(piece);
        while let Some(end) = self.line_end() {
            let line = self.buffer.split_to(end + 1);
            self.record(&line[..end])?;
        }
        match self.buffer.len() > LINE_BYTES_MAX {
            true => Err(self.bad("a line is too long".into())),
            false => Ok(()),
        }
    }

    /// Where the next whole record ends. A csv record ends at a newline outside quotes.
    fn line_end(&self) -> Option<usize> {
        let newline = self.buffer.iter().position(|b| *b == b'\n')?;
        if self.format == CopyFormat::Text {
            return Some(newline);
        }
        let mut quoted = false;
        for (at, byte) in self.buffer.iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => return Some(at),
                _ => {}
            }
        }
        None
    }

    fn record(&mut self, line: &[u8]) -> Result<()> {
        self.line += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if std::mem::take(&mut self.header_left) || self.ended {
            return Ok(());
        }
        if line == b"\\." {
            self.ended = true;
            return Ok(());
        }
        let text = utf8(line).map_err(|e| self.located(e))?;
        let fields = match self.format {
            CopyFormat::Text => text_fields(text),
            CopyFormat::Csv { .. } => csv_fields(text).ok_or_else(|| self.bad("unterminated CSV quoted field".into()))?,
        };
        if fields.len() > self.columns.len() {
            return Err(self.bad("extra data after last expected column".into()));
        }
        if let Some(missing) = self.columns.get(fields.len()) {
            return Err(self.bad(format!("missing data for column \"{}\"", self.relation.columns[*missing].name)));
        }
        let mut failed = None;
        for (index, (builder, field)) in self.builders.iter_mut().zip(&fields).enumerate() {
            match field {
                None => builder.append_null(),
                Some(value) => {
                    if let Err(error) = builder.append_text(value) {
                        failed = Some((index, error));
                        break;
                    }
                }
            }
        }
        if let Some((index, error)) = failed {
            let column = &self.relation.columns[self.columns[index]].name;
            return Err(error.with_detail(format!("COPY {}, line {}, column {column}.", self.relation.name, self.line)));
        }
        self.rows += 1;
        if self.rows == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn located(&self, error: SqlError) -> SqlError {
        error.with_detail(format!("COPY {}, line {}.", self.relation.name, self.line))
    }

    fn bad(&self, message: String) -> SqlError {
        self.located(SqlError::new(SqlState::BAD_COPY_FORMAT, message))
    }

    /// Turns the gathered rows into a batch of stored columns; those not copied take their default.
    fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let fresh = self.columns.iter().map(|c| ColumnBuilder::new(&self.relation.columns[*c].ty)).collect::<Result<_>>()?;
        let given = std::mem::replace(&mut self.builders, fresh).into_iter().map(ColumnBuilder::finish).collect::<Result<Vec<_>>>()?;
        let rows = std::mem::take(&mut self.rows);
        let columns = (0..self.relation.columns.len())
            .map(|stored| match self.columns.iter().position(|c| *c == stored) {
                Some(at) => Ok(given[at].clone()),
                None => self.default(stored, rows),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.bytes += bytes_of(&batch);
        if self.bytes > super::transaction::TRANSACTION_BYTES_MAX {
            return Err(
                SqlError::new(SqlState::LIMIT_EXCEEDED, "COPY writes too much in one statement").with_hint("Copy in smaller parts.")
            );
        }
        self.batches.push(batch);
        Ok(())
    }

    fn default(&self, stored: usize, rows: usize) -> Result<ArrayRef> {
        let column = &self.relation.columns[stored];
        let literal = match &self.relation.kind {
            RelationKind::Table { defaults, .. } => defaults.get(&stored),
            _ => None,
        };
        match literal {
            None => Ok(arrow::array::new_null_array(&column.ty.to_arrow(), rows)),
            Some(Expr::Literal(literal)) => {
                let value = eddyline_planner::literal_to_scalar(literal)?;
                let value = value.cast_to(&column.ty.to_arrow()).map_err(crate::serving::to_sql_error)?;
                let values = value.to_array_of_size(rows).map_err(crate::serving::to_sql_error)?;
                // A constant list has lost what its items are.
                Ok(arrow::compute::cast(&values, &column.ty.to_arrow())?)
            }
            Some(_) => Err(SqlError::unsupported(format!("COPY cannot compute the default of column \"{}\"", column.name))
                .with_hint("Name the column in COPY and give its values.")),
        }
    }

    fn finish(mut self) -> Result<Vec<RecordBatch>> {
        let rest = self.buffer.split();
        if !rest.is_empty() {
            self.record(&rest)?;
        }
        self.flush()?;
        // One batch: duplicate keys are then seen across all of it.
        match self.batches.len() {
            0 | 1 => Ok(self.batches),
            _ => Ok(vec![arrow::compute::concat_batches(&self.schema, &self.batches)?]),
        }
    }
}

/// Tab-separated fields with backslash escapes; `\N` is null.
fn text_fields(line: &str) -> Vec<Option<String>> {
    line.split('\t').map(|field| if field == "\\N" { None } else { Some(unescape(field)) }).collect()
}

fn unescape(field: &str) -> String {
    if !field.contains('\\') {
        return field.to_string();
    }
    let mut text = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('v') => text.push('\u{b}'),
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    text
}

/// Comma-separated fields; an empty one without quotes is null. `None` if a quote is left open.
fn csv_fields(line: &str) -> Option<Vec<Option<String>>> {
    let mut fields = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        let (mut field, mut was_quoted) = (String::new(), false);
        loop {
            match chars.peek() {
                None | Some(',') => break,
                Some('"') => {
                    chars.next();
                    was_quoted = true;
                    loop {
                        match chars.next()? {
                            '"' if chars.next_if_eq(&'"').is_some() => field.push('"'),
                            '"' => break,
                            c => field.push(c),
                        }
                    }
                }
                Some(_) => field.extend(chars.next()),
            }
        }
        fields.push(if field.is_empty() && !was_quoted { None } else { Some(field) });
        if chars.next().is_none() {
            return Some(fields);
        }
    }
}

/// The header line of COPY TO, if the format has one.
pub fn header(schema: &SchemaRef, format: CopyFormat) -> Option<BytesMut> {
    let CopyFormat::Csv { header: true } = format else { return None };
    let mut line = BytesMut::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            line.put_u8(b',');
        }
        put_csv(field.name().as_bytes(), &mut line);
    }
    line.put_u8(b'\n');
    Some(line)
}

/// A batch's rows as lines, each handed to `emit`.
pub fn lines(rows: &RecordBatch, format: &RowFormat, kind: CopyFormat, mut emit: impl FnMut(&[u8])) -> Result<()> {
    let bound = format.bind(rows)?;
    let writers = bound.text_writers();
    let (mut line, mut value) = (BytesMut::new(), BytesMut::new());
    for row in 0..rows.num_rows() {
        line.clear();
        for (index, writer) in writers.iter().enumerate() {
            if index > 0 {
                line.put_u8(if kind == CopyFormat::Text { b'\t' } else { b',' });
            }
            put_field(writer, row, kind, &mut value, &mut line);
        }
        line.put_u8(b'\n');
        emit(&line);
    }
    Ok(())
}

fn put_field(writer: &ValueWriter, row: usize, kind: CopyFormat, value: &mut BytesMut, line: &mut BytesMut) {
    if writer.is_null(row) {
        if kind == CopyFormat::Text {
            line.extend_from_slice(b"\\N");
        }
        return;
    }
    value.clear();
    writer.text(row, value);
    match kind {
        CopyFormat::Text => put_escaped(value, line),
        CopyFormat::Csv { .. } => put_csv(value, line),
    }
}

fn put_escaped(value: &[u8], line: &mut BytesMut) {
    for byte in value {
        let escape = match byte {
            b'\\' => b'\\',
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            8 => b'b',
            11 => b'v',
            12 => b'f',
            plain => {
                line.put_u8(*plain);
                continue;
            }
        };
        line.put_slice(&[b'\\', escape]);
    }
}

/// An empty value is quoted, to tell it from null.
fn put_csv(value: &[u8], line: &mut BytesMut) {
    let plain = !value.is_empty() && value != b"\\." && !value.iter().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r'));
    if plain {
        return line.extend_from_slice(value);
    }
    line.put_u8(b'"');
    for byte in value {
        if *byte == b'"' {
            line.put_u8(b'"');
        }
        line.put_u8(*byte);
    }
    line.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_lines_are_unescaped() {
        assert_eq!(text_fields("a\\tb\t\\N\t\t\\\\N"), vec![Some("a\tb".into()), None, Some(String::new()), Some("\\N".into())]);
    }

    #[test]
    fn csv_quotes_tell_null_from_empty() {
        assert_eq!(csv_fields("1,,\"\",\"a,\"\"b\"\"\""), Some(vec![Some("1".into()), None, Some(String::new()), Some("a,\"b\"".into())]));
        assert_eq!(csv_fields("\"open"), None);
        let mut line = BytesMut::new();
        put_csv(b"a,\"b\"", &mut line);
        assert_eq!(&line[..], b"\"a,\"\"b\"\"\"");
    }
}
