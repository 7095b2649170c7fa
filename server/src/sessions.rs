//! Who is connected, and at what: for `eddyline.sessions` and `pg_stat_activity`, for cancel requests, and for a server that stops. It knows
//! nothing of messages, and of what statements do.

use crate::advisory::AdvisoryLocks;
use crate::pgwire::cancel::CancelToken;
use crate::pgwire::messages::TransactionState;
use eddyline_common::Timestamp;
use eddyline_planner::hide_secrets;
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
    pub advisory: AdvisoryLocks,
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
    /// For whoever looks: the statement without its secrets, which are looked for only now.
    pub fn activity(&self) -> Activity {
        let mut activity = self.activity.lock().clone();
        activity.statement = hide_secrets(&activity.statement);
        activity
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
        self.advisory.begin_session(process);
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
        // First, since another session may have the process id as soon as it is free.
        self.sessions.advisory.end_session(self.client.process);
        self.sessions.open.lock().remove(&self.client.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_see_statements_without_secrets() {
        let sessions = Arc::new(Sessions::default());
        let entry = sessions.register("u", None, Timestamp(1));
        let shown = |statement: &str| {
            entry.client.runs(statement, Timestamp(2));
            sessions.get(entry.client.process).unwrap().activity().statement
        };
        assert_eq!(shown("SELECT 1"), "SELECT 1");
        assert_eq!(
            shown("CREATE SOURCE s WITH (connector = 'kafka', properties.sasl.password = 'x')"),
            "CREATE SOURCE s WITH (connector = 'kafka', properties.sasl.password = '***')"
        );
        let long = format!("CREATE SOURCE s ({}) WITH (properties.sasl.password = 'hunter')", "a INT, ".repeat(138));
        let cut = shown(&long);
        assert!(cut.len() < long.len() && cut.ends_with("properties.sasl.password = '***'"), "{cut}");
    }
}
