//! Columns whose values are names of folders, as Hive lays tables out: `a=1/b=x`. What could be taken for more than a name is
//! escaped as in a URL.

use crate::format::{PayloadColumn, row_of_texts};
use arrow::array::ArrayRef;
use bytes::BytesMut;
use eddyline_common::postgres::encode::ValueWriter;
use eddyline_common::{Result, SqlType};

/// What Hive calls the folder of NULL.
const NULL_FOLDER: &str = "__HIVE_DEFAULT_PARTITION__";
/// The folder of the text that is that name.
const NULL_FOLDER_AS_TEXT: &str = "%5F_HIVE_DEFAULT_PARTITION__";

/// The columns of a source that its files lack.
pub struct FolderColumns {
    columns: Vec<PayloadColumn>,
}

impl FolderColumns {
    pub fn new(columns: Vec<PayloadColumn>) -> Self {
        FolderColumns { columns }
    }

    /// A file's values, an array of one row each; or why its path gives none.
    pub fn values(&self, path: &str) -> Result<Result<Vec<ArrayRef>, String>> {
        let mut texts = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            match folder_value(path, &column.external_name) {
                Some(text) => texts.push(text.map(|text| spelled(text, &column.ty))),
                None => return Ok(Err(format!("no folder of its path names column {}", column.external_name))),
            }
        }
        let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
        row_of_texts(&self.columns, &texts)
    }
}

/// The value that a path's folder gives a column; `Some(None)` for NULL, `None` if there is no such folder. Of several the innermost.
fn folder_value(path: &str, column: &str) -> Option<Option<String>> {
    let (folders, _) = path.rsplit_once('/')?;
    folders.rsplit('/').find_map(|folder| {
        let (name, value) = folder.split_once('=')?;
        unescape(name).eq_ignore_ascii_case(column).then(|| (value != NULL_FOLDER).then(|| unescape(value)))
    })
}

/// A boolean may be spelled as PostgreSQL does.
fn spelled(text: String, ty: &SqlType) -> String {
    match (ty, text.as_str()) {
        (SqlType::Boolean, "t") => "true".to_string(),
        (SqlType::Boolean, "f") => "false".to_string(),
        _ => text,
    }
}

/// The folder of a row, by its values in the columns of these names and types.
pub fn folder_of(columns: &[(String, SqlType)], writers: &[ValueWriter], row: usize, scratch: &mut BytesMut) -> String {
    let mut folder = String::new();
    for ((name, ty), writer) in columns.iter().zip(writers) {
        if !folder.is_empty() {
            folder.push('/');
        }
        escape(name.as_bytes(), &mut folder);
        folder.push('=');
        if writer.is_null(row) {
            folder.push_str(NULL_FOLDER);
        } else {
            scratch.clear();
            writer.text(row, scratch);
            match (ty, &scratch[..]) {
                (SqlType::Boolean, b"t") => folder.push_str("true"),
                (SqlType::Boolean, _) => folder.push_str("false"),
                (_, text) if text == NULL_FOLDER.as_bytes() => folder.push_str(NULL_FOLDER_AS_TEXT),
                (_, text) => escape(text, &mut folder),
            }
        }
    }
    folder
}

fn escape(text: &[u8], out: &mut String) {
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b' ' | b'+' | b',' => out.push(*byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
}

/// A `%` without two digits behind it stands for itself.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let digits = (*first == b'%').then(|| more.get(..2)).flatten().and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    #[test]
    fn folders_give_values() {
        let column = |name: &str, ty, nullable| PayloadColumn { external_name: name.into(), ty, nullable, length: None, is_key: false };
        let columns = FolderColumns::new(vec![column("Day", SqlType::Integer, true), column("b", SqlType::Text, false)]);
        let values = columns.values("out/day=7/b=a%2Fb%3D%zz/part.json").unwrap().unwrap();
        assert_eq!((values[0].as_primitive::<Int32Type>().value(0), values[1].as_string::<i32>().value(0)), (7, "a/b=%zz"));
        assert!(columns.values("day=__HIVE_DEFAULT_PARTITION__/b=/x").unwrap().unwrap()[0].is_null(0));
        let named = columns.values(&format!("day=1/b={NULL_FOLDER_AS_TEXT}/x")).unwrap().unwrap();
        assert_eq!(named[1].as_string::<i32>().value(0), NULL_FOLDER);
        let flag = FolderColumns::new(vec![column("b", SqlType::Boolean, true)]);
        for (text, wanted) in [("t", true), ("false", false), ("f", false), ("true", true)] {
            let values = flag.values(&format!("b={text}/p")).unwrap().map(|v| v[0].as_boolean().value(0));
            assert_eq!(values, Ok(wanted), "{text}");
        }
        let why = |path: &str| columns.values(path).unwrap().unwrap_err();
        assert_eq!(why("out/day=7/part.json"), "no folder of its path names column b");
        assert!(why("day=x/b=1/p").contains("column Day"), "{}", why("day=x/b=1/p"));
        assert!(why("day=1/b=__HIVE_DEFAULT_PARTITION__/p").contains("NOT NULL"));
    }
}
