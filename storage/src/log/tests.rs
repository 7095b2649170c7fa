//! The log through its public face, over the real file system and one that injects faults: what was acknowledged is there
//! after any torn tail, damage is reported, a full disk is survived, a failed sync is final.

use super::frame::{self, FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use super::*;
use eddyline_common::runtime::{FileSystem, MemoryFs, OneThread, SystemFs, WriteFile};
use eddyline_common::{Result, SqlError, SqlState};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

fn options() -> LogOptions {
    LogOptions { retry_after: Duration::from_millis(2), room_bytes_max: 0, ..LogOptions::default() }
}

fn open(dir: &Path) -> Result<(Log, Recovered)> {
    open_with(Arc::new(SystemFs), dir, &options())
}

fn open_with(fs: Arc<dyn FileSystem>, dir: &Path, options: &LogOptions) -> Result<(Log, Recovered)> {
    Log::open(fs, dir.to_path_buf(), options.clone())
}

/// Appends and waits, so that every payload is a write of its own.
fn write_each(log: &Log, payloads: &[&str]) -> Vec<LogPosition> {
    payloads
        .iter()
        .map(|payload| {
            let position = log.append(7, payload.as_bytes()).unwrap();
            log.wait_durable(position).unwrap();
            position
        })
        .collect()
}

fn payloads(recovered: &Recovered) -> Vec<String> {
    payloads_from(recovered, LogPosition::default())
}

fn payloads_from(recovered: &Recovered, from: LogPosition) -> Vec<String> {
    recovered.frames(from).unwrap().map(|frame| String::from_utf8(frame.unwrap().payload.to_vec()).unwrap()).collect()
}

fn segment_path(dir: &Path, segment: u64) -> PathBuf {
    segment::path(dir, segment)
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset as usize] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

/// The system's file system with a bounded disk, failing syncs, and syncs that wait.
#[derive(Debug, Default)]
struct FaultyFs {
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    state: Mutex<FaultState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct FaultState {
    /// Bytes that can still be written.
    space: Option<usize>,
    fail_sync: bool,
    hold_sync: bool,
    syncs: usize,
    syncs_waiting: usize,
}

impl Faults {
    fn set(&self, change: impl FnOnce(&mut FaultState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn wait_until(&self, reached: impl Fn(&FaultState) -> bool) {
        let mut state = self.state.lock();
        while !reached(&state) {
            self.changed.wait(&mut state);
        }
    }
}

struct FaultyFile {
    inner: Box<dyn WriteFile>,
    faults: Arc<Faults>,
}

impl WriteFile for FaultyFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.faults.state.lock();
        let fits = state.space.map_or(bytes.len(), |space| space.min(bytes.len()));
        // A full disk takes what still fits.
        self.inner.write_at(offset, &bytes[..fits])?;
        if let Some(space) = &mut state.space {
            *space -= fits;
        }
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.faults.state.lock();
        state.syncs += 1;
        state.syncs_waiting += 1;
        self.faults.changed.notify_all();
        while state.hold_sync {
            self.faults.changed.wait(&mut state);
        }
        state.syncs_waiting -= 1;
        if state.fail_sync { Err(io::Error::other("injected")) } else { self.inner.sync() }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.inner.truncate(length)
    }
}

impl FaultyFs {
    fn wrap(&self, inner: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        Box::new(FaultyFile { inner, faults: self.faults.clone() })
    }
}

impl FileSystem for FaultyFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        SystemFs.open(path).map(|file| self.wrap(file))
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        SystemFs.len(path)
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        SystemFs.read(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        SystemFs.list(dir)
    }
    fn exists(&self, path: &Path) -> bool {
        SystemFs.exists(path)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemFs.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemFs.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        SystemFs.remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemFs.remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemFs.sync_dir(dir)
    }
}

fn faulty() -> (Arc<FaultyFs>, Arc<Faults>) {
    let fs = Arc::new(FaultyFs::default());
    let faults = fs.faults.clone();
    (fs, faults)
}

#[test]
fn frames_come_back_in_order_from_any_position() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) = open(dir.path()).unwrap();
    assert_eq!(payloads(&recovered), Vec::<String>::new());
    log.sync().unwrap();
    let positions = write_each(&log, &["a", "", "ccc"]);
    log.sync().unwrap();
    assert_eq!(log.durable_end(), log.end());
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
    let end = log.end();
    drop(log);

    let (log, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.end(), end);
    assert_eq!(recovered.cut_bytes(), 0);
    assert_eq!(payloads(&recovered), ["a", "", "ccc"]);
    assert_eq!(payloads_from(&recovered, positions[1]), ["", "ccc"]);
    assert_eq!(payloads_from(&recovered, end), Vec::<String>::new());
    let first = recovered.frames(LogPosition::default()).unwrap().next().unwrap().unwrap();
    assert_eq!((first.position, first.kind), (positions[0], 7));

    // What is appended now is not part of what was recovered.
    write_each(&log, &["d"]);
    assert_eq!(payloads(&recovered), ["a", "", "ccc"]);
    drop(log);
    assert_eq!(payloads(&open(dir.path()).unwrap().1), ["a", "", "ccc", "d"]);
}

#[test]
fn positions_outside_of_the_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) = open(dir.path()).unwrap();
    let beyond = LogPosition { segment: 3, offset: 99 };
    assert_eq!(recovered.frames(beyond).err().unwrap().state, SqlState::DATA_CORRUPTED);
    let positions = write_each(&log, &["a", "b"]);
    drop(log);
    let inside_a_frame = LogPosition { offset: positions[0].offset + 1, ..positions[0] };
    let error = open(dir.path()).unwrap().1.frames(inside_a_frame).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error.state, SqlState::DATA_CORRUPTED);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let source = tempfile::tempdir().unwrap();
    let (log, _) = open(source.path()).unwrap();
    let positions = write_each(&log, &["first", "second"]);
    // One write of two frames, so that the tear may lie in either.
    let torn = log.append(1, b"third").unwrap();
    log.append(1, b"fourth").unwrap();
    drop(log);
    let bytes = std::fs::read(segment_path(source.path(), 1)).unwrap();
    let whole: Vec<u64> =
        vec![SEGMENT_HEADER_BYTES, positions[1].offset, torn.offset, torn.offset + (FRAME_HEADER_BYTES + 5) as u64, bytes.len() as u64];
    let all = ["first", "second", "third", "fourth"];

    for length in 0..=bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(segment_path(dir.path(), 1), &bytes[..length]).unwrap();
        let (log, recovered) = open(dir.path()).unwrap();
        let frames = whole.iter().filter(|end| **end <= length as u64).count().saturating_sub(1);
        assert_eq!(payloads(&recovered), all[..frames], "cut to {length} bytes");
        write_each(&log, &["next"]);
        drop(log);
        let expected: Vec<&str> = all[..frames].iter().copied().chain(["next"]).collect();
        assert_eq!(payloads(&open(dir.path()).unwrap().1), expected, "cut to {length} bytes");
    }
}

#[test]
fn garbage_and_zeros_after_the_end_are_cut_off() {
    for garbage in [vec![0u8; 5000], vec![0xED; 77], b"some text".to_vec()] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(dir.path()).unwrap();
        write_each(&log, &["a"]);
        drop(log);
        let path = segment_path(dir.path(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&garbage);
        std::fs::write(&path, bytes).unwrap();
        let recovered = open(dir.path()).unwrap().1;
        let torn = garbage.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        assert_eq!(recovered.cut_bytes(), torn as u64, "zeros are room for more");
        assert_eq!(payloads(&recovered), ["a"]);
    }
}

#[test]
fn damage_of_any_byte_before_the_last_write_is_an_error_that_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path()).unwrap();
    let positions = write_each(&log, &["first", "second", "third"]);
    drop(log);
    let path = segment_path(dir.path(), 1);
    for offset in 0..positions[2].offset {
        flip(&path, offset);
        let error = open(dir.path()).err().unwrap_or_else(|| panic!("damage at {offset} was not noticed"));
        assert_eq!(error.state, SqlState::DATA_CORRUPTED, "{error}");
        let start = if offset < SEGMENT_HEADER_BYTES { 0 } else { positions.iter().rfind(|at| at.offset <= offset).unwrap().offset };
        assert_eq!(error.message, format!("log segment \"{}\" is damaged at offset {start}", path.display()));
        flip(&path, offset);
    }
    assert_eq!(payloads(&open(dir.path()).unwrap().1), ["first", "second", "third"]);
}

#[test]
fn damage_before_what_is_needed_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let open_needed = |needed| Log::open_needed(Arc::new(SystemFs), dir.path().to_path_buf(), options(), needed);
    let (log, _) = open(dir.path()).unwrap();
    let all = ["first", "second", "third"];
    let positions = write_each(&log, &all);
    let end = log.end();
    drop(log);
    let path = segment_path(dir.path(), 1);
    for offset in positions[0].offset..positions[1].offset {
        flip(&path, offset);
        assert!(open(dir.path()).is_err());
        for (index, needed) in [(1, positions[1]), (2, positions[2]), (3, end)] {
            let recovered = open_needed(needed).unwrap().1;
            assert_eq!(recovered.end(), end);
            assert_eq!(payloads_from(&recovered, needed), &all[index..]);
        }
        flip(&path, offset);
    }
    // What is needed is damaged; or the log, an older one, never came there.
    flip(&path, positions[1].offset);
    for needed in [LogPosition::default(), positions[0], positions[1]] {
        let error = open_needed(needed).err().unwrap();
        assert_eq!((error.state, error.hint.is_some()), (SqlState::DATA_CORRUPTED, true), "{needed}: {error}");
    }
    flip(&path, positions[1].offset);
    let later = LogPosition { offset: end.offset + 40, ..end };
    let recovered = open_needed(later).unwrap().1;
    assert_eq!((recovered.end(), recovered.frames(later).is_err()), (end, true));
    let (log, _) = open_needed(positions[2]).unwrap();
    write_each(&log, &["fourth"]);
    drop(log);
    assert_eq!(payloads(&open(dir.path()).unwrap().1), ["first", "second", "third", "fourth"]);
}

#[test]
fn a_hole_within_the_last_unsynced_write_is_a_torn_tail() {
    // After a power failure the pages of one write may be there in any combination.
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path()).unwrap();
    let positions = write_each(&log, &["kept"]);
    drop(log);
    let path = segment_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let synced = bytes.len();
    let mut batch = Vec::new();
    for payload in ["lost", "found"] {
        frame::encode(&mut batch, 1, payload.as_bytes());
    }
    frame::stamp(&mut batch, 1, synced as u64, synced as u64);
    batch[FRAME_HEADER_BYTES] = 0;
    bytes.extend_from_slice(&batch);
    std::fs::write(&path, bytes).unwrap();
    let recovered = open(dir.path()).unwrap().1;
    assert_eq!(payloads(&recovered), ["kept"]);
    assert_eq!(recovered.end().offset, synced as u64);
    assert_eq!(positions[0].offset, SEGMENT_HEADER_BYTES);
}

#[test]
fn a_frame_inside_of_a_payload_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path()).unwrap();
    write_each(&log, &["a", "b"]);
    let copied = std::fs::read(segment_path(dir.path(), 1)).unwrap();
    let last = log.append(1, &copied).unwrap();
    drop(log);
    let path = segment_path(dir.path(), 1);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let recovered = open(dir.path()).unwrap().1;
    assert_eq!(recovered.end(), last);
    assert_eq!(payloads(&recovered), ["a", "b"]);
}

#[test]
fn segments_are_bounded_rolled_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 100, ..options() };
    let (log, _) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    let numbers: Vec<String> = (0..20).map(|number| format!("record {number:02}")).collect();
    // Unsynced writes that span segments, and one frame larger than any segment.
    let mut positions: Vec<LogPosition> = numbers.iter().map(|text| log.append(1, text.as_bytes()).unwrap()).collect();
    let large = "x".repeat(1000);
    positions.push(log.append(1, large.as_bytes()).unwrap());
    positions.push(log.append(1, b"after").unwrap());
    log.wait_durable(*positions.last().unwrap()).unwrap();
    assert!(log.end().segment > 8);
    let all: Vec<String> = numbers.into_iter().chain([large, "after".to_string()]).collect();
    drop(log);

    let (log, recovered) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    assert_eq!(payloads(&recovered), all);
    for (index, position) in positions.iter().enumerate() {
        assert_eq!(payloads_from(&recovered, *position), all[index..]);
    }
    log.truncate_before(positions[10]).unwrap();
    log.truncate_before(positions[10]).unwrap();
    assert!(!segment_path(dir.path(), positions[10].segment - 1).exists());
    drop(log);

    let (log, recovered) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    assert_eq!(payloads_from(&recovered, positions[10]), all[10..]);
    let error = recovered.frames(positions[0]).err().unwrap();
    assert!(error.detail.unwrap().starts_with("It begins at segment"));
    assert!(recovered.frames(LogPosition::default()).is_err());

    // The segment in use is never removed.
    log.truncate_before(LogPosition { segment: u64::MAX, offset: 0 }).unwrap();
    drop(log);
    assert_eq!(payloads_from(&open(dir.path()).unwrap().1, *positions.last().unwrap()), ["after"]);
}

#[test]
fn damage_and_gaps_in_older_segments_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 60, ..options() };
    let (log, _) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    let positions = write_each(&log, &["one", "two", "three", "four"]);
    drop(log);
    let path = segment_path(dir.path(), 2);
    let intact = std::fs::read(&path).unwrap();

    let damages: [(&str, Vec<u8>, u64); 4] = [
        ("without its end", intact[..intact.len() - 1].to_vec(), (intact.len() - FRAME_HEADER_BYTES) as u64),
        ("torn", intact[..intact.len() - FRAME_HEADER_BYTES - 1].to_vec(), positions.iter().find(|at| at.segment == 2).unwrap().offset),
        ("empty", vec![], 0),
        ("header", [b"XX", &intact[2..]].concat(), 0),
    ];
    for (what, bytes, offset) in damages {
        std::fs::write(&path, bytes).unwrap();
        let recovered = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap().1;
        let error = recovered.frames(LogPosition::default()).unwrap().find_map(Result::err).unwrap_or_else(|| panic!("{what}"));
        assert_eq!(error.message, format!("log segment \"{}\" is damaged at offset {offset}", path.display()));
    }

    std::fs::remove_file(&path).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(error.message.contains("is missing"), "{error}");
}

#[test]
fn another_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(segment_path(dir.path(), 1), frame::header_of_version(1, 9)).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(error.message.contains("format version 9"), "{error}");
}

#[test]
fn many_appends_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, faults) = faulty();
    let (log, _) = open_with(fs, dir.path(), &options()).unwrap();
    let log = Arc::new(log);
    faults.set(|state| (state.hold_sync, state.syncs) = (true, 0));
    log.append(1, b"leader").unwrap();
    faults.wait_until(|state| state.syncs_waiting == 1);

    // While the first sync runs, a hundred writers come.
    let (done, outcomes) = mpsc::channel();
    let mut last = LogPosition::default();
    for number in 0..100u32 {
        last = log.append(1, &number.to_le_bytes()).unwrap();
        let done = done.clone();
        log.on_durable(last, Box::new(move |outcome| done.send(outcome).unwrap()));
    }
    assert!(log.durable_end() < last);
    assert!(outcomes.try_recv().is_err(), "reported before it was synced");
    faults.set(|state| state.hold_sync = false);
    for _ in 0..100 {
        outcomes.recv().unwrap().unwrap();
    }
    assert_eq!(faults.state.lock().syncs, 2);
    assert_eq!(log.durable_end(), log.end());
    // Durable already: on this thread, at once.
    log.on_durable(last, Box::new(move |outcome| done.send(outcome).unwrap()));
    outcomes.try_recv().unwrap().unwrap();
}

#[test]
fn concurrent_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 4096, ..options() };
    let (log, _) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    let mut written: Vec<(LogPosition, String)> = std::thread::scope(|scope| {
        let write = |writer: usize| {
            let log = &log;
            move || -> Vec<(LogPosition, String)> {
                let mut written = Vec::new();
                for number in 0..200 {
                    let payload = format!("writer {writer} record {number}");
                    let position = log.append(1, payload.as_bytes()).unwrap();
                    if number % 10 == 0 {
                        log.wait_durable(position).unwrap();
                    }
                    written.push((position, payload));
                }
                written
            }
        };
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    drop(log);
    written.sort();
    let (log, recovered) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    let found: Vec<(LogPosition, String)> = recovered
        .frames(LogPosition::default())
        .unwrap()
        .map(|frame| frame.map(|frame| (frame.position, String::from_utf8(frame.payload.to_vec()).unwrap())).unwrap())
        .collect();
    assert_eq!(found, written);
    assert_eq!(log.health(), Ok(()));
}

#[test]
fn appending_never_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, faults) = faulty();
    let (log, _) = open_with(fs, dir.path(), &options()).unwrap();
    faults.set(|state| state.hold_sync = true);
    log.append(1, b"leader").unwrap();
    faults.wait_until(|state| state.syncs_waiting == 1);
    // More than any bound of unsynced bytes that there ever was, then a small record behind it.
    log.append(1, &vec![1; 40 << 20]).unwrap();
    let last = log.append(1, b"cut").unwrap();
    assert!(log.durable_end() < last);
    faults.set(|state| state.hold_sync = false);
    log.wait_durable(last).unwrap();
}

#[test]
fn a_full_disk_is_reported_and_survived_wherever_the_write_stops() {
    let frame_bytes = FRAME_HEADER_BYTES + 5;
    for space in 0..2 * frame_bytes {
        let dir = tempfile::tempdir().unwrap();
        let (fs, faults) = faulty();
        let (log, _) = open_with(fs.clone(), dir.path(), &options()).unwrap();
        write_each(&log, &["start"]);

        faults.set(|state| (state.space, state.hold_sync) = (Some(space), true));
        let first = log.append(1, b"one..").unwrap();
        let accepted = log.append(1, b"two..").is_ok();
        let (done, outcome) = mpsc::channel();
        log.on_durable(first, Box::new(move |result: Result<()>| done.send(result).unwrap()));
        faults.set(|state| state.hold_sync = false);
        // The first frame may have fitted alone, if it was taken alone.
        if let Err(error) = log.sync() {
            assert_eq!(error.state, SqlState::DISK_FULL);
            assert!(error.message.contains("log segment"), "{error}");
        }
        faults.set(|state| state.space = None);
        outcome.recv().unwrap().expect("a full disk is no reason to give up");
        while log.append(1, b"three").is_err() {
            std::thread::yield_now();
        }
        drop(log);

        let recovered = open_with(fs, dir.path(), &options()).unwrap().1;
        let expected: &[&str] = if accepted { &["start", "one..", "two..", "three"] } else { &["start", "one..", "three"] };
        assert_eq!(payloads(&recovered), expected, "with {space} bytes of space");
        assert_eq!(recovered.cut_bytes(), 0);
    }
}

#[test]
fn while_the_disk_is_full_nothing_new_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, faults) = faulty();
    let (log, _) = open_with(fs.clone(), dir.path(), &LogOptions { segment_bytes: 60, ..options() }).unwrap();
    write_each(&log, &["start"]);
    faults.set(|state| state.space = Some(10));
    // In a new segment, so that its header is what does not fit.
    let pending = log.append(1, &[b'p'; 50]).unwrap();
    let (done, outcome) = mpsc::channel();
    log.on_durable(pending, Box::new(move |result| done.send(result).unwrap()));
    assert_eq!(log.sync().unwrap_err().state, SqlState::DISK_FULL);
    assert_eq!(log.health().unwrap_err().state, SqlState::DISK_FULL);
    assert_eq!(log.append(1, b"refused").unwrap_err().state, SqlState::DISK_FULL);
    let done = log.append_done(1, b"done").unwrap();
    assert!(outcome.try_recv().is_err(), "its frame is kept, so its waiter waits");
    faults.set(|state| state.space = None);
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    log.wait_durable(done).unwrap();
    assert_eq!(log.health(), Ok(()));
    write_each(&log, &["end"]);
    drop(log);
    assert_eq!(payloads(&open(dir.path()).unwrap().1), ["start", &"p".repeat(50), "done", "end"]);
}

#[test]
fn a_log_on_a_full_disk_still_closes() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, faults) = faulty();
    let (log, _) = open_with(fs, dir.path(), &options()).unwrap();
    write_each(&log, &["start"]);
    faults.set(|state| state.space = Some(3));
    log.append(1, b"lost").unwrap();
    assert!(log.sync().is_err());
    drop(log);
    assert_eq!(payloads(&open(dir.path()).unwrap().1), ["start"]);
}

#[test]
fn a_failed_sync_poisons_the_log_until_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, faults) = faulty();
    let (log, _) = open_with(fs.clone(), dir.path(), &options()).unwrap();
    let durable = write_each(&log, &["start"])[0];
    faults.set(|state| state.fail_sync = true);
    let lost = log.append(1, b"unknown").unwrap();
    let error = log.wait_durable(lost).unwrap_err();
    assert!(error.message.contains("a sync failed"), "{error}");
    assert!(error.hint.is_some());

    // Healing the disk changes nothing: what it holds is unknown.
    faults.set(|state| state.fail_sync = false);
    assert_eq!(log.append(1, b"refused").unwrap_err(), error);
    assert_eq!(log.append_done(1, b"refused").unwrap_err(), error);
    assert_eq!(log.sync().unwrap_err(), error);
    assert_eq!(log.wait_durable(lost).unwrap_err(), error);
    assert_eq!(log.wait_durable(durable), Ok(()));
    drop(log);
    let (log, recovered) = open_with(fs, dir.path(), &options()).unwrap();
    assert_eq!(payloads(&recovered)[0], "start");
    write_each(&log, &["again"]);
}

#[tokio::test]
async fn async_waiters_are_woken() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path()).unwrap();
    let position = log.append(1, b"x").unwrap();
    log.durable(position).await.unwrap();
    log.durable(position).await.unwrap();
}

#[test]
fn waiters_of_a_closed_log_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, faults) = faulty();
    let (log, _) = open_with(fs, dir.path(), &options()).unwrap();
    faults.set(|state| state.space = Some(0));
    let position = log.append(1, b"x").unwrap();
    let (done, outcomes) = mpsc::channel::<Result<(), SqlError>>();
    log.on_durable(position, Box::new(move |outcome| done.send(outcome).unwrap()));
    drop(log);
    assert!(outcomes.recv().unwrap().is_err());
}

#[test]
fn an_unusable_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let error = open(&path).err().unwrap();
    assert!(error.message.contains(&path.display().to_string()), "{error}");
}

#[test]
fn records_are_written_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let roomy = LogOptions { segment_bytes: 1 << 20, room_bytes_max: 1 << 18, ..options() };
    let (log, _) = open_with(Arc::new(SystemFs), dir.path(), &roomy).unwrap();
    let length = || std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len();
    assert_eq!(length(), SEGMENT_HEADER_BYTES, "an idle log takes no room");
    write_each(&log, &["first"]);
    let made = length();
    assert!(made > 64 << 10);
    let texts: Vec<String> = (0..1000).map(|number| format!("record {number}")).collect();
    write_each(&log, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(length(), made, "no record changes the file's length");
    let end = log.end();
    drop(log);

    let (log, recovered) = open_with(Arc::new(SystemFs), dir.path(), &roomy).unwrap();
    assert_eq!((recovered.end(), recovered.cut_bytes()), (end, 0));
    assert_eq!(payloads(&recovered).len(), 1001);
    write_each(&log, &["after"]);
    assert_eq!(length(), made, "nor does a restart");
    drop(log);

    // A write that was torn, with room after it.
    let path = segment_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let end = open_with(Arc::new(SystemFs), dir.path(), &roomy).unwrap().1.end();
    bytes[end.offset as usize..][..7].copy_from_slice(b"garbage");
    std::fs::write(&path, bytes).unwrap();
    let (log, recovered) = open_with(Arc::new(SystemFs), dir.path(), &roomy).unwrap();
    assert_eq!((recovered.end(), recovered.cut_bytes()), (end, 7));
    write_each(&log, &["once more"]);
    drop(log);
    assert_eq!(payloads(&open(dir.path()).unwrap().1)[1001..], ["after", "once more"]);
}

#[test]
fn the_next_segment_is_prepared_and_old_ones_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 4096, room_bytes_max: 4096, ..options() };
    let (log, _) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    let spare = dir.path().join("spare");
    let prepared = || {
        let is_ready = || std::fs::read(&spare).is_ok_and(|bytes| bytes.len() == 4096 && bytes.iter().all(|byte| *byte == 0));
        while !is_ready() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Synced, too.
        while !log.spares.is_ready() {
            std::thread::yield_now();
        }
    };
    let text = "x".repeat(500);
    let mut written = 0;
    for segment in 2..6 {
        while log.end().offset <= 2048 {
            write_each(&log, &[&text]);
            written += 1;
        }
        prepared();
        while log.end().segment < segment {
            write_each(&log, &[&text]);
            written += 1;
        }
        assert!(!spare.exists(), "it is the new segment");
        assert_eq!(std::fs::metadata(segment_path(dir.path(), segment)).unwrap().len(), 4096);
    }
    log.truncate_before(LogPosition { segment: 4, offset: 0 }).unwrap();
    assert!(spare.exists() && (1..4).all(|segment| !segment_path(dir.path(), segment).exists()));
    while log.end().offset <= 2048 {
        write_each(&log, &[&text]);
        written += 1;
    }
    prepared();
    let from = LogPosition { segment: 4, offset: SEGMENT_HEADER_BYTES };
    drop(log);
    let recovered = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap().1;
    let found = payloads_from(&recovered, from);
    assert!(found.len() < written && found.iter().all(|found| *found == text));
    assert_eq!(recovered.cut_bytes(), 0);
}

#[test]
fn a_log_that_ends_between_two_segments_goes_on_in_the_next() {
    let whole = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 60, ..options() };
    let (log, _) = open_with(Arc::new(SystemFs), whole.path(), &small).unwrap();
    write_each(&log, &["one", "two", "three"]);
    assert!(log.end().segment > 1);
    drop(log);
    let first = std::fs::read(segment_path(whole.path(), 1)).unwrap();
    // Killed before the second one was named, and before anything in it was durable.
    for second in [None, Some(vec![]), Some(vec![0; 4096])] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(segment_path(dir.path(), 1), &first).unwrap();
        if let Some(second) = second {
            std::fs::write(segment_path(dir.path(), 2), second).unwrap();
        }
        let (log, recovered) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
        assert_eq!(recovered.end(), LogPosition { segment: 2, offset: SEGMENT_HEADER_BYTES });
        assert_eq!(payloads(&recovered), ["one"]);
        write_each(&log, &["next"]);
        drop(log);
        assert_eq!(payloads(&open_with(Arc::new(SystemFs), dir.path(), &small).unwrap().1), ["one", "next"]);
    }
}

#[test]
fn logs_of_the_first_version_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for (segment, payload) in [(1, "one"), (2, "two")] {
        let mut bytes = frame::header_of_version(segment, 1).to_vec();
        let mut frames = Vec::new();
        frame::encode(&mut frames, 1, payload.as_bytes());
        frame::stamp(&mut frames, segment, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&frames);
        std::fs::write(segment_path(dir.path(), segment), bytes).unwrap();
    }
    let (log, recovered) = open(dir.path()).unwrap();
    assert_eq!(payloads(&recovered), ["one", "two"]);
    write_each(&log, &["three"]);
    drop(log);
    assert_eq!(payloads(&open(dir.path()).unwrap().1), ["one", "two", "three"]);
}

#[test]
fn a_copy_of_the_files_is_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogOptions { segment_bytes: 4096, room_bytes_max: 1024, ..options() };
    let (log, _) = open_with(Arc::new(SystemFs), dir.path(), &small).unwrap();
    let texts: Vec<String> = (0..40).map(|number| format!("{number:0>500}")).collect();
    write_each(&log, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    let files = log.files().unwrap();
    let copied = tempfile::tempdir().unwrap();
    for file in &files {
        let content = log.read_file(*file).unwrap().unwrap();
        let original = std::fs::read(segment_path(dir.path(), file.segment)).unwrap();
        assert_eq!(original[..content.len()], content);
        assert!(original[content.len()..].iter().all(|byte| *byte == 0), "nothing but the zeros was left out");
        std::fs::write(segment_path(copied.path(), file.segment), content).unwrap();
    }
    let (copy, recovered) = open_with(Arc::new(SystemFs), copied.path(), &small).unwrap();
    assert_eq!((payloads(&recovered), recovered.cut_bytes()), (texts, 0));
    drop(copy);

    // What was listed stays what it was, also while the log goes on.
    let last = *files.last().unwrap();
    let before = log.read_file(last).unwrap();
    write_each(&log, &vec!["x".repeat(500).as_str(); 20]);
    assert!(log.end().segment > last.segment + 1);
    assert_eq!(log.read_file(last).unwrap(), before);
    let sealed = LogFile { durable_bytes: None, ..last };
    assert!(log.read_file(sealed).unwrap().unwrap().len() > before.unwrap().len());
    log.truncate_before(LogPosition { segment: last.segment + 1, offset: SEGMENT_HEADER_BYTES }).unwrap();
    assert_eq!((log.read_file(last).unwrap(), log.read_file(sealed).unwrap()), (None, None));
    assert_eq!(log.files().unwrap()[0].segment, last.segment + 1, "a spare file is no segment");

    // Of one that is still there, damage is reported.
    let file = log.files().unwrap()[0];
    flip(&segment_path(dir.path(), file.segment), SEGMENT_HEADER_BYTES + 40);
    assert_eq!(log.read_file(file).unwrap_err().state, SqlState::DATA_CORRUPTED);
}

#[test]
fn a_sealed_segment_is_durable_before_the_next_one_begins() {
    let (fs, dir) = (MemoryFs::default(), Path::new("/log"));
    // On one thread nothing is written before somebody waits for it.
    let small = LogOptions { segment_bytes: 200, threads: Arc::new(OneThread::new(1)), ..options() };
    let write = |log: &Log, text: &str| {
        log.append(7, text.as_bytes()).unwrap();
        log.sync()
    };
    let log = open_with(Arc::new(fs.clone()), dir, &small).unwrap().0;
    write(&log, "first").unwrap();
    // The rest of the segment is written, with its seal, and not synced; the process ends, and the page cache has it still.
    fs.set_failing_syncs(true);
    let payload = "x".repeat(60);
    (0..2).for_each(|_| drop(log.append(7, payload.as_bytes())));
    assert!(write(&log, &payload).is_err());
    drop(log);
    fs.set_failing_syncs(false);
    let (log, recovered) = open_with(Arc::new(fs.clone()), dir, &small).unwrap();
    let before = payloads(&recovered);
    assert!(recovered.end().segment > 1 && before.len() > 1, "{}", recovered.end());
    write(&log, "last").unwrap();
    drop(log);
    fs.fail_power(&mut |_| 0);
    let after = payloads(&open_with(Arc::new(fs), dir, &small).unwrap().1);
    assert_eq!(after, [before, vec!["last".to_string()]].concat());
}
