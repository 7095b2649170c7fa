//! What the planner is told about relations. The server's catalog owns these, persists them as they are,
//! and hands out immutable snapshots; the planner only reads.

use crate::plan::{ChangelogMode, Expr, StreamPlan};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::TableSource;
use eddyline_common::connector::{SinkSpec, SourceSpec};
use eddyline_common::time::{MICROS_PER_MILLI, MICROS_PER_SECOND};
use eddyline_common::types::Column;
use eddyline_common::{Epoch, RelationId, Result, SqlError, SqlState, SqlType, options};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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
    /// What names in its text mean, whatever that is called by now.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, Meant>,
}

/// What a name in a definition means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meant {
    pub relation: RelationId,
    /// So many of its visible columns: others may follow them by now.
    pub columns: usize,
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
        /// It was made for rows that are not there yet: the first write to it makes it one like any other, and a start that finds it as it is drops it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        awaits_rows: bool,
        /// A session's own, which calls it otherwise and drops it in the end; a start that finds it drops it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        temporary: bool,
        /// The column that numbers its rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        numbered: Option<Numbered>,
    },
    /// Inlined where it is named; `query` is its SELECT text.
    View {
        query: String,
    },
    MaterializedView {
        plan: StreamPlan,
        options: ViewOptions,
    },
    /// Its rows go outside; nothing can be read from it.
    Sink(Box<SinkDefinition>),
}

/// A column whose values, where a statement writes none, are numbers that no other row was given (`GENERATED ... AS IDENTITY`, SERIAL).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// Among the stored ones.
    pub column: usize,
    /// No statement writes its values.
    pub always: bool,
    /// Of those from here on none has been given. Numbers are set aside, many at a time, by altering the table.
    pub next: i64,
}

/// Ids from here on are of sessions' temporary views; the coordinator's never come so far. A new one has this very id.
pub const FIRST_TEMPORARY: RelationId = RelationId(1 << 28);

/// Ids from here on are of `ViewOptions::own_sources` in a plan that has not come to the coordinator yet.
pub const FIRST_OWN: RelationId = RelationId(1 << 29);

/// Whether it is the id of a session's temporary view.
pub fn is_temporary(id: RelationId) -> bool {
    (FIRST_TEMPORARY..FIRST_OWN).contains(&id)
}

/// A source with the options of a hint. Nobody but the view or sink that has the hint reads it, and it is in no catalog: it comes and goes with its reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnSource {
    pub relation: Relation,
    /// The source that the hint is behind.
    pub of: RelationId,
    /// Where its options say, and not where the other one starts for all its readers.
    pub starts_anew: bool,
}

impl Relation {
    /// The column that numbers its rows.
    pub fn numbered(&self) -> Option<&Numbered> {
        match &self.kind {
            RelationKind::Table { numbered, .. } => numbered.as_ref(),
            _ => None,
        }
    }

    /// Whether it is a session's own.
    pub fn is_temporary(&self) -> bool {
        is_temporary(self.id) || self.is_temporary_table()
    }

    /// Whether it is a session's own table, which has its rows where all tables have them.
    pub fn is_temporary_table(&self) -> bool {
        matches!(self.kind, RelationKind::Table { temporary: true, .. })
    }

    /// Whether a start would drop it, as the rows that it was made for are not there.
    pub fn awaits_rows(&self) -> bool {
        matches!(self.kind, RelationKind::Table { awaits_rows: true, .. })
    }

    /// Says so of a table, or that they are there.
    pub fn set_awaits_rows(&mut self, awaits: bool) {
        if let RelationKind::Table { awaits_rows, .. } = &mut self.kind {
            *awaits_rows = awaits;
        }
    }

    /// Whether it is a table outside whose rows are asked for by key.
    pub fn is_looked_up(&self) -> bool {
        self.source_spec().is_some_and(|spec| options::is_looked_up(&spec.options))
    }

    /// What is said of such a table where its rows would be read.
    pub fn cannot_be_read(&self) -> SqlError {
        let name = &self.name;
        SqlError::unsupported(format!("rows of \"{name}\" are looked up by key, and cannot be read as a whole")).with_hint(format!(
            "Write JOIN {name} FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.k = c.k in a materialized view or a running INSERT; \
             ask the database itself for all rows."
        ))
    }

    /// The plan of its job, if it was planned from a query.
    pub fn plan(&self) -> Option<&StreamPlan> {
        match &self.kind {
            RelationKind::MaterializedView { plan, .. } => Some(plan),
            RelationKind::Sink(sink) => Some(&sink.plan),
            _ => None,
        }
    }

    /// The stored columns that its event time and its watermark are computed of.
    pub fn watermark_columns(&self) -> BTreeSet<usize> {
        let read = std::cell::RefCell::new(BTreeSet::new());
        let note = |column: usize| {
            read.borrow_mut().insert(column);
            Some(Expr::Column(column))
        };
        if let Some(watermark) = &self.watermark {
            crate::expr::map_columns(&watermark.expression, &note);
            crate::expr::map_columns(&self.visible[watermark.column].value, &note);
        }
        read.into_inner()
    }

    /// The options of its job, if it was planned from a query.
    pub fn job_options(&self) -> Option<&ViewOptions> {
        match &self.kind {
            RelationKind::MaterializedView { options, .. } => Some(options),
            RelationKind::Sink(sink) => Some(&sink.options),
            _ => None,
        }
    }

    pub fn job_options_mut(&mut self) -> Option<&mut ViewOptions> {
        match &mut self.kind {
            RelationKind::MaterializedView { options, .. } => Some(options),
            RelationKind::Sink(sink) => Some(&mut sink.options),
            _ => None,
        }
    }

    /// The sources that it alone reads.
    pub fn own_sources(&self) -> &[OwnSource] {
        self.job_options().map(|options| options.own_sources.as_slice()).unwrap_or_default()
    }

    /// What there has to be for it: what its query names, and what its plan reads of others beneath views that are named.
    pub fn needs(&self) -> Vec<RelationId> {
        let is_own = |input: &RelationId| self.own_sources().iter().any(|own| own.relation.id == *input);
        let inputs = self.plan().map(StreamPlan::inputs).unwrap_or_default();
        self.depends_on.iter().copied().chain(inputs.into_iter().filter(|input| !is_own(input))).collect()
    }

    /// The table that it writes its rows into.
    pub fn sink_table(&self) -> Option<RelationId> {
        if let RelationKind::Sink(sink) = &self.kind { sink.into } else { None }
    }

    pub fn plan_mut(&mut self) -> Option<&mut StreamPlan> {
        match &mut self.kind {
            RelationKind::MaterializedView { plan, .. } => Some(plan),
            RelationKind::Sink(sink) => Some(&mut sink.plan),
            _ => None,
        }
    }
}

/// A CREATE SINK, or a running INSERT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkDefinition {
    pub spec: SinkSpec,
    pub plan: StreamPlan,
    pub options: ViewOptions,
    /// A running INSERT: where the rows go is a table's affair.
    pub is_insert: bool,
    /// The name was made up: another one does as well if it is taken.
    pub name_is_free: bool,
    /// Rows are kept, and not sent: ALTER JOB ... PAUSE.
    #[serde(default)]
    pub paused: bool,
    /// The table of ours that the rows go into, if they do not go outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<RelationId>,
    /// What may wait on disk to be sent.
    pub log_bytes_max: u64,
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
    /// Microseconds that changes are collected before a step takes them; 0: none.
    #[serde(default)]
    pub emit_interval: i64,
    /// Microseconds that operators keep state which is not touched; 0: for ever.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub state_ttl: i64,
    /// So many workers at most do its work; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// A view's: it stays at this epoch. ALTER ... PAUSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Epoch>,
    /// A view's: rows older than this are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// A view's: its statement names a temporary view, and says alone no more what its query is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_temporary: bool,
    /// The sources that it reads under a hint OPTIONS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_sources: Vec<OwnSource>,
}

/// How long a view keeps its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retention {
    pub micros: i64,
    /// The column that says how old a row is, folded; the view's time attribute if it names none.
    pub column: Option<String>,
}

/// A reader of other views waits for the slowest, and inputs are kept for as long.
const EMIT_INTERVAL_MAX: i64 = 3600 * MICROS_PER_SECOND;

/// Far from where time ends.
const STATE_TTL_MAX: i64 = 100 * 366 * 24 * 3600 * MICROS_PER_SECOND;

fn is_zero(value: &i64) -> bool {
    *value == 0
}

impl ViewOptions {
    /// What canonical options of a view or sink say of its job.
    pub fn of(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut view = ViewOptions::default();
        for key in [
            options::ON_ERROR,
            options::ALLOWED_LATENESS,
            options::EMIT_INTERVAL,
            options::STATE_TTL,
            options::PARALLELISM,
            options::RETENTION,
        ] {
            view.set(key, options.get(key).map(String::as_str))?;
        }
        Ok(view)
    }

    /// `None`: the default.
    pub fn set(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        let micros = || value.map_or(Ok(0), |text| options::duration(key, text));
        match key {
            options::ON_ERROR => self.on_error = if value == Some("stop") { ErrorPolicy::Stop } else { ErrorPolicy::Reject },
            options::ALLOWED_LATENESS => self.allowed_lateness = micros()?,
            options::EMIT_INTERVAL => {
                self.emit_interval = micros()?;
                if self.emit_interval > EMIT_INTERVAL_MAX {
                    return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{key}\" is at most one hour")));
                }
            }
            options::STATE_TTL => {
                self.state_ttl = micros()?;
                if !(0..=STATE_TTL_MAX).contains(&self.state_ttl) {
                    return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{key}\" is at most a hundred years")));
                }
            }
            options::PARALLELISM => {
                let workers = value.map(|text| options::whole(key, text)).transpose()?;
                self.parallelism = workers.map(|workers| u32::try_from(workers).unwrap_or(u32::MAX));
            }
            options::RETENTION => {
                let retention = value.map(|text| options::retention(key, text)).transpose()?;
                self.retention = retention.map(|(micros, column)| Retention { micros, column });
            }
            _ => {}
        }
        Ok(())
    }

    /// What is not the default, as it would be written.
    pub fn listed(&self) -> Vec<(&'static str, String)> {
        let mut listed = Vec::new();
        if self.on_error == ErrorPolicy::Stop {
            listed.push((options::ON_ERROR, "stop".to_string()));
        }
        for (key, micros) in [
            (options::ALLOWED_LATENESS, self.allowed_lateness),
            (options::EMIT_INTERVAL, self.emit_interval),
            (options::STATE_TTL, self.state_ttl),
        ] {
            if micros != 0 {
                listed.push((key, duration_text(micros)));
            }
        }
        if let Some(workers) = self.parallelism {
            listed.push((options::PARALLELISM, workers.to_string()));
        }
        if let Some(Retention { micros, column }) = &self.retention {
            let on = column.as_ref().map_or_else(String::new, |column| format!(" on {column}"));
            listed.push((options::RETENTION, duration_text(*micros) + &on));
        }
        listed
    }
}

/// A duration as an option has it.
pub fn duration_text(micros: i64) -> String {
    match micros {
        m if m % MICROS_PER_SECOND == 0 => format!("{} s", m / MICROS_PER_SECOND),
        m if m % MICROS_PER_MILLI == 0 => format!("{} ms", m / MICROS_PER_MILLI),
        m => format!("{m} us"),
    }
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

/// A secondary index as planned and persisted. Its id is one of relations' ids, and its name one of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub id: RelationId,
    /// Folded, without schema: all user objects live in `public`.
    pub name: String,
    /// The statement that created it, as the user wrote it.
    pub sql: String,
    /// Whose rows it finds, and with which it goes.
    pub relation: RelationId,
    /// What rows are found by: of the relation's visible columns, in order. Each is a stored one.
    pub columns: Vec<usize>,
    /// INCLUDE, likewise. Nothing follows from it: an index leads to whole rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<usize>,
}

impl Index {
    /// What rows are found by, as stored columns of its relation.
    pub fn stored_columns(&self, relation: &Relation) -> Vec<usize> {
        let stored = |column: &usize| match &relation.visible.get(*column)?.value {
            Expr::Column(stored) => Some(*stored),
            _ => None,
        };
        self.columns.iter().filter_map(stored).collect()
    }
}

/// A read-only view of everything a statement may name.
pub trait Catalog {
    /// A user relation by folded name; `schema` is what the statement wrote (`None`, `public`, or `pg_temp` for the session's own).
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Arc<Relation>>;

    /// Every user relation, for suggestions and SHOW.
    fn relations(&self) -> Vec<Arc<Relation>>;

    /// The catalog as the query of `view` sees it, if it sees another one: temporary views are seen by what the session makes of them only.
    fn of_view(&self, _view: &Relation) -> Option<Box<dyn Catalog + '_>> {
        None
    }

    /// What a batch query scans for a user relation (stored columns) or for a system relation
    /// (`pg_catalog`, `information_schema`, `eddyline`; unqualified names find `pg_catalog` too).
    fn table_source(&self, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>>;

    /// What a batch query scans for a source whose options a hint has changed. `starts_anew`: not where it starts for all its readers, but
    /// where these options say.
    fn overridden_source(&self, _source: Arc<Relation>, _starts_anew: bool) -> Option<Arc<dyn TableSource>> {
        None
    }

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
