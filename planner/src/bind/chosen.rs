//! A join of each left row with one right row that is chosen for it: a version, or the nearest one. It is a node of its own, which no rule of the optimiser takes for a
//! join: a condition on the chosen row must not be moved below the choice of it. What a FROM list has of such joins, `as_of` and `asof` know.

use datafusion::common::{DFSchemaRef, DataFusionError, JoinType, Result as DfResult};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, UserDefinedLogicalNodeCore, build_join_schema};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Which right row a left row is joined with, of those that the condition lets through.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The version that is there when the row arrives.
    OfArrival,
    /// The version that was valid at the row's time.
    OfTime {
        /// A column of the left side, and the one of the right side from which on a version is valid.
        times: [Expr; 2],
        /// Columns of the right side that say of what its rows are versions, where these are rows that only grow; none where the right side has a key.
        key: Vec<Expr>,
    },
    /// The nearest one.
    Nearest {
        /// Something of the left side compared with something of the right one.
        compared: Expr,
        /// Columns of the right side, in whose order the last (or first) one of its rows in one place counts.
        order: Vec<Expr>,
    },
}

impl Choice {
    fn exprs(&self) -> Vec<Expr> {
        match self {
            Choice::OfArrival => vec![],
            Choice::OfTime { times, key } => times.iter().chain(key).cloned().collect(),
            Choice::Nearest { compared, order } => [compared].into_iter().chain(order).cloned().collect(),
        }
    }

    /// The same with other expressions, as many as it has.
    fn with(&self, mut exprs: impl Iterator<Item = Expr>) -> Option<Choice> {
        Some(match self {
            Choice::OfArrival => Choice::OfArrival,
            Choice::OfTime { .. } => Choice::OfTime { times: [exprs.next()?, exprs.next()?], key: exprs.collect() },
            Choice::Nearest { .. } => Choice::Nearest { compared: exprs.next()?, order: exprs.collect() },
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenJoin {
    pub left: Arc<LogicalPlan>,
    pub right: Arc<LogicalPlan>,
    /// Inner or Left.
    pub join_type: JoinType,
    /// Equalities of both sides, and what else is asked.
    pub condition: Expr,
    pub choice: Choice,
    schema: DFSchemaRef,
}

impl ChosenJoin {
    pub fn try_new(sides: [Arc<LogicalPlan>; 2], join_type: JoinType, condition: Expr, choice: Choice) -> DfResult<ChosenJoin> {
        let [left, right] = sides;
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &join_type)?);
        Ok(ChosenJoin { left, right, join_type, condition, choice, schema })
    }

    pub fn output(&self) -> &DFSchemaRef {
        &self.schema
    }

    pub fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The same join of the left rows that a condition over the left side leaves. For a nearest row: it holds for what comes out if and only if it does for the left row.
    pub fn of_filtered(&self, condition: Expr) -> DfResult<LogicalPlan> {
        let left = LogicalPlan::Filter(Filter::try_new(condition, self.left.clone())?);
        Ok(ChosenJoin { left: Arc::new(left), ..self.clone() }.into_plan())
    }
}

impl PartialOrd for ChosenJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.left.partial_cmp(&other.left)?, self.right.partial_cmp(&other.right)?) {
            (Ordering::Equal, Ordering::Equal) => {
                self.condition.partial_cmp(&other.condition).filter(|o| *o != Ordering::Equal || self == other)
            }
            (Ordering::Equal, unequal) | (unequal, _) => Some(unequal),
        }
    }
}

impl Hash for ChosenJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.right.hash(state);
        self.join_type.hash(state);
        self.condition.hash(state);
        self.choice.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for ChosenJoin {
    fn name(&self) -> &str {
        match self.choice {
            Choice::OfArrival | Choice::OfTime { .. } => "VersionJoin",
            Choice::Nearest { .. } => "NearestJoin",
        }
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        [self.condition.clone()].into_iter().chain(self.choice.exprs()).collect()
    }

    /// Conditions on either side stay above: they would be pushed into both.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {} on {}", self.name(), self.join_type, self.condition)?;
        match &self.choice {
            Choice::OfArrival => f.write_str(" at arrival"),
            Choice::OfTime { times: [left, _], .. } => write!(f, " as of {left}"),
            Choice::Nearest { compared, .. } => write!(f, " nearest {compared}"),
        }
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let broken = || DataFusionError::Internal("a join with a chosen row has two inputs, a condition and what chooses".to_string());
        let sides: [LogicalPlan; 2] = inputs.try_into().map_err(|_| broken())?;
        let mut exprs = exprs.into_iter();
        let condition = exprs.next().ok_or_else(broken)?;
        let choice = self.choice.with(exprs).ok_or_else(broken)?;
        ChosenJoin::try_new(sides.map(Arc::new), self.join_type, condition, choice)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let of_left = output_columns.iter().copied().filter(|i| *i < width).collect();
        let of_right = output_columns.iter().copied().filter(|i| *i >= width).map(|i| i - width).collect();
        Some(vec![of_left, of_right])
    }
}
