//! Advisory locks: numbers that sessions agree to hold one at a time. A session's own are held until it gives them back or ends, a transaction's until that ends.
//! What is given back wakes all who wait, and the first of them takes it. A circle of sessions that wait for each other is found by the last of them. It knows
//! nothing of SQL, and nothing of the locks of tables.

use eddyline_common::{Result, SqlError, SqlState};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use tokio::sync::Notify;

/// How many are held at most, by all sessions together.
const HELD_MAX: usize = 100_000;

/// What is locked: PostgreSQL has one space of numbers and one of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    One(i64),
    Pair(i32, i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    /// Others may share it too.
    pub shared: bool,
    pub of_transaction: bool,
}

impl Mode {
    pub const OF_SESSION: Mode = Mode { shared: false, of_transaction: false };
    pub const OF_TRANSACTION: Mode = Mode { shared: false, of_transaction: true };

    pub const fn shared(self) -> Mode {
        Mode { shared: true, ..self }
    }
}

/// Who asks for a lock: a session by its process id, in one of its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub process: i32,
    pub transaction: u64,
}

#[derive(Debug, Default)]
pub struct AdvisoryLocks {
    table: Mutex<Table>,
    given_back: Notify,
}

/// Sessions are named by their process ids.
#[derive(Debug, Default)]
struct Table {
    open: HashMap<i32, Holder>,
    /// How often each session holds a key in each mode.
    held: HashMap<Key, HashMap<(i32, Mode), u32>>,
    /// How many keys, sessions and modes `held` has.
    count: usize,
    /// A statement may wait for more than one.
    waiting: HashMap<i32, Vec<(Key, Mode)>>,
}

/// A session that has not ended.
#[derive(Debug, Default)]
struct Holder {
    /// The number of its transaction. What an ended one began may still run, and must take nothing.
    transaction: u64,
    holds: HashSet<(Key, Mode)>,
}

impl Table {
    /// Other sessions that hold the key, in a mode that does not go with this one.
    fn in_the_way(&self, key: Key, process: i32, mode: Mode) -> impl Iterator<Item = i32> {
        let holders = self.held.get(&key).into_iter().flat_map(|holders| holders.keys());
        holders.filter(move |(holder, held)| *holder != process && !(held.shared && mode.shared)).map(|(holder, _)| *holder)
    }

    fn take(&mut self, key: Key, asker: Asker, mode: Mode) -> Result<bool> {
        let process = asker.process;
        let is_free = self.in_the_way(key, process, mode).next().is_none();
        let asks = self.open.get_mut(&process).filter(|holder| !mode.of_transaction || holder.transaction == asker.transaction);
        let Some(holder) = asks else {
            return Err(SqlError::new(SqlState::QUERY_CANCELED, "the transaction that asked for an advisory lock has ended"));
        };
        if !is_free {
            return Ok(false);
        }
        if !holder.holds.contains(&(key, mode)) {
            if self.count >= HELD_MAX {
                return Err(SqlError::new(SqlState("53200"), "out of shared memory")
                    .with_detail(format!("The server's sessions hold {HELD_MAX} advisory locks."))
                    .with_hint("Take fewer of them, or give back those that are not needed any more."));
            }
            holder.holds.insert((key, mode));
            self.count += 1;
        }
        *self.held.entry(key).or_default().entry((process, mode)).or_default() += 1;
        Ok(true)
    }

    /// Gives back a lock however often it was taken.
    fn give_back(&mut self, key: Key, process: i32, mode: Mode) {
        if let Some(holder) = self.open.get_mut(&process)
            && holder.holds.remove(&(key, mode))
        {
            self.count -= 1;
        }
        if let Some(holders) = self.held.get_mut(&key) {
            holders.remove(&(process, mode));
            if holders.is_empty() {
                self.held.remove(&key);
            }
        }
    }

    /// Gives back what a session holds in some modes; whether it held any.
    fn release(&mut self, process: i32, which: impl Fn(Mode) -> bool) -> bool {
        let Some(holder) = self.open.get(&process) else { return false };
        let released: Vec<(Key, Mode)> = holder.holds.iter().filter(|(_, mode)| which(*mode)).copied().collect();
        for (key, mode) in &released {
            self.give_back(*key, process, *mode);
        }
        !released.is_empty()
    }

    /// Whether a session that waits does so for itself, by way of others that wait.
    fn is_circle(&self, process: i32) -> bool {
        let (mut seen, mut next) = (HashSet::new(), vec![process]);
        while let Some(waits) = next.pop() {
            let wanted = self.waiting.get(&waits).into_iter().flatten();
            for holder in wanted.flat_map(|(key, mode)| self.in_the_way(*key, waits, *mode)) {
                if holder == process {
                    return true;
                }
                if seen.insert(holder) {
                    next.push(holder);
                }
            }
        }
        false
    }
}

impl AdvisoryLocks {
    pub fn begin_session(&self, process: i32) {
        self.table.lock().open.insert(process, Holder::default());
    }

    /// A session as it is now, to ask in the name of its transaction.
    pub fn asker(&self, process: i32) -> Asker {
        let transaction = self.table.lock().open.get(&process).map(|holder| holder.transaction).unwrap_or_default();
        Asker { process, transaction }
    }

    /// Whether it could be had at once.
    pub fn try_lock(&self, key: Key, asker: Asker, mode: Mode) -> Result<bool> {
        self.table.lock().take(key, asker, mode)
    }

    /// Waits for it. Dropping the future gives up.
    pub async fn lock(&self, key: Key, asker: Asker, mode: Mode) -> Result<()> {
        let mut waiting = Waiting { locks: self, process: asker.process, wanted: (key, mode), is_noted: false };
        loop {
            let given_back = self.given_back.notified();
            tokio::pin!(given_back);
            given_back.as_mut().enable();
            if self.try_lock(key, asker, mode)? {
                return Ok(());
            }
            if waiting.is_for_ever() {
                return Err(SqlError::new(SqlState("40P01"), "deadlock detected")
                    .with_detail("Sessions wait for each other's advisory locks.")
                    .with_hint("Take them in the same order in every session."));
            }
            given_back.await;
        }
    }

    /// Gives back one that the session has; false if it has none.
    pub fn unlock(&self, key: Key, process: i32, mode: Mode) -> bool {
        let mut table = self.table.lock();
        let Some(times) = table.held.get_mut(&key).and_then(|holders| holders.get_mut(&(process, mode))) else { return false };
        *times -= 1;
        if *times == 0 {
            table.give_back(key, process, mode);
            self.given_back.notify_waiters();
        }
        true
    }

    pub fn holds_any(&self, process: i32) -> bool {
        self.table.lock().open.get(&process).is_some_and(|holder| !holder.holds.is_empty())
    }

    /// What the session holds itself, not its transaction.
    pub fn unlock_all(&self, process: i32) {
        if self.table.lock().release(process, |mode| !mode.of_transaction) {
            self.given_back.notify_waiters();
        }
    }

    pub fn end_transaction(&self, process: i32) {
        let mut table = self.table.lock();
        if let Some(holder) = table.open.get_mut(&process) {
            holder.transaction += 1;
        }
        if table.release(process, |mode| mode.of_transaction) {
            self.given_back.notify_waiters();
        }
    }

    pub fn end_session(&self, process: i32) {
        let mut table = self.table.lock();
        let held_any = table.release(process, |_| true);
        table.open.remove(&process);
        if held_any {
            self.given_back.notify_waiters();
        }
    }
}

/// A wait of a session for one lock, which ends once this is dropped.
struct Waiting<'a> {
    locks: &'a AdvisoryLocks,
    process: i32,
    wanted: (Key, Mode),
    /// The table has it; a lock that is free is never waited for.
    is_noted: bool,
}

impl Waiting<'_> {
    /// Notes that the session waits; whether it would for ever.
    fn is_for_ever(&mut self) -> bool {
        let locks = self.locks;
        let mut table = locks.table.lock();
        if !self.is_noted {
            table.waiting.entry(self.process).or_default().push(self.wanted);
            self.is_noted = true;
        }
        table.is_circle(self.process)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_noted {
            return;
        }
        let mut table = self.locks.table.lock();
        let Some(waits) = table.waiting.get_mut(&self.process) else { return };
        if let Some(at) = waits.iter().position(|wanted| *wanted == self.wanted) {
            waits.swap_remove(at);
        }
        if waits.is_empty() {
            table.waiting.remove(&self.process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn of_sessions<const N: usize>(locks: &AdvisoryLocks, processes: [i32; N]) -> [Asker; N] {
        processes.map(|process| {
            locks.begin_session(process);
            locks.asker(process)
        })
    }

    #[test]
    fn what_outlives_its_transaction_or_session_takes_nothing() {
        let locks = AdvisoryLocks::default();
        let [one, other] = of_sessions(&locks, [1, 2]);
        let tries = |key: i64, asker: Asker, mode: Mode| locks.try_lock(Key::One(key), asker, mode).map_err(|e| e.state);
        assert_eq!(tries(1, one, Mode::OF_TRANSACTION), Ok(true));
        assert_eq!(tries(2, one, Mode::OF_SESSION), Ok(true));
        assert_eq!(tries(1, other, Mode::OF_SESSION), Ok(false));
        locks.end_transaction(1);
        assert_eq!(tries(1, one, Mode::OF_TRANSACTION), Err(SqlState::QUERY_CANCELED));
        assert_eq!(tries(1, other, Mode::OF_SESSION), Ok(true));
        assert_eq!(tries(3, locks.asker(1), Mode::OF_TRANSACTION), Ok(true));
        // A session's own are not bound to a transaction.
        assert_eq!(tries(4, one, Mode::OF_SESSION), Ok(true));
        assert!(locks.holds_any(1));
        locks.end_session(1);
        assert!(!locks.holds_any(1));
        assert_eq!(tries(5, one, Mode::OF_SESSION), Err(SqlState::QUERY_CANCELED));
        for key in 1..=5 {
            assert_eq!(tries(key, other, Mode::OF_SESSION), Ok(true), "{key}");
        }
        locks.end_session(2);
        let table = locks.table.lock();
        assert!(table.held.is_empty() && table.open.is_empty() && table.count == 0, "{table:?}");
    }

    #[test]
    fn there_is_an_end_to_what_is_held() {
        let locks = AdvisoryLocks::default();
        let [one, other] = of_sessions(&locks, [1, 2]);
        let tries = |key: usize, asker: Asker| locks.try_lock(Key::One(key as i64), asker, Mode::OF_SESSION).map_err(|e| e.state);
        assert!((0..HELD_MAX).all(|key| tries(key, one) == Ok(true)));
        for asker in [one, other] {
            assert_eq!(tries(HELD_MAX, asker), Err(SqlState("53200")));
        }
        assert_eq!(tries(0, one), Ok(true));
        assert_eq!(tries(0, other), Ok(false));
        assert!(locks.unlock(Key::One(1), 1, Mode::OF_SESSION));
        assert_eq!(tries(HELD_MAX, other), Ok(true));
        locks.unlock_all(1);
        assert_eq!(tries(0, other), Ok(true));
    }

    /// The first waits for the second and the third at once, when the second begins to wait for the first.
    #[tokio::test]
    async fn a_session_that_waits_for_two_is_in_both_circles() {
        let locks = AdvisoryLocks::default();
        let askers = of_sessions(&locks, [1, 2, 3]);
        for (key, asker) in askers.into_iter().enumerate() {
            assert!(locks.try_lock(Key::One(key as i64), asker, Mode::OF_SESSION).expect("a lock"));
        }
        let waits = |key: i64, asker: usize| locks.lock(Key::One(key), askers[asker], Mode::OF_SESSION);
        for gives_up in [false, true] {
            let refused = tokio::select! {
                biased;
                _ = waits(1, 0) => None,
                _ = waits(2, 0), if !gives_up => None,
                circle = async {
                    if gives_up {
                        assert!(tokio::time::timeout(Duration::from_millis(1), waits(2, 0)).await.is_err());
                    }
                    waits(0, 1).await
                } => circle.err(),
                () = tokio::time::sleep(Duration::from_secs(10)) => None,
            };
            assert_eq!(refused.map(|error| error.state), Some(SqlState("40P01")), "{gives_up}");
            assert!(locks.table.lock().waiting.is_empty());
        }
    }
}
