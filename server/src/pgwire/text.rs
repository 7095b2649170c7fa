//! The text forms of lists, records and maps, out of those of their items.

use super::encode::ValueWriter;
use bytes::{BufMut, BytesMut};
pub use eddyline_common::text::*;
use std::ops::Range;

pub fn array(items: &ValueWriter, range: Range<usize>, out: &mut BytesMut) {
    out.put_u8(b'{');
    for item in range.clone() {
        if item > range.start {
            out.put_u8(b',');
        }
        if items.is_null(item) {
            out.put_slice(b"NULL");
            continue;
        }
        let begin = out.len();
        items.text(item, out);
        if !items.is_list() {
            quote_from(
                begin,
                |text| text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(|b| special_in_array(*b)),
                out,
            );
        }
    }
    out.put_u8(b'}');
}

/// An int2vector or oidvector: items with spaces between.
pub fn vector(items: &ValueWriter, range: Range<usize>, out: &mut BytesMut) {
    for item in range.clone() {
        if item > range.start {
            out.put_u8(b' ');
        }
        items.text(item, out);
    }
}

fn special_in_array(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace()
}

pub fn record<'a, 'b: 'a>(fields: impl Iterator<Item = &'a ValueWriter<'b>>, row: usize, out: &mut BytesMut) {
    out.put_u8(b'(');
    for (index, field) in fields.enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        if field.is_null(row) {
            continue;
        }
        let begin = out.len();
        field.text(row, out);
        let special = |b: &u8| matches!(b, b'(' | b')' | b',' | b'"' | b'\\') || b.is_ascii_whitespace();
        quote_from(begin, |text| text.is_empty() || text.iter().any(special), out);
    }
    out.put_u8(b')');
}

/// Puts what was written since `begin` in double quotes, if it has to be.
fn quote_from(begin: usize, needed: impl Fn(&[u8]) -> bool, out: &mut BytesMut) {
    if !needed(&out[begin..]) {
        return;
    }
    let plain = out.split_off(begin);
    out.put_u8(b'"');
    for byte in plain {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
    out.put_u8(b'"');
}

/// A map as a JSON object.
pub fn map(keys: &ValueWriter, values: &ValueWriter, quoted: bool, range: Range<usize>, out: &mut BytesMut) {
    out.put_u8(b'{');
    for entry in range.clone() {
        if entry > range.start {
            out.put_slice(b", ");
        }
        json_string(keys, entry, out);
        out.put_slice(b": ");
        if values.is_null(entry) {
            out.put_slice(b"null");
        } else if quoted {
            json_string(values, entry, out);
        } else {
            match values.text_of(entry).as_ref() {
                b"t" => out.put_slice(b"true"),
                b"f" => out.put_slice(b"false"),
                number => out.put_slice(number),
            }
        }
    }
    out.put_u8(b'}');
}

fn json_string(writer: &ValueWriter, row: usize, out: &mut BytesMut) {
    let plain = writer.text_of(row);
    let text = String::from_utf8_lossy(&plain);
    out.put_slice(serde_json::Value::from(text).to_string().as_bytes());
}

impl ValueWriter<'_> {
    fn text_of(&self, row: usize) -> BytesMut {
        let mut text = BytesMut::new();
        self.text(row, &mut text);
        text
    }
}
