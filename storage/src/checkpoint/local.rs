//! What a store in a local directory does better than through the object store's interface: sharing files by hard
//! links instead of copying them, and making them survive a power failure, which the interface does not promise.

use eddyline_common::{SqlError, SqlState};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Read in pieces of this size; large enough to keep a disk busy.
pub(super) const READ_BYTES: usize = 1 << 20;

/// How a file came to its second place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    Name,
    Copy,
}

/// Smaller files are copied: RocksDB gives its options and the like a further name in each of its images, and one damaged block
/// would be in every checkpoint.
const LINKED_BYTES_MIN: u64 = 64 << 10;

/// Gives the file a second name, or copies it where it is small or cannot have one (another file system, too many links).
pub(super) fn link_or_copy(from: &Path, to: &Path) -> io::Result<Linked> {
    if fs::metadata(from)?.len() < LINKED_BYTES_MIN {
        return copy(from, to);
    }
    match fs::hard_link(from, to) {
        Ok(()) => Ok(Linked::Name),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => Err(error),
        Err(_) => copy(from, to),
    }
}

/// What does not fit takes no room either.
fn copy(from: &Path, to: &Path) -> io::Result<Linked> {
    fs::copy(from, to).map(|_| Linked::Copy).inspect_err(|_| drop(fs::remove_file(to)))
}

/// For `map_err` of [`link_or_copy`] into the store, which may be on another disk than the data directory.
pub(super) fn not_uploaded<'a>(from: &'a Path, to: &'a Path) -> impl FnOnce(io::Error) -> SqlError + 'a {
    move |error| {
        let store_is_gone = error.kind() == io::ErrorKind::NotFound && to.parent().is_some_and(|dir| !dir.exists());
        let mut error = SqlError::from(error);
        error.message = format!("cannot upload \"{}\" to \"{}\": {}", from.display(), to.display(), error.message);
        if error.state == SqlState::DISK_FULL {
            error.hint = Some("Free some space on the checkpoint store's file system; work resumes by itself.".to_string());
        }
        if store_is_gone {
            let hint = "The checkpoint store is gone: bring it back with what was in it. Until then the log grows, and a start would lack the checkpoints.";
            error.hint = Some(hint.to_string());
        }
        error
    }
}

/// Makes the content of a file, or the names in a directory, durable.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Length and crc32 of a file.
pub(super) fn measure(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, crc.finalize())),
            read => {
                crc.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}
