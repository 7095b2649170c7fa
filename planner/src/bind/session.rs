//! Session windows in the logical plan: one node, `SessionAssign`, that adds the bounds of the session which each row is in. A
//! streaming plan lowers it to `Op::SessionAssign`; for a batch query it becomes window functions that DataFusion runs.

use crate::error::into_datafusion;
use crate::expr::call;
use crate::functions::{WINDOW_SHIFT, registry};
use datafusion::arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, WindowFunctionDefinition, lit, when,
};
use eddyline_common::time::MICROS_PER_MILLI;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What stands for `PARTITION BY a, b` among the arguments of SESSION.
pub const PARTITION: &str = "__partition";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionAssign {
    pub input: Arc<LogicalPlan>,
    pub partition: Vec<Expr>,
    pub time: Column,
    /// Microseconds.
    pub gap: i64,
    pub names: [&'static str; 3],
    schema: DFSchemaRef,
}

impl SessionAssign {
    pub fn try_new(input: Arc<LogicalPlan>, partition: Vec<Expr>, time: Column, gap: i64, names: [&'static str; 3]) -> DfResult<Self> {
        let (_, field) = input.schema().qualified_field_from_column(&time)?;
        let time_type = field.data_type().clone();
        let mut fields: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        fields.extend(names.iter().map(|name| (None, Arc::new(Field::new(*name, time_type.clone(), true)))));
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(SessionAssign { input, partition, time, gap, names, schema: Arc::new(schema) })
    }

    /// A row begins a session unless it lies less than the gap after the one before it; sessions are counted, and their first and
    /// last times are their bounds.
    pub fn expand(&self) -> DfResult<LogicalPlan> {
        const BEFORE: &str = "__session_before";
        const NUMBER: &str = "__session_number";
        const LAST: &str = "__session_last";
        let inputs: Vec<Expr> = self.input.schema().columns().into_iter().map(Expr::Column).collect();
        let time = Expr::Column(self.time.clone());
        let shifted = |time: Expr, by: i64| call(WINDOW_SHIFT, vec![time, lit(by)]).map_err(into_datafusion);
        let named = |name: &str| Expr::Column(Column::new_unqualified(name));
        let by_time = || vec![Sort::new(time.clone(), true, false)];
        let with = |expr: Expr, name: &str, columns: &[&str]| -> Vec<Expr> {
            inputs.iter().cloned().chain(columns.iter().map(|c| named(c))).chain([expr.alias(name)]).collect()
        };
        let lag = Expr::from(WindowFunction::new(registry().udwf("lag")?, vec![time.clone()]));
        let lag = lag.partition_by(self.partition.clone()).order_by(by_time()).build()?;
        let before = named(&lag.schema_name().to_string());
        let rows = LogicalPlanBuilder::from(self.input.as_ref().clone()).filter(time.clone().is_not_null())?;
        let rows = rows.window(vec![lag])?.project(with(before, BEFORE, &[]))?;
        let same = time.clone().lt(shifted(named(BEFORE), self.gap)?);
        let begins = when(same, lit(0i64)).otherwise(lit(1i64))?;
        let aggregate = |name: &str, argument: Expr| -> DfResult<Expr> {
            let function = WindowFunctionDefinition::AggregateUDF(registry().udaf(name)?);
            Ok(Expr::from(WindowFunction::new(function, vec![argument])))
        };
        let number = aggregate("sum", begins)?.partition_by(self.partition.clone()).order_by(by_time()).build()?;
        let counted = named(&number.schema_name().to_string());
        let rows = rows.window(vec![number])?.project(with(counted, NUMBER, &[]))?;
        let session: Vec<Expr> = self.partition.iter().cloned().chain([named(NUMBER)]).collect();
        let first = aggregate("min", time.clone())?.partition_by(session.clone()).build()?;
        let last = aggregate("max", time)?.partition_by(session).build()?;
        let (first_name, last_name) = (first.schema_name().to_string(), last.schema_name().to_string());
        let start = named(&first_name).alias(self.names[0]);
        let bounds = inputs.iter().cloned().chain([start, named(&last_name).alias(LAST)]);
        let rows = rows.window(vec![first, last])?.project(bounds.collect::<Vec<_>>())?;
        let windows = [
            named(self.names[0]),
            shifted(named(LAST), self.gap)?.alias(self.names[1]),
            shifted(named(LAST), self.gap - MICROS_PER_MILLI)?.alias(self.names[2]),
        ];
        rows.project(inputs.into_iter().chain(windows).collect::<Vec<_>>())?.build()
    }

    /// The columns of the input, and the window's.
    pub fn output(&self) -> &DFSchema {
        &self.schema
    }

    /// The columns of the input that decide about sessions.
    fn deciding_columns(&self) -> DfResult<BTreeSet<usize>> {
        let mut columns: HashSet<&Column> = self.partition.iter().flat_map(|e| e.column_refs()).collect();
        columns.insert(&self.time);
        columns.into_iter().map(|column| self.input.schema().index_of_column(column)).collect()
    }
}

impl PartialOrd for SessionAssign {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input)? {
            Ordering::Equal => self.time.partial_cmp(&other.time).filter(|o| *o != Ordering::Equal || self == other),
            unequal => Some(unequal),
        }
    }
}

impl Hash for SessionAssign {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.partition.hash(state);
        self.time.hash(state);
        self.gap.hash(state);
        self.names.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for SessionAssign {
    fn name(&self) -> &str {
        "SessionAssign"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.partition.iter().cloned().chain([Expr::Column(self.time.clone())]).collect()
    }

    /// Without some of its rows a partition has other sessions; without a whole partition the others stay as they are.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let is_partition = |column: &Column| self.partition.contains(&Expr::Column(column.clone()));
        let others = self.input.schema().columns().into_iter().filter(|c| !is_partition(c)).map(|c| c.name);
        others.chain(self.names.iter().map(|n| n.to_string())).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let partition: Vec<String> = self.partition.iter().map(|e| e.to_string()).collect();
        write!(f, "SessionAssign: gap {}us on {} by [{}]", self.gap, self.time, partition.join(", "))
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(Expr::Column(time)), Some(input)) => SessionAssign::try_new(Arc::new(input), exprs, time, self.gap, self.names),
            _ => Err(DataFusionError::Internal("a session is assigned by a column".to_string())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed = self.deciding_columns().ok()?;
        needed.extend(output_columns.iter().copied().filter(|i| *i < width));
        Some(vec![needed.into_iter().collect()])
    }
}
