//! Memory of the rows that sessions have gathered and not committed yet: one bound over all of them, beside that of each transaction. Who finds no room fails at
//! once: it holds locks and rows of its own, so that two that waited for each other's would wait for ever. It does not know what the rows are.

use eddyline_common::{Result, SqlError, SqlState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub struct WriteMemory {
    max_bytes: usize,
    taken_bytes: AtomicUsize,
}

impl WriteMemory {
    pub fn new(max_bytes: usize) -> Arc<WriteMemory> {
        Arc::new(WriteMemory { max_bytes, taken_bytes: AtomicUsize::new(0) })
    }

    pub fn taken_bytes(&self) -> usize {
        self.taken_bytes.load(Relaxed)
    }

    /// For somebody who has gathered nothing yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { of: self.clone(), bytes: 0 }
    }
}

/// What one statement or transaction has taken; given back when it is dropped.
pub struct Share {
    of: Arc<WriteMemory>,
    bytes: usize,
}

impl Share {
    /// Takes so much more; 53200, and it stays as it was, if there is no room for that.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        let room = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.of.max_bytes);
        self.of.taken_bytes.fetch_update(Relaxed, Relaxed, room).map_err(|taken| {
            SqlError::new(SqlState("53200"), "out of memory for rows that are not committed yet")
                .with_detail(format!("Those of all sessions may take {} bytes, and take {taken}.", self.of.max_bytes))
                .with_hint("Commit in smaller parts, write from fewer sessions at once, or raise write_memory.")
        })?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives so much of it back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.of.taken_bytes.fetch_sub(bytes, Relaxed);
        self.bytes -= bytes;
    }

    /// Gives all of it back but so much.
    pub fn keep(&mut self, bytes: usize) {
        self.shrink(self.bytes.saturating_sub(bytes));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_given_back() {
        let memory = WriteMemory::new(100);
        let (mut one, mut other) = (memory.share(), memory.share());
        one.grow(60).unwrap();
        assert_eq!(other.grow(41).unwrap_err().state, SqlState("53200"));
        assert_eq!(memory.taken_bytes(), 60);
        other.grow(40).unwrap();
        one.shrink(50);
        other.grow(50).unwrap();
        drop(one);
        assert_eq!(memory.taken_bytes(), 90);
        other.keep(100);
        assert_eq!(memory.taken_bytes(), 90);
        other.keep(20);
        assert_eq!(memory.taken_bytes(), 20);
        drop(other);
        assert_eq!(memory.taken_bytes(), 0);
    }
}
