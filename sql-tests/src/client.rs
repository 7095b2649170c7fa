//! Statements that a test takes for granted: one that fails ends the test with its text.

use crate::wait::{PATIENCE, POLL};
use std::time::Instant;
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, SimpleQueryMessage};

pub async fn run(client: &Client, statement: &str) {
    client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
}

/// What the server says of a statement that it does not take.
pub async fn refused(client: &Client, statement: &str) -> DbError {
    let error = client.batch_execute(statement).await.expect_err(statement);
    error.as_db_error().unwrap_or_else(|| panic!("{statement}: {error:?}")).clone()
}

/// The one bigint that a query gives.
pub async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap_or_else(|e| panic!("{query}: {e:?}")).get(0)
}

/// The bigints of a query's one row; `None` while it cannot be read, or has a null.
pub async fn numbers(client: &Client, query: &str) -> Option<Vec<i64>> {
    let row = client.query_one(query, &[]).await.ok()?;
    (0..row.len()).map(|i| row.try_get::<_, Option<i64>>(i).ok().flatten()).collect()
}

/// What a source waits for, if it does.
pub async fn problem_of(client: &Client, source: &str) -> Option<String> {
    let query = format!("SELECT problem FROM eddyline.sources WHERE source = '{source}' AND problem IS NOT NULL");
    rows(client, &query).await.into_iter().flatten().flatten().next()
}

/// The rows of a query as texts.
pub async fn rows(client: &Client, query: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(query).await.unwrap_or_else(|e| panic!("{query}: {e:?}"));
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect()),
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// Waits until a query gives these rows, as texts; null is `NULL`.
pub async fn shows(client: &Client, query: &str, expected: &[&[&str]]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = rows(client, query).await;
        let texts: Vec<Vec<&str>> = found.iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect()).collect();
        if texts == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{query} gives {texts:?}, not {expected:?}");
        tokio::time::sleep(POLL).await;
    }
}
