//! A file of lines, as much of it as is being looked at: records one after the other from any place on.

use super::packing::Packing;
use super::stored::StoredFile;
use crate::format::split::Splitter;
use eddyline_common::{Result, SqlError};
use std::io::Read;
use std::sync::Arc;

/// Bytes asked for at once: a request's latency to an object store is worth about as many.
const CHUNK_BYTES: u64 = 4 << 20;
/// Of what is unpacked.
const UNPACKED_BYTES: u64 = 1 << 20;
/// A record without end is refused when it has come to this.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// What went wrong: the store's trouble, which passes, or the file's own.
pub enum Fault {
    Trouble(SqlError),
    Content(String),
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Fault::Trouble(error)
    }
}

pub struct FileText {
    stored: Arc<StoredFile>,
    /// `None`: the file's bytes are the text.
    unpacked: Option<Box<dyn Read + Send>>,
    /// All of the text is in the buffer or before it.
    is_whole: bool,
    /// Why there is no more of it, though there should be.
    broken: Option<String>,
    buffer: Vec<u8>,
    /// Where in the text the buffer begins, and how much of it has been given out.
    at: u64,
    consumed: usize,
}

/// A record within the buffer.
pub struct Found {
    pub place: u64,
    from: usize,
    to: usize,
    /// Only its beginning is there.
    pub too_long: bool,
}

impl FileText {
    pub fn open(stored: Arc<StoredFile>, packing: Packing) -> Result<Self, Fault> {
        let unpacked = match packing {
            Packing::None => None,
            packing => Some(packing.open(&stored).map_err(|e| fault(&stored, &e))?),
        };
        let is_whole = stored.file.bytes == 0;
        Ok(FileText { stored, unpacked, is_whole, broken: None, buffer: Vec::new(), at: 0, consumed: 0 })
    }

    pub fn position(&self) -> u64 {
        self.at + self.consumed as u64
    }

    /// Goes on to a place that is not before the position.
    pub fn seek(&mut self, place: u64) -> Result<(), Fault> {
        loop {
            if place - self.at <= self.buffer.len() as u64 {
                self.consumed = (place - self.at) as usize;
                return Ok(());
            }
            self.consumed = self.buffer.len();
            if self.unpacked.is_none() {
                self.buffer.clear();
                (self.at, self.consumed) = (place, 0);
                self.is_whole = place >= self.stored.file.bytes;
                return Ok(());
            }
            if self.is_whole {
                return Err(Fault::Content(format!("it ends at byte {} of what is in it, before {place}", self.position())));
            }
            self.fill()?;
        }
    }

    pub fn record(&self, found: &Found) -> &[u8] {
        &self.buffer[found.from..found.to]
    }

    /// The next record; `None` at the end.
    pub fn next(&mut self, splitter: &Splitter) -> Result<Option<Found>, Fault> {
        loop {
            let rest = &self.buffer[self.consumed..];
            let len = splitter.record_len(rest).or((self.is_whole && !rest.is_empty()).then_some(rest.len()));
            if let Some(len) = len {
                let (place, from) = (self.position(), self.consumed);
                self.consumed += len;
                return Ok(Some(Found { place, from, to: from + len, too_long: false }));
            }
            if self.is_whole {
                return Ok(None);
            }
            if let Some(why) = self.broken.take() {
                return Err(Fault::Content(why));
            }
            if rest.len() > RECORD_BYTES_MAX {
                return self.skip_line().map(Some);
            }
            self.fill()?;
        }
    }

    /// Leaves out what is up to the end of the line, but for the start of it.
    fn skip_line(&mut self) -> Result<Found, Fault> {
        let place = self.position();
        let mut start = self.buffer[self.consumed..].iter().take(1_024).copied().collect::<Vec<u8>>();
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[self.consumed..]) {
                self.consumed += end + 1;
                break;
            }
            self.consumed = self.buffer.len();
            if self.is_whole {
                break;
            }
            self.fill()?;
        }
        // The start goes where the buffer has been given out already.
        let shown = start.len();
        start.extend_from_slice(&self.buffer[self.consumed..]);
        self.at = self.position() - shown as u64;
        self.buffer = start;
        self.consumed = shown;
        Ok(Found { place, from: 0, to: shown, too_long: true })
    }

    /// Reads on.
    fn fill(&mut self) -> Result<(), Fault> {
        self.buffer.drain(..self.consumed);
        self.at += self.consumed as u64;
        self.consumed = 0;
        if let Some(unpacked) = &mut self.unpacked {
            if let Some(why) = self.broken.take() {
                return Err(Fault::Content(why));
            }
            match unpacked.by_ref().take(UNPACKED_BYTES).read_to_end(&mut self.buffer) {
                Ok(read) => self.is_whole = read == 0,
                // What came before it is good.
                Err(error) => match fault(&self.stored, &error) {
                    Fault::Content(why) => self.broken = Some(why),
                    trouble => return Err(trouble),
                },
            }
            return Ok(());
        }
        let from = self.at + self.buffer.len() as u64;
        let to = (from + CHUNK_BYTES).min(self.stored.file.bytes);
        self.buffer.extend_from_slice(&self.stored.read(from..to)?);
        self.is_whole = to >= self.stored.file.bytes;
        Ok(())
    }
}

fn fault(stored: &StoredFile, error: &std::io::Error) -> Fault {
    match stored.trouble() {
        Some(trouble) => Fault::Trouble(trouble),
        None => Fault::Content(format!("it cannot be unpacked: {error}")),
    }
}
