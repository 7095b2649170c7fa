//! CSV records (RFC 4180): fields in the columns' order, or in that of a header.
//!
//! An unquoted empty field is NULL and a quoted one is the empty text, as PostgreSQL reads CSV; with `csv.null-literal` an
//! unquoted field of exactly that text is NULL and nothing else. Fields of nested types and `jsonb` are JSON; an array may
//! also be its elements with the array delimiter between them. A record with too few or too many fields is refused.

pub mod encode;

use super::json::{Cursor, text_of};
use super::rows::RowBuilder;
use super::{PayloadColumn, PayloadParser};
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::collections::BTreeMap;

/// How fields are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvSyntax {
    pub delimiter: u8,
    pub quote: Option<u8>,
    /// Before a quote or itself inside a quoted field; a doubled quote stands for a quote in any case.
    pub escape: Option<u8>,
    pub null: Option<String>,
    pub array_delimiter: char,
    /// Records that begin with `#` are left out.
    pub comments: bool,
}

impl CsvSyntax {
    pub fn new(options: &BTreeMap<String, String>) -> Result<Self> {
        let byte = |key: &str| options.get(key).map(|text| ascii(key, text)).transpose();
        let syntax = CsvSyntax {
            delimiter: byte(options::CSV_DELIMITER)?.unwrap_or(b','),
            quote: if options::boolean(options, options::CSV_NO_QUOTE) { None } else { Some(byte(options::CSV_QUOTE)?.unwrap_or(b'"')) },
            escape: byte(options::CSV_ESCAPE)?,
            null: options.get(options::CSV_NULL).cloned(),
            array_delimiter: byte(options::CSV_ARRAY_DELIMITER)?.unwrap_or(b';') as char,
            comments: options::boolean(options, options::CSV_COMMENTS),
        };
        if syntax.quote == Some(syntax.delimiter) || matches!(syntax.delimiter, b'\n' | b'\r') {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, "a CSV delimiter cannot be the quote or the end of a line"));
        }
        Ok(syntax)
    }

    /// Splits a record and calls `field` with each field's number, text and whether it was quoted.
    pub fn fields(&self, record: &str, mut field: impl FnMut(usize, &str, bool) -> Result<(), String>) -> Result<usize, String> {
        let bytes = record.as_bytes();
        let (mut at, mut count) = (0, 0);
        let mut unquoted = String::new();
        loop {
            if self.quote.is_some() && bytes.get(at).copied() == self.quote {
                unquoted.clear();
                at = self.quoted(record, at + 1, &mut unquoted)?;
                if at < bytes.len() && bytes[at] != self.delimiter {
                    return Err(format!("field {}: text after the closing quote", count + 1));
                }
                field(count, &unquoted, true)?;
            } else {
                let end = bytes[at..].iter().position(|b| *b == self.delimiter).map_or(bytes.len(), |n| at + n);
                field(count, &record[at..end], false)?;
                at = end;
            }
            count += 1;
            if at >= bytes.len() {
                return Ok(count);
            }
            at += 1;
        }
    }

    /// Reads a quoted field from behind its opening quote; the place behind the closing one.
    fn quoted(&self, record: &str, from: usize, out: &mut String) -> Result<usize, String> {
        let (bytes, quote) = (record.as_bytes(), self.quote.unwrap_or(b'"'));
        let (mut at, mut plain) = (from, from);
        while let Some(byte) = bytes.get(at).copied() {
            let next = bytes.get(at + 1).copied();
            let escaped = self.escape == Some(byte) && byte != quote && (next == Some(quote) || next == Some(byte));
            if escaped || byte == quote && next == Some(quote) {
                out.push_str(&record[plain..at]);
                plain = at + 1;
                at += 2;
            } else if byte == quote {
                out.push_str(&record[plain..at]);
                return Ok(at + 1);
            } else {
                at += 1;
            }
        }
        Err("a quoted field without end".to_string())
    }
}

/// One byte of ASCII, or its usual escape.
fn ascii(key: &str, text: &str) -> Result<u8> {
    match text {
        "\\t" | "tab" => Ok(b'\t'),
        "\\\\" => Ok(b'\\'),
        _ if text.len() == 1 && text.is_ascii() => Ok(text.as_bytes()[0]),
        _ => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{key}\" takes one ASCII character, not \"{text}\""))),
    }
}

pub struct CsvParser {
    syntax: CsvSyntax,
    /// The row's column of each field; `None` for a field that a header names and no column wants.
    order: Vec<Option<usize>>,
}

impl CsvParser {
    pub fn new(syntax: CsvSyntax, wanted: &[usize]) -> Self {
        CsvParser { syntax, order: wanted.iter().copied().map(Some).collect() }
    }
}

impl PayloadParser for CsvParser {
    fn parse(&mut self, payload: &[u8], row: &mut RowBuilder) -> Result<(), String> {
        let text = text_of(payload)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() && self.order.len() != 1 {
            return Err("an empty record".to_string());
        }
        let expected = self.order.len();
        let (syntax, order) = (&self.syntax, &self.order);
        let put = |index: usize, text: &str, quoted: bool| match order.get(index) {
            Some(Some(column)) => put_field(syntax, *column, text, quoted, row),
            _ => Ok(()),
        };
        let count = syntax.fields(text, put)?;
        if count != expected {
            return Err(format!("{count} fields where {expected} are expected"));
        }
        Ok(())
    }

    /// Fields come in the order of these names from now on.
    fn header(&mut self, record: &[u8], columns: &[PayloadColumn]) -> Result<(), String> {
        let mut order = Vec::new();
        self.syntax.fields(text_of(record)?.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']), |_, name, _| {
            let exact = columns.iter().position(|c| c.external_name == name.trim());
            order.push(exact.or_else(|| columns.iter().position(|c| c.external_name.eq_ignore_ascii_case(name.trim()))));
            Ok(())
        })?;
        if let Some(missing) = columns.iter().enumerate().find(|(index, _)| !order.contains(&Some(*index))) {
            return Err(format!("the header names no column {}", missing.1.external_name));
        }
        self.order = order;
        Ok(())
    }

    fn is_comment(&self, record: &[u8]) -> bool {
        self.syntax.comments && record.first() == Some(&b'#')
    }
}

pub fn put_field(syntax: &CsvSyntax, column: usize, text: &str, quoted: bool, row: &mut RowBuilder) -> Result<(), String> {
    let is_null = !quoted && syntax.null.as_ref().map_or(text.is_empty(), |null| text == null);
    let ty = row.columns()[column].ty.clone();
    row.put(column, |buffer| match &ty {
        _ if is_null => {
            buffer.push_null();
            Ok(())
        }
        SqlType::Text | SqlType::Bytes => buffer.put_text(text),
        SqlType::Array(_) if !text.trim_start().starts_with('[') => {
            buffer.put_texts(text.split(syntax.array_delimiter).filter(|item| !item.is_empty()))
        }
        SqlType::Array(_) | SqlType::Struct(_) | SqlType::Map(..) | SqlType::Json => {
            let mut cursor = Cursor::new(text);
            buffer.push(&mut cursor, 1)?;
            if cursor.at_end() { Ok(()) } else { Err(cursor.malformed("more after the end of the value").into()) }
        }
        _ => buffer.put_text(text.trim()),
    })
}

#[cfg(test)]
mod tests;
