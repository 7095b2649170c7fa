//! What ends a statement before its end: a cancel request, a timeout, shutdown, a client that is gone, a panic. The
//! statement's future is dropped, and with it its queries. While a commit is shielded nothing ends it.

use super::cancel::{CancelToken, Interrupt};
use super::wire::Reader;
use crate::serving::engine::panicked;
use eddyline_common::{Result, SqlError, SqlState};
use futures::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// Runs a statement. `reader` is watched for the client's end; a dialogue that reads by itself gives none.
pub async fn guarded<T>(
    cancel: &CancelToken,
    timeout: Option<Duration>,
    reader: Option<&Reader>,
    statement: impl Future<Output = Result<T>>,
) -> Result<T> {
    let statement = AssertUnwindSafe(statement).catch_unwind();
    tokio::pin!(statement);
    let finished = |result: std::thread::Result<Result<T>>| result.unwrap_or_else(|panic| Err(panicked(panic)));
    let interrupted = interruption(cancel, timeout, reader);
    tokio::select! {
        result = &mut statement => return finished(result),
        error = interrupted => {
            if !cancel.is_shielded() {
                return Err(error);
            }
        }
    }
    finished(statement.await)
}

async fn interruption(cancel: &CancelToken, timeout: Option<Duration>, reader: Option<&Reader>) -> SqlError {
    let out_of_time = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
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
