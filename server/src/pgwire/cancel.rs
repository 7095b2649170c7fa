//! Cancelling: one token per session, and the registry that cancel requests find it in. A token is
//! checked wherever a statement waits, so a statement ends also while its rows stream. While shielded (what it
//! did is on its way to the log) it is given a moment to come to its end.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
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
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(interrupt) = self.interrupt() {
                return interrupt;
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

/// Every session's token by its process id and secret.
#[derive(Debug, Default)]
pub struct CancelRegistry {
    next: AtomicI32,
    sessions: Mutex<HashMap<i32, (i32, Arc<CancelToken>)>>,
}

/// A session's entry; dropping it removes the entry.
pub struct Registration {
    registry: Arc<CancelRegistry>,
    pub process: i32,
    pub secret: i32,
    pub token: Arc<CancelToken>,
}

impl CancelRegistry {
    pub fn register(self: &Arc<Self>) -> Registration {
        let random = uuid::Uuid::new_v4();
        let bytes = random.as_bytes();
        let secret = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let token = Arc::new(CancelToken::default());
        let mut sessions = self.sessions.lock();
        let process = loop {
            let candidate = self.next.fetch_add(1, Ordering::Relaxed) & i32::MAX;
            if candidate > 0 && !sessions.contains_key(&candidate) {
                break candidate;
            }
        };
        sessions.insert(process, (secret, token.clone()));
        Registration { registry: self.clone(), process, secret, token }
    }

    pub fn cancel(&self, process: i32, secret: i32) {
        if let Some((known, token)) = self.sessions.lock().get(&process)
            && *known == secret
        {
            token.request();
        }
    }

    /// Ends every session's statement, for shutdown.
    pub fn stop_all(&self) {
        self.sessions.lock().values().for_each(|(_, token)| token.stop());
    }

    pub fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.sessions.lock().remove(&self.process);
    }
}
