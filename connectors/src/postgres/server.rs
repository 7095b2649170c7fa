//! The database of one job's look-ups: a connection, made when it is needed and again when it is gone, over which the questions of all
//! workers go side by side. What fails is asked again with back-off; each attempt has an end.

use super::rows::Rows;
use super::table::{DESCRIBE, Found, Keys, Table, query};
use eddyline_common::connector::{LookupAnswer, LookupShape, OnTrouble, SourceSpec};
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use futures::TryStreamExt;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};

/// Between attempts: the first pause and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// As large as a connection's message here may be; a key with more rows than fit is none to look rows up by.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What a worker asks.
pub struct Question {
    pub shape: Arc<LookupShape>,
    pub keys: Keys,
    pub on_trouble: OnTrouble,
}

pub struct Server {
    config: Config,
    /// `host:port`, for errors.
    place: String,
    database: String,
    table: Table,
    /// Of an attempt.
    timeout: Duration,
    /// `None`: until there is an answer.
    retries_max: Option<u64>,
    connection: Mutex<Option<Arc<Connection>>>,
    troubled: Troubled,
}

/// How many questions are being asked again.
type Troubled = parking_lot::Mutex<usize>;

/// A question that is asked again, until it ends. That all is well is told when none is left.
struct Trouble<'a> {
    troubled: &'a Troubled,
    on_trouble: &'a OnTrouble,
}

impl<'a> Trouble<'a> {
    fn begin(troubled: &'a Troubled, on_trouble: &'a OnTrouble) -> Self {
        *troubled.lock() += 1;
        Trouble { troubled, on_trouble }
    }

    fn tell(&self, why: String) {
        (self.on_trouble)(Some(why));
    }
}

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        // Told under the lock: another question's trouble that begins now is told after it.
        let mut troubled = self.troubled.lock();
        *troubled -= 1;
        if *troubled == 0 {
            (self.on_trouble)(None);
        }
    }
}

/// A connection, and the table as it was when it began: by column of ours.
struct Connection {
    client: Client,
    found: Vec<Result<Found>>,
}

/// Why an attempt failed.
enum Failure {
    /// It may pass.
    Trouble(SqlError),
    /// Another attempt would fail as well.
    Answer(SqlError),
}

impl Failure {
    fn into_error(self) -> SqlError {
        match self {
            Failure::Trouble(error) | Failure::Answer(error) => error,
        }
    }
}

impl Server {
    pub fn new(spec: &SourceSpec, table: Table, timeout: Duration, retries_max: Option<u64>) -> Result<Self> {
        let of = |key: &str| spec.options.get(key).map(String::as_str).unwrap_or_default();
        let port = of(options::PORT).parse::<u16>().map_err(|_| SqlError::internal("a port is no number"))?;
        let (host, database) = (of(options::HOSTNAME), of(options::DATABASE).to_string());
        let mut config = Config::new();
        config.host(host).port(port).dbname(&database).user(of(options::USERNAME)).ssl_mode(SslMode::Disable).application_name("eddyline");
        if let Some(password) = spec.options.get(options::PASSWORD) {
            config.password(password);
        }
        let place = format!("{host}:{port}");
        let (connection, troubled) = (Mutex::new(None), Troubled::new(0));
        Ok(Server { config, place, database, table, timeout, retries_max, connection, troubled })
    }

    /// The type of a column of ours.
    pub fn type_of(&self, column: usize) -> Result<SqlType> {
        let column = self.table.columns.get(column).ok_or_else(|| SqlError::internal("a key is no column of its table"))?;
        Ok(column.ty.clone())
    }

    /// That the table is there, with its columns, and may be read.
    pub async fn check(&self) -> Result<()> {
        let connection = self.connect().await?;
        let columns: Vec<usize> = (0..self.table.columns.len()).collect();
        let shape = LookupShape { keys: vec![0], columns };
        let sql = query(&self.table.name, &shape, &|column| connection.found[column].clone())?;
        let nothing: Vec<String> = Vec::new();
        let keys: [(&(dyn ToSql + Sync), Type); 1] = [(&nothing, Type::TEXT_ARRAY)];
        connection.client.query_typed(&sql, &keys).await.map(drop).map_err(|e| self.failed(&e))
    }

    /// Asks until there is an answer, or as often as the table's options say.
    pub async fn answer(&self, question: Question) -> Result<LookupAnswer> {
        let (mut failures, mut pause, mut trouble) = (0, PAUSE_MIN, None);
        loop {
            let mut used = None;
            let error = match tokio::time::timeout(self.timeout, self.attempt(&question, &mut used)).await {
                Ok(Err(Failure::Trouble(error))) => error,
                Ok(ended) => return ended.map_err(Failure::into_error),
                Err(_) => self.did_not_answer(self.timeout),
            };
            if let Some(used) = used {
                self.leave(&used).await;
            }
            failures += 1;
            if self.retries_max.is_some_and(|retries| failures > retries) {
                return Err(error);
            }
            trouble.get_or_insert_with(|| Trouble::begin(&self.troubled, &question.on_trouble)).tell(error.message);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// `used` becomes the connection that the question went over, whatever becomes of it.
    async fn attempt(&self, question: &Question, used: &mut Option<Arc<Connection>>) -> Result<LookupAnswer, Failure> {
        let Question { shape, keys, .. } = question;
        let columns = shape.columns.iter().map(|column| &self.table.columns[*column]).collect();
        let mut rows = Rows::new(columns).map_err(Failure::Answer)?;
        if keys.places.is_empty() {
            return rows.finish().map_err(Failure::Answer);
        }
        let connection = used.insert(self.connected().await.map_err(Failure::Trouble)?);
        let sql = query(&self.table.name, shape, &|column| connection.found[column].clone()).map_err(Failure::Trouble)?;
        let parameters: Vec<(&Vec<String>, Type)> = keys.texts.iter().map(|texts| (texts, Type::TEXT_ARRAY)).collect();
        let stream = connection.client.query_typed_raw(&sql, parameters).await.map_err(|e| self.failure(&e))?;
        let mut stream = pin!(stream);
        let mut bytes = 0;
        while let Some(row) = stream.try_next().await.map_err(|e| self.failure(&e))? {
            bytes += row.raw_size_bytes();
            if bytes > ANSWER_BYTES_MAX {
                return Err(Failure::Answer(too_large(keys.places.len())));
            }
            rows.push(&row, keys).map_err(Failure::Answer)?;
        }
        rows.finish().map_err(Failure::Answer)
    }

    async fn connected(&self) -> Result<Arc<Connection>> {
        let mut current = self.connection.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.client.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(self.connect().await?);
        *current = Some(connection.clone());
        Ok(connection)
    }

    /// Whatever failed over a connection, the next attempt begins anew; unless another question already has. What is on its way over it goes on.
    async fn leave(&self, used: &Arc<Connection>) {
        let mut current = self.connection.lock().await;
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, used)) {
            *current = None;
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(|e| self.failed(&e))?;
        tokio::spawn(async move {
            // Whoever asks over it is told of its end.
            let _ended = connection.await;
        });
        // The server gives up a question when we do, and nothing is changed by accident.
        let settings = format!("SET statement_timeout = {}; SET default_transaction_read_only = on", self.timeout.as_millis().max(1));
        client.batch_execute(&settings).await.map_err(|e| self.failed(&e))?;
        let name: [(&(dyn ToSql + Sync), Type); 1] = [(&self.table.name, Type::TEXT)];
        let rows = client.query_typed(DESCRIBE, &name).await.map_err(|e| self.failed(&e))?;
        if rows.is_empty() {
            let message = format!("table {} does not exist in database \"{}\" at {}", self.table.name, self.database, self.place);
            return Err(SqlError::new(SqlState::UNDEFINED_TABLE, message).with_hint(
                "Names are taken as they are written, upper case and lower case; another schema's are table-name = 'schema.table'.",
            ));
        }
        let text = |row: &tokio_postgres::Row, at: usize| row.try_get::<_, String>(at).map_err(|e| self.failed(&e));
        let columns = rows.iter().map(|row| -> Result<[String; 3]> { Ok([text(row, 0)?, text(row, 1)?, text(row, 2)?]) });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let found = (0..self.table.columns.len()).map(|column| self.table.find(column, &columns)).collect();
        Ok(Connection { client, found })
    }

    fn failure(&self, error: &tokio_postgres::Error) -> Failure {
        let error = self.failed(error);
        // A value that cannot be is one at the next attempt too.
        if error.state.0.starts_with("22") { Failure::Answer(error) } else { Failure::Trouble(error) }
    }

    /// What the library or the server says, with all reasons. None of them has the password.
    fn failed(&self, error: &tokio_postgres::Error) -> SqlError {
        let mut words = error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().to_string());
        let mut source = if error.as_db_error().is_some() { None } else { error.source() };
        while let Some(reason) = source {
            words = format!("{words}: {reason}");
            source = reason.source();
        }
        let state = match error.code().map(|code| code.code()) {
            Some("42501") => SqlState::INSUFFICIENT_PRIVILEGE,
            Some("42P01") => SqlState::UNDEFINED_TABLE,
            Some(code) if code.starts_with("22") => SqlState::INVALID_TEXT,
            _ => SqlState::CONNECTION_FAILURE,
        };
        let error = SqlError::new(state, format!("PostgreSQL at {}: {words}", self.place));
        match state {
            SqlState::CONNECTION_FAILURE => {
                error.with_hint("Check hostname, port, database-name, username and password, and that it is up.")
            }
            _ => error,
        }
    }

    pub fn did_not_answer(&self, within: Duration) -> SqlError {
        let message = format!("PostgreSQL at {} did not answer within {} ms", self.place, within.as_millis());
        SqlError::new(SqlState::CONNECTION_FAILURE, message)
            .with_hint("Check that it is up, and that the columns compared have an index there.")
    }
}

fn too_large(keys: usize) -> SqlError {
    let message = format!("the rows of {keys} keys that are looked up have more than {} MiB", ANSWER_BYTES_MAX >> 20);
    SqlError::new(SqlState::LIMIT_EXCEEDED, message).with_hint("Look rows up by columns that few of them share.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_well_when_no_question_is_in_trouble() {
        let told: Arc<parking_lot::Mutex<Vec<Option<String>>>> = Arc::default();
        let noted = told.clone();
        let on_trouble: OnTrouble = Arc::new(move |trouble| noted.lock().push(trouble));
        let troubled = Troubled::default();
        let [one, other] = ["one", "other"].map(|why| {
            let trouble = Trouble::begin(&troubled, &on_trouble);
            trouble.tell(why.to_string());
            trouble
        });
        drop(one);
        assert_eq!(*told.lock(), [Some("one".to_string()), Some("other".to_string())]);
        drop(other);
        assert_eq!(told.lock().last(), Some(&None));
    }
}
