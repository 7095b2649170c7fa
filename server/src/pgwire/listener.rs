//! Accepting clients: a bound on sessions, a smaller one on clients that have not said who they are yet, and an
//! ordered end.

use super::connection;
use crate::session::Services;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Sockets beyond the session limit that are still greeted, so that they get an error and cancel requests pass. Each
/// costs a few kilobytes for a moment.
const WAITING_ROOM: usize = 2000;

/// How long sessions may take to end on shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// After a failed accept (no file descriptors are left) some clients must leave first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The places for sessions.
#[derive(Clone)]
pub struct Admission {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// A session's place; dropping it frees it.
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Admission {
    pub fn new(limit: usize) -> Self {
        Admission { taken: Arc::new(AtomicUsize::new(0)), limit }
    }

    pub fn enter(&self) -> Option<Place> {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst);
        let place = Place(self.taken.clone());
        (taken < self.limit).then_some(place)
    }

    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// Serves clients until it is stopped; returns when their sessions have ended.
pub async fn serve(listener: TcpListener, services: Arc<Services>, max_sessions: usize, stop: CancellationToken) {
    let admission = Admission::new(max_sessions);
    let sockets = Arc::new(Semaphore::new(max_sessions + WAITING_ROOM));
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            Some(_) = clients.join_next(), if !clients.is_empty() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A flood beyond the waiting room is closed without a word.
        let Ok(socket) = sockets.clone().try_acquire_owned() else { continue };
        let (services, admission) = (services.clone(), admission.clone());
        clients.spawn(async move {
            let sessions = services.metrics.sessions.clone();
            sessions.fetch_add(1, Ordering::Relaxed);
            connection::serve(stream, services, admission).await;
            sessions.fetch_sub(1, Ordering::Relaxed);
            drop(socket);
        });
    }
    drop(listener);
    services.sessions.stop_all();
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while clients.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(sessions = clients.len(), "sessions did not end in time and are cut off");
        clients.shutdown().await;
    }
}
