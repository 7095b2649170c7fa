//! One client: startup, then messages until it leaves. Messages of the extended protocol that follow an error are
//! skipped up to the next Sync.

use super::cancel::Interrupt;
use super::guard::CLIENT_GONE;
use super::guard::{is_fatal, shutting_down};
use super::listener::Admission;
use super::messages::Severity;
use super::shape::unexpected;
use super::wire::{Reader, Writer};
use crate::pgcatalog::DATABASE;
use crate::session::{Services, Session};
use crate::sessions::{Registration, Sessions};
use eddyline_common::{Result, SqlError, SqlState};
use pgwire::messages::startup::Startup;
use pgwire::messages::{PgWireFrontendMessage as Message, SslNegotiationMetaMessage as Negotiation};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// A client that has not said who it is by then is turned away.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a stopped connection may still take to read its last message.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

pub struct Connection {
    pub reader: Reader,
    pub writer: Writer,
    pub session: Session,
    /// An error was sent; messages are skipped until Sync.
    pub skipping: bool,
    registration: Registration,
}

/// Serves one client until it leaves. Errors that end the connection have been sent.
pub async fn serve(stream: TcpStream, services: Arc<Services>, admission: Admission) {
    // Small answers must not wait for more to come.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client's socket cannot be set up");
        return;
    }
    let address = stream.peer_addr().ok();
    let (read, write) = stream.into_split();
    let (mut reader, mut writer) = (Reader::new(read), Writer::new(write));
    let started = tokio::time::timeout(STARTUP_TIMEOUT, greet(&mut reader, &mut writer, &services.sessions)).await;
    let startup = match started {
        Ok(Ok(Some(startup))) => startup,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(error)) => return farewell(&mut writer, &error).await,
    };
    let Some(_place) = admission.enter() else {
        let error = SqlError::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
            .with_detail(format!("The server takes {} sessions.", admission.limit()))
            .with_hint("Raise --max-connections, or use a connection pool.");
        return farewell(&mut writer, &error).await;
    };
    let user = startup.parameters.get("user").cloned().unwrap_or_else(|| DATABASE.to_string());
    let registration = services.sessions.register(&user, address, services.clock.now());
    let session = Session::new(services, user, registration.client.process, registration.client.cancel.clone());
    writer.ends_with(registration.client.cancel.clone());
    let mut connection = Connection { reader, writer, session, skipping: false, registration };
    let ended = match connection.welcome(&startup).await {
        Ok(()) => connection.messages().await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        farewell(&mut connection.writer, &error).await;
    }
    connection.session.end().await;
}

async fn farewell(writer: &mut Writer, error: &SqlError) {
    if error.state == CLIENT_GONE {
        return;
    }
    writer.has_ended();
    writer.error(Severity::Fatal, error);
    if !matches!(tokio::time::timeout(FAREWELL_TIMEOUT, writer.flush()).await, Ok(Ok(()))) {
        tracing::debug!(%error, "a client left before it could be told");
    }
}

/// Up to the startup message; cancel requests are answered here.
async fn greet(reader: &mut Reader, writer: &mut Writer, sessions: &Sessions) -> Result<Option<Startup>> {
    loop {
        match reader.startup().await? {
            Some(Message::SslNegotiation(Negotiation::PostgresSsl(_) | Negotiation::PostgresGss(_))) => {
                writer.refuse_encryption();
                writer.flush().await?;
            }
            Some(Message::CancelRequest(cancel)) => {
                if let Some(secret) = cancel.secret_key.as_i32() {
                    sessions.cancel(cancel.pid, secret);
                }
                return Ok(None);
            }
            Some(Message::Startup(startup)) => {
                reader.startup_done();
                return Ok(Some(startup));
            }
            Some(_) | None => return Ok(None),
        }
    }
}

impl Connection {
    async fn welcome(&mut self, startup: &Startup) -> Result<()> {
        if startup.protocol_number_major != 3 {
            return Err(SqlError::unsupported(format!(
                "unsupported frontend protocol {}.{}: server supports 3.0",
                startup.protocol_number_major, startup.protocol_number_minor
            )));
        }
        let unknown: Vec<String> = startup.parameters.keys().filter(|k| k.starts_with("_pq_.")).cloned().collect();
        if startup.protocol_number_minor > 0 || !unknown.is_empty() {
            self.writer.negotiate_protocol_version(&unknown);
        }
        let database = startup.parameters.get("database").unwrap_or(&self.session.user);
        if database != DATABASE {
            return Err(SqlError::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{database}\" does not exist"))
                .with_hint(format!("The one database is \"{DATABASE}\".")));
        }
        for (name, value) in &startup.parameters {
            match name.as_str() {
                "user" | "database" | "replication" => {}
                "options" => self.options(value)?,
                name if name.starts_with("_pq_.") => {}
                name => self.session.settings.set_initial(name, value)?,
            }
        }
        self.writer.authentication_ok();
        for (name, value) in self.session.settings.reported() {
            self.writer.parameter_status(name, value);
        }
        self.writer.backend_key_data(self.registration.client.process, self.registration.client.secret);
        self.rests();
        self.writer.ready_for_query(self.session.transaction_state());
        self.writer.flush().await
    }

    /// `-c name=value` and `--name=value`, with backslashes before spaces in values.
    fn options(&mut self, text: &str) -> Result<()> {
        let mut words: Vec<String> = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => words.last_mut().expect("never empty").extend(chars.next()),
                c if c.is_whitespace() => words.push(String::new()),
                c => words.last_mut().expect("never empty").push(c),
            }
        }
        let mut words = words.into_iter().filter(|w| !w.is_empty());
        while let Some(word) = words.next() {
            let assignment = match word.strip_prefix("--") {
                Some(rest) => rest.to_string(),
                None if word == "-c" => words.next().unwrap_or_default(),
                None => word.strip_prefix("-c").unwrap_or(&word).to_string(),
            };
            let Some((name, value)) = assignment.split_once('=') else {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}")));
            };
            self.session.settings.set_initial(name, value)?;
        }
        Ok(())
    }

    async fn messages(&mut self) -> Result<()> {
        loop {
            let Some(message) = self.next().await? else { return Ok(()) };
            if matches!(message, Message::Terminate(_)) {
                return Ok(());
            }
            if self.skipping && !matches!(message, Message::Sync(_)) {
                continue;
            }
            // A cancel that came too late for the last statement must not end this one.
            self.session.cancel.reset();
            self.session.release_snapshots();
            self.runs(&message);
            let ends = matches!(message, Message::Query(_) | Message::Sync(_));
            if let Err(error) = self.handle(message).await {
                self.report(error).await?;
            }
            if ends {
                self.rests();
            }
        }
    }

    /// Tells the others what this session is at.
    fn runs(&self, message: &Message) {
        let text = match message {
            Message::Query(query) => query.query.as_str(),
            Message::Parse(parse) => parse.query.as_str(),
            Message::Execute(execute) => {
                let portal = self.session.portal(execute.name.as_deref().unwrap_or_default());
                portal.map_or("", |portal| portal.parsed.sql.as_str())
            }
            _ => return,
        };
        self.registration.client.runs(text, self.session.services().clock.now());
    }

    fn rests(&self) {
        let application = self.session.settings.get("application_name").unwrap_or_default();
        self.registration.client.rests(self.session.transaction_state(), application, self.session.services().clock.now());
    }

    async fn next(&mut self) -> Result<Option<Message>> {
        let in_block = self.session.transaction_state() != super::messages::TransactionState::Idle;
        let setting = if in_block { "idle_in_transaction_session_timeout" } else { "idle_session_timeout" };
        let limit = self.session.settings.timeout(setting);
        let idle = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(idle);
        loop {
            let interrupt = tokio::select! {
                biased;
                message = self.reader.message() => return message,
                () = &mut idle => {
                    let what = if in_block { "idle-in-transaction" } else { "idle-session" };
                    let state = if in_block { SqlState("25P03") } else { SqlState("57P05") };
                    return Err(SqlError::new(state, format!("terminating connection due to {what} timeout")));
                }
                interrupt = self.session.cancel.interrupted() => interrupt,
            };
            match interrupt {
                Interrupt::Shutdown => return Err(shutting_down()),
                // Between statements there is nothing to end.
                Interrupt::User => self.session.cancel.reset(),
                Interrupt::SnapshotTooOld => self.session.release_snapshots(),
            }
        }
    }

    async fn handle(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Query(query) => self.simple_query(&query.query).await,
            Message::Parse(parse) => self.parse(parse).await,
            Message::Bind(bind) => self.bind(bind).await,
            Message::Describe(describe) => self.describe(describe),
            Message::Execute(execute) => self.execute(execute).await,
            Message::Close(close) => self.close(close),
            Message::Sync(_) => self.sync().await,
            Message::Flush(_) => self.writer.flush().await,
            // The rest of a COPY that has failed.
            Message::CopyData(_) | Message::CopyDone(_) | Message::CopyFail(_) => Ok(()),
            other => Err(unexpected(&other, "")),
        }
    }

    /// An error of the extended protocol: what follows is left out until the client synchronises, a Flush by which it might wait for the error too.
    async fn report(&mut self, error: SqlError) -> Result<()> {
        self.tell(error)?;
        self.skipping = true;
        self.writer.flush().await
    }

    /// Tells the client of an error. One that ends the connection is given back.
    pub fn tell(&mut self, error: SqlError) -> Result<()> {
        if is_fatal(&error) {
            return Err(error);
        }
        self.session.services().metrics.statement_errors.add(1);
        self.session.fail();
        self.send_notices();
        self.writer.error(Severity::Error, &error);
        Ok(())
    }

    /// Notices and changed parameters, which come before what completes the statement.
    pub fn send_notices(&mut self) {
        for notice in self.session.take_notices() {
            // What is there already is none, as in PostgreSQL.
            let is_warning = notice.state != SqlState::SUCCESS && !notice.state.0.starts_with("42");
            self.writer.notice(if is_warning { Severity::Warning } else { Severity::Notice }, &notice);
        }
        for (name, value) in self.session.take_reports() {
            self.writer.parameter_status(name, &value);
        }
    }
}
