//! Subqueries that name columns of the query around them, where DataFusion cannot turn them into joins, or into wrong ones:
//! in select lists, with ORDER BY or LIMIT, over table functions, with window functions. Each becomes a function of the
//! outer columns it names, and is planned and run anew for each distinct combination of their values. That is for look-ups
//! in small relations, as clients make in the catalog, so the number of runs is bounded; a larger query is told to join.
//! What runs give counts for the memory of queries.
//! The runs are a task of the query (`turns`), which waits for it, and they end with the query.

use super::interrupt::{self, Abandoned};
use super::{gathered, paced, turns};
use arrow::array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, JoinType, NullHandling, ParamValues, Result, ScalarValue, UnnestOptions};
use datafusion::execution::context::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::{Exists, InSubquery, Placeholder, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Join, Subquery, SubqueryAlias};
use datafusion::logical_expr::utils::{conjunction, merge_schema};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use eddyline_common::{SqlError, SqlState, bytes_of, bytes_of_column};
use eddyline_planner::correlation::{self, Place};
use eddyline_planner::walk::{Walk, WalkPlan};
use futures::TryStreamExt;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::yield_now;

/// Runs of one subquery in one statement, each well under a millisecond of planning and running.
const RUNS_MAX: usize = 20_000;

/// What all plans of a statement are made with, those of its runs of subqueries too.
#[derive(Clone)]
pub struct Statement {
    /// DataFusion's rules and memory.
    pub state: Arc<SessionState>,
    /// Set once nobody waits for the statement.
    pub given_up: Abandoned,
}

impl Statement {
    /// A statement that runs to its end whoever waits for it.
    pub fn unwatched(state: SessionState) -> Self {
        Statement { state: Arc::new(state), given_up: Abandoned::default() }
    }
}

/// A physical plan that ends when it is given up, and lets others have their turns; subqueries that DataFusion would misread or refuses are run row by row.
pub fn physical(plan: LogicalPlan, statement: Statement) -> Pin<Box<dyn Future<Output = Result<Arc<dyn ExecutionPlan>>> + Send>> {
    Box::pin(async move {
        let plan = understood(plan, &statement).await?;
        interrupt::watching(plan, &statement.given_up).and_then(paced::joins).and_then(gathered::windows)
    })
}

async fn understood(plan: LogicalPlan, statement: &Statement) -> Result<Arc<dyn ExecutionPlan>> {
    let state = &statement.state;
    if !correlation::names_outer(&plan)? {
        return state.create_physical_plan(&plan).await;
    }
    let plan = match correlation::first_misread(&plan)? {
        Some(_) => plan.down_with_subqueries(|node| by_rows(node, statement, Which::Misread))?.data.recompute_schema()?,
        None => plan,
    };
    match state.create_physical_plan(&plan).await {
        Err(_) if correlation::names_outer(&plan)? => {
            let plan = plan.down_with_subqueries(|node| by_rows(node, statement, Which::All))?.data.recompute_schema()?;
            state.create_physical_plan(&plan).await
        }
        planned => planned,
    }
}

/// The subqueries that are run row by row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Misread,
    All,
}

/// Replaces a node's correlated subqueries; those inside them are met when they run.
fn by_rows(node: LogicalPlan, statement: &Statement, which: Which) -> Result<Transformed<LogicalPlan>> {
    let node = match node {
        LogicalPlan::Join(join) => match lateral_of(&join.right) {
            Some(right) if which == Which::All || correlation::misread(right, Place::Lateral)?.is_some() => lateral_join(join, statement)?,
            _ => LogicalPlan::Join(join),
        },
        other => other,
    };
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_own(|expr| {
        let name = names.save(&expr);
        let rewritten = expr.up(|e| match which == Which::All || correlation::misread_expr(&e)?.is_some() || misreads_within(&e)? {
            true => subquery_function(e, &schema, statement),
            false => Ok(Transformed::no(e)),
        })?;
        Ok(rewritten.update_data(|e| name.restore(e)))
    })
}

/// Whether a subquery within a subquery is run row by row and names columns of the query around both: these have their values only if the outer one is run so, too.
fn misreads_within(expr: &Expr) -> Result<bool> {
    let Some(around) = subquery_of(expr) else { return Ok(false) };
    let mut found = false;
    around.subquery.each_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let is_far = |e: &Expr| matches!(e, Expr::OuterReferenceColumn(_, column) if !schema.has_column(column));
        node.each_own(|expr| {
            expr.each(|e| {
                if let Some(within) = subquery_of(e) {
                    found |= within.subquery.all_out_ref_exprs().iter().any(is_far) && correlation::misread_expr(e)?.is_some();
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. }) => {
            Some(subquery)
        }
        _ => None,
    }
}

fn subquery_function(expr: Expr, schema: &DFSchema, statement: &Statement) -> Result<Transformed<Expr>> {
    let make = |subquery: &Subquery, yields, first: Option<Expr>| -> Result<Option<Expr>> {
        let Some((function, outer)) = RowSubquery::new(&subquery.subquery, schema, yields, first.is_some(), statement)? else {
            return Ok(None);
        };
        Ok(Some(function.call(first.into_iter().chain(outer).collect())))
    };
    let replaced = match &expr {
        Expr::ScalarSubquery(subquery) => make(subquery, Yields::Scalar, None)?,
        Expr::Exists(Exists { subquery, negated }) => make(subquery, Yields::Exists, None)?.map(|e| if *negated { !e } else { e }),
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            make(subquery, Yields::Contains, Some(expr.as_ref().clone()))?.map(|e| if *negated { !e } else { e })
        }
        _ => None,
    };
    Ok(replaced.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

/// The subquery on the right of a lateral join, and the name it goes by.
fn lateral_of(right: &LogicalPlan) -> Option<&LogicalPlan> {
    match right {
        LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => lateral_of(input),
        _ => None,
    }
}

/// Rows of the right side as a list of structs that each left row is unnested over.
fn lateral_join(join: Join, statement: &Statement) -> Result<LogicalPlan> {
    const ROWS: &str = "__lateral";
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        _ => return Err(DataFusionError::NotImplemented("this kind of lateral join is not supported".to_string())),
    };
    let Some(subquery) = lateral_of(&join.right) else { return Ok(LogicalPlan::Join(join)) };
    let left = join.left.schema().clone();
    let subquery = match conjunction(correlation::on(&join)) {
        Some(condition) => correlation::conditioned(&join, condition, subquery)?,
        None => subquery.clone(),
    };
    let Some((function, arguments)) = RowSubquery::new(&subquery, &left, Yields::Rows, false, statement)? else {
        return Ok(LogicalPlan::Join(join));
    };
    let left_columns: Vec<Expr> = left.columns().into_iter().map(Expr::Column).collect();
    let listed = LogicalPlanBuilder::from(join.left.as_ref().clone())
        .project(left_columns.iter().cloned().chain([function.call(arguments).alias(ROWS)]).collect::<Vec<_>>())?;
    let null_handling = if outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
    let options = UnnestOptions { null_handling, recursions: vec![] };
    let unnested = listed.unnest_column_with_options(Column::new_unqualified(ROWS), options)?;
    let right_columns = join.right.schema().iter().enumerate().map(|(i, (qualifier, field))| {
        let value = get_field(Expr::Column(Column::new_unqualified(ROWS)), format!("c{i}"));
        match qualifier {
            Some(qualifier) => value.alias_qualified(Some(qualifier.clone()), field.name()),
            None => value.alias(field.name()),
        }
    });
    unnested.project(left_columns.into_iter().chain(right_columns).collect::<Vec<_>>())?.build()
}

/// What a run of the subquery gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Yields {
    /// The one value of its one row, null without a row.
    Scalar,
    Exists,
    /// Whether the function's first argument is among its rows.
    Contains,
    /// All rows, as a list of structs.
    Rows,
}

impl Yields {
    /// So many rows of a run say all that is asked of it.
    fn rows_enough(self) -> usize {
        match self {
            Yields::Exists => 1,
            // Of which the second one is an error.
            Yields::Scalar => 2,
            Yields::Contains | Yields::Rows => usize::MAX,
        }
    }
}

struct RowSubquery {
    /// Outer columns are the parameters `$1`, `$2`, ...
    plan: LogicalPlan,
    outer: Vec<FieldRef>,
    yields: Yields,
    returns: FieldRef,
    statement: Statement,
    signature: Signature,
    runs: AtomicUsize,
}

impl RowSubquery {
    /// The subquery as a function, and the outer columns that are its arguments; `None` if it names none of `schema`.
    fn new(plan: &LogicalPlan, schema: &DFSchema, yields: Yields, probe: bool, statement: &Statement) -> Result<Option<(Self, Vec<Expr>)>> {
        let mut outer: Vec<(Column, FieldRef)> = Vec::new();
        let plan = plan.clone().down_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_own(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.up(|e| match e {
                    Expr::OuterReferenceColumn(field, column) if schema.has_column(&column) => {
                        let known = outer.iter().position(|(c, _)| *c == column);
                        let at = known.unwrap_or_else(|| {
                            outer.push((column, field.clone()));
                            outer.len() - 1
                        });
                        Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(format!("${}", at + 1), Some(field)))))
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(rewritten.update_data(|e| name.restore(e)))
            })
        })?;
        if outer.is_empty() {
            return Ok(None);
        }
        let plan = plan.data;
        let columns: Fields = plan
            .schema()
            .fields()
            .iter()
            .enumerate()
            .map(|(i, f)| f.as_ref().clone().with_name(format!("c{i}")).with_nullable(true))
            .collect();
        let returns = match yields {
            Yields::Scalar => plan.schema().field(0).as_ref().clone().with_nullable(true),
            Yields::Exists | Yields::Contains => Field::new("exists", DataType::Boolean, true),
            Yields::Rows => Field::new("rows", DataType::List(Arc::new(Field::new("item", DataType::Struct(columns), true))), true),
        };
        let arguments = outer.len() + usize::from(probe);
        let signature = Signature::any(arguments, Volatility::Stable);
        let (columns, outer): (Vec<Expr>, Vec<FieldRef>) = outer.into_iter().map(|(column, field)| (Expr::Column(column), field)).unzip();
        let (returns, runs) = (Arc::new(returns), AtomicUsize::new(0));
        let function = RowSubquery { plan, outer, yields, returns, statement: statement.clone(), signature, runs };
        Ok(Some((function, columns)))
    }

    fn call(self, arguments: Vec<Expr>) -> Expr {
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(Function(Arc::new(self)))), arguments))
    }

    /// The function's value for each row; rows with equal arguments share a run.
    async fn evaluate(&self, arguments: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let sorts = arguments.iter().map(|a| SortField::new(a.data_type().clone())).collect();
        let converter = RowConverter::new(sorts)?;
        let keys = converter.convert_columns(arguments)?;
        let memory = self.memory();
        let mut known: HashMap<OwnedRow, (ScalarValue, usize)> = HashMap::new();
        let mut values = Vec::with_capacity(rows);
        for row in 0..rows {
            let key = keys.row(row).owned();
            let (value, bytes) = match known.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let given = arguments.iter().map(|a| ScalarValue::try_from_array(a, row)).collect::<Result<Vec<_>>>()?;
                    let value = self.run(given).await?;
                    let bytes = size_of::<ScalarValue>() + bytes_of_column(&value.to_array()?);
                    memory.try_grow(bytes)?;
                    if turns::is_over() {
                        yield_now().await;
                    }
                    known.insert(key, (value.clone(), bytes));
                    (value, bytes)
                }
            };
            // The column has a copy for each row.
            memory.try_grow(bytes)?;
            values.push(value);
        }
        ScalarValue::iter_to_array(values)
    }

    /// Of what is held here, nothing yet.
    fn memory(&self) -> MemoryReservation {
        MemoryConsumer::new("correlated subquery").register(&self.statement.state.runtime_env().memory_pool)
    }

    async fn run(&self, mut arguments: Vec<ScalarValue>) -> Result<ScalarValue> {
        if self.runs.fetch_add(1, Ordering::Relaxed) >= RUNS_MAX {
            let error = SqlError::new(SqlState::LIMIT_EXCEEDED, "a correlated subquery is evaluated for too many rows")
                .with_detail(format!("It cannot be turned into a join, and may be run {RUNS_MAX} times."))
                .with_hint("Write it as a join, or filter the rows before.");
            return Err(DataFusionError::External(Box::new(error)));
        }
        let probe = (self.yields == Yields::Contains).then(|| arguments.remove(0));
        let plan = self.settled(arguments)?;
        let mut coming = execute_stream(physical(plan, self.statement.clone()).await?, self.statement.state.task_ctx())?;
        let (memory, mut batches, mut count) = (self.memory(), Vec::new(), 0);
        while count < self.yields.rows_enough()
            && let Some(batch) = coming.try_next().await?
        {
            memory.try_grow(bytes_of(&batch))?;
            count += batch.num_rows();
            batches.push(batch);
        }
        match self.yields {
            Yields::Exists => Ok(ScalarValue::from(count > 0)),
            Yields::Contains => contains(&probe.unwrap_or(ScalarValue::Null), &batches),
            Yields::Rows => self.list(&batches, count),
            Yields::Scalar => match (count, batches.iter().find(|b| b.num_rows() > 0)) {
                (0 | 1, Some(batch)) => ScalarValue::try_from_array(&cast(batch.column(0), self.returns.data_type())?, 0),
                (_, None) => ScalarValue::try_from(self.returns.data_type()),
                (_, Some(_)) => {
                    let error =
                        SqlError::new(SqlState::CARDINALITY_VIOLATION, "more than one row returned by a subquery used as an expression");
                    Err(DataFusionError::External(Box::new(error)))
                }
            },
        }
    }

    /// The plan with constants for the outer columns.
    fn settled(&self, values: Vec<ScalarValue>) -> Result<LogicalPlan> {
        // With its field's metadata a constant is still known for a vector or a name; one that has none is like any other.
        let mark = |field: &FieldRef| (!field.metadata().is_empty()).then(|| FieldMetadata::from(field.as_ref()));
        let values = values.into_iter().zip(&self.outer).map(|(value, field)| ScalarAndMetadata::new(value, mark(field)));
        let plan = self.plan.clone().replace_params_with_values(&ParamValues::List(values.collect()))?;
        Ok(plan.up(unwrap_settled)?.data)
    }

    fn list(&self, batches: &[RecordBatch], count: usize) -> Result<ScalarValue> {
        let DataType::List(item) = self.returns.data_type() else { return ScalarValue::try_from(self.returns.data_type()) };
        let DataType::Struct(fields) = item.data_type() else { return ScalarValue::try_from(self.returns.data_type()) };
        let columns = (0..fields.len())
            .map(|i| {
                let parts = batches.iter().map(|b| cast(b.column(i), fields[i].data_type())).collect::<Result<Vec<_>, _>>()?;
                let parts: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
                if parts.is_empty() {
                    return Ok(arrow::array::new_empty_array(fields[i].data_type()));
                }
                Ok(arrow::compute::concat(&parts)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let rows = StructArray::try_new_with_length(fields.clone(), columns, None, count)?;
        let list = arrow::array::ListArray::try_new(item.clone(), OffsetBuffer::from_lengths([count]), Arc::new(rows), None)?;
        Ok(ScalarValue::List(Arc::new(list)))
    }
}

/// A lateral subquery whose outer columns are constants by now is an ordinary input.
fn unwrap_settled(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    Ok(match node {
        LogicalPlan::Subquery(Subquery { subquery, .. }) if subquery.all_out_ref_exprs().is_empty() => {
            Transformed::yes(Arc::unwrap_or_clone(subquery))
        }
        other => Transformed::no(other),
    })
}

/// `probe IN (rows)` in SQL's three values.
fn contains(probe: &ScalarValue, batches: &[RecordBatch]) -> Result<ScalarValue> {
    let mut unknown = false;
    for batch in batches {
        let column = cast(batch.column(0), &probe.data_type())?;
        for row in 0..column.len() {
            let value = ScalarValue::try_from_array(&column, row)?;
            if value.is_null() || probe.is_null() {
                unknown = true;
            } else if value == *probe {
                return Ok(ScalarValue::from(true));
            }
        }
    }
    Ok(ScalarValue::Boolean((!unknown).then_some(false)))
}

/// A subquery as DataFusion calls it.
struct Function(Arc<RowSubquery>);

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RowSubquery({:?})", self.0.yields)
    }
}

/// Two are the same only if they are one.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        "correlated_subquery"
    }

    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.0.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(self.0.returns.clone())
    }

    /// The runs are the query's next turns, as functions are called in the middle of one.
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arguments = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
        if rows == 0 {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(self.0.returns.data_type())));
        }
        let subquery = self.0.clone();
        let value = turns::waiting_for(async move {
            let given_up = subquery.statement.given_up.clone();
            given_up.or(subquery.evaluate(&arguments, rows)).await
        });
        Ok(ColumnarValue::Array(value.map_err(|e| DataFusionError::External(Box::new(e)))??))
    }
}
