//! A disk in memory that can be full, fail to sync, and lose its power: what was not synced may then be there or not, in whole or in part. A name is durable once its
//! directory was synced; names are changed in order, as journaling file systems do it.

use super::{FileSystem, WriteFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct MemoryFs(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<u64, File>,
    next: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Since the last sync of a directory.
    renamings: Vec<Renaming>,
    is_full: bool,
    fails_to_sync: bool,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Debug)]
enum Renaming {
    Added(PathBuf, u64),
    Moved(PathBuf, PathBuf, u64),
    Removed(PathBuf),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Truncate(length) => bytes.resize(*length as usize, 0),
            Change::Write(offset, written) => {
                let (from, to) = (*offset as usize, *offset as usize + written.len());
                bytes.resize(bytes.len().max(to), 0);
                bytes[from..to].copy_from_slice(written);
            }
        }
    }

    /// What power that fails in the middle leaves of it.
    fn torn(self, random: &mut dyn FnMut(usize) -> usize) -> Option<Change> {
        match self {
            Change::Truncate(length) => (random(2) == 0).then_some(Change::Truncate(length)),
            Change::Write(offset, mut bytes) => {
                let kept = match random(3) {
                    0 => 0,
                    1 => bytes.len(),
                    _ => random(bytes.len() + 1),
                };
                bytes.truncate(kept);
                Some(Change::Write(offset, bytes))
            }
        }
    }
}

impl Disk {
    fn rename(&mut self, renaming: Renaming) {
        apply(&renaming, &mut self.names);
        self.renamings.push(renaming);
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut File> {
        let id = *self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files.entry(id).or_default())
    }
}

fn apply(renaming: &Renaming, names: &mut BTreeMap<PathBuf, u64>) {
    match renaming {
        Renaming::Added(path, file) => names.insert(path.clone(), *file),
        Renaming::Moved(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file)
        }
        Renaming::Removed(path) => names.remove(path),
    };
}

impl MemoryFs {
    /// While it is full, nothing can be written.
    pub fn set_full(&self, is_full: bool) {
        self.0.lock().is_full = is_full;
    }

    /// From now on no file can be synced, until the power has failed or this is taken back.
    pub fn set_failing_syncs(&self, fails: bool) {
        self.0.lock().fails_to_sync = fails;
    }

    /// The power fails and comes back. `random(n)` gives a number below `n`.
    pub fn fail_power(&self, random: &mut dyn FnMut(usize) -> usize) {
        let mut disk = self.0.lock();
        disk.fails_to_sync = false;
        let kept = random(disk.renamings.len() + 1);
        let renamings = std::mem::take(&mut disk.renamings);
        let mut names = std::mem::take(&mut disk.durable_names);
        renamings.iter().take(kept).for_each(|renaming| apply(renaming, &mut names));
        for file in disk.files.values_mut() {
            let mut bytes = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unsynced).into_iter().filter_map(|change| change.torn(random)) {
                change.apply(&mut bytes);
            }
            *file = File { bytes: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        }
        disk.files.retain(|id, _| names.values().any(|named| named == id));
        (disk.names, disk.durable_names) = (names.clone(), names);
    }
}

struct Handle {
    disk: Arc<Mutex<Disk>>,
    id: u64,
}

impl Handle {
    fn change(&mut self, change: Change) {
        let mut disk = self.disk.lock();
        let file = disk.files.entry(self.id).or_default();
        change.apply(&mut file.bytes);
        file.unsynced.push(change);
    }
}

impl WriteFile for Handle {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.disk.lock().is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if disk.fails_to_sync {
            return Err(io::Error::other("the disk does not sync"));
        }
        let file = disk.files.entry(self.id).or_default();
        for change in std::mem::take(&mut file.unsynced) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.change(Change::Truncate(length));
        Ok(())
    }
}

impl FileSystem for MemoryFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut disk = self.0.lock();
        let id = match disk.names.get(path) {
            Some(id) => *id,
            None => {
                let id = disk.next;
                disk.next += 1;
                disk.files.insert(id, File::default());
                disk.rename(Renaming::Added(path.to_path_buf(), id));
                id
            }
        };
        Ok(Box::new(Handle { disk: self.0.clone(), id }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.0.lock().file(path)?.bytes.len() as u64)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().file(path)?.bytes.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let disk = self.0.lock();
        if !disk.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(disk.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn exists(&self, path: &Path) -> bool {
        let disk = self.0.lock();
        disk.names.contains_key(path) || disk.dirs.contains(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.lock().dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        let id = *disk.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        disk.rename(Renaming::Moved(from.to_path_buf(), to.to_path_buf(), id));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.file(path)?;
        disk.rename(Renaming::Removed(path.to_path_buf()));
        Ok(())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        let within: Vec<PathBuf> = disk.names.keys().filter(|path| path.starts_with(dir)).cloned().collect();
        within.into_iter().for_each(|path| disk.rename(Renaming::Removed(path)));
        disk.dirs.retain(|known| !known.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.renamings.clear();
        disk.durable_names = disk.names.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_what_was_not_may() {
        let dir = Path::new("/d");
        let (a, b) = (dir.join("a"), dir.join("b"));
        let mut lost = BTreeSet::new();
        for seed in 0..64usize {
            let mut state = seed as u64;
            let mut random = |bound: usize| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize % bound
            };
            let fs = MemoryFs::default();
            fs.create_dir_all(dir).unwrap();
            let mut file = fs.open(&a).unwrap();
            file.write_at(0, b"durable").unwrap();
            file.sync().unwrap();
            fs.sync_dir(dir).unwrap();
            file.write_at(7, b", or not").unwrap();
            fs.open(&b).unwrap().write_at(0, b"new").unwrap();
            assert_eq!(fs.list(dir).unwrap(), [a.clone(), b.clone()]);
            fs.set_full(true);
            assert_eq!(file.write_at(0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
            fs.set_full(false);
            fs.set_failing_syncs(true);
            assert!(file.sync().is_err());
            fs.fail_power(&mut random);
            let content = String::from_utf8(fs.read(&a).unwrap()).unwrap();
            assert!("durable, or not".starts_with(&content) && content.len() >= 7, "{content}");
            lost.insert((content.len() == 15, fs.exists(&b)));
        }
        assert_eq!(lost.len(), 4, "each of them may be there or not: {lost:?}");
    }

    #[test]
    fn names_move_and_go() {
        let fs = MemoryFs::default();
        let dir = Path::new("/x/y");
        assert_eq!(fs.list(dir).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs.create_dir_all(dir).unwrap();
        let (a, b) = (dir.join("a"), dir.join("b"));
        let mut file = fs.open(&a).unwrap();
        file.write_at(2, b"x").unwrap();
        file.truncate(5).unwrap();
        fs.rename(&a, &b).unwrap();
        assert_eq!((fs.exists(&a), fs.read(&b).unwrap(), fs.len(&b).unwrap()), (false, b"\0\0x\0\0".to_vec(), 5));
        fs.remove_file(&b).unwrap();
        assert_eq!(fs.remove_file(&b).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs.open(&a).unwrap();
        fs.remove_dir_all(Path::new("/x")).unwrap();
        assert!(!fs.exists(&a) && !fs.exists(dir));
    }
}
