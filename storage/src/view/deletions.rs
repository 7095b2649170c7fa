//! The content of a deletion file: for each of some data files, which of its rows are no longer part of the view.
//!
//! Little-endian: magic; per data file the length of its name (u16), the name, a kind (u8), a count (u32), and either the
//! rows (u32 each; kind 0) or as many bytes of a bitmap (kind 1), whichever is shorter.

use arrow::buffer::{BooleanBuffer, Buffer};
use eddyline_common::{Result, SqlError};
use std::collections::HashMap;

const MAGIC: &[u8; 8] = b"EDDYDEL1";
const ROWS: u8 = 0;
const BITMAP: u8 = 1;

pub(super) fn encode<'a>(files: impl Iterator<Item = (&'a str, &'a BooleanBuffer)>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (name, gone) in files {
        out.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        let (count, bitmap_bytes) = (gone.count_set_bits(), gone.len().div_ceil(8));
        if count * size_of::<u32>() < bitmap_bytes {
            out.push(ROWS);
            out.extend_from_slice(&(count as u32).to_le_bytes());
            gone.set_indices().for_each(|row| out.extend_from_slice(&(row as u32).to_le_bytes()));
        } else {
            out.push(BITMAP);
            out.extend_from_slice(&(bitmap_bytes as u32).to_le_bytes());
            out.extend_from_slice(&gone.sliced().as_slice()[..bitmap_bytes]);
        }
    }
    out
}

/// What a deletion file says of one data file.
pub(super) enum Deletions {
    Rows(Vec<u32>),
    Bitmap(Vec<u8>),
}

impl Deletions {
    /// As one bit per row of a data file of `rows` rows; `None` if it is not of such a file.
    pub(super) fn bitmap(&self, rows: usize) -> Option<BooleanBuffer> {
        match self {
            Deletions::Rows(gone) => {
                let mut bytes = vec![0u8; rows.div_ceil(8)];
                for row in gone.iter().map(|row| *row as usize) {
                    if row >= rows {
                        return None;
                    }
                    bytes[row / 8] |= 1 << (row % 8);
                }
                Some(BooleanBuffer::new(Buffer::from_vec(bytes), 0, rows))
            }
            Deletions::Bitmap(bytes) if bytes.len() == rows.div_ceil(8) => {
                Some(BooleanBuffer::new(Buffer::from_vec(bytes.clone()), 0, rows))
            }
            Deletions::Bitmap(_) => None,
        }
    }
}

/// By name of data file.
pub(super) fn decode(bytes: &[u8]) -> Result<HashMap<String, Deletions>> {
    read(bytes).ok_or_else(|| SqlError::corrupt("a deletion file of a view is damaged"))
}

fn read(bytes: &[u8]) -> Option<HashMap<String, Deletions>> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut files = HashMap::new();
    while !rest.is_empty() {
        let name_len = u16::from_le_bytes(*rest.split_off(..2)?.first_chunk()?) as usize;
        let name = std::str::from_utf8(rest.split_off(..name_len)?).ok()?.to_string();
        let kind = *rest.split_off_first()?;
        let count = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?) as usize;
        let deletions = match kind {
            ROWS => {
                let rows = rest.split_off(..count.checked_mul(4)?)?.as_chunks::<4>().0;
                Deletions::Rows(rows.iter().map(|row| u32::from_le_bytes(*row)).collect())
            }
            BITMAP => Deletions::Bitmap(rest.split_off(..count)?.to_vec()),
            _ => return None,
        };
        files.insert(name, deletions);
    }
    Some(files)
}
