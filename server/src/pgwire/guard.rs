//! What ends a statement before its end: a cancel request, a timeout, shutdown, a client that is gone, a panic. The
//! statement's future is dropped, and with it its queries. One whose effects are on their way to the log is given a moment
//! to be acknowledged; if the log stands still, the client is told that the outcome is not known.

use super::cancel::{CancelToken, Interrupt};
use super::wire::Reader;
use crate::serving::engine::panicked;
use eddyline_common::{Result, SqlError, SqlState};
use futures::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::Instant;

/// What a statement that has to end may still wait for the log: many times what a sync takes, short for a client.
const SHIELDED_MAX: Duration = Duration::from_secs(1);

/// When a statement that begins now has to end.
pub fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.map(|timeout| Instant::now() + timeout)
}

/// Runs a statement. `reader` is watched for the client's end; a dialogue that reads by itself gives none.
pub async fn guarded<T>(
    cancel: &CancelToken,
    deadline: Option<Instant>,
    reader: Option<&Reader>,
    statement: impl Future<Output = Result<T>>,
) -> Result<T> {
    let statement = AssertUnwindSafe(statement).catch_unwind();
    tokio::pin!(statement);
    let finished = |result: std::thread::Result<Result<T>>| result.unwrap_or_else(|panic| Err(panicked(panic)));
    let error = tokio::select! {
        result = &mut statement => return finished(result),
        error = interruption(cancel, deadline, reader) => error,
    };
    if !cancel.is_shielded() {
        return Err(error);
    }
    match tokio::time::timeout(SHIELDED_MAX, &mut statement).await {
        Ok(result) => finished(result),
        Err(_) if cancel.is_shielded() => Err(outcome_unknown(error)),
        Err(_) => Err(error),
    }
}

/// The statement ends, but what it wrote may yet take effect. A client that is told of a mere cancellation would do it again.
fn outcome_unknown(error: SqlError) -> SqlError {
    let detail = "What it does was accepted and is not on the disk yet; it takes effect once the log can be written, unless the server \
                  stops before.";
    let state = if is_fatal(&error) { error.state } else { SqlState::STATEMENT_COMPLETION_UNKNOWN };
    SqlError { state, ..error }.with_detail(detail).with_hint("Look whether it is done before doing it again.")
}

async fn interruption(cancel: &CancelToken, deadline: Option<Instant>, reader: Option<&Reader>) -> SqlError {
    let out_of_time = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let gone = async {
        match reader {
            Some(reader) => reader.gone().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupt = cancel.interrupted() => match interrupt {
            Interrupt::User => SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to user request"),
            Interrupt::Shutdown => shutting_down(),
            Interrupt::SnapshotTooOld => SqlError::new(SqlState::SNAPSHOT_TOO_OLD, "snapshot too old")
                .with_detail("What the statement reads has come to the server's limit of age or size.")
                .with_hint("Read results sooner, or start the server with a larger --snapshot-age or --snapshot-size."),
        },
        () = out_of_time => SqlError::new(SqlState::QUERY_CANCELED, "canceling statement due to statement timeout"),
        () = gone => SqlError::new(CLIENT_GONE, "connection to client lost"),
    }
}

/// The client's end of the connection is closed: nobody is left to be told. Not 08006, which a statement may fail with.
pub const CLIENT_GONE: SqlState = SqlState("08003");

pub fn shutting_down() -> SqlError {
    SqlError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

/// Errors of a statement after which the connection is closed.
pub fn is_fatal(error: &SqlError) -> bool {
    matches!(error.state, SqlState::ADMIN_SHUTDOWN | CLIENT_GONE)
}
