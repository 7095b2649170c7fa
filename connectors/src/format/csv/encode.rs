//! CSV lines from Arrow columns: values in PostgreSQL's text forms, quoted where they must be. NULL is nothing; an empty
//! text is `""`.

use arrow::array::RecordBatch;
use bytes::{BufMut, BytesMut};
use eddyline_common::postgres::encode::{RowFormat, RowWriter};
use eddyline_common::{Column, Result, SqlType, types::arrow_schema};

pub struct CsvEncoder {
    format: RowFormat,
    columns: Vec<usize>,
    header: Vec<u8>,
}

impl CsvEncoder {
    /// For fields of these names and types, which are the batch's columns of these numbers.
    pub fn new(fields: impl Iterator<Item = (usize, String, SqlType)>) -> Self {
        let mut header = BytesMut::new();
        let (mut columns, mut typed) = (Vec::new(), Vec::new());
        for (column, name, ty) in fields {
            if !columns.is_empty() {
                header.put_u8(b',');
            }
            field(name.as_bytes(), &mut header);
            columns.push(column);
            typed.push(Column::new(name, ty, true));
        }
        header.put_u8(b'\n');
        let format = RowFormat::text(arrow_schema(&typed), crate::format::json::encode::utc());
        CsvEncoder { format, columns, header: header.to_vec() }
    }

    /// The line of column names.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The columns that it writes, to be bound.
    pub fn project(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(batch.project(&self.columns)?)
    }

    pub fn bind<'a>(&'a self, projected: &'a RecordBatch) -> Result<RowWriter<'a>> {
        self.format.bind(projected)
    }
}

/// One line per row, through `text_writers` of what `bind` gave.
pub fn write(writers: &[eddyline_common::postgres::encode::ValueWriter], row: usize, scratch: &mut BytesMut, out: &mut BytesMut) {
    for (index, writer) in writers.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        if !writer.is_null(row) {
            scratch.clear();
            writer.text(row, scratch);
            field(scratch, out);
        }
    }
    out.put_u8(b'\n');
}

fn field(text: &[u8], out: &mut BytesMut) {
    let plain = !text.is_empty() && !text.iter().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r'));
    if plain {
        return out.put_slice(text);
    }
    out.put_u8(b'"');
    for byte in text {
        if *byte == b'"' {
            out.put_u8(b'"');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let columns = [Column::new("n", SqlType::BigInt, true), Column::new("a,b", SqlType::Text, true)];
        let texts = StringArray::from(vec![Some("plain"), Some(""), None, Some("a \"b\",\nc")]);
        let numbers = Int64Array::from(vec![Some(1), None, Some(3), Some(4)]);
        let batch = RecordBatch::try_new(arrow_schema(&columns), vec![Arc::new(numbers), Arc::new(texts)]).unwrap();
        let encoder = CsvEncoder::new(columns.iter().enumerate().map(|(i, c)| (i, c.name.clone(), c.ty.clone())));
        assert_eq!(encoder.header(), b"n,\"a,b\"\n");
        let projected = encoder.project(&batch).unwrap();
        let rows = encoder.bind(&projected).unwrap();
        let writers = rows.text_writers();
        let (mut scratch, mut out) = (BytesMut::new(), BytesMut::new());
        (0..4).for_each(|row| write(&writers, row, &mut scratch, &mut out));
        assert_eq!(&out[..], b"1,plain\n,\"\"\n3,\n4,\"a \"\"b\"\",\nc\"\n");
    }
}
