//! COPY FROM: bytes to rows of the table's stored columns, piece by piece; the rows are one statement's write. How lines and tuples are taken apart is known to
//! `copy_lines` and `copy_tuples`. It knows nothing of the messages that carry the bytes.

use super::copy_lines::{LineScan, csv_fields, text_fields};
use super::copy_tuples::{self, Taken};
use super::write_memory::Share;
use super::{Outcome, Session};
use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use bytes::BytesMut;
use eddyline_common::postgres::decode::{ColumnBuilder, utf8};
use eddyline_common::postgres::encode::Format;
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, Result, SqlError, SqlState, bytes_of};
use eddyline_planner::plan::Expr;
use eddyline_planner::statement::{CopyColumns, CopyFormat, CopyKind};
use eddyline_planner::{Relation, RelationKind};
use std::sync::Arc;

/// Rows that are turned into columns at a time.
const BATCH_ROWS: usize = 8192;

/// Fewer of them if they are long: so many bytes of fields.
const BATCH_BYTES: usize = 8 << 20;

/// A line is never longer; without a bound a missing newline would fill memory.
const LINE_BYTES_MAX: usize = 64 << 20;

/// COPY FROM in progress.
pub struct CopyIn {
    relation: Arc<Relation>,
    schema: SchemaRef,
    /// Stored columns in the order of the fields.
    columns: Vec<usize>,
    format: CopyFormat,
    /// Of times that name none.
    zone: Tz,
    buffer: BytesMut,
    scan: LineScan,
    /// The header, or the signature, has not come yet.
    header_left: bool,
    ended: bool,
    line: u64,
    /// Per field, whether it is null also in quotes, and whether it is never null.
    forced: Vec<(bool, bool)>,
    builders: Vec<ColumnBuilder>,
    rows: usize,
    /// Bytes of their fields, as they came.
    pending: usize,
    batches: Vec<RecordBatch>,
    bytes: usize,
    /// Of the memory for all sessions' writes, until the rows are the transaction's.
    share: Share,
}

impl Session {
    pub(super) fn copy_in(&mut self, table: RelationId, columns: Vec<usize>, format: CopyFormat) -> Result<Outcome> {
        self.check_writable("write")?;
        let relation = self.services().coordinator.catalog().get(table).cloned();
        let relation = relation.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the table does not exist any more"))?;
        Ok(Outcome::CopyIn(CopyIn::new(relation, columns, format, self.settings.zone(), self.services().write_memory.share())?))
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
    fn new(relation: Arc<Relation>, columns: Vec<usize>, format: CopyFormat, zone: Tz, share: Share) -> Result<Self> {
        let schema = crate::serving::dml::loose(&arrow_schema(&relation.columns));
        let builders = builders(&relation, &columns, zone)?;
        let names: Vec<&str> = columns.iter().map(|c| relation.columns[*c].name.as_str()).collect();
        check_columns(&format, &names)?;
        let forced = names.iter().map(|name| (format.force_null.has(name), format.force_not_null.has(name))).collect();
        let header_left = format.header || format.kind == CopyKind::Binary;
        Ok(CopyIn {
            relation,
            schema,
            columns,
            format,
            zone,
            buffer: BytesMut::new(),
            scan: LineScan::default(),
            header_left,
            ended: false,
            line: 0,
            forced,
            builders,
            rows: 0,
            pending: 0,
            batches: Vec::new(),
            bytes: 0,
            share,
        })
    }

    pub fn fields(&self) -> usize {
        self.columns.len()
    }

    pub fn format(&self) -> Format {
        if self.format.kind == CopyKind::Binary { Format::Binary } else { Format::Text }
    }

    /// Takes a piece of the data; lines and tuples may be cut anywhere.
    pub fn data(&mut self, piece: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(piece);
        if self.format.kind == CopyKind::Binary {
            while self.tuple()? {}
        } else {
            while let Some(end) = self.scan.line_end(&self.buffer, &self.format) {
                let line = self.buffer.split_to(end + 1);
                self.record(&line[..end])?;
            }
        }
        match self.buffer.len() > LINE_BYTES_MAX {
            true => Err(self.bad("a line is too long".into())),
            false => Ok(()),
        }
    }

    /// Takes the next whole part of binary data from the buffer; false if there is none yet.
    fn tuple(&mut self) -> Result<bool> {
        if self.ended {
            return if self.buffer.is_empty() { Ok(false) } else { Err(self.bad("received copy data after EOF marker".into())) };
        }
        if self.header_left {
            let length = copy_tuples::header_length(&self.buffer).map_err(|message| self.bad(message))?;
            let Some(length) = length else { return Ok(false) };
            drop(self.buffer.split_to(length));
            self.header_left = false;
            return Ok(true);
        }
        match copy_tuples::take(&mut self.buffer, self.columns.len()).map_err(|message| self.bad(message))? {
            Taken::Nothing => Ok(false),
            Taken::End => {
                self.ended = true;
                Ok(true)
            }
            Taken::Tuple(fields) => {
                self.line += 1;
                self.append(&fields, |builder, field| builder.append_binary(field))?;
                Ok(true)
            }
        }
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
        let fields = match self.format.kind {
            CopyKind::Csv => {
                csv_fields(text, &self.format, &self.forced).ok_or_else(|| self.bad("unterminated CSV quoted field".into()))?
            }
            _ => text_fields(text, &self.format).map_err(|e| self.located(e))?,
        };
        if fields.len() > self.columns.len() {
            return Err(self.bad("extra data after last expected column".into()));
        }
        if let Some(missing) = self.columns.get(fields.len()) {
            return Err(self.bad(format!("missing data for column \"{}\"", self.relation.columns[*missing].name)));
        }
        self.append(&fields, |builder, field| builder.append_text(field))
    }

    /// A row of as many fields as there are columns.
    fn append<F: AsRef<[u8]>>(&mut self, fields: &[Option<F>], value: impl Fn(&mut ColumnBuilder, &F) -> Result<()>) -> Result<()> {
        for (index, (builder, field)) in self.builders.iter_mut().zip(fields).enumerate() {
            let Some(field) = field else {
                builder.append_null();
                continue;
            };
            self.pending += field.as_ref().len();
            if let Err(error) = value(builder, field) {
                let column = &self.relation.columns[self.columns[index]].name;
                return Err(error.with_detail(format!("COPY {}, line {}, column {column}.", self.relation.name, self.line)));
            }
        }
        self.rows += 1;
        if self.rows == BATCH_ROWS || self.pending >= BATCH_BYTES { self.flush() } else { Ok(()) }
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
        let fresh = builders(&self.relation, &self.columns, self.zone)?;
        let given = std::mem::replace(&mut self.builders, fresh).into_iter().map(ColumnBuilder::finish).collect::<Result<Vec<_>>>()?;
        let rows = std::mem::take(&mut self.rows);
        self.pending = 0;
        let columns = (0..self.relation.columns.len())
            .map(|stored| match self.columns.iter().position(|c| *c == stored) {
                Some(at) => Ok(given[at].clone()),
                None => self.default(stored, rows),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let bytes = bytes_of(&batch);
        self.share.grow(bytes)?;
        self.bytes += bytes;
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
        match self.format.kind {
            CopyKind::Binary if self.header_left => return Err(self.bad("COPY file signature not recognized".into())),
            CopyKind::Binary if !rest.is_empty() => return Err(self.bad("unexpected EOF in COPY data".into())),
            CopyKind::Text | CopyKind::Csv if !rest.is_empty() => self.record(&rest)?,
            _ => {}
        }
        self.flush()?;
        // One batch: duplicate keys are then seen across all of it.
        match self.batches.len() {
            0 | 1 => Ok(self.batches),
            _ => Ok(vec![arrow::compute::concat_batches(&self.schema, &self.batches)?]),
        }
    }
}

/// One for each column that is copied.
fn builders(relation: &Relation, columns: &[usize], zone: Tz) -> Result<Vec<ColumnBuilder>> {
    columns.iter().map(|c| Ok(ColumnBuilder::new(&relation.columns[*c].ty)?.in_zone(zone))).collect()
}

/// Refuses options about columns that are not copied.
pub(super) fn check_columns(format: &CopyFormat, names: &[&str]) -> Result<()> {
    for forced in [&format.force_quote, &format.force_null, &format.force_not_null] {
        if let CopyColumns::Named(columns) = forced
            && let Some(column) = columns.iter().find(|column| !names.contains(&column.as_str()))
        {
            let message = format!("column \"{column}\" that an option names is not referenced by COPY");
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::settings::utc;
    use super::super::write_memory::WriteMemory;
    use super::*;
    use eddyline_common::{Column, SqlType};
    use eddyline_planner::plan::ChangelogMode;
    use std::collections::BTreeMap;

    /// A table of one text.
    fn table() -> Relation {
        Relation {
            id: RelationId(1),
            name: "t".into(),
            sql: String::new(),
            columns: vec![Column::new("x", SqlType::Text, true)],
            visible: vec![],
            key: vec![],
            mode: ChangelogMode::Append,
            watermark: None,
            time_columns: vec![],
            kind: RelationKind::Table {
                append_only: true,
                defaults: BTreeMap::new(),
                webhook: None,
                awaits_rows: false,
                temporary: false,
                numbered: None,
            },
            depends_on: vec![],
            named: BTreeMap::new(),
        }
    }

    #[test]
    fn long_rows_do_not_wait_for_many() {
        let share = WriteMemory::new(1 << 30).share();
        let mut copy = CopyIn::new(Arc::new(table()), vec![0], CopyFormat::new(CopyKind::Text), utc(), share).unwrap();
        let mut line = vec![b'x'; BATCH_BYTES / 4];
        line.push(b'\n');
        for _ in 0..10 {
            copy.data(&line).unwrap();
        }
        assert_eq!((copy.batches.len(), copy.rows), (2, 2));
        let batches = copy.finish().unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [10]);
    }
}
