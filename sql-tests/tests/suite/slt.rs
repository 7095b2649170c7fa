//! Runs every `.slt` file over pgwire, in every mode: workers 1 and 2, both state backends, and with a kill and restart
//! between any two statements. A statement's session settings do not outlive the kill; suites do not rely on them.

use async_trait::async_trait;
use eddyline_sql_tests::{Server, ServerOptions};
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A statement that takes longer never ends.
const ANSWERED_WITHIN: Duration = Duration::from_secs(120);

/// A server as sqllogictest sees it.
struct Database {
    server: Server,
    client: Client,
    /// Kill and restart before every statement.
    restless: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failure {
    text: String,
    state: Option<String>,
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => {
                let hint = db.hint().map(|h| format!(" HINT: {h}")).unwrap_or_default();
                let detail = db.detail().map(|d| format!(" DETAIL: {d}")).unwrap_or_default();
                Failure { text: format!("{}: {}{detail}{hint}", db.code().code(), db.message()), state: Some(db.code().code().to_string()) }
            }
            None => Failure { text: error.to_string(), state: None },
        }
    }
}

impl Database {
    async fn start(options: ServerOptions, restless: bool) -> Database {
        let server = Server::start(options);
        let client = server.connect().await;
        Database { server, client, restless }
    }
}

#[async_trait]
impl AsyncDB for Database {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        if self.restless {
            self.server.kill_and_restart();
            self.client = self.server.connect().await;
        }
        let mut rows = Vec::new();
        let mut columns = None;
        let mut affected = 0;
        let answer = tokio::time::timeout(ANSWERED_WITHIN, self.client.simple_query(sql)).await;
        let late =
            |_| Failure { text: format!("no answer within {ANSWERED_WITHIN:?}; the server's log:\n{}", self.server.log()), state: None };
        for message in answer.map_err(late)?? {
            match message {
                SimpleQueryMessage::RowDescription(description) => columns = Some(description.len()),
                SimpleQueryMessage::Row(row) => rows.push((0..row.len()).map(|i| cell(row.get(i))).collect::<Vec<_>>()),
                SimpleQueryMessage::CommandComplete(count) => affected = count,
                _ => {}
            }
        }
        match columns {
            None => Ok(DBOutput::StatementComplete(affected)),
            Some(count) => Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text; count], rows }),
        }
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "eddyline"
    }

    fn error_sql_state(error: &Failure) -> Option<String> {
        error.state.clone()
    }
}

fn cell(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_string(),
        Some("") => "(empty)".to_string(),
        Some(text) => text.to_string(),
    }
}

fn suites() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "slt")).collect();
    files.sort();
    assert!(!files.is_empty(), "there are suites");
    files
}

async fn run_all(options: ServerOptions, restless: bool) {
    let mut failures = Vec::new();
    for file in suites() {
        let mut runner = Runner::new(|| {
            let options = options.clone();
            async move { Ok(Database::start(options, restless).await) }
        });
        // Types are compared by the wire tests; here every column is text.
        runner.with_column_validator(|_, _| true);
        if let Err(error) = runner.run_file_async(&file).await {
            failures.push(format!("{}: {error}", file.display()));
        }
    }
    assert!(failures.is_empty(), "{} suites failed:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_memory() {
    run_all(ServerOptions { workers: 1, backend: "memory", ..Default::default() }, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_memory() {
    run_all(ServerOptions { workers: 2, backend: "memory", ..Default::default() }, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_rocksdb() {
    run_all(ServerOptions { workers: 1, backend: "rocksdb", state_cache: "1MiB", ..Default::default() }, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_rocksdb() {
    run_all(ServerOptions { workers: 2, backend: "rocksdb", state_cache: "1MiB", ..Default::default() }, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_statements() {
    run_all(ServerOptions { workers: 2, backend: "rocksdb", state_cache: "1MiB", checkpoint_interval: "20ms", ..Default::default() }, true)
        .await;
}
