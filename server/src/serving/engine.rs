//! DataFusion, set up for serving: its own threads (`turns`), so that neither sockets nor views starve while a query
//! scans; a bounded memory pool; integer overflow as an error. Plans come from the planner with
//! `RelationSource`s in them, which are bound to a snapshot here. It knows nothing of sessions.

use super::checked::CheckedArithmetic;
use super::correlated::Statement;
use super::explained::{Explained, Ran};
use super::interrupt::Abandoned;
use super::lookup::Lookup;
use super::relation::{Bindings, bind};
use super::rows::{AbortOnDrop, BATCHES_AHEAD, RowStream};
use super::turns::Threads;
use super::{narrow, physical, view_scan};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::execution::context::SessionState;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::prelude::SessionConfig;
use eddyline_common::{Result, SqlError, SqlState, Timestamp, bytes_of, panic_text};
use eddyline_planner::batch_rules;
use eddyline_planner::casts::{PostgresCasts, rewrite_expr};
use eddyline_planner::functions::words::in_postgres_words;
use futures::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Rows per batch of a query.
pub(super) const BATCH_ROWS: usize = 8192;
/// What a sort keeps for the merge of what it spilled, unless memory is small.
const SORT_RESERVE_BYTES: usize = 10 << 20;

/// Stack of a query thread: plans and expressions are walked recursively.
pub(super) const STACK_BYTES: usize = 64 << 20;

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads that run queries which take long, and partitions a query is cut into.
    pub threads: usize,
    /// What all queries together may hold, in bytes; more spills to disk or fails.
    pub memory_bytes: usize,
    /// Where they spill to; what an earlier process left there is removed.
    pub spill_dir: PathBuf,
    /// What all of them together may spill, in bytes.
    pub spill_bytes: u64,
}

/// What DataFusion plans and runs with.
struct States {
    full: SessionState,
    /// For plans over one relation.
    narrow: SessionState,
}

impl States {
    fn new(config: SessionConfig, environment: Arc<RuntimeEnv>) -> Self {
        let builder = |config| {
            SessionStateBuilder::new()
                .with_config(config)
                .with_runtime_env(environment.clone())
                .with_optimizer_rules(batch_rules())
                .with_physical_optimizer_rules(physical::rules())
                // A rule looks one of them up by its name: it turns DISTINCT ON into `first_value`.
                .with_aggregate_functions(vec![first_value_udaf()])
                .with_analyzer_rule(Arc::new(PostgresCasts))
                .with_analyzer_rule(Arc::new(CheckedArithmetic))
        };
        let mut one_pass = config.clone();
        one_pass.options_mut().optimizer.max_passes = 1;
        States { full: builder(config).build(), narrow: builder(one_pass).with_optimizer_rules(narrow::rules()).build() }
    }

    /// A plan that ends when it is given up, and lets others have their turns.
    async fn physical(&self, plan: LogicalPlan, bindings: &Bindings, given_up: &Abandoned) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = bind(plan, bindings)?;
        let mut state = if narrow::reads_one_relation(&plan).map_err(to_sql_error)? { self.narrow.clone() } else { self.full.clone() };
        state.execution_props_mut().query_execution_start_time = start_time(bindings.now);
        let statement = Statement { state: Arc::new(state), given_up: given_up.clone() };
        super::correlated::physical(plan, statement).await.map_err(to_sql_error)
    }
}

pub struct QueryEngine {
    states: Arc<States>,
    threads: Threads,
}

impl QueryEngine {
    pub fn new(options: EngineOptions) -> Result<Self> {
        let threads = options.threads.max(1);
        let mut config = SessionConfig::new()
            .with_target_partitions(threads)
            .with_sort_spill_reservation_bytes(SORT_RESERVE_BYTES.min(options.memory_bytes / (8 * threads)))
            .with_batch_size(BATCH_ROWS)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(false);
        // It takes a CASE for nullable that the logical plan knows is not, and refuses the plan.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        if options.spill_dir.exists() {
            std::fs::remove_dir_all(&options.spill_dir)?;
        }
        std::fs::create_dir_all(&options.spill_dir)?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_bytes)))
            .with_temp_file_path(options.spill_dir)
            .with_max_temp_directory_size(options.spill_bytes)
            .build_arc()
            .map_err(to_sql_error)?;
        let states = Arc::new(States::new(config, environment));
        Ok(QueryEngine { states, threads: Threads::new(threads)? })
    }

    /// Plans and starts a query; its rows come as they are made.
    pub async fn run(&self, plan: LogicalPlan, bindings: Bindings) -> Result<RowStream> {
        let schema: SchemaRef = plan.schema().inner().clone();
        if let Some(lookup) = Lookup::of(&plan, &bindings) {
            return Ok(RowStream::ready(schema, [self.look_up(lookup).await?]));
        }
        let (planned, is_planned) = oneshot::channel();
        let (tx, rx) = mpsc::channel(BATCHES_AHEAD);
        let (states, abandoned) = (self.states.clone(), Abandoned::default());
        let given_up = abandoned.clone();
        // On the engine's threads: planning takes stack and time that sockets should not pay for.
        let task = self.threads.spawn(async move {
            let plan = match caught(states.physical(plan, &bindings, &given_up)).await {
                Ok(plan) => plan,
                Err(error) => {
                    // The reader may be gone, here and below: then nobody wants to know.
                    let _gone = planned.send(Err(error));
                    return;
                }
            };
            let _gone = planned.send(Ok(()));
            let run = caught(async {
                let mut stream = execute_stream(plan, states.full.task_ctx()).map_err(to_sql_error)?;
                while let Some(batch) = stream.next().await {
                    if tx.send(Ok(batch.map_err(to_sql_error)?)).await.is_err() {
                        break;
                    }
                }
                Ok(())
            });
            if let Err(error) = run.await {
                let _gone = tx.send(Err(error)).await;
            }
        });
        let abort = AbortOnDrop::watching(task.abort_handle(), abandoned);
        is_planned.await.map_err(|_| SqlError::internal("planning was given up"))??;
        Ok(RowStream::running(schema, rx, abort))
    }

    /// Few rows are found before another thread would have been woken.
    async fn look_up(&self, lookup: Lookup) -> Result<RecordBatch> {
        const AT_ONCE_MAX: usize = 64;
        if lookup.rows_max() <= AT_ONCE_MAX {
            return lookup.rows();
        }
        self.threads
            .spawn(async move { lookup.rows() })
            .await
            .unwrap_or_else(|e| Err(SqlError::internal(format!("the look-up failed: {e}"))))
    }

    /// Runs what reads a few rows at a time on the engine's threads, for as long as it goes on.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.threads.spawn_light(work).abort_handle()
    }

    /// The whole result, for plans that are known to be small or whose size the caller bounds by `limit` bytes.
    pub async fn collect(&self, plan: LogicalPlan, bindings: Bindings, limit_bytes: usize) -> Result<Vec<RecordBatch>> {
        self.collect_counted(plan, bindings, limit_bytes, |_| Ok(())).await
    }

    /// The same; `count` is told of the bytes of each batch before it is kept.
    pub async fn collect_counted(
        &self,
        plan: LogicalPlan,
        bindings: Bindings,
        limit_bytes: usize,
        mut count: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<RecordBatch>> {
        let mut rows = self.run(plan, bindings).await?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = rows.next().await? {
            let more = bytes_of(&batch);
            count(more)?;
            bytes += more;
            if bytes > limit_bytes {
                return Err(SqlError::new(SqlState::LIMIT_EXCEEDED, "the statement's result is too large to hold")
                    .with_detail(format!("It may have {limit_bytes} bytes."))
                    .with_hint("Do it in smaller parts."));
            }
            batches.push(batch);
        }
        Ok(batches)
    }

    /// How the query would find the rows of tables and views, which are not read for it: for EXPLAIN.
    pub async fn reads(&self, plan: LogicalPlan, bindings: Bindings) -> Result<Vec<String>> {
        if let Some(lookup) = Lookup::of(&plan, &bindings) {
            return Ok(vec![lookup.describe()]);
        }
        let (states, abandoned) = (self.states.clone(), Abandoned::default());
        let given_up = abandoned.clone();
        let task = self.threads.spawn(caught(async move { Ok(view_scan::reads(&states.physical(plan, &bindings, &given_up).await?)) }));
        let _abort = AbortOnDrop::watching(task.abort_handle(), abandoned);
        task.await.map_err(|e| SqlError::internal(format!("planning was given up: {e}")))?
    }

    /// Runs the query to its end, throwing its rows away, and tells how: for EXPLAIN ANALYZE.
    pub async fn analyze(&self, plan: LogicalPlan, bindings: Bindings) -> Result<Explained> {
        if let Some(lookup) = Lookup::of(&plan, &bindings) {
            let (started, described) = (std::time::Instant::now(), lookup.describe());
            let rows = self.look_up(lookup).await?.num_rows();
            let plan = plan.display_indent().to_string().lines().map(|line| format!("  {line}")).collect();
            return Ok(Explained { plan, reads: vec![described], ran: Some(Ran { rows, time: started.elapsed() }) });
        }
        let (states, abandoned) = (self.states.clone(), Abandoned::default());
        let given_up = abandoned.clone();
        let task = self.threads.spawn(caught(async move {
            let plan = states.physical(plan, &bindings, &given_up).await?;
            let started = std::time::Instant::now();
            let mut stream = execute_stream(plan.clone(), states.full.task_ctx()).map_err(to_sql_error)?;
            let mut rows = 0;
            while let Some(batch) = stream.next().await {
                rows += batch.map_err(to_sql_error)?.num_rows();
            }
            Ok((plan, rows, started.elapsed()))
        }));
        let _abort = AbortOnDrop::watching(task.abort_handle(), abandoned);
        let (plan, rows, time) = task.await.map_err(|e| SqlError::internal(format!("the query failed: {e}")))??;
        let shown = displayable(plan.as_ref()).set_show_schema(false).indent(true).to_string();
        let with_metrics =
            datafusion::physical_plan::display::DisplayableExecutionPlan::with_metrics(plan.as_ref()).indent(true).to_string();
        let text = if with_metrics.is_empty() { shown } else { with_metrics };
        let lines = text.lines().map(String::from).collect();
        Ok(Explained { plan: lines, reads: view_scan::reads(&plan), ran: Some(Ran { rows, time }) })
    }

    /// Binds an expression over the columns of `schema`.
    pub fn expression(&self, expr: &Expr, schema: &DFSchema, now: Timestamp) -> Result<Arc<dyn PhysicalExpr>> {
        let mut state = self.states.full.clone();
        state.execution_props_mut().query_execution_start_time = start_time(now);
        let simplifier = datafusion::optimizer::simplify_expressions::ExprSimplifier::new(
            datafusion::logical_expr::simplify::SimplifyContext::builder()
                .with_schema(Arc::new(schema.clone()))
                .with_config_options(state.config_options().clone())
                .with_query_execution_start_time(start_time(now))
                .build(),
        );
        let expr = rewrite_expr(expr.clone(), schema).and_then(|expr| eddyline_planner::simplified(&simplifier, expr));
        let expr = expr.map_err(to_sql_error)?;
        state.create_physical_expr(expr, schema).map_err(to_sql_error)
    }

    /// Evaluates bound expressions over a batch.
    pub fn evaluate(expr: &dyn PhysicalExpr, batch: &RecordBatch) -> Result<arrow::array::ArrayRef> {
        let value = expr.evaluate(batch).map_err(to_sql_error)?;
        match value {
            ColumnarValue::Array(array) => Ok(array),
            ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(batch.num_rows()).map_err(to_sql_error),
        }
    }

    /// The one value of a plan that yields one row of one column.
    pub async fn scalar(&self, plan: LogicalPlan, bindings: Bindings) -> Result<ScalarValue> {
        const SCALAR_BYTES_MAX: usize = 64 << 20;
        let batches = self.collect(plan, bindings, SCALAR_BYTES_MAX).await?;
        match batches.first() {
            Some(batch) if batch.num_rows() == 1 => ScalarValue::try_from_array(batch.column(0), 0).map_err(to_sql_error),
            _ => Err(SqlError::internal("a single value was expected")),
        }
    }
}

/// A panic in `work` is its error.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic)))
}

fn start_time(now: Timestamp) -> Option<chrono::DateTime<chrono::Utc>> {
    chrono::DateTime::from_timestamp_micros(now.micros())
}

/// A panic as the statement's error.
pub fn panicked(panic: Box<dyn std::any::Any + Send>) -> SqlError {
    let text = panic_text(panic.as_ref());
    tracing::error!(panic = %text, "a statement panicked");
    SqlError::internal("the statement failed unexpectedly")
        .with_detail(format!("{text}."))
        .with_hint("This is a defect of the server; please report it.")
}

/// An error of a running query as clients see it.
pub fn to_sql_error(error: DataFusionError) -> SqlError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<SqlError>() {
            Ok(ours) => *ours,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(nested) => to_sql_error(*nested),
                Err(other) => foreign(&other.to_string()),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => to_sql_error(*inner),
        DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
            Ok(inner) => to_sql_error(inner),
            Err(shared) => shared_error(&shared),
        },
        DataFusionError::Collection(mut errors) if !errors.is_empty() => to_sql_error(errors.swap_remove(0)),
        DataFusionError::ArrowError(inner, _) => arrow_error(*inner),
        DataFusionError::ResourcesExhausted(what) => exhausted(&what),
        DataFusionError::NotImplemented(what) => SqlError::unsupported(first_line(&what)),
        DataFusionError::SchemaError(inner, _) => SqlError::new(SqlState::UNDEFINED_COLUMN, first_line(&inner.to_string())),
        DataFusionError::Plan(what) => in_postgres_words(&what).unwrap_or_else(|| SqlError::new(SqlState::SYNTAX_ERROR, first_line(&what))),
        DataFusionError::Execution(what) => execution_error(&what),
        DataFusionError::ExecutionJoin(inner) if inner.is_panic() => panicked(inner.into_panic()),
        other => foreign(&other.to_string()),
    }
}

/// An error of another's that has no kind of its own.
fn foreign(what: &str) -> SqlError {
    in_postgres_words(what).unwrap_or_else(|| SqlError::internal(first_line(what)))
}

/// Too little memory or too little disk: DataFusion has one kind of error for both.
fn exhausted(what: &str) -> SqlError {
    let (error, hint) = if what.contains("disk space") {
        (
            SqlError::new(SqlState("53400"), "queries have spilled as much to disk as they may"),
            "Ask for less at once, or raise query_spill.",
        )
    } else {
        (SqlError::new(SqlState("53200"), "out of memory"), "Ask for less at once, or raise query_memory.")
    };
    // What follows is about settings that are not ours.
    let what = what.split(" Please try").next().unwrap_or(what);
    error.with_detail(first_line(what)).with_hint(hint)
}

fn shared_error(error: &DataFusionError) -> SqlError {
    let known = match error.find_root() {
        DataFusionError::External(inner) => inner.downcast_ref::<SqlError>().cloned(),
        DataFusionError::ResourcesExhausted(what) => Some(exhausted(what)),
        DataFusionError::ArrowError(inner, _) => spill_error(inner),
        _ => None,
    };
    known.unwrap_or_else(|| execution_error(&error.strip_backtrace()))
}

fn arrow_error(error: arrow::error::ArrowError) -> SqlError {
    match error {
        arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
            Ok(nested) => to_sql_error(*nested),
            Err(inner) => match inner.downcast::<SqlError>() {
                Ok(ours) => *ours,
                Err(other) => foreign(&other.to_string()),
            },
        },
        arrow::error::ArrowError::CastError(what) => cast_error(&what),
        // A kernel that values do not suit.
        arrow::error::ArrowError::ComputeError(what) => {
            in_postgres_words(&what).unwrap_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, first_line(&what)))
        }
        other => spill_error(&other).or_else(|| in_postgres_words(&other.to_string())).unwrap_or_else(|| other.into()),
    }
}

/// What a writer of spilled rows meets comes as an error of arrow's file format.
fn spill_error(error: &arrow::error::ArrowError) -> Option<SqlError> {
    match error {
        arrow::error::ArrowError::IoError(what, _) if what.contains("disk space during the spilling") => Some(exhausted(what)),
        _ => None,
    }
}

/// Arrow's words for a failed cast in PostgreSQL's.
fn cast_error(what: &str) -> SqlError {
    in_postgres_words(what).unwrap_or_else(|| SqlError::new(SqlState::INVALID_TEXT, first_line(what)))
}

/// What functions say when a value does not suit them.
fn execution_error(what: &str) -> SqlError {
    if let Some(error) = in_postgres_words(what) {
        return error;
    }
    let line = first_line(what);
    let lower = line.to_lowercase();
    let state = if lower.contains("divide by zero") || lower.contains("division by zero") {
        return SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    } else if lower.contains("overflow") || lower.contains("out of range") {
        SqlState::NUMERIC_OUT_OF_RANGE
    } else if lower.contains("more than one row") {
        SqlState::CARDINALITY_VIOLATION
    } else if lower.contains("cast") || lower.contains("pars") {
        SqlState::INVALID_TEXT
    } else {
        SqlState::INVALID_PARAMETER
    };
    SqlError::new(state, line)
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), line.chars().nth(1)) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => line.to_string(),
    }
}
