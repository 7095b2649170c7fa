//! Cancelling: one token per session, checked wherever a statement waits, so that a statement ends also while its rows
//! stream. While shielded (what it did is on its way to the log) it is given a moment to come to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Why a statement has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The client asked.
    User,
    /// The server stops.
    Shutdown,
    /// What the session reads is not kept any longer.
    SnapshotTooOld,
}

#[derive(Debug, Default)]
pub struct CancelToken {
    requested: AtomicBool,
    stopping: AtomicBool,
    shielded: AtomicBool,
    too_old: AtomicBool,
    notify: Notify,
}

impl CancelToken {
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// Ends this and every later statement.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// A snapshot of the session was let go of; the session finds out which.
    pub fn snapshot_too_old(&self) {
        self.too_old.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// The session has seen to it.
    pub fn snapshots_released(&self) {
        self.too_old.store(false, Ordering::SeqCst);
    }

    /// Forgets a request that came between statements.
    pub fn reset(&self) {
        self.requested.store(false, Ordering::SeqCst);
    }

    /// From here until the shield is dropped, with the statement or before, its outcome is not the session's to decide.
    pub fn shield(self: &Arc<Self>) -> Shield {
        self.shielded.store(true, Ordering::SeqCst);
        Shield(self.clone())
    }

    pub fn is_shielded(&self) -> bool {
        self.shielded.load(Ordering::SeqCst)
    }

    fn interrupt(&self) -> Option<Interrupt> {
        if self.stopping.load(Ordering::SeqCst) {
            return Some(Interrupt::Shutdown);
        }
        if self.requested.load(Ordering::SeqCst) {
            return Some(Interrupt::User);
        }
        // What is on its way to the log has read all that it needs.
        let too_old = self.too_old.load(Ordering::SeqCst) && !self.is_shielded();
        too_old.then_some(Interrupt::SnapshotTooOld)
    }

    /// Returns once the statement has to end.
    pub async fn interrupted(&self) -> Interrupt {
        self.once(|| self.interrupt()).await
    }

    /// Returns once the session has to end.
    pub async fn stopped(&self) {
        self.once(|| self.stopping.load(Ordering::SeqCst).then_some(())).await
    }

    async fn once<T>(&self, found: impl Fn() -> Option<T>) -> T {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(found) = found() {
                return found;
            }
            notified.await;
        }
    }
}

/// What a statement did is on its way to the log while this lives.
#[must_use]
pub struct Shield(Arc<CancelToken>);

impl Drop for Shield {
    fn drop(&mut self) {
        self.0.shielded.store(false, Ordering::SeqCst);
    }
}
