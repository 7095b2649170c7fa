//! Who is connected, and at what: for `eddyline.sessions` and `pg_stat_activity`, for cancel requests, and for a server that stops. It knows
//! nothing of messages, and of what statements do.

use crate::pgwire::cancel::CancelToken;
use crate::pgwire::messages::TransactionState;
use eddyline_common::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// What is kept of a statement's text, in bytes.
const STATEMENT_BYTES_MAX: usize = 1024;

/// Every open session by its process id.
#[derive(Debug, Default)]
pub struct Sessions {
    next: AtomicI32,
    open: Mutex<BTreeMap<i32, Arc<Client>>>,
}

/// A session as others see it.
#[derive(Debug)]
pub struct Client {
    pub process: i32,
    /// What a cancel request has to know.
    pub secret: i32,
    pub cancel: Arc<CancelToken>,
    pub user: String,
    pub address: Option<SocketAddr>,
    pub connected: Timestamp,
    activity: Mutex<Activity>,
}

/// What a session is at.
#[derive(Clone, Debug)]
pub struct Activity {
    pub application: String,
    /// `None` while a statement runs.
    pub rests: Option<TransactionState>,
    /// The statement that runs, or ran last; a long one is cut off.
    pub statement: String,
    pub began: Option<Timestamp>,
    /// Since when it runs or rests.
    pub since: Timestamp,
}

impl Activity {
    /// As PostgreSQL names it.
    pub fn state(&self) -> &'static str {
        match self.rests {
            None => "active",
            Some(TransactionState::Idle) => "idle",
            Some(TransactionState::Open) => "idle in transaction",
            Some(TransactionState::Failed) => "idle in transaction (aborted)",
        }
    }
}

impl Client {
    pub fn activity(&self) -> Activity {
        self.activity.lock().clone()
    }

    /// A statement begins.
    pub fn runs(&self, statement: &str, now: Timestamp) {
        let mut activity = self.activity.lock();
        activity.rests = None;
        activity.statement.clear();
        activity.statement.push_str(&statement[..statement.floor_char_boundary(STATEMENT_BYTES_MAX)]);
        (activity.began, activity.since) = (Some(now), now);
    }

    /// The client's turn.
    pub fn rests(&self, state: TransactionState, application: &str, now: Timestamp) {
        let mut activity = self.activity.lock();
        (activity.rests, activity.since) = (Some(state), now);
        if activity.application != application {
            activity.application = application.to_string();
        }
    }
}

/// A session's entry; dropping it removes the entry.
pub struct Registration {
    sessions: Arc<Sessions>,
    pub client: Arc<Client>,
}

impl Sessions {
    pub fn register(self: &Arc<Self>, user: &str, address: Option<SocketAddr>, now: Timestamp) -> Registration {
        let random = uuid::Uuid::new_v4();
        let bytes = random.as_bytes();
        let mut open = self.open.lock();
        let process = loop {
            let candidate = self.next.fetch_add(1, Ordering::Relaxed) & i32::MAX;
            if candidate > 0 && !open.contains_key(&candidate) {
                break candidate;
            }
        };
        let activity =
            Activity { application: String::new(), rests: Some(TransactionState::Idle), statement: String::new(), began: None, since: now };
        let client = Arc::new(Client {
            process,
            secret: i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            cancel: Arc::default(),
            user: user.to_string(),
            address,
            connected: now,
            activity: Mutex::new(activity),
        });
        open.insert(process, client.clone());
        Registration { sessions: self.clone(), client }
    }

    pub fn get(&self, process: i32) -> Option<Arc<Client>> {
        self.open.lock().get(&process).cloned()
    }

    /// In the order of their process ids.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.open.lock().values().cloned().collect()
    }

    /// A cancel request, which is believed if it knows the secret.
    pub fn cancel(&self, process: i32, secret: i32) {
        if let Some(client) = self.get(process).filter(|client| client.secret == secret) {
            client.cancel.request();
        }
    }

    /// Ends every session, for shutdown.
    pub fn stop_all(&self) {
        self.open.lock().values().for_each(|client| client.cancel.stop());
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.open.lock().remove(&self.client.process);
    }
}
