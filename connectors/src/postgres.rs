//! Tables in PostgreSQL that are looked up: a job asks for the rows of some keys, in one query for all of them, and is answered on a
//! thread that it does not wait for. Nothing is read as a source, and nothing is written.
//!
//! # Parts
//! - `table`: which columns there are over there, and the texts of queries
//! - `rows`: what comes back, as columns of ours
//! - `server`: the connection, which all questions of a job share; asking again
//!
//! # Invariants
//! 1. What equals a key is decided over there: an answer says for which key a row was found, and nobody compares again.
//! 2. A connection begins by looking at the table, so that after a change of it questions fail with the column's name.

mod rows;
mod server;
mod table;

use arrow::array::ArrayRef;
use eddyline_common::connector::*;
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use server::{Question, Server};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use table::{Table, text_of_keys};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinSet;

/// A question is mostly waiting.
const THREADS: usize = 1;
/// Whoever creates the table waits no longer.
const CHECKED_WITHIN: Duration = Duration::from_secs(10);
/// One attempt, the connection included.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_CACHED_KEYS: i64 = 10_000;

static RUNTIME: LazyLock<std::io::Result<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("lookups").enable_all().build());

/// Where databases are asked. Must not be waited for on a runtime's own threads.
fn runtime() -> Result<&'static Handle> {
    RUNTIME.as_ref().map(Runtime::handle).map_err(|e| SqlError::io(format!("no threads for look-ups: {e}")))
}

pub struct PostgresTable {
    server: Arc<Server>,
    cache: Option<LookupCache>,
}

impl PostgresTable {
    /// Checks options and columns; contacts nobody.
    pub fn new(spec: &SourceSpec) -> Result<Self> {
        let table = Table::new(spec)?;
        let micros = |key: &str| options::duration_micros(&spec.options, key);
        let timeout = micros(options::LOOKUP_TIMEOUT)?.map_or(DEFAULT_TIMEOUT, |micros| Duration::from_micros(micros as u64));
        let retries_max = options::integer(&spec.options, options::LOOKUP_RETRIES)?.map(|retries| retries as u64);
        let keys_max = options::integer(&spec.options, options::LOOKUP_ROWS)?.unwrap_or(DEFAULT_CACHED_KEYS) as usize;
        let cache = micros(options::LOOKUP_TTL)?.map(|ttl_micros| LookupCache { keys_max, ttl_micros });
        Ok(PostgresTable { server: Arc::new(Server::new(spec, table, timeout, retries_max)?), cache })
    }
}

impl LookupConnector for PostgresTable {
    fn check(&self) -> Result<()> {
        let checked = runtime()?.block_on(async { tokio::time::timeout(CHECKED_WITHIN, self.server.check()).await });
        checked.unwrap_or_else(|_| Err(self.server.did_not_answer(CHECKED_WITHIN)))
    }

    fn cache(&self) -> Option<LookupCache> {
        self.cache
    }

    fn open(&self, shape: LookupShape, on_trouble: OnTrouble) -> Result<Box<dyn LookupClient>> {
        let types = shape.keys.iter().map(|key| self.server.type_of(*key)).collect::<Result<Vec<_>>>()?;
        let (server, shape, runtime) = (self.server.clone(), Arc::new(shape), runtime()?);
        Ok(Box::new(Client { server, shape, types, on_trouble, runtime, asked: JoinSet::new() }))
    }
}

/// The questions of one worker. Those that are not answered end with it.
struct Client {
    server: Arc<Server>,
    shape: Arc<LookupShape>,
    /// Of the keys.
    types: Vec<SqlType>,
    on_trouble: OnTrouble,
    runtime: &'static Handle,
    asked: JoinSet<()>,
}

impl LookupClient for Client {
    fn ask(&mut self, keys: Vec<ArrayRef>, on_answer: OnAnswer) {
        while self.asked.try_join_next().is_some() {}
        let keys = match text_of_keys(&keys, &self.types) {
            Ok(keys) => keys,
            Err(error) => return on_answer(Err(error)),
        };
        let question = Question { shape: self.shape.clone(), keys, on_trouble: self.on_trouble.clone() };
        let server = self.server.clone();
        self.asked.spawn_on(async move { on_answer(server.answer(question).await) }, self.runtime);
    }
}

/// What stands in a source's place for a table that is looked up.
pub struct LookedUp(PostgresTable);

impl LookedUp {
    pub fn new(spec: &SourceSpec) -> Result<Self> {
        Ok(LookedUp(PostgresTable::new(spec)?))
    }
}

fn refused<T>() -> Result<T> {
    Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "a table that is looked up cannot be read as a whole"))
}

impl SourceConnector for LookedUp {
    fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
        self.0.check().map(|()| Vec::new())
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        refused()
    }

    fn read(&self, _ranges: Vec<PartitionRange>, _sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        refused()
    }
}
