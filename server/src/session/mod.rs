//! A session: statements in, outcomes out. It owns the settings, the transaction, prepared statements and
//! portals of one client, and calls planner, coordinator and serving in turn.
//!
//! - `settings`: parameters
//! - `described`: what a statement leaves to its format
//! - `planning`: text to planned statement, over the catalog as the session sees it; `replanning`: once more, when what it names was replaced before it ran
//! - `statement`: what each kind of statement does
//! - `statement_set`: statement sets that come in pieces
//! - `transaction`, `modes`, `commit`: blocks, what they may do, snapshots, effects
//! - `write_memory`: what the rows of all of them may take
//! - `writing`: INSERT, UPDATE, DELETE; `locking`: the tables they and SELECT ... FOR UPDATE keep others from writing to
//! - `adding`: ALTER TABLE ... ADD COLUMN; `table_as`: CREATE TABLE AS; `doomed`: tables that have to go again
//! - `writing_out`: INSERT of VALUES into a table with a connector
//! - `temporary`: temporary tables and views
//! - `cursor`: prepared statements, portals, DECLARE and FETCH; `kept`: plans of prepared statements
//! - `show`, `explain_job`: SHOW and DESCRIBE; EXPLAIN of what runs
//! - `copy`, `copy_lines`, `copy_tuples`: COPY in and out; `subscribing`: SUBSCRIBE
//!
//! It knows nothing of messages and sockets.

mod adding;
pub mod commit;
pub mod copy;
pub mod copy_lines;
pub mod copy_tuples;
pub mod cursor;
mod described;
pub mod doomed;
mod explain_job;
mod kept;
mod locking;
mod modes;
pub mod planning;
mod replanning;
pub mod settings;
pub mod show;
pub mod statement;
mod statement_set;
mod subscribing;
mod table_as;
mod temporary;
pub mod transaction;
pub mod write_memory;
mod writing;
mod writing_out;

use crate::coordinator::{CoordinatorHandle, ReadSnapshot};
use crate::metrics::Metrics;
use crate::pgwire::cancel::CancelToken;
use crate::pgwire::messages::TransactionState;
use crate::problems::Problems;
use crate::serving::numbers::Numbers;
use crate::serving::{QueryEngine, RowStream};
use crate::sessions::Sessions;
use arrow::datatypes::SchemaRef;
use cursor::{Portals, Statements};
use doomed::Drops;
use eddyline_common::runtime::Clock;
use eddyline_common::{Epoch, RelationId, Result, SqlError, Timestamp};
use eddyline_planner::statement::CopyFormat;
use settings::Settings;
use statement_set::OpenSet;
use std::sync::{Arc, Weak};
use temporary::TemporaryRelations;
use transaction::{SettingsAround, Transaction};
use write_memory::WriteMemory;

/// What all sessions share.
pub struct Services {
    pub coordinator: CoordinatorHandle,
    pub engine: QueryEngine,
    /// Of rows that are not committed yet.
    pub write_memory: Arc<WriteMemory>,
    /// Of tables that number their rows.
    pub numbers: Numbers,
    pub metrics: Arc<Metrics>,
    pub sessions: Arc<Sessions>,
    pub problems: Arc<Problems>,
    /// What the server was started with, by name.
    pub settings: Vec<(&'static str, String)>,
    pub clock: Arc<dyn Clock>,
    /// When the server began to take clients.
    pub started: Timestamp,
}

impl Services {
    /// The server's settings by name, with what is in force and what changes it.
    pub fn present_settings(&self) -> Vec<(&'static str, String, &'static str)> {
        let alterable = self.coordinator.settings();
        let present = |(name, started): &(&'static str, String)| match alterable.get(*name) {
            Some(value) => (*name, value.clone(), "ALTER SYSTEM"),
            None => (*name, started.clone(), "restart"),
        };
        self.settings.iter().map(present).collect()
    }
}

pub struct Session {
    services: Arc<Services>,
    pub user: String,
    pub process: i32,
    pub cancel: Arc<CancelToken>,
    pub settings: Settings,
    transaction: Transaction,
    /// A statement set whose END has not come.
    open_set: Option<OpenSet>,
    statements: Statements,
    portals: Portals,
    temporary: TemporaryRelations,
    /// So many were made.
    last_temporary: u32,
    /// The newest epoch this session has read or written: it never goes back behind it.
    seen: Epoch,
    /// What this session reads or has yet to read from, as long as somebody in it does.
    snapshots: Vec<Weak<ReadSnapshot>>,
    /// What the last definition statement made.
    created: Option<RelationId>,
    drops: Drops,
    /// To be sent before the statement completes.
    notices: Vec<SqlError>,
    /// Settings the client is to be told of.
    reports: Vec<(&'static str, String)>,
}

/// What a statement gives the client.
pub enum Outcome {
    Rows { rows: RowStream, tag: Tag },
    Done(String),
    CopyIn(copy::CopyIn),
    CopyOut { rows: RowStream, format: CopyFormat },
    Empty,
}

/// How `CommandComplete` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `SELECT 3`, `FETCH 3`: the word and the number of rows sent.
    Counted(&'static str),
    /// `INSERT 0 3`, `SHOW`: said as it is.
    Fixed(String),
}

impl Tag {
    pub fn text(&self, rows: u64) -> String {
        match self {
            Tag::Counted(word) => format!("{word} {rows}"),
            Tag::Fixed(text) => text.clone(),
        }
    }
}

impl Session {
    pub fn new(services: Arc<Services>, user: String, process: i32, cancel: Arc<CancelToken>) -> Self {
        Session {
            settings: Settings::new(&user).of_server(&services.settings),
            services,
            user,
            process,
            cancel,
            transaction: Transaction::default(),
            open_set: None,
            statements: Statements::default(),
            portals: Portals::default(),
            temporary: TemporaryRelations::default(),
            last_temporary: 0,
            seen: Epoch::ZERO,
            snapshots: Vec::new(),
            created: None,
            drops: Drops::default(),
            notices: Vec::new(),
            reports: Vec::new(),
        }
    }

    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub fn transaction_state(&self) -> TransactionState {
        self.transaction.state()
    }

    pub fn take_notices(&mut self) -> Vec<SqlError> {
        std::mem::take(&mut self.notices)
    }

    pub fn take_reports(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.reports)
    }

    /// Waits until what was undone is gone, before the client says more.
    pub async fn settle(&mut self) {
        self.drops.done().await;
    }

    /// The client has left: its transaction comes to nothing, and what is its own goes.
    pub async fn end(&mut self) {
        self.transaction = Transaction::default();
        self.temporary = TemporaryRelations::default();
        self.settle().await;
    }

    /// Keeps an eye on a snapshot, of which the server may let go.
    fn watch(&mut self, snapshot: &Arc<ReadSnapshot>) {
        self.snapshots.retain(|s| s.strong_count() > 0);
        self.snapshots.push(Arc::downgrade(snapshot));
        let cancel = Arc::downgrade(&self.cancel);
        snapshot.on_let_go(move || cancel.upgrade().into_iter().for_each(|c| c.snapshot_too_old()));
    }

    /// Lets go of what the server does not keep for this session any longer: its cursors end, and so does a block that
    /// reads there.
    pub fn release_snapshots(&mut self) {
        self.cancel.snapshots_released();
        let too_old = self.snapshots.iter().filter_map(Weak::upgrade).find_map(|s| s.check().err());
        if let Some(error) = too_old {
            self.portals.clear();
            self.transaction.lose_snapshot(error);
        }
        self.snapshots.retain(|s| s.strong_count() > 0);
    }

    fn warn(&mut self, state: eddyline_common::SqlState, message: impl Into<String>) {
        self.notices.push(SqlError::new(state, message));
    }

    fn inform(&mut self, message: impl Into<String>) {
        self.notices.push(SqlError::notice(message));
    }

    /// Changes settings: for the transaction alone if `local`, and in any case not beyond one that comes to nothing.
    fn change_settings(&mut self, local: bool, change: impl Fn(&mut Settings) -> Result<()>) -> Result<()> {
        let before = self.settings.clone();
        change(&mut self.settings)?;
        self.reports.extend(self.settings.reports_after(&before));
        let around = self.transaction.settings.get_or_insert_with(|| SettingsAround { after: before.clone(), before });
        if local { Ok(()) } else { change(&mut around.after) }
    }

    fn adopt(&mut self, settings: Settings) {
        let before = std::mem::replace(&mut self.settings, settings);
        self.reports.extend(self.settings.reports_after(&before));
    }
}

/// The result's schema with the names that clients see.
pub fn renamed(schema: &SchemaRef, names: impl IntoIterator<Item = String>) -> SchemaRef {
    let fields = schema.fields().iter().zip(names).map(|(field, name)| field.as_ref().clone().with_name(name));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}
