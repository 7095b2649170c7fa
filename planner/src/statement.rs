//! What a statement turns into: everything the session layer can be asked to do.

use crate::catalog::{Index, Relation, SqlFunction};
use crate::parse::Parsed;
use crate::plan::StreamPlan;
use datafusion::logical_expr::LogicalPlan;
use eddyline_common::connector::SinkSpec;
use eddyline_common::types::Column;
use eddyline_common::{RelationId, SqlError};
use std::sync::Arc;

/// A planned statement. Relations to be created come with id 0; the coordinator assigns it. A view that takes the place of
/// another comes with that one's id.
#[derive(Debug)]
pub enum Planned {
    Create {
        relation: Relation,
        if_not_exists: bool,
        comments: Comments,
        /// What whoever creates it should know.
        notices: Vec<String>,
    },
    /// CREATE IF NOT EXISTS of a relation that exists: nothing is asked of its format or connector.
    Exists {
        kind: ObjectKind,
        name: String,
    },
    CreateIndex {
        index: Index,
        if_not_exists: bool,
    },
    /// `replace`: of its signature, another body.
    CreateFunction {
        function: SqlFunction,
        replace: bool,
    },
    Drop {
        kind: ObjectKind,
        names: Vec<String>,
        if_exists: bool,
        cascade: bool,
        /// Only a temporary one, if it is a view.
        temporary: bool,
    },
    /// A batch query at one epoch.
    Query(Query),
    Insert(Insert),
    CreateTableAs(TableAs),
    /// Rows that are written to a connector once; its columns are those of the query.
    WriteOut {
        table: RelationId,
        spec: Box<SinkSpec>,
        source: Query,
    },
    /// Statements of a set, run in order.
    StatementSet(Vec<Planned>),
    /// A sink keeps its rows, or sends them again; a view stays where it is, or goes on.
    PauseJob {
        job: RelationId,
        pause: bool,
    },
    Update(Mutation),
    Delete(Mutation),
    /// Of each table what deletes its rows.
    Truncate(Vec<Mutation>),
    CopyFrom {
        table: RelationId,
        columns: Vec<usize>,
        format: CopyFormat,
    },
    CopyTo {
        query: Query,
        format: CopyFormat,
    },
    /// EXPLAIN of a query, a CREATE or a job: lines of text, ready to print.
    Explain(Vec<String>),
    /// EXPLAIN of a query that runs once: its plan, to which whoever runs it adds how it finds its rows. With `ANALYZE` it is run, and its plan has live figures.
    ExplainQuery {
        query: Query,
        analyze: bool,
        json: bool,
    },
    /// `ANALYZE` of a job: what its operators do at present.
    ExplainJob(RelationId),
    AdvanceWatermark {
        relation: RelationId,
        to_micros: i64,
    },
    /// A relation with other options. It must still be what it was when the statement was planned.
    Alter {
        before: Arc<Relation>,
        after: Box<Relation>,
    },
    AddColumns(AddColumns),
    /// A setting of the server; without a value, as it was started.
    AlterSystem {
        name: String,
        value: Option<String>,
    },
    /// COMMENT ON a relation or one of its visible columns.
    Comment {
        relation: RelationId,
        column: Option<usize>,
        text: Option<String>,
    },
    Show(Show),
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    Begin(TransactionModes),
    /// SET TRANSACTION, or of the transactions that the session begins from then on.
    SetTransaction {
        modes: TransactionModes,
        of_session: bool,
    },
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    ReleaseSavepoint(String),
    RollbackToSavepoint(String),
    /// `hold`: it outlives its transaction.
    DeclareCursor {
        name: String,
        query: Query,
        hold: bool,
    },
    Subscribe(Subscription),
    Fetch {
        name: String,
        count: FetchCount,
        move_only: bool,
    },
    CloseCursor(Option<String>),
    Prepare {
        name: String,
        statement: String,
        types: Vec<eddyline_common::SqlType>,
    },
    ExecutePrepared {
        name: String,
        arguments: Vec<LogicalPlan>,
    },
    Deallocate(Option<String>),
    /// Of what is the session's own everything, or what is temporary.
    Discard {
        all: bool,
    },
    /// Waits until every view has all input that has arrived.
    Flush,
    /// Nothing is to be done.
    Idle {
        tag: &'static str,
        notices: Vec<SqlError>,
    },
    /// An empty statement.
    Empty,
}

/// What a transaction is told to be; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub read_only: Option<bool>,
    /// In lower case.
    pub isolation: Option<String>,
}

/// Texts on a relation, and on its visible columns by number.
pub type Comments = Vec<(Option<usize>, String)>;

impl Planned {
    /// The creation of a relation of which nothing else is said.
    pub fn create(relation: Relation) -> Planned {
        Planned::Create { relation, if_not_exists: false, comments: Vec::new(), notices: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub struct Query {
    pub plan: LogicalPlan,
    /// User relations it reads (views inlined): their common epoch is read.
    pub relations: Vec<RelationId>,
    pub locks: Option<RowLocks>,
    /// The result's columns as clients see them. The plan's own names may differ: it needs unique ones.
    pub columns: Vec<Column>,
}

/// FOR UPDATE or FOR SHARE: nobody else writes to the tables that the query reads until its transaction has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowLocks {
    /// A table that somebody else has written to is an error at once.
    pub nowait: bool,
    /// It says OF what, so the query may read what has no rows to lock.
    pub named: bool,
}

/// The changes of a table or view as they come, without an end.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub relation: RelationId,
    /// The epoch, the weight, then the relation's own.
    pub columns: Vec<Column>,
    /// It begins with what there is.
    pub snapshot: bool,
    /// It begins with what came after this epoch.
    pub as_of: Option<u64>,
    pub to: Subscriber,
}

/// Who gets the rows of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscriber {
    Client,
    Cursor(String),
    Copy(CopyFormat),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    Source,
    Table,
    View,
    MaterializedView,
    Function,
    Sink,
    Index,
}

#[derive(Clone, Debug)]
pub struct Insert {
    pub table: RelationId,
    /// Yields every stored column of the table, in order, with defaults filled in and casts applied.
    pub source: Query,
    pub on_conflict: OnConflict,
    /// Over the table's rows as inserted (or updated).
    pub returning: Option<Returning>,
}

/// CREATE TABLE AS: the table's definition, and what is in it.
#[derive(Debug)]
pub struct TableAs {
    pub name: String,
    pub definition: Box<Parsed>,
    pub rows: TableRows,
}

#[derive(Debug)]
pub enum TableRows {
    None,
    /// Those of a query, in the table's columns.
    Of(Box<Query>),
    /// Those of an INSERT that can be planned once the table is there: it keeps running, or writes to a connector.
    Insert(Box<Parsed>),
}

#[derive(Clone, Debug)]
pub enum OnConflict {
    Error,
    DoNothing,
    /// `assignments[i]` is the new value of stored column `i`, over the old row's columns followed by the
    /// `excluded` row's; as DataFusion expressions with unqualified column indices `c0..c(2n-1)`.
    /// `filter` likewise.
    DoUpdate {
        assignments: Vec<(usize, datafusion::logical_expr::Expr)>,
        filter: Option<datafusion::logical_expr::Expr>,
    },
}

/// ALTER TABLE ... ADD COLUMN: a table with the columns, of these rows, takes the place of the table.
#[derive(Debug)]
pub struct AddColumns {
    pub table: Arc<Relation>,
    /// Its definition with the columns.
    pub definition: Box<Parsed>,
    /// Its rows with the columns, in the order of the definition's stored ones.
    pub rows: Query,
    /// Of columns that are there already.
    pub notices: Vec<SqlError>,
}

/// UPDATE: `source` yields the old row's stored columns, then the new row's, and then the old one's number where nothing else tells it from others, which may
/// be yielded several times. DELETE: the old row's.
#[derive(Clone, Debug)]
pub struct Mutation {
    pub table: RelationId,
    pub source: Query,
    pub returning: Option<Returning>,
}

/// Expressions over a row of stored columns named `c0..c(n-1)`, with their output columns.
#[derive(Clone, Debug)]
pub struct Returning {
    pub exprs: Vec<datafusion::logical_expr::Expr>,
    pub columns: Vec<Column>,
}

/// How the rows of COPY are spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFormat {
    pub kind: CopyKind,
    /// The first line has the columns' names.
    pub header: bool,
    pub delimiter: u8,
    pub null: String,
    pub quote: u8,
    pub escape: u8,
    /// Columns that are quoted also where they need not be.
    pub force_quote: CopyColumns,
    /// Columns that are null also in quotes.
    pub force_null: CopyColumns,
    /// Columns that are never null.
    pub force_not_null: CopyColumns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CopyColumns {
    #[default]
    None,
    Named(Vec<String>),
    All,
}

impl CopyFormat {
    /// As it is if nothing more is said.
    pub fn new(kind: CopyKind) -> CopyFormat {
        let (delimiter, null) = if kind == CopyKind::Csv { (b',', "") } else { (b'\t', "\\N") };
        CopyFormat {
            kind,
            header: false,
            delimiter,
            null: null.to_string(),
            quote: b'"',
            escape: b'"',
            force_quote: CopyColumns::None,
            force_null: CopyColumns::None,
            force_not_null: CopyColumns::None,
        }
    }
}

impl CopyColumns {
    pub fn has(&self, column: &str) -> bool {
        match self {
            CopyColumns::None => false,
            CopyColumns::Named(names) => names.iter().any(|name| name == column),
            CopyColumns::All => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    Objects(ObjectKind),
    Jobs,
    Columns(RelationId),
    Create(RelationId),
    CreateFunction(RelationId),
    Setting(String),
    AllSettings,
    /// One name, which cannot be another one.
    Name {
        column: &'static str,
        value: &'static str,
    },
}

/// What the planner makes of a CREATE MATERIALIZED VIEW besides the relation, for EXPLAIN.
#[derive(Debug)]
pub struct StreamingQuery {
    pub logical: LogicalPlan,
    pub plan: StreamPlan,
}
