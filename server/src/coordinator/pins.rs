//! Epochs that readers hold. A pin keeps old row versions, in memory and on disk, so none lasts for ever: one that is older than
//! the age limit, or that keeps more than the size limit, is let go of. Its reader is told at its next step, and is woken for it.
//! Knows nothing of sessions.

use eddyline_common::{Epoch, Result, SqlError, SqlState};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the limits are looked at: what is let go of needs a moment to become free.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub struct PinLimits {
    pub age: Duration,
    pub bytes: usize,
}

/// What views keep for readers only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// Bytes of rows that died since the start: the difference to an earlier value is kept for a reader since then.
    pub died: u64,
    /// Bytes of rows that only running reads still have.
    pub held: usize,
}

/// Keeps an epoch readable until it is dropped, or let go of.
pub struct Pin {
    key: (Epoch, u64),
    reader: Arc<Reader>,
    pins: Arc<Pins>,
}

#[derive(Default)]
pub struct Pins(Mutex<State>);

#[derive(Default)]
struct State {
    /// By epoch and by order of pinning.
    pinned: BTreeMap<(Epoch, u64), Pinned>,
    next: u64,
    looked: Option<Instant>,
    let_go: u64,
}

struct Pinned {
    since: Instant,
    died: u64,
    reader: Arc<Reader>,
}

/// What a reader is told, and how it is woken.
#[derive(Default)]
struct Reader(Mutex<Told>);

#[derive(Default)]
struct Told {
    error: Option<SqlError>,
    wake: Option<Box<dyn FnOnce() + Send>>,
}

impl Pin {
    /// Fails once the epoch is not kept any more.
    pub fn check(&self) -> Result<()> {
        self.reader.0.lock().error.clone().map_or(Ok(()), Err)
    }

    /// Calls once when the epoch is let go of.
    pub fn on_let_go(&self, wake: impl FnOnce() + Send + 'static) {
        let mut told = self.reader.0.lock();
        if told.error.is_none() {
            told.wake = Some(Box::new(wake));
            return;
        }
        drop(told);
        wake();
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.0.lock().pinned.remove(&self.key);
    }
}

impl Pins {
    /// `died` as in [`Kept`].
    pub fn pin(self: &Arc<Self>, epoch: Epoch, died: u64, now: Instant) -> Pin {
        let mut state = self.0.lock();
        let key = (epoch, state.next);
        state.next += 1;
        let reader = Arc::new(Reader::default());
        state.pinned.insert(key, Pinned { since: now, died, reader: reader.clone() });
        Pin { key, reader, pins: self.clone() }
    }

    pub fn oldest(&self) -> Option<Epoch> {
        self.0.lock().pinned.keys().next().map(|(epoch, _)| *epoch)
    }

    /// Of the pins there are: how many, since when the oldest, and the bytes kept for them. And how many were let go of so far.
    pub fn figures(&self, kept: Kept, now: Instant) -> (usize, Duration, u64, u64) {
        let state = self.0.lock();
        let age = state.pinned.values().map(|p| now - p.since).max().unwrap_or_default();
        let died = state.pinned.values().map(|p| kept.died - p.died).max().unwrap_or_default();
        (state.pinned.len(), age, died + kept.held as u64, state.let_go)
    }

    /// Lets go of what is over the limits.
    pub fn enforce(&self, limits: PinLimits, kept: Kept, now: Instant) {
        let mut state = self.0.lock();
        if state.pinned.is_empty() || state.looked.is_some_and(|at| now - at < LOOK_INTERVAL) {
            return;
        }
        state.looked = Some(now);
        let over = |p: &Pinned| (now - p.since > limits.age, kept.died - p.died > limits.bytes as u64);
        let mut gone: Vec<((Epoch, u64), SqlError)> = Vec::new();
        for (key, pinned) in &state.pinned {
            match over(pinned) {
                (true, _) => gone.push((*key, too_old(limits))),
                (false, true) => gone.push((*key, too_much(limits))),
                (false, false) => {}
            }
        }
        if gone.is_empty() && kept.held > limits.bytes {
            // Whose it is nobody knows; the oldest is the likeliest, and the next look finds what is left.
            gone.extend(state.pinned.keys().min_by_key(|(_, number)| *number).map(|key| (*key, too_much(limits))));
        }
        let mut readers = Vec::with_capacity(gone.len());
        for (key, error) in gone {
            state.let_go += 1;
            readers.extend(state.pinned.remove(&key).map(|p| (p.reader, error)));
        }
        drop(state);
        for (reader, error) in readers {
            let wake = {
                let mut told = reader.0.lock();
                told.error = Some(error);
                told.wake.take()
            };
            wake.into_iter().for_each(|wake| wake());
        }
    }
}

fn too_old(limits: PinLimits) -> SqlError {
    SqlError::new(SqlState::SNAPSHOT_TOO_OLD, "snapshot too old")
        .with_detail(format!("The transaction or query has read at one epoch for more than {:?}.", limits.age))
        .with_hint("End transactions and read results sooner, or start the server with a larger --snapshot-age.")
}

fn too_much(limits: PinLimits) -> SqlError {
    SqlError::new(SqlState::SNAPSHOT_TOO_OLD, "snapshot too old")
        .with_detail(format!("More than {} bytes of rows that have changed since were kept for the transaction or query.", limits.bytes))
        .with_hint("End transactions and read results sooner, or start the server with a larger --snapshot-size.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LIMITS: PinLimits = PinLimits { age: Duration::from_secs(3600), bytes: 100 };

    fn enforce(pins: &Pins, kept: Kept, now: Instant) {
        pins.0.lock().looked = None;
        pins.enforce(LIMITS, kept, now);
    }

    #[test]
    fn the_oldest_epoch_counts_until_its_last_pin_is_gone() {
        let pins = Arc::new(Pins::default());
        let now = Instant::now();
        let (a, b, c) = (pins.pin(Epoch(7), 0, now), pins.pin(Epoch(5), 0, now), pins.pin(Epoch(5), 0, now));
        assert_eq!(pins.oldest(), Some(Epoch(5)));
        drop(b);
        assert_eq!(pins.oldest(), Some(Epoch(5)));
        drop(c);
        assert_eq!(pins.oldest(), Some(Epoch(7)));
        drop(a);
        assert_eq!(pins.oldest(), None);
    }

    #[test]
    fn a_pin_over_a_limit_is_let_go_of_and_its_reader_woken() {
        let pins = Arc::new(Pins::default());
        let now = Instant::now();
        let (old, young) = (pins.pin(Epoch(1), 0, now), pins.pin(Epoch(2), 90, now));
        let woken = Arc::new(AtomicBool::new(false));
        let flag = woken.clone();
        old.on_let_go(move || flag.store(true, Ordering::SeqCst));
        enforce(&pins, Kept { died: 100, held: 0 }, now);
        assert!(old.check().is_ok() && !woken.load(Ordering::SeqCst));
        enforce(&pins, Kept { died: 101, held: 0 }, now);
        assert_eq!(old.check().unwrap_err().state, SqlState::SNAPSHOT_TOO_OLD);
        assert!(woken.load(Ordering::SeqCst) && young.check().is_ok());
        assert_eq!((pins.oldest(), pins.figures(Kept { died: 101, held: 5 }, now).2), (Some(Epoch(2)), 16));
        // What running reads hold is taken from the one that began first, one at a time.
        let younger = pins.pin(Epoch(2), 101, now);
        enforce(&pins, Kept { died: 101, held: 101 }, now);
        assert!(young.check().is_err() && younger.check().is_ok());
        enforce(&pins, Kept { died: 101, held: 0 }, now + LIMITS.age);
        assert!(younger.check().is_ok());
        enforce(&pins, Kept { died: 101, held: 0 }, now + LIMITS.age + Duration::from_micros(1));
        assert!(younger.check().unwrap_err().hint.unwrap().contains("--snapshot-age"));
        let late = Arc::new(AtomicBool::new(false));
        let flag = late.clone();
        younger.on_let_go(move || flag.store(true, Ordering::SeqCst));
        assert!(late.load(Ordering::SeqCst), "who asks too late is told at once");
        assert_eq!((pins.oldest(), pins.figures(Kept::default(), now).3), (None, 3));
    }
}
