//! The files of a source in the order in which they are read, and offsets in them.
//!
//! An offset is `file number * 2^40 + place`; the place is a byte of a text file (as it is when unpacked), a row of a Parquet file, and
//! the file's end has the greatest place of it. Numbers are given once and for all: a note says which file has which.

use super::PARTITION;
use eddyline_common::connector::SourceNote;
use eddyline_common::{Offset, Result, SqlError};
use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

const PLACE_BITS: u32 = 40;
/// Bytes of one file at most.
pub const PLACE_MAX: u64 = (1 << PLACE_BITS) - 1;

pub fn offset(number: usize, place: u64) -> i64 {
    ((number as i64) << PLACE_BITS) + place as i64
}

/// The file's number and the place in it.
pub fn place_of(offset: i64) -> (usize, u64) {
    ((offset >> PLACE_BITS) as usize, offset as u64 & PLACE_MAX)
}

/// A file as it was when it was found. Notes keep it so: its path is the store's, which has no slash at its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub path: String,
    pub bytes: u64,
    /// When it was last changed, in microseconds.
    pub modified: i64,
}

impl File {
    pub fn of(meta: &ObjectMeta) -> File {
        File { path: meta.location.to_string(), bytes: meta.size, modified: meta.last_modified.timestamp_micros() }
    }

    /// Why the file as it is now cannot be read as what it was: what is to be said of it.
    pub fn differs(&self, now: &File) -> Option<String> {
        if now.bytes < self.bytes {
            return Some(format!("was cut from {} to {} bytes after it had been found", self.bytes, now.bytes));
        }
        let changed = now.bytes != self.bytes || !is_same_time(now.modified, self.modified);
        changed.then(|| format!("was changed after it had been found ({} bytes then, {} now)", self.bytes, now.bytes))
    }
}

/// Some stores tell whole seconds when they are asked for one file, and more when they list.
fn is_same_time(a: i64, b: i64) -> bool {
    const SECOND: i64 = 1_000_000;
    if a % SECOND == 0 || b % SECOND == 0 { a.div_euclid(SECOND) == b.div_euclid(SECOND) } else { a == b }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Name,
    Time,
}

#[derive(Default)]
pub struct Catalogue {
    files: Vec<File>,
    numbers: HashMap<String, usize>,
    /// How many of the files notes have been kept of.
    noted: usize,
}

impl Catalogue {
    pub fn get(&self, number: usize) -> Option<File> {
        self.files.get(number).cloned()
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Behind the last file that is known, wherever that ends: it may be empty, or another one in the order of another process.
    pub fn end(&self) -> Offset {
        Offset(offset(self.files.len(), 0))
    }

    /// Gives numbers to the files that have none, in order; says which of those that have is not what it was, and why.
    pub fn add(&mut self, found: Vec<File>, order: Order) -> Option<(String, String)> {
        let mut problem = None;
        let mut new = Vec::new();
        for file in found {
            match self.numbers.get(&file.path) {
                Some(number) => problem = problem.or_else(|| Some((file.path.clone(), self.files[*number].differs(&file)?))),
                None => new.push(file),
            }
        }
        match order {
            Order::Name => new.sort_by(|a, b| a.path.cmp(&b.path)),
            Order::Time => new.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path))),
        }
        new.into_iter().for_each(|file| self.push(file));
        problem
    }

    fn push(&mut self, file: File) {
        self.numbers.insert(file.path.clone(), self.files.len());
        self.files.push(file);
    }

    /// Notes of all files from a number on.
    pub fn notes_from(&self, number: usize) -> Result<Vec<SourceNote>> {
        let note = |(number, file): (usize, &File)| {
            let text = serde_json::to_string(file).map_err(SqlError::internal)?;
            Ok(SourceNote { partition: PARTITION, offset: Offset(offset(number, 0)), text })
        };
        self.files.iter().enumerate().skip(number).map(note).collect()
    }

    pub fn noted(&self) -> usize {
        self.noted
    }

    /// Takes notes that were kept, from the first on.
    pub fn remember(&mut self, notes: &[SourceNote]) -> Result<()> {
        for note in notes {
            let (number, _) = place_of(note.offset.0);
            if number < self.files.len() {
                self.noted = self.noted.max(number + 1);
                continue;
            }
            if number != self.files.len() {
                return Err(SqlError::corrupt(format!("no note of file {} is left", self.files.len())));
            }
            let file = serde_json::from_str(&note.text).map_err(|e| SqlError::corrupt(format!("the note of file {number}: {e}")))?;
            self.push(file);
            self.noted = number + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, modified: i64) -> File {
        File { path: path.into(), bytes: 10, modified }
    }

    #[test]
    fn files_keep_their_numbers() {
        let mut catalogue = Catalogue::default();
        assert_eq!(catalogue.end(), Offset(0));
        catalogue.add(vec![file("b", 1), file("a", 2)], Order::Name);
        catalogue.add(vec![file("a", 2), file("0", 4), file("b", 1), file("c", 3)], Order::Time);
        let paths = |c: &Catalogue| c.files.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
        assert_eq!(paths(&catalogue), ["a", "b", "c", "0"]);
        assert_eq!(place_of(catalogue.end().0), (4, 0));
        let mut again = Catalogue::default();
        again.remember(&catalogue.notes_from(0).unwrap()[..2]).unwrap();
        again.remember(&catalogue.notes_from(1).unwrap()).unwrap();
        assert_eq!((paths(&again), again.noted()), (paths(&catalogue), 4));
        assert!(Catalogue::default().remember(&catalogue.notes_from(1).unwrap()).is_err());
    }

    #[test]
    fn a_file_that_changed_is_told() {
        let mut catalogue = Catalogue::default();
        catalogue.add(vec![file("a", 1)], Order::Name);
        let (path, why) = catalogue.add(vec![File { bytes: 11, ..file("a", 1) }], Order::Name).unwrap();
        assert_eq!((path.as_str(), why.as_str()), ("a", "was changed after it had been found (10 bytes then, 11 now)"));
        assert!(file("a", 1).differs(&File { bytes: 9, ..file("a", 1) }).unwrap().contains("cut from 10 to 9 bytes"));
        assert!(
            file("a", 2_000_000).differs(&file("a", 2_345_678)).is_none() && file("a", 3_000_000).differs(&file("a", 2_345_678)).is_some()
        );
        assert!(file("a", 2_345_679).differs(&file("a", 2_345_678)).is_some());
    }
}
