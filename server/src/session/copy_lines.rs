//! The lines of COPY, in text and csv, as PostgreSQL spells them: fields out of lines, and rows into lines. It knows nothing of tables and of messages.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::{BufMut, BytesMut};
use eddyline_common::Result;
use eddyline_common::postgres::decode::utf8;
use eddyline_common::postgres::encode::{RowFormat, ValueWriter};
use eddyline_planner::statement::{CopyFormat, CopyKind};

/// How far the line that the data begins with was looked at. It comes in pieces, and nothing of it is looked at twice.
#[derive(Default)]
pub(super) struct LineScan {
    seen: usize,
    quoted: bool,
    escaped: bool,
}

impl LineScan {
    /// Where the line ends, if it is there as a whole; the next one is then looked for. One of csv ends at a newline outside quotes.
    pub(super) fn line_end(&mut self, bytes: &[u8], format: &CopyFormat) -> Option<usize> {
        let rest = bytes.get(self.seen..).unwrap_or_default();
        let newline = match format.kind {
            CopyKind::Csv => self.unquoted_newline(rest, format),
            CopyKind::Text | CopyKind::Binary => rest.iter().position(|b| *b == b'\n'),
        };
        let Some(newline) = newline else {
            self.seen = bytes.len();
            return None;
        };
        Some(std::mem::take(self).seen + newline)
    }

    fn unquoted_newline(&mut self, bytes: &[u8], format: &CopyFormat) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            if std::mem::take(&mut self.escaped) {
                continue;
            }
            match *byte {
                b if self.quoted && b == format.escape && b != format.quote => self.escaped = true,
                b if b == format.quote => self.quoted = !self.quoted,
                b'\n' if !self.quoted => return Some(at),
                _ => {}
            }
        }
        None
    }
}

/// Fields between delimiters, with backslash escapes; what is spelled as the null is null.
pub(super) fn text_fields(line: &str, format: &CopyFormat) -> Result<Vec<Option<String>>> {
    let bytes = line.as_bytes();
    let (mut fields, mut start, mut at) = (Vec::new(), 0, 0);
    loop {
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            Some(byte) if *byte != format.delimiter => at += 1,
            end => {
                // Delimiters and backslashes are characters of their own, so the ends of fields are ends of characters.
                let field = line.get(start..at.min(bytes.len())).unwrap_or_default();
                fields.push(if field == format.null { None } else { Some(unescape(field)?) });
                if end.is_none() {
                    return Ok(fields);
                }
                at += 1;
                start = at;
            }
        }
    }
}

fn unescape(field: &str) -> Result<String> {
    if !field.contains('\\') {
        return Ok(field.to_string());
    }
    let mut text = Vec::with_capacity(field.len());
    let mut bytes = field.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b't') => text.push(b'\t'),
            Some(b'n') => text.push(b'\n'),
            Some(b'r') => text.push(b'\r'),
            Some(b'b') => text.push(8),
            Some(b'f') => text.push(12),
            Some(b'v') => text.push(11),
            Some(first @ b'0'..=b'7') => text.push(digits(u32::from(first - b'0'), 2, 8, &mut bytes)),
            Some(b'x') if bytes.peek().is_some_and(u8::is_ascii_hexdigit) => text.push(digits(0, 2, 16, &mut bytes)),
            Some(other) => text.push(other),
            None => text.push(b'\\'),
        }
    }
    utf8(&text).map(str::to_string)
}

/// The byte that a few more digits give.
fn digits(first: u32, more: usize, radix: u32, bytes: &mut std::iter::Peekable<std::str::Bytes>) -> u8 {
    let mut value = first;
    for _ in 0..more {
        let Some(digit) = bytes.peek().and_then(|byte| char::from(*byte).to_digit(radix)) else { break };
        value = value * radix + digit;
        bytes.next();
    }
    value as u8
}

/// Fields between delimiters, in quotes or not. One that is spelled as the null is null, in quotes only where it is forced to be. `None` if a quote is left open.
pub(super) fn csv_fields(line: &str, format: &CopyFormat, forced: &[(bool, bool)]) -> Option<Vec<Option<String>>> {
    let (delimiter, quote, escape) = (char::from(format.delimiter), char::from(format.quote), char::from(format.escape));
    let mut fields: Vec<Option<String>> = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        let (mut field, mut was_quoted) = (String::new(), false);
        while let Some(c) = chars.next_if(|c| *c != delimiter) {
            if c != quote {
                field.push(c);
                continue;
            }
            was_quoted = true;
            loop {
                let c = chars.next()?;
                if c == escape
                    && let Some(meant) = chars.next_if(|next| *next == escape || *next == quote)
                {
                    field.push(meant);
                } else if c == quote {
                    break;
                } else {
                    field.push(c);
                }
            }
        }
        let (null, not_null) = forced.get(fields.len()).copied().unwrap_or_default();
        let is_null = field == format.null && (null || !was_quoted && !not_null);
        fields.push((!is_null).then_some(field));
        if chars.next().is_none() {
            return Some(fields);
        }
    }
}

/// The header line of COPY TO, if the format has one.
pub fn header(schema: &SchemaRef, format: &CopyFormat) -> Option<BytesMut> {
    if !format.header {
        return None;
    }
    let mut line = BytesMut::new();
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            line.put_u8(format.delimiter);
        }
        put_value(field.name().as_bytes(), false, format, &mut line);
    }
    line.put_u8(b'\n');
    Some(line)
}

/// A batch's rows as lines, each handed to `emit`.
pub fn lines(rows: &RecordBatch, row_format: &RowFormat, format: &CopyFormat, mut emit: impl FnMut(&[u8])) -> Result<()> {
    let bound = row_format.bind(rows)?;
    let writers = bound.text_writers();
    let forced: Vec<bool> = row_format.schema.fields().iter().map(|field| format.force_quote.has(field.name())).collect();
    let (mut line, mut value) = (BytesMut::new(), BytesMut::new());
    for row in 0..rows.num_rows() {
        line.clear();
        for (index, writer) in writers.iter().enumerate() {
            if index > 0 {
                line.put_u8(format.delimiter);
            }
            put_field(writer, row, forced[index], format, &mut value, &mut line);
        }
        line.put_u8(b'\n');
        emit(&line);
    }
    Ok(())
}

fn put_field(writer: &ValueWriter, row: usize, forced: bool, format: &CopyFormat, value: &mut BytesMut, line: &mut BytesMut) {
    if writer.is_null(row) {
        return line.extend_from_slice(format.null.as_bytes());
    }
    value.clear();
    writer.text(row, value);
    put_value(value, forced, format, line);
}

fn put_value(value: &[u8], forced: bool, format: &CopyFormat, line: &mut BytesMut) {
    match format.kind {
        CopyKind::Csv => put_csv(value, forced, format, line),
        CopyKind::Text | CopyKind::Binary => put_escaped(value, format.delimiter, line),
    }
}

fn put_escaped(value: &[u8], delimiter: u8, line: &mut BytesMut) {
    for byte in value {
        let escape = match byte {
            b'\\' => b'\\',
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            8 => b'b',
            11 => b'v',
            12 => b'f',
            byte if *byte == delimiter => delimiter,
            plain => {
                line.put_u8(*plain);
                continue;
            }
        };
        line.put_slice(&[b'\\', escape]);
    }
}

/// What is spelled as the null is quoted, to tell it from that.
fn put_csv(value: &[u8], forced: bool, format: &CopyFormat, line: &mut BytesMut) {
    let is_special = |byte: &u8| *byte == format.delimiter || *byte == format.quote || matches!(byte, b'\n' | b'\r');
    if !forced && value != format.null.as_bytes() && value != b"\\." && !value.iter().any(is_special) {
        return line.extend_from_slice(value);
    }
    line.put_u8(format.quote);
    for byte in value {
        if *byte == format.quote || *byte == format.escape {
            line.put_u8(format.escape);
        }
        line.put_u8(*byte);
    }
    line.put_u8(format.quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(fields: &[Option<&str>]) -> Vec<Option<String>> {
        fields.iter().map(|field| field.map(str::to_string)).collect()
    }

    #[test]
    fn text_lines_are_unescaped() {
        let format = CopyFormat::new(CopyKind::Text);
        let fields = text_fields("a\\tb\t\\N\t\t\\\\N\t\\x41\\102\\\t", &format).unwrap();
        assert_eq!(fields, texts(&[Some("a\tb"), None, Some(""), Some("\\N"), Some("AB\t")]));
        let piped = CopyFormat { delimiter: b'|', null: String::new(), ..format };
        assert_eq!(text_fields("a\tb||\\N|\\||é", &piped).unwrap(), texts(&[Some("a\tb"), None, Some("N"), Some("|"), Some("é")]));
        assert!(text_fields("\\377", &piped).is_err());
        let mut line = BytesMut::new();
        put_escaped(b"a|b\\\t", b'|', &mut line);
        assert_eq!(&line[..], b"a\\|b\\\\\\t");
    }

    #[test]
    fn csv_quotes_tell_null_from_empty() {
        let format = CopyFormat::new(CopyKind::Csv);
        let fields = csv_fields("1,,\"\",\"a,\"\"b\"\"\"", &format, &[]);
        assert_eq!(fields, Some(texts(&[Some("1"), None, Some(""), Some("a,\"b\"")])));
        assert_eq!(csv_fields("\"open", &format, &[]), None);
        let forced = [(true, false), (false, true), (false, false)];
        assert_eq!(csv_fields("\"\",,", &format, &forced), Some(texts(&[None, Some(""), None])));
        let mut line = BytesMut::new();
        put_csv(b"a,\"b\"", false, &format, &mut line);
        put_csv(b"", false, &format, &mut line);
        put_csv(b"x", true, &format, &mut line);
        assert_eq!(&line[..], b"\"a,\"\"b\"\"\"\"\"\"x\"");
    }

    #[test]
    fn csv_has_other_quotes_and_escapes() {
        let format = CopyFormat { delimiter: b';', quote: b'\'', escape: b'\\', null: "-".to_string(), ..CopyFormat::new(CopyKind::Csv) };
        let line = "'it\\'s; \\\\ \\n';-;;'-'";
        assert_eq!(csv_fields(line, &format, &[]), Some(texts(&[Some("it's; \\ \\n"), None, Some(""), Some("-")])));
        assert_eq!(LineScan::default().line_end(b"'a\\'\nb'\nc", &format), Some(7));
        let mut line = BytesMut::new();
        put_csv(b"it's \\", false, &format, &mut line);
        put_csv(b"", false, &format, &mut line);
        put_csv(b"-", false, &format, &mut line);
        assert_eq!(&line[..], b"'it\\'s \\\\''-'");
    }

    /// Wherever a line is cut, its end is found where it is, and then the next one's.
    #[test]
    fn lines_are_found_in_pieces() {
        let format = CopyFormat { quote: b'\'', escape: b'\\', ..CopyFormat::new(CopyKind::Csv) };
        for (format, data, ends) in [
            (format, &b"'a\\'\nb'\nc\n"[..], [7, 1]),
            (CopyFormat::new(CopyKind::Csv), &b"\"a\"\"\nb\"\nc\n"[..], [7, 1]),
            (CopyFormat::new(CopyKind::Text), &b"ab'\"cde\nc\n"[..], [7, 1]),
        ] {
            let (mut scan, mut found, mut start) = (LineScan::default(), Vec::new(), 0);
            for end in 1..=data.len() {
                if let Some(at) = scan.line_end(&data[start..end], &format) {
                    found.push(at);
                    start += at + 1;
                } else {
                    assert_eq!(scan.seen, end - start);
                }
            }
            assert_eq!(found, ends);
        }
    }
}
