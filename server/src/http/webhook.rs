//! `POST /source/NAME`: rows from outside, for sources declared with the connector `webhook`. Such a source is a table that
//! is written from here: what cannot be asked for again goes into the log itself. A request is one write, taken whole or not
//! at all, and answered when it is durable. Requests are bounded in size and in number.

use crate::serving::conflict::overwrite;
use crate::session::Services;
use arrow::array::RecordBatch;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use eddyline_common::connector::SourceSpec;
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Epoch, SqlError, SqlState, options};
use eddyline_connectors::format::{DecodedRows, PayloadColumn, Record, decoder, split::Splitter, split::json_values};
use eddyline_planner::{Relation, RelationKind};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// One request. A sender splits what is larger.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Who has not sent a request's rows by then holds up others, as it holds one of their places.
const SENT_WITHIN: Duration = Duration::from_secs(30);

/// How long a request waits for the table's other writers. A transaction that has locked it may stay open for ever, and who waits for it holds up others, too.
const LOCKED_WITHIN: Duration = Duration::from_secs(5);

/// Requests that are being taken, over all sources: more wait for the log and hold memory without being any faster.
const REQUESTS_MAX: usize = 32;

/// What the handler needs.
pub struct Webhooks {
    pub services: Arc<Services>,
    requests: Semaphore,
}

impl Webhooks {
    pub fn new(services: Arc<Services>) -> Arc<Self> {
        Arc::new(Webhooks { services, requests: Semaphore::new(REQUESTS_MAX) })
    }
}

/// Why a request is not taken.
enum Refusal {
    NoSource(String),
    Unauthorized,
    Busy,
    TooLarge,
    TooSlow,
    /// A row that cannot be decoded, counted from 1.
    Row(usize, String),
    Failed(SqlError),
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        Refusal::Failed(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, body) = match self {
            Refusal::NoSource(name) => (StatusCode::NOT_FOUND, json!({ "error": format!("there is no webhook source \"{name}\"") })),
            Refusal::Unauthorized => (StatusCode::UNAUTHORIZED, json!({ "error": "the source wants its token as Authorization: Bearer" })),
            Refusal::Busy => {
                (StatusCode::TOO_MANY_REQUESTS, json!({ "error": format!("{REQUESTS_MAX} requests are being taken already") }))
            }
            Refusal::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, json!({ "error": format!("a request holds at most {BODY_BYTES_MAX} bytes") }))
            }
            Refusal::TooSlow => {
                let error = format!("a request is sent within {} seconds", SENT_WITHIN.as_secs());
                (StatusCode::REQUEST_TIMEOUT, json!({ "error": error }))
            }
            Refusal::Row(row, reason) => (StatusCode::BAD_REQUEST, json!({ "error": reason, "row": row })),
            Refusal::Failed(error) => (status_of(&error), json!({ "error": error.message, "sqlstate": error.state.0 })),
        };
        let mut response = answer(status, &body);
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn status_of(error: &SqlError) -> StatusCode {
    match error.state {
        SqlState::NOT_NULL_VIOLATION | SqlState::UNIQUE_VIOLATION => StatusCode::BAD_REQUEST,
        SqlState::UNDEFINED_TABLE => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

pub async fn post(State(webhooks): State<Arc<Webhooks>>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Response {
    match take(&webhooks, name, &headers, body).await {
        Ok((rows, epoch)) => answer(StatusCode::OK, &json!({ "rows": rows, "epoch": epoch.0 })),
        Err(refusal) => refusal.into_response(),
    }
}

async fn take(webhooks: &Webhooks, name: String, headers: &HeaderMap, body: Body) -> Result<(usize, Epoch), Refusal> {
    let coordinator = &webhooks.services.coordinator;
    let relation = coordinator.catalog().by_name(&name).cloned();
    let relation = relation.ok_or_else(|| Refusal::NoSource(name.clone()))?;
    let RelationKind::Table { webhook: Some(spec), .. } = &relation.kind else { return Err(Refusal::NoSource(name)) };
    if !is_allowed(spec, headers) {
        return Err(Refusal::Unauthorized);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > BODY_BYTES_MAX) {
        return Err(Refusal::TooLarge);
    }
    // Who may not write takes nobody's place.
    let _permit = webhooks.requests.try_acquire().map_err(|_| Refusal::Busy)?;
    let bytes = received(body, SENT_WITHIN).await?;
    let spec = spec.clone();
    let decoded = tokio::task::spawn_blocking(move || decode(&spec, &bytes)).await.map_err(SqlError::internal)?;
    let (decoded, rows) = decoded?;
    let epoch = if relation.key.is_empty() {
        let rows = RecordBatch::try_new(arrow_schema(&relation.columns), decoded.columns).map_err(SqlError::from)?;
        coordinator.write_one(relation.id, ChangeBatch::insertions(rows)).await?
    } else {
        write_keyed(webhooks, &relation, decoded).await?
    };
    webhooks.services.metrics.rows_written.add(rows as u64);
    Ok((rows, epoch))
}

async fn received(body: Body, within: Duration) -> Result<Bytes, Refusal> {
    let received = tokio::time::timeout(within, to_bytes(body, BODY_BYTES_MAX)).await;
    received.map_err(|_| Refusal::TooSlow)?.map_err(|_| Refusal::TooLarge)
}

/// The later row of a key stays: looks up what is there under the table's lock, with what a sender wrote who has hung up since, whose lock went with the connection.
async fn write_keyed(webhooks: &Webhooks, relation: &Arc<Relation>, decoded: DecodedRows) -> Result<Epoch, Refusal> {
    let services = &webhooks.services;
    let lock = tokio::time::timeout(LOCKED_WITHIN, services.coordinator.lock_table(relation.id)).await;
    let lock = lock.map_err(|_| SqlError::new(SqlState("55P03"), "a transaction has locked the source, and has not ended"))?;
    let snapshot = services.coordinator.snapshot_to_write(relation.id, &[relation.id], Epoch::ZERO).await?;
    let changes = overwrite(relation, &snapshot, decoded.columns, decoded.weights)?;
    let epoch = services.coordinator.write_one(relation.id, changes).await;
    drop(lock);
    Ok(epoch?)
}

fn is_allowed(spec: &SourceSpec, headers: &HeaderMap) -> bool {
    let Some(token) = spec.options.get(options::WEBHOOK_TOKEN) else { return true };
    let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let wanted = format!("Bearer {token}");
    // As long as it takes whatever is given.
    given.len() == wanted.len() && given.iter().zip(wanted.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// The rows of a request: JSON values one after the other or in an array, lines of CSV, or a raw body.
fn decode(spec: &SourceSpec, body: &[u8]) -> Result<(DecodedRows, usize), Refusal> {
    let columns = spec.columns.iter().enumerate().map(|(index, column)| PayloadColumn {
        external_name: column.external_name.clone(),
        ty: column.ty.clone(),
        nullable: column.nullable,
        length: column.length,
        is_key: spec.key.contains(&index),
    });
    let mut decoder = decoder(&spec.options, columns.collect(), !spec.key.is_empty())?;
    let mut row = 0;
    let mut push = |record: &[u8]| {
        row += 1;
        decoder.push(Record::of(record)).map(drop).map_err(|reason| Refusal::Row(row, reason))
    };
    match spec.options.get(options::FORMAT).map_or("", String::as_str) {
        "raw" => push(body)?,
        "csv" => {
            let splitter = Splitter::new(&spec.options)?;
            let mut rest = body;
            while !rest.is_empty() {
                let (record, after) = rest.split_at(splitter.record_len(rest).unwrap_or(rest.len()));
                if !splitter.is_blank(record) {
                    push(record)?;
                }
                rest = after;
            }
        }
        _ => {
            let values = json_values(body).map_err(|(row, reason)| Refusal::Row(row, reason))?;
            values.into_iter().try_for_each(|value| push(value.as_bytes()))?;
        }
    }
    let rows = decoder.rows();
    Ok((decoder.finish()?, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_senders_are_not_waited_for() {
        let never = tokio_stream::pending::<Result<Bytes, std::io::Error>>();
        let refused = received(Body::from_stream(never), Duration::from_millis(10)).await;
        assert!(matches!(refused, Err(Refusal::TooSlow)));
        assert!(received(Body::from("[]"), SENT_WITHIN).await.is_ok_and(|bytes| bytes == "[]"));
        assert!(matches!(received(Body::from(vec![b' '; BODY_BYTES_MAX + 1]), SENT_WITHIN).await, Err(Refusal::TooLarge)));
    }
}
