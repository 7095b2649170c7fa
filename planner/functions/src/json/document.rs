//! JSON documents as jsonb has them: each key once, the shorter ones first, and numbers with all their digits. What is made of a text remembers nothing of how
//! that was written; `items` and `fields` give the parts of a text as they are written. It knows no columns.

use eddyline_common::{SqlError, SqlState, postgres};
use std::fmt::Write;

/// Containers in one another. Documents are read and written recursively, on ordinary stacks.
const MAX_DEPTH: usize = 128;
/// Digits of a number on either side of its point.
const MAX_DIGITS: i64 = 16_383;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Null,
    Bool(bool),
    /// Digits with a sign and a point, without an exponent.
    Number(String),
    Text(String),
    Array(Vec<Document>),
    /// By key: the shorter ones first, those of one length by their bytes.
    Object(Vec<(String, Document)>),
}

/// A document as its text says it is.
pub fn parse(text: &str) -> Result<Document, SqlError> {
    Ok(Reader::of(text)?.value()?.1)
}

/// The items of an array as they are written; `None` for what is no array.
pub fn items(text: &str) -> Result<Option<Vec<&str>>, SqlError> {
    let mut reader = Reader::of(text)?;
    if !reader.takes(b'[') {
        return Ok(None);
    }
    let mut items = Vec::new();
    while !reader.takes(b']') {
        items.push(reader.value()?.0);
        reader.takes(b',');
    }
    Ok(Some(items))
}

/// The fields of an object as they are written, in their order; `None` for what is no object.
pub fn fields(text: &str) -> Result<Option<Vec<(String, &str)>>, SqlError> {
    let mut reader = Reader::of(text)?;
    if !reader.takes(b'{') {
        return Ok(None);
    }
    let mut fields = Vec::new();
    while !reader.takes(b'}') {
        fields.push(reader.field()?);
        reader.takes(b',');
    }
    Ok(Some(fields))
}

/// Reads a text that is JSON.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Result<Self, SqlError> {
        postgres::parse::json(text)?;
        Ok(Reader { text, at: 0, depth: 0 })
    }

    /// The next byte that is no blank; 0 at the end.
    fn next(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or(0)
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.next() == byte;
        self.at += usize::from(is_next);
        is_next
    }

    /// A value: what is written, and what it is.
    fn value(&mut self) -> Result<(&'a str, Document), SqlError> {
        let first = self.next();
        let begin = self.at;
        let value = match first {
            b'{' | b'[' => self.container(first)?,
            b'"' => Document::Text(self.string()?),
            b't' => self.word("true", Document::Bool(true)),
            b'f' => self.word("false", Document::Bool(false)),
            b'n' => self.word("null", Document::Null),
            _ => self.number()?,
        };
        Ok((&self.text[begin..self.at], value))
    }

    fn word(&mut self, word: &str, value: Document) -> Document {
        self.at += word.len();
        value
    }

    fn container(&mut self, first: u8) -> Result<Document, SqlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let error = SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json");
            return Err(error.with_detail(format!("More than {MAX_DEPTH} arrays and objects are in one another.")));
        }
        self.at += 1;
        let value = if first == b'[' {
            let mut items = Vec::new();
            while !self.takes(b']') {
                items.push(self.value()?.1);
                self.takes(b',');
            }
            Document::Array(items)
        } else {
            let mut fields = Vec::new();
            while !self.takes(b'}') {
                let key = self.key()?;
                fields.push((key, self.value()?.1));
                self.takes(b',');
            }
            object(fields)
        };
        self.depth -= 1;
        Ok(value)
    }

    fn key(&mut self) -> Result<String, SqlError> {
        self.next();
        let key = self.string()?;
        self.takes(b':');
        Ok(key)
    }

    fn field(&mut self) -> Result<(String, &'a str), SqlError> {
        let key = self.key()?;
        Ok((key, self.value()?.0))
    }

    fn string(&mut self) -> Result<String, SqlError> {
        let begin = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while bytes[self.at] != b'"' {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let written = &self.text[begin..self.at];
        if !written.contains('\\') {
            return Ok(written[1..written.len() - 1].to_string());
        }
        let text: String = serde_json::from_str(written)
            .map_err(|e| SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json").with_detail(format!("{e}.")))?;
        if text.contains('\0') {
            let error = SqlError::new(SqlState("22P05"), "unsupported Unicode escape sequence");
            return Err(error.with_detail("\\u0000 cannot be converted to text."));
        }
        Ok(text)
    }

    fn number(&mut self) -> Result<Document, SqlError> {
        let begin = self.at;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        while self.text.as_bytes().get(self.at).is_some_and(is_part) {
            self.at += 1;
        }
        plain(&self.text[begin..self.at]).map(Document::Number)
    }
}

/// A number without its exponent: `1.5e3` is 1500, `1E-3` is 0.001. Zero has no sign.
fn plain(written: &str) -> Result<String, SqlError> {
    let (mantissa, exponent) = written.split_once(['e', 'E']).unwrap_or((written, "0"));
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent = exponent.parse::<i64>().ok().filter(|exponent| exponent.abs() <= MAX_DIGITS);
    let exponent = exponent.ok_or_else(|| SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value overflows numeric format"))?;
    let mut digits = format!("{whole}{fraction}");
    // How many digits stand in front of the point.
    let mut point = whole.len() as i64 + exponent;
    if point < 1 {
        digits.insert_str(0, &"0".repeat((1 - point) as usize));
        point = 1;
    }
    let point = point as usize;
    if point > digits.len() {
        digits.push_str(&"0".repeat(point - digits.len()));
    }
    let (whole, fraction) = digits.split_at(point);
    let whole = whole.trim_start_matches('0');
    let sign = if digits.bytes().all(|digit| digit == b'0') { "" } else { sign };
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// An object of fields, of which the last one of a key counts.
pub fn object(mut fields: Vec<(String, Document)>) -> Document {
    fields.reverse();
    fields.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    fields.dedup_by(|(later, _), (kept, _)| later == kept);
    Document::Object(fields)
}

/// A text as JSON has it, in quotes.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32).expect("a string grows"),
            c => out.push(c),
        }
    }
    out.push('"');
}

impl Document {
    /// As jsonb is shown.
    pub fn write(&self, out: &mut String) {
        match self {
            Document::Null => out.push_str("null"),
            Document::Bool(true) => out.push_str("true"),
            Document::Bool(false) => out.push_str("false"),
            Document::Number(number) => out.push_str(number),
            Document::Text(text) => quote(text, out),
            Document::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Document::Object(fields) => {
                out.push('{');
                for (i, (key, value)) in fields.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    quote(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Each part on a line of its own, by four blanks further in than what it is part of.
    pub fn write_pretty(&self, depth: usize, out: &mut String) {
        let (open, close, parts) = match self {
            Document::Array(items) => ('[', ']', items.iter().map(|item| (None, item)).collect::<Vec<_>>()),
            Document::Object(fields) => ('{', '}', fields.iter().map(|(key, value)| (Some(key), value)).collect()),
            scalar => return scalar.write(out),
        };
        let line = |depth: usize, out: &mut String| {
            out.push('\n');
            out.push_str(&"    ".repeat(depth));
        };
        out.push(open);
        for (i, (key, value)) in parts.into_iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            line(depth + 1, out);
            if let Some(key) = key {
                quote(key, out);
                out.push_str(": ");
            }
            value.write_pretty(depth + 1, out);
        }
        line(depth, out);
        out.push(close);
    }

    /// What `->>` gives of it: a text without quotes, JSON null as none.
    pub fn write_text(&self, out: &mut String) -> bool {
        match self {
            Document::Null => return false,
            Document::Text(text) => out.push_str(text),
            other => other.write(out),
        }
        true
    }

    fn is_container(&self) -> bool {
        matches!(self, Document::Array(_) | Document::Object(_))
    }

    /// `self @> other`. An array contains a scalar as it contains an array of that, though only at the top.
    pub fn contains(&self, other: &Document) -> bool {
        match (self, other) {
            (Document::Array(items), other) if !other.is_container() => items.iter().any(|item| item.equals(other)),
            _ => self.contains_part(other),
        }
    }

    fn contains_part(&self, other: &Document) -> bool {
        match (self, other) {
            (Document::Object(_), Document::Object(wanted)) => {
                wanted.iter().all(|(key, value)| self.get(key).is_some_and(|own| own.contains_part(value)))
            }
            (Document::Array(items), Document::Array(wanted)) => wanted.iter().all(|value| match value.is_container() {
                true => items.iter().any(|item| item.is_container() && item.contains_part(value)),
                false => items.iter().any(|item| item.equals(value)),
            }),
            _ => !self.is_container() && self.equals(other),
        }
    }

    /// Equal scalars; numbers are by their values.
    fn equals(&self, other: &Document) -> bool {
        match (self, other) {
            (Document::Number(a), Document::Number(b)) => significant(a) == significant(b),
            _ => self == other,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Document> {
        match self {
            Document::Object(fields) => fields.iter().find(|(own, _)| own == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// `self ? key`: a field, or an item of an array that is that text.
    pub fn has(&self, key: &str) -> bool {
        let is_key = |value: &Document| matches!(value, Document::Text(text) if text == key);
        match self {
            Document::Object(_) => self.get(key).is_some(),
            Document::Array(items) => items.iter().any(is_key),
            scalar => is_key(scalar),
        }
    }

    /// Without the fields that are null, however deep they are.
    pub fn without_nulls(self) -> Document {
        match self {
            Document::Array(items) => Document::Array(items.into_iter().map(Document::without_nulls).collect()),
            Document::Object(fields) => {
                let kept = fields.into_iter().filter(|(_, value)| *value != Document::Null);
                Document::Object(kept.map(|(key, value)| (key, value.without_nulls())).collect())
            }
            scalar => scalar,
        }
    }

    /// `self || other`: the fields of both, or the items of both, of which each that is no array counts as one.
    pub fn followed_by(self, other: Document) -> Document {
        let items = |value: Document| match value {
            Document::Array(items) => items,
            other => vec![other],
        };
        match (self, other) {
            (Document::Object(mut fields), Document::Object(more)) => {
                fields.extend(more);
                object(fields)
            }
            (left, right) => {
                let mut all = items(left);
                all.extend(items(right));
                Document::Array(all)
            }
        }
    }
}

/// A number without the zeros at the end of its fraction.
fn significant(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = String::new();
        parse(text).unwrap().write(&mut out);
        out
    }

    #[test]
    fn documents_are_written_as_jsonb_is() {
        assert_eq!(written(r#" {"bb":1, "a":[true,null , "x\u0041\n"], "bb":{ }} "#), r#"{"a": [true, null, "xA\n"], "bb": {}}"#);
        assert_eq!(written("[-0, -0.0, 1E-3, 1.5e3, 1e2, 2.50, -12.5e-3, 1.25e1]"), "[0, 0.0, 0.001, 1500, 100, 2.50, -0.0125, 12.5]");
        assert_eq!(written(&format!("{}{}", "[".repeat(128), "]".repeat(128))).len(), 256);
        assert_eq!(parse(&format!("{}{}", "[".repeat(129), "]".repeat(129))).unwrap_err().state.0, "22P02");
        assert_eq!(parse("{").unwrap_err().state.0, "22P02");
        assert_eq!(parse(r#""\u0000""#).unwrap_err().state.0, "22P05");
        assert_eq!(parse("1e99999").unwrap_err().state.0, "22003");
    }

    #[test]
    fn parts_are_as_they_are_written() {
        assert_eq!(items(r#"[1, {"b":1,"a":2} , "x"]"#).unwrap().unwrap(), ["1", r#"{"b":1,"a":2}"#, r#""x""#]);
        assert_eq!(items("{}").unwrap(), None);
        let fields = fields(r#"{"b": [1,2], "a" :null}"#).unwrap().unwrap();
        assert_eq!(fields, [("b".to_string(), "[1,2]"), ("a".to_string(), "null")]);
    }

    #[test]
    fn what_contains_what() {
        for (a, b, contains) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":1.0}"#, true),
            ("[1,2]", "1", true),
            ("1", "[1]", false),
            ("[[1,2]]", "[1]", false),
            ("[[1,2],3]", "[[2],3]", true),
            (r#"{"a":[1,{"x":1}]}"#, r#"{"a":[{}]}"#, true),
            (r#"{"a":[1]}"#, r#"{"a":1}"#, false),
            (r#"{"a":{"b":1}}"#, r#"{"b":1}"#, false),
            ("[]", "{}", false),
            ("\"1\"", "1", false),
        ] {
            assert_eq!(parse(a).unwrap().contains(&parse(b).unwrap()), contains, "{a} @> {b}");
        }
    }
}
