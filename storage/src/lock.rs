//! The exclusive lock on a data directory, or on a directory of checkpoints. Two servers on one directory would overwrite each other's log,
//! or remove each other's checkpoints, so the second is refused. The operating system releases the lock with the process, however it ends; the lock
//! file itself stays. A directory that is missing is created for its owner alone.

use crate::io::failed;
use eddyline_common::{Result, SqlError, SqlState};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "LOCK";

/// Of a directory that is created here: what is in it tells passwords of connectors, and all rows.
const OWNER_ONLY: u32 = 0o700;

/// Held as long as it lives.
#[derive(Debug)]
pub struct DataDirLock {
    path: PathBuf,
    _file: File,
}

impl DataDirLock {
    /// Creates `dir` if it is missing and locks it. Fails with 55006 if another process (or this one) holds it.
    pub fn acquire(dir: &Path) -> Result<DataDirLock> {
        Self::acquire_for(dir, "data directory", "--data-dir")
    }

    /// The same for a directory that is called `what` and chosen by `flag`.
    pub fn acquire_for(dir: &Path, what: &str, flag: &str) -> Result<DataDirLock> {
        let unusable = |error: SqlError| match error.hint {
            Some(_) => error,
            None => error.with_hint(format!("The server must be able to write there; choose another directory with {flag}.")),
        };
        let (create, open) = (format!("create {what}"), format!("open the lock file of the {what}"));
        create_private(dir).map_err(failed(&create, dir)).map_err(unusable)?;
        let path = dir.join(LOCK_FILE);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed(&open, &path))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, what, flag, &mut file)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        write_holder(&mut file).map_err(failed("write", &path))?;
        Ok(DataDirLock { path, _file: file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Creates `dir` if it is missing, and what is missing above it with the mode of any directory. One that is there keeps its mode.
fn create_private(dir: &Path) -> std::io::Result<()> {
    if let Some(above) = dir.parent().filter(|above| !above.exists()) {
        fs::create_dir_all(above)?;
    }
    DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(dir)
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn in_use(dir: &Path, what: &str, flag: &str, file: &mut File) -> SqlError {
    let error = SqlError::new(SqlState::OBJECT_IN_USE, format!("{what} \"{}\" is in use by another server", dir.display()))
        .with_hint(format!("Stop that server first, or choose another directory with {flag}."));
    let mut holder = String::new();
    match file.read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => error.with_detail(format!("It is locked by process {}.", holder.trim())),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_that_is_created_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let created = dir.path().join("above").join("data");
        DataDirLock::acquire(&created).unwrap();
        assert_eq!(mode(&created), OWNER_ONLY);

        let there = dir.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o750)).unwrap();
        DataDirLock::acquire(&there).unwrap();
        assert_eq!(mode(&there), 0o750, "whoever made it has chosen");
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = DataDirLock::acquire(&data).unwrap();
        assert!(first.path().exists());

        let refused = DataDirLock::acquire(&data).unwrap_err();
        assert_eq!(refused.state, SqlState::OBJECT_IN_USE);
        assert!(refused.detail.unwrap().contains(&std::process::id().to_string()));
        assert!(refused.hint.is_some());

        drop(first);
        DataDirLock::acquire(&data).unwrap();
    }

    #[test]
    fn an_impossible_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        let error = DataDirLock::acquire(&file).unwrap_err();
        assert!(error.message.contains(&file.display().to_string()), "{error}");
    }
}
