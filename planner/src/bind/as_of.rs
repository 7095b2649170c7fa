//! Joins with one version of a table's row: `JOIN t FOR SYSTEM_TIME AS OF o.ts ON ...`. The parser's tree cannot carry the clause through
//! DataFusion's planner, so the rewriter puts a mark into the ON condition, and here the join that has the mark becomes a node
//! of its own, `VersionJoin`, which no rule of the optimiser takes for a join: a condition on a version must not be moved below
//! the choice of the version.

use super::{Mode, marked};
use crate::error::into_datafusion;
use crate::functions::{AS_OF, NOW};
use crate::lower::event_time;
use datafusion::common::{DFSchemaRef, DataFusionError, JoinType, Result as DfResult};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, UserDefinedLogicalNodeCore, build_join_schema};
use datafusion::sql::sqlparser::ast::{self as sql, JoinConstraint, JoinOperator, TableFactor, TableVersion};
use eddyline_common::{SqlError, SqlState};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Which version a left row is joined with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub enum Version {
    /// The one that is there when the row arrives.
    OfArrival,
    /// The one that was valid at the row's time: of a column of the left side. The versions' times are a column of the right one.
    OfTime(Expr, Expr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionJoin {
    pub left: Arc<LogicalPlan>,
    pub right: Arc<LogicalPlan>,
    /// Inner or Left.
    pub join_type: JoinType,
    pub condition: Expr,
    pub version: Version,
    schema: DFSchemaRef,
}

impl VersionJoin {
    fn try_new(left: Arc<LogicalPlan>, right: Arc<LogicalPlan>, join_type: JoinType, condition: Expr, version: Version) -> DfResult<Self> {
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &join_type)?);
        Ok(VersionJoin { left, right, join_type, condition, version, schema })
    }

    pub fn output(&self) -> &DFSchemaRef {
        &self.schema
    }
}

impl PartialOrd for VersionJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.left.partial_cmp(&other.left)?, self.right.partial_cmp(&other.right)?) {
            (Ordering::Equal, Ordering::Equal) => {
                self.condition.partial_cmp(&other.condition).filter(|o| *o != Ordering::Equal || self == other)
            }
            (Ordering::Equal, unequal) | (unequal, _) => Some(unequal),
        }
    }
}

impl Hash for VersionJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.right.hash(state);
        self.join_type.hash(state);
        self.condition.hash(state);
        self.version.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for VersionJoin {
    fn name(&self) -> &str {
        "VersionJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let mut all = vec![self.condition.clone()];
        if let Version::OfTime(left, right) = &self.version {
            all.extend([left.clone(), right.clone()]);
        }
        all
    }

    /// Conditions on either side stay above: they would be pushed into both.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "VersionJoin: {} on {}", self.join_type, self.condition)?;
        match &self.version {
            Version::OfArrival => f.write_str(" at arrival"),
            Version::OfTime(left, _) => write!(f, " as of {left}"),
        }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let (mut exprs, mut inputs) = (exprs.into_iter(), inputs.into_iter().map(Arc::new));
        let broken = || DataFusionError::Internal("a version join has two inputs and a condition".to_string());
        let mut next = || exprs.next().ok_or_else(broken);
        let condition = next()?;
        let version = match &self.version {
            Version::OfArrival => Version::OfArrival,
            Version::OfTime(..) => Version::OfTime(next()?, next()?),
        };
        match (inputs.next(), inputs.next()) {
            (Some(left), Some(right)) => VersionJoin::try_new(left, right, self.join_type, condition, version),
            _ => Err(broken()),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let of_left = output_columns.iter().copied().filter(|i| *i < width).collect();
        let of_right = output_columns.iter().copied().filter(|i| *i >= width).map(|i| i - width).collect();
        Some(vec![of_left, of_right])
    }
}

/// Moves `FOR SYSTEM_TIME AS OF` from the tables of a FROM list's joins into their conditions. What is left elsewhere is refused.
pub fn mark_joins(select: &mut sql::Select) {
    for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
        let TableFactor::Table { version, .. } = &mut join.relation else { continue };
        let condition = match &mut join.join_operator {
            JoinOperator::Join(JoinConstraint::On(condition))
            | JoinOperator::Inner(JoinConstraint::On(condition))
            | JoinOperator::Left(JoinConstraint::On(condition))
            | JoinOperator::LeftOuter(JoinConstraint::On(condition)) => condition,
            _ => continue,
        };
        if let Some(TableVersion::ForSystemTimeAsOf(time)) = version {
            let nothing = sql::Expr::Value(sql::Value::Null.with_empty_span());
            let left = Box::new(sql::Expr::Nested(Box::new(std::mem::replace(condition, nothing))));
            let right = Box::new(super::rewrite::call(AS_OF, vec![time.clone()]));
            *condition = sql::Expr::BinaryOp { left, op: sql::BinaryOperator::And, right };
            *version = None;
        }
    }
}

/// Replaces every join whose condition has the mark.
pub fn rewrite(plan: LogicalPlan, mode: Mode) -> DfResult<LogicalPlan> {
    marked::replace_joins(plan, AS_OF, |join| version_join(join, mode))
}

/// What the mark marks.
fn mark(e: &Expr) -> Option<&Expr> {
    marked::argument(e, AS_OF)
}

fn version_join(join: Join, mode: Mode) -> DfResult<LogicalPlan> {
    let (marks, rest): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(join.filter.clone().unwrap_or_default()).into_iter().partition(|e| mark(e).is_some());
    let Some(time) = marks.first().and_then(mark) else {
        return Err(DataFusionError::Internal("the mark of a version is no conjunct".to_string()));
    };
    let equalities = join.on.iter().map(|(l, r)| l.clone().eq(r.clone()));
    let Some(condition) = conjunction(equalities.chain(rest)) else {
        return refuse("FOR SYSTEM_TIME AS OF needs a condition that says which rows belong together", "Write ON o.k = t.k.");
    };
    let arrival = is_now(time, &join.left);
    if mode == Mode::Batch {
        if !arrival {
            return refuse(
                "FOR SYSTEM_TIME AS OF an event time is supported in materialized views only",
                "A query finds a table's present rows alone; create a materialized view, which follows the versions.",
            );
        }
        // All rows arrive now.
        let Join { left, right, on, join_type, join_constraint, schema, null_equality, null_aware, .. } = join;
        let plain =
            Join { left, right, on: vec![], filter: Some(condition), join_type, join_constraint, schema, null_equality, null_aware };
        drop(on);
        return Ok(LogicalPlan::Join(plain));
    }
    let version = if arrival {
        Version::OfArrival
    } else {
        let Some(right) = event_time(&join.right) else {
            return refuse(
                "FOR SYSTEM_TIME AS OF an event time needs a versioned table: one with a primary key and a watermark",
                "Declare PRIMARY KEY and WATERMARK FOR the time from which on a row is valid, or join AS OF PROCTIME().",
            );
        };
        Version::OfTime(time.clone(), Expr::Column(right))
    };
    let node = VersionJoin::try_new(join.left, join.right, join.join_type, condition, version)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn refuse<T>(message: &str, hint: &str) -> DfResult<T> {
    Err(into_datafusion(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).with_hint(hint)))
}

/// Whether an expression over a plan is the time at which a row arrives: `PROCTIME()`, or a column that is.
pub fn is_now(e: &Expr, plan: &LogicalPlan) -> bool {
    match e {
        Expr::ScalarFunction(f) => f.func.name() == NOW,
        Expr::Alias(alias) => is_now(&alias.expr, plan),
        Expr::Column(column) => plan.schema().maybe_index_of_column(column).is_some_and(|at| column_is_now(at, plan)),
        _ => false,
    }
}

fn column_is_now(at: usize, plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.get(at).is_some_and(|e| is_now(e, &projection.input)),
        LogicalPlan::SubqueryAlias(alias) => column_is_now(at, &alias.input),
        LogicalPlan::Filter(filter) => column_is_now(at, &filter.input),
        LogicalPlan::Sort(sort) => column_is_now(at, &sort.input),
        LogicalPlan::Extension(Extension { node }) => {
            let input = node.inputs().into_iter().next();
            input.is_some_and(|input| at < input.schema().fields().len() && column_is_now(at, input))
        }
        _ => false,
    }
}
