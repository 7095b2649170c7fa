//! CSV lines from Arrow columns, as the decoder beside it reads them: values in PostgreSQL's text forms, booleans and nested ones as
//! JSON, quoted where they must be. NULL is nothing, or the null literal; a text that looks like it is quoted.

use super::CsvSyntax;
use crate::format::json::encode::{JsonEncoder, JsonRows, Times, utc};
use arrow::array::RecordBatch;
use bytes::{BufMut, BytesMut};
use eddyline_common::postgres::encode::{RowFormat, RowWriter, ValueWriter};
use eddyline_common::{Column, Result, SqlType, types::arrow_schema};

pub struct CsvEncoder {
    syntax: CsvSyntax,
    format: RowFormat,
    columns: Vec<usize>,
    /// Fields that are JSON, by their place among the fields.
    nested: Vec<usize>,
    json: JsonEncoder,
    header: Vec<u8>,
}

impl CsvEncoder {
    /// For fields of these names and types, which are the batch's columns of these numbers.
    pub fn new(fields: impl Iterator<Item = (usize, String, SqlType)>, syntax: CsvSyntax) -> Self {
        let (mut columns, mut typed, mut header) = (Vec::new(), Vec::new(), BytesMut::new());
        for (column, name, ty) in fields {
            if !columns.is_empty() {
                header.put_u8(syntax.delimiter);
            }
            put_field(&syntax, name.as_bytes(), &mut header);
            columns.push(column);
            typed.push(Column::new(name, ty, true));
        }
        header.put_u8(b'\n');
        let is_nested = |ty: &SqlType| matches!(ty, SqlType::Boolean | SqlType::Array(_) | SqlType::Struct(_) | SqlType::Map(..));
        let nested: Vec<usize> = (0..typed.len()).filter(|field| is_nested(&typed[*field].ty)).collect();
        let json = nested.iter().map(|field| (columns[*field], typed[*field].name.clone(), typed[*field].ty.clone()));
        let json = JsonEncoder::new(json.collect::<Vec<_>>().into_iter(), Times::Sql);
        let format = RowFormat::text(arrow_schema(&typed), utc());
        CsvEncoder { syntax, format, columns, nested, json, header: header.to_vec() }
    }

    /// The line of column names.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The columns that it writes, to be bound.
    pub fn project(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        Ok(batch.project(&self.columns)?)
    }

    pub fn bind<'a>(&'a self, batch: &'a RecordBatch, projected: &'a RecordBatch) -> Result<CsvRows<'a>> {
        Ok(CsvRows { encoder: self, values: self.format.bind(projected)?, json: self.json.bind(batch)? })
    }
}

/// A batch's rows, ready to be written.
pub struct CsvRows<'a> {
    encoder: &'a CsvEncoder,
    values: RowWriter<'a>,
    json: JsonRows<'a>,
}

impl CsvRows<'_> {
    pub fn writers(&self) -> Vec<ValueWriter<'_>> {
        self.values.text_writers()
    }

    /// The row as a line, through `writers`.
    pub fn write(&self, writers: &[ValueWriter], row: usize, scratch: &mut BytesMut, out: &mut BytesMut) {
        let syntax = &self.encoder.syntax;
        for (index, writer) in writers.iter().enumerate() {
            if index > 0 {
                out.put_u8(syntax.delimiter);
            }
            if writer.is_null(row) {
                out.put_slice(syntax.null.as_deref().unwrap_or_default().as_bytes());
                continue;
            }
            scratch.clear();
            match self.encoder.nested.iter().position(|field| *field == index) {
                Some(field) => self.json.write_field(field, row, scratch),
                None => writer.text(row, scratch),
            }
            put_field(syntax, scratch, out);
        }
        out.put_u8(b'\n');
    }
}

fn put_field(syntax: &CsvSyntax, text: &[u8], out: &mut BytesMut) {
    let quote = syntax.quote.unwrap_or(b'"');
    let marks = |b: &u8| *b == syntax.delimiter || *b == quote || matches!(*b, b'\n' | b'\r');
    let reads_as_null = text == syntax.null.as_deref().unwrap_or_default().as_bytes();
    // Blanks at the ends and a mark of comments are kept for readers that would drop them.
    let at_risk = text.first().is_none_or(|b| matches!(b, b' ' | b'\t' | b'#')) || matches!(text.last(), Some(b' ' | b'\t'));
    if !reads_as_null && !at_risk && !text.iter().any(marks) {
        return out.put_slice(text);
    }
    out.put_u8(quote);
    for byte in text {
        if *byte == quote || syntax.escape == Some(*byte) {
            out.put_u8(syntax.escape.unwrap_or(quote));
        }
        out.put_u8(*byte);
    }
    out.put_u8(quote);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::{column, decoder};
    use crate::format::{PayloadColumn, Record};
    use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, Int64Array, ListArray, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Int64Type;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn encoder(columns: &[Column], options: &[(&str, &str)]) -> CsvEncoder {
        let options: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        CsvEncoder::new(columns.iter().enumerate().map(|(i, c)| (i, c.name.clone(), c.ty.clone())), CsvSyntax::new(&options).unwrap())
    }

    fn written(columns: &[Column], arrays: Vec<ArrayRef>, options: &[(&str, &str)]) -> Vec<String> {
        let batch = RecordBatch::try_new(arrow_schema(columns), arrays).unwrap();
        let encoder = encoder(columns, options);
        let projected = encoder.project(&batch).unwrap();
        let rows = encoder.bind(&batch, &projected).unwrap();
        let writers = rows.writers();
        let line = |row| {
            let (mut scratch, mut out) = (BytesMut::new(), BytesMut::new());
            rows.write(&writers, row, &mut scratch, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        (0..batch.num_rows()).map(line).collect()
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let columns = [Column::new("n", SqlType::BigInt, true), Column::new("a,b", SqlType::Text, true)];
        let texts = StringArray::from(vec![Some("plain"), Some(""), None, Some("a \"b\",\nc")]);
        let numbers = Int64Array::from(vec![Some(1), None, Some(3), Some(4)]);
        assert_eq!(encoder(&columns, &[]).header(), b"n,\"a,b\"\n");
        let lines = written(&columns, vec![Arc::new(numbers), Arc::new(texts)], &[]);
        assert_eq!(lines.concat(), "1,plain\n,\"\"\n3,\n4,\"a \"\"b\"\",\nc\"\n");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let named = |name: &str, ty: SqlType| Column::new(name, ty, true);
        let columns = [
            named("t", SqlType::Text),
            named("b", SqlType::Boolean),
            named("bytes", SqlType::Bytes),
            named("ts", SqlType::Timestamp),
            named("list", SqlType::Array(Box::new(SqlType::BigInt))),
        ];
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), Some(2)]), None, Some(vec![])]);
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some(" a;\\\"b"), Some("NULL"), None])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(b"a")])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_700_000_000_123_456), None, Some(0)])),
            Arc::new(list),
        ];
        for options in [&[][..], &[("csv.field-delimiter", ";"), ("csv.escape-character", "\\"), ("csv.null-literal", "NULL")]] {
            let lines = written(&columns, arrays.clone(), options);
            let payload: Vec<PayloadColumn> = columns.iter().map(|c| column(&c.name, c.ty.clone())).collect();
            let options: Vec<_> = options.iter().copied().chain([("format", "csv")]).collect();
            let mut decoder = decoder(&options, &payload, false).unwrap();
            for line in &lines {
                decoder.push(Record::of(line.as_bytes())).unwrap_or_else(|e| panic!("{e}: {line}"));
            }
            for (back, (column, array)) in decoder.finish().unwrap().columns.iter().zip(columns.iter().zip(&arrays)) {
                assert_eq!(back.to_data(), array.to_data(), "{}: {lines:?}", column.name);
            }
        }
    }
}
