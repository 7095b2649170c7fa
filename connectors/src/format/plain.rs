//! One row per record.

use super::rows::{Completeness, RowBuilder};
use super::{DecodedRows, PayloadParser, Record, RecordDecoder};
use eddyline_common::Result;

pub struct PlainDecoder {
    row: RowBuilder,
    parser: Box<dyn PayloadParser>,
}

impl PlainDecoder {
    pub fn new(row: RowBuilder, parser: Box<dyn PayloadParser>) -> Self {
        PlainDecoder { row, parser }
    }
}

impl RecordDecoder for PlainDecoder {
    fn prepare(&mut self, record: Record) -> Result<()> {
        record.value.map_or(Ok(()), |value| self.parser.prepare(value, self.row.columns()))
    }

    fn push(&mut self, record: Record) -> Result<usize, String> {
        let value = record.value.ok_or("null value")?;
        if self.is_comment(value) {
            return Ok(0);
        }
        let rows = self.row.rows();
        let pushed = self.parser.parse(value, &mut self.row).and_then(|()| self.row.end_row(Completeness::Whole));
        pushed.map(|()| 1).inspect_err(|_| self.row.roll_back(rows))
    }

    fn rows(&self) -> usize {
        self.row.rows()
    }

    fn finish(&mut self) -> Result<DecodedRows> {
        Ok(DecodedRows { columns: self.row.finish()?, weights: None })
    }

    fn keep(&mut self, kept: &[bool]) {
        self.row.keep(kept);
    }

    fn header(&mut self, record: &[u8]) -> Result<(), String> {
        self.parser.header(record, self.row.columns())
    }

    fn is_comment(&self, record: &[u8]) -> bool {
        self.parser.is_comment(record)
    }
}
