//! What a statement is after parsing and before anything is looked up. Queries, INSERT, UPDATE and DELETE are
//! sqlparser's trees; everything that sqlparser does not know, or knows differently, is ours.

use crate::plan::Emit;
use crate::statement::{CopyFormat, FetchCount, ObjectKind, Subscriber, TransactionModes};
use datafusion::sql::sqlparser::ast::{Delete, Expr, Ident, Insert, ObjectName, Query, Update};
use datafusion::sql::sqlparser::tokenizer::Location;
use eddyline_common::options::Changes;
use eddyline_common::{SqlError, SqlType};
use std::collections::BTreeMap;

/// What an INSERT says that sqlparser's grammar does not know.
#[derive(Clone, Copy, Debug, Default)]
pub struct InsertClauses {
    pub emit: Option<Emit>,
    /// `OVERRIDING SYSTEM VALUE`: a column that always numbers the rows is written all the same.
    pub overriding: bool,
}

#[allow(clippy::large_enum_variant)] // one per statement, never in bulk
#[derive(Clone, Debug)]
pub enum Ast {
    Empty,
    Query(Box<Query>),
    /// With its EMIT clause, for one that keeps running.
    Insert(Box<Insert>, InsertClauses),
    /// EXECUTE STATEMENT SET: INSERTs that become jobs one after the other.
    StatementSet {
        inserts: Vec<Ast>,
        /// Its END was there.
        ended: bool,
    },
    Update(Box<Update>),
    Delete(Box<Delete>),
    Truncate {
        names: Vec<ObjectName>,
        restart: bool,
    },
    CreateRelation(Box<CreateRelation>),
    CreateTableAs(Box<CreateTableAs>),
    CreateView(Box<CreateView>),
    CreateFunction(Box<CreateFunction>),
    CreateSink(Box<CreateSink>),
    CreateIndex(Box<CreateIndex>),
    PauseJob {
        kind: ObjectKind,
        name: ObjectName,
        pause: bool,
    },
    Drop {
        kind: ObjectKind,
        names: Vec<ObjectName>,
        if_exists: bool,
        cascade: bool,
        /// Said DROP TEMPORARY.
        temporary: bool,
    },
    AdvanceWatermark {
        name: ObjectName,
        to: Expr,
    },
    /// Without a value: RESET.
    AlterSystem {
        name: String,
        value: Option<String>,
    },
    AlterOptions {
        kind: ObjectKind,
        name: ObjectName,
        changes: Changes,
    },
    /// ALTER TABLE ... ADD COLUMN: what is added, as the definition of a table that has no more; and of each column whether it may be there.
    AddColumns {
        added: Box<CreateRelation>,
        if_not_exists: Vec<bool>,
    },
    /// ALTER ... IF EXISTS: nothing, if there is no relation of the name.
    IfThere {
        kind: ObjectKind,
        name: ObjectName,
        alter: Box<Ast>,
    },
    /// ALTER ... RENAME TO.
    Rename {
        kind: ObjectKind,
        name: ObjectName,
        to: Ident,
    },
    Comment {
        kind: ObjectKind,
        name: ObjectName,
        column: Option<Ident>,
        text: Option<String>,
    },
    CopyFrom {
        table: ObjectName,
        columns: Vec<Ident>,
        format: CopyFormat,
    },
    CopyTo {
        query: Box<Query>,
        format: CopyFormat,
    },
    Explain {
        analyze: bool,
        streaming: bool,
        /// As JSON, not as lines of text.
        json: bool,
        statement: Box<Ast>,
    },
    /// EXPLAIN of a view or sink that runs, by its name.
    ExplainJob {
        name: ObjectName,
        analyze: bool,
    },
    Show(ShowAst),
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    Begin(TransactionModes),
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
    Declare {
        name: String,
        query: Box<Query>,
        hold: bool,
    },
    Subscribe {
        name: ObjectName,
        snapshot: bool,
        as_of: Option<u64>,
        to: Subscriber,
    },
    Fetch {
        name: String,
        count: FetchCount,
        move_only: bool,
    },
    Close(Option<String>),
    Prepare {
        name: String,
        types: Vec<SqlType>,
        statement: String,
    },
    Execute {
        name: String,
        arguments: Vec<Expr>,
    },
    Deallocate(Option<String>),
    Discard {
        /// Not only what is temporary.
        all: bool,
    },
    Flush,
    /// What is so in any case, always done here, or never: of these tables, or of all.
    Idle {
        tag: &'static str,
        tables: Vec<ObjectName>,
        notice: Option<SqlError>,
    },
    /// REFRESH MATERIALIZED VIEW.
    Refresh(ObjectName),
    /// CHECK MATERIALIZED VIEW.
    Check(ObjectName),
}

#[derive(Clone, Debug)]
pub enum ShowAst {
    Objects(ObjectKind),
    Jobs,
    Columns(ObjectName),
    Create(ObjectName),
    CreateFunction(ObjectName),
    Setting(String),
    All,
    /// What has one name here.
    Name {
        column: &'static str,
        value: &'static str,
    },
}

/// CREATE SOURCE, CREATE TABLE, and CREATE TABLE with a connector.
#[derive(Clone, Debug)]
pub struct CreateRelation {
    pub name: ObjectName,
    pub if_not_exists: bool,
    /// Said CREATE SOURCE. A CREATE TABLE becomes a source by its `connector` option.
    pub source: bool,
    pub columns: Vec<ColumnAst>,
    pub primary_key: Option<PrimaryKeyAst>,
    pub watermark: Option<WatermarkAst>,
    pub include: Vec<IncludeAst>,
    /// As written, in both accents' spellings.
    pub options: BTreeMap<String, String>,
    pub format: Option<FormatAst>,
    pub append_only: bool,
    /// Said CREATE TEMPORARY TABLE.
    pub temporary: bool,
    pub comments: Vec<CommentAst>,
    /// LIKE: with what else it is put together.
    pub like: Option<LikeAst>,
}

/// `LIKE name (...)`.
#[derive(Clone, Debug)]
pub struct LikeAst {
    pub name: ObjectName,
    /// It stood among the columns, as PostgreSQL's does.
    pub columns_only: bool,
    /// Of what `parts` lacks.
    pub all: Merge,
    pub parts: BTreeMap<LikePart, Merge>,
}

impl LikeAst {
    pub fn merge(&self, part: LikePart) -> Merge {
        self.parts.get(&part).copied().unwrap_or(self.all)
    }
}

/// What becomes of a part of the other definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    Including,
    Excluding,
    /// Unless the statement has its own.
    Overwriting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LikePart {
    Constraints,
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
}

/// CREATE TABLE AS.
#[derive(Clone, Debug)]
pub struct CreateTableAs {
    /// What is said of the table, without columns.
    pub table: CreateRelation,
    /// The columns' names, if they are not the query's.
    pub columns: Vec<Ident>,
    /// What stands between the name and AS, as written.
    pub clauses: String,
    pub query: Box<Query>,
    pub query_text: String,
    /// Did not say WITH NO DATA.
    pub with_data: bool,
}

/// `COMMENT 'text'` behind a column, or of the whole.
#[derive(Clone, Debug)]
pub struct CommentAst {
    pub column: Option<Ident>,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct ColumnAst {
    pub name: Ident,
    /// `None` for a computed column without a type.
    pub ty: Option<SqlType>,
    /// The digits behind the second that its type is written with, if those are fewer than there are.
    pub precision: Option<u8>,
    pub nullable: bool,
    pub value: ColumnValue,
}

#[derive(Clone, Debug)]
pub enum ColumnValue {
    Plain {
        default: Option<Expr>,
    },
    Computed(Expr),
    /// The rows' numbers, from `start` on. `always`: no statement writes them.
    Numbered {
        always: bool,
        start: i64,
    },
    /// `METADATA [FROM 'key']`; without FROM the column's name is the key.
    Metadata {
        key: Option<String>,
    },
}

#[derive(Clone, Debug)]
pub struct PrimaryKeyAst {
    pub columns: Vec<Ident>,
    pub enforced: bool,
    pub location: Location,
}

#[derive(Clone, Debug)]
pub struct WatermarkAst {
    pub column: Ident,
    pub expr: Expr,
}

/// `INCLUDE what [AS name]`.
#[derive(Clone, Debug)]
pub struct IncludeAst {
    pub what: Ident,
    pub alias: Option<Ident>,
}

#[derive(Clone, Debug)]
pub struct FormatAst {
    pub format: String,
    pub encode: String,
}

#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub replace: bool,
    pub materialized: bool,
    pub temporary: bool,
    pub columns: Vec<Ident>,
    pub comments: Vec<CommentAst>,
    pub query: Box<Query>,
    /// The query as written, for inlining.
    pub query_text: String,
    pub emit: Option<Emit>,
    pub options: BTreeMap<String, String>,
}

/// CREATE FUNCTION ... LANGUAGE SQL.
#[derive(Clone, Debug)]
pub struct CreateFunction {
    pub name: ObjectName,
    pub replace: bool,
    pub arguments: Vec<ArgumentAst>,
    pub returns: SqlType,
    /// The text of `SELECT expression`, or of an expression.
    pub body: String,
    pub strict: bool,
}

#[derive(Clone, Debug)]
pub struct ArgumentAst {
    pub name: Option<Ident>,
    pub ty: SqlType,
    pub location: Location,
}

/// CREATE INDEX.
#[derive(Clone, Debug)]
pub struct CreateIndex {
    /// Absent: made up of the relation's and the columns'.
    pub name: Option<ObjectName>,
    pub if_not_exists: bool,
    pub relation: ObjectName,
    pub columns: Vec<Ident>,
    pub include: Vec<Ident>,
}

#[derive(Clone, Debug)]
pub struct CreateSink {
    pub name: ObjectName,
    pub if_not_exists: bool,
    /// `CREATE SINK s INTO table ...`
    pub into: Option<ObjectName>,
    pub from: SinkFrom,
    pub emit: Option<Emit>,
    pub options: BTreeMap<String, String>,
    pub format: Option<FormatAst>,
}

#[derive(Clone, Debug)]
pub enum SinkFrom {
    Relation(ObjectName),
    Query(Box<Query>),
}
