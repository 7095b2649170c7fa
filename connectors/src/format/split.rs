//! Where records end in a file: at the end of a line, for CSV outside quotes.

use super::csv::CsvSyntax;
use super::json::{Cursor, text_of};
use eddyline_common::{Result, options};
use std::collections::BTreeMap;

pub enum Splitter {
    Lines,
    Csv(CsvSyntax),
}

impl Splitter {
    pub fn new(options: &BTreeMap<String, String>) -> Result<Self> {
        let is_csv = options.get(options::FORMAT).is_some_and(|format| format == "csv");
        Ok(if is_csv { Splitter::Csv(CsvSyntax::new(options)?) } else { Splitter::Lines })
    }

    /// The length of the first record with its line end; `None` if it does not end here.
    pub fn record_len(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            Splitter::Lines => memchr::memchr(b'\n', bytes).map(|end| end + 1),
            Splitter::Csv(CsvSyntax { quote: None, .. }) => memchr::memchr(b'\n', bytes).map(|end| end + 1),
            Splitter::Csv(syntax) => csv_record_len(syntax, bytes),
        }
    }

    /// Whether a line is no record. Delimiters alone are one, of nulls, also if they are blanks.
    pub fn is_blank(&self, line: &[u8]) -> bool {
        let delimiter = match self {
            Splitter::Lines => None,
            Splitter::Csv(syntax) => Some(syntax.delimiter),
        };
        line.iter().all(|byte| byte.is_ascii_whitespace() && Some(*byte) != delimiter)
    }
}

fn csv_record_len(syntax: &CsvSyntax, bytes: &[u8]) -> Option<usize> {
    if syntax.comments && bytes.first() == Some(&b'#') {
        return memchr::memchr(b'\n', bytes).map(|end| end + 1);
    }
    let (mut at, mut quoted, mut field_starts) = (0, false, true);
    // Where the quoted part that was last ended. In a field that did not begin with a quote, quotes are characters, however many.
    let mut closed = None;
    while let Some(byte) = bytes.get(at).copied() {
        if quoted {
            if syntax.escape == Some(byte) && syntax.quote != Some(byte) {
                at += 1; // what follows stands for itself
            } else if syntax.quote == Some(byte) {
                quoted = false; // or the first of a doubled quote, whose second opens again
                closed = Some(at);
            }
        } else if byte == b'\n' {
            return Some(at + 1);
        } else if syntax.quote == Some(byte) && (field_starts || closed.is_some_and(|end| end + 1 == at)) {
            quoted = true;
        }
        field_starts = !quoted && byte == syntax.delimiter;
        at += 1;
    }
    None
}

/// JSON values one after the other, with blanks or lines between, or the elements of one array. On error: the number of
/// the value, from 1, and what is wrong with it.
pub fn json_values(bytes: &[u8]) -> std::result::Result<Vec<&str>, (usize, String)> {
    let text = text_of(bytes).map_err(|reason| (1, reason))?;
    let mut cursor = Cursor::new(text);
    let mut values = Vec::new();
    if cursor.is_at(b'[') {
        let read = cursor.read_elements(|cursor| -> std::result::Result<(), String> {
            values.push(cursor.skip_value(1)?);
            Ok(())
        });
        let behind = |cursor: &mut Cursor| if cursor.at_end() { Ok(()) } else { Err(cursor.malformed("more after the end of the array")) };
        return match read.and_then(|()| behind(&mut cursor)) {
            Ok(()) => Ok(values),
            Err(reason) => Err((values.len() + 1, reason)),
        };
    }
    while !cursor.at_end() {
        values.push(cursor.skip_value(0).map_err(|reason| (values.len() + 1, reason))?);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(options: &[(&str, &str)], text: &str) -> Vec<String> {
        let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let splitter = Splitter::new(&options).unwrap();
        let (mut rest, mut records) = (text.as_bytes(), Vec::new());
        while let Some(len) = splitter.record_len(rest) {
            records.push(String::from_utf8_lossy(&rest[..len]).into_owned());
            rest = &rest[len..];
        }
        records.push(String::from_utf8_lossy(rest).into_owned());
        records
    }

    #[test]
    fn json_values_in_lines_and_arrays() {
        let values = |text: &'static str| json_values(text.as_bytes());
        assert_eq!(values("{\"a\":\n1}\n{} {}"), Ok(vec!["{\"a\":\n1}", "{}", "{}"]));
        assert_eq!(values(" [ {\"a\":1} , {} ] "), Ok(vec!["{\"a\":1}", "{}"]));
        assert_eq!((values(""), values("[]")), (Ok(vec![]), Ok(vec![])));
        assert_eq!(values("{} {\"a\"}").unwrap_err().0, 2);
        assert_eq!(values("[{},{\"a\"}]").unwrap_err().0, 2);
        assert!(values("[] {}").is_err());
    }

    #[test]
    fn records_end_at_lines_outside_quotes() {
        assert_eq!(split(&[("format", "json")], "{\"a\":1}\n{}\nrest"), ["{\"a\":1}\n", "{}\n", "rest"]);
        let csv = &[("format", "csv")];
        assert_eq!(split(csv, "1,\"a\nb\"\n2,\"x\"\"\n\"\"\",\n3,\"open\n"), ["1,\"a\nb\"\n", "2,\"x\"\"\n\"\"\",\n", "3,\"open\n"]);
        // A quote within a field is a character.
        assert_eq!(split(csv, "1,5\"\n2,6\n"), ["1,5\"\n", "2,6\n", ""]);
        assert_eq!(split(csv, "1,5\"\"\n\"\"\"\",6\"\"\"\n3,7\n"), ["1,5\"\"\n", "\"\"\"\",6\"\"\"\n", "3,7\n", ""]);
        let tabs = [("format", "csv"), ("csv.field-delimiter", "\\t")].map(|(key, value)| (key.to_string(), value.to_string()));
        let tabs = Splitter::new(&BTreeMap::from(tabs)).unwrap();
        assert!(tabs.is_blank(b" \r\n") && !tabs.is_blank(b"\t\n") && Splitter::Lines.is_blank(b"\t\n"));
        let escaped = &[("format", "csv"), ("csv.escape-character", "\\"), ("csv.allow-comments", "true")];
        assert_eq!(split(escaped, "#\"\n1,\"\\\"\n\"\n2,"), ["#\"\n", "1,\"\\\"\n\"\n", "2,"]);
    }
}
