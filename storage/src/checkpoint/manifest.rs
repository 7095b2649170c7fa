//! What a checkpoint consists of. The encoding is one JSON object and a line with its crc, so that a manifest can be
//! read with any tool and a damaged one is noticed.

use eddyline_common::{Epoch, Result, SqlError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An immutable file of a checkpoint and what its content must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileRef {
    /// Unique among all files of the store.
    pub name: String,
    pub bytes: u64,
    pub crc32: u32,
}

/// `B`: what the files are, in the terms of whoever wrote the checkpoint. It is read and written as a part of the manifest, by no way around a tree of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest<B> {
    /// Of this encoding: [`VERSION`].
    pub version: u32,
    /// Grows with every checkpoint; never reused.
    pub id: u64,
    /// The epoch that the checkpoint holds.
    pub epoch: Epoch,
    /// A named checkpoint is a savepoint: it is not pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Every file that the checkpoint needs, also those it shares with earlier ones.
    pub files: Vec<FileRef>,
    pub body: B,
}

/// The version of this encoding.
pub(super) const VERSION: u32 = 1;

impl<B> Manifest<B> {
    pub fn new(id: u64, epoch: Epoch, files: Vec<FileRef>, body: B) -> Manifest<B> {
        Manifest { version: VERSION, id, epoch, name: None, files, body }
    }
}

impl<B: Serialize> Manifest<B> {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self).map_err(SqlError::internal)?;
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(format!("\ncrc32 {crc:08x}\n").as_bytes());
        Ok(bytes)
    }
}

/// `None` if the bytes are not what `encode` wrote. `T`: a manifest, or a part of it.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<Decoded<T>> {
    let text = bytes.strip_suffix(b"\n")?;
    let (json, line) = text.split_at(text.iter().rposition(|byte| *byte == b'\n')?);
    if line[1..] != *format!("crc32 {:08x}", crc32fast::hash(json)).as_bytes() {
        return None;
    }
    match serde_json::from_slice::<Versioned>(json).ok()?.version {
        VERSION => Some(serde_json::from_slice(json).map_or_else(Decoded::Unreadable, Decoded::Manifest)),
        other => Some(Decoded::OtherVersion(other)),
    }
}

pub(super) enum Decoded<T> {
    Manifest(T),
    OtherVersion(u32),
    /// As it was written, but not what is looked for.
    Unreadable(serde_json::Error),
}

/// What of a manifest says what must stay. The body may be large.
#[derive(Debug, Deserialize)]
pub(super) struct Outline {
    pub id: u64,
    #[serde(default)]
    pub name: Option<String>,
    pub files: Vec<FileRef>,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}
