//! What the planner is told about relations. The server's catalog owns these, persists them as they are,
//! and hands out immutable snapshots; the planner only reads.

use crate::plan::{ChangelogMode, Expr, StreamPlan};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableSource;
use eddyline_common::connector::SourceSpec;
use eddyline_common::types::Column;
use eddyline_common::{RelationId, SqlType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A catalog object as planned and persisted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    pub id: RelationId,
    /// Folded, without schema: all user objects live in `public`.
    pub name: String,
    /// The statement that created it, as the user wrote it.
    pub sql: String,
    /// The stored columns: what its changelog carries and what `Op::Scan` projects from.
    pub columns: Vec<Column>,
    /// Columns a query sees, in declaration order. For all but sources and tables with computed or
    /// hidden columns this is every stored column as it is.
    pub visible: Vec<VisibleColumn>,
    /// Unique key that is a fact (a table's enforced key, a view's derived one), in stored columns.
    pub key: Vec<usize>,
    pub mode: ChangelogMode,
    pub watermark: Option<WatermarkDefinition>,
    /// Stored columns that are event time (bounded by the relation's watermark).
    pub time_columns: Vec<usize>,
    pub kind: RelationKind,
    /// Relations its query names directly; for CASCADE and for refusing a DROP.
    pub depends_on: Vec<RelationId>,
}

/// A column as queries see it: a stored one, or an expression over the stored ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisibleColumn {
    pub column: Column,
    pub value: Expr,
}

/// `WATERMARK FOR column AS expression`: the partition's watermark is the maximum of `expression` over
/// its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatermarkDefinition {
    /// Index into `Relation::visible`.
    pub column: usize,
    /// Over the stored columns; a Timestamp or TimestampTz.
    pub expression: Expr,
    /// Microseconds after which a silent partition no longer holds the watermark back; `None`: never.
    pub idle_timeout: Option<i64>,
    /// Microseconds that one record's time may lie ahead of `now` before it is left out of the watermark.
    pub future_guard: Option<i64>,
    /// Only `ADVANCE WATERMARK` moves it (`watermark.mode = 'manual'`).
    pub manual: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RelationKind {
    Source(SourceSpec),
    /// A source whose records overwrite each other by the relation's key. Its rows are kept; see `crate::keyed`.
    KeyedSource {
        spec: SourceSpec,
        /// The id under which its records are read. The coordinator's, as the relation's own.
        feed: RelationId,
    },
    Table {
        /// No UPDATE and DELETE; `mode` is `Append`.
        append_only: bool,
        /// DEFAULT expressions by stored column.
        defaults: BTreeMap<usize, Expr>,
        /// Its rows come over HTTP, as this says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        webhook: Option<SourceSpec>,
    },
    /// Inlined where it is named; `query` is its SELECT text.
    View {
        query: String,
    },
    MaterializedView {
        plan: StreamPlan,
        options: ViewOptions,
    },
}

/// What `WITH (...)` of a view may say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ViewOptions {
    pub on_error: ErrorPolicy,
    /// Microseconds.
    pub allowed_lateness: i64,
    /// The session's when the view was made; absent for UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// What a row error does to a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorPolicy {
    /// The row goes to `eddyline.rejected_rows` and the job goes on.
    #[default]
    Reject,
    /// The job stops and says why.
    Stop,
}

/// A function in SQL as planned and persisted: an expression over its arguments, which takes the place of every call. Its id is
/// one of relations' ids, so that both can depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SqlFunction {
    pub id: RelationId,
    /// Folded, without schema: all user objects live in `public`.
    pub name: String,
    /// The statement that created it, as the user wrote it.
    pub sql: String,
    pub arguments: Vec<FunctionArgument>,
    pub returns: SqlType,
    /// The expression's text. It names the arguments, or says `$1`, `$2`, ...
    pub body: String,
    /// Null if any argument is, whatever the expression says.
    pub strict: bool,
    /// Functions that the expression calls.
    pub depends_on: Vec<RelationId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FunctionArgument {
    pub name: Option<String>,
    pub ty: SqlType,
}

impl SqlFunction {
    /// `name(type, type)`.
    pub fn signature(&self) -> String {
        let types: Vec<String> = self.arguments.iter().map(|a| a.ty.to_string()).collect();
        format!("{}({})", self.name, types.join(", "))
    }
}

/// A read-only view of everything a statement may name.
pub trait Catalog {
    /// A user relation by folded name; `schema` is what the statement wrote (`None` or `public`).
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>>;

    /// Every user relation, for suggestions and SHOW.
    fn relations(&self) -> Vec<Arc<Relation>>;

    /// What a batch query scans for a user relation (stored columns) or for a system relation
    /// (`pg_catalog`, `information_schema`, `eddyline`; unqualified names find `pg_catalog` too).
    fn table_source(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>>;

    /// Scalar and aggregate functions by lower-case name; `pg_catalog.f` is asked for as `f`.
    fn functions(&self) -> &dyn FunctionRegistry;

    /// A user's function by folded name.
    fn user_function(&self, _name: &str) -> Option<Arc<SqlFunction>> {
        None
    }

    /// Every user's function, for suggestions and SHOW.
    fn user_functions(&self) -> Vec<Arc<SqlFunction>> {
        Vec::new()
    }
}
