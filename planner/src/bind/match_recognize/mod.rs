//! MATCH_RECOGNIZE in the logical plan: one node, `MatchRecognize`, that gives for each match (or each row of one) some columns of its
//! input and values of the match; the measures are a projection over it. A streaming plan lowers it to `Op::MatchRecognize`; nothing else runs it.
//!
//! - `clause`: the clause to the node
//! - `values`: what conditions and measures say of a match
//! - `pattern`: the pattern, and what follows from its form

mod clause;
pub mod pattern;
mod values;

use crate::parse::match_recognize::{DERIVED, FINAL, RUNNING};
use crate::plan::{MatchPattern, MatchSkip};
pub use clause::MatchRecognizeClause;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result as DfResult};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, FunctionArg, FunctionArgExpr, TableFactor};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
pub use values::{Value, ValueOf};

/// Names that are functions within the clause only.
pub fn is_function(name: &str) -> bool {
    matches!(
        name,
        "prev" | "next" | "first" | "last" | "classifier" | "match_number" | "match_rowtime" | "match_proctime" | FINAL | RUNNING
    )
}

/// The subquery that a clause reads, as it was before its tokens were rewritten.
pub fn restore_subquery(table: &mut TableFactor) {
    if let TableFactor::Table { name, args: Some(args), alias, .. } = table
        && name.to_string() == DERIVED
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Subquery(subquery)))] = args.args.as_slice()
    {
        *table = TableFactor::Derived { lateral: false, subquery: subquery.clone(), alias: alias.clone(), sample: None };
    }
}

/// The clause without its expressions over the input.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// By number.
    pub variables: Vec<String>,
    pub pattern: MatchPattern,
    /// By variable; over columns `values::column`. A variable without one takes every row.
    pub conditions: Vec<Option<Expr>>,
    /// What conditions and measures are over.
    pub values: Vec<Value>,
    pub all_rows: bool,
    pub skip: MatchSkip,
    pub within: Option<i64>,
    /// How many of the node's expressions are columns to partition by, and how many after these to order by.
    pub partition: usize,
    pub order: usize,
    /// Of each order column: descending, nulls first.
    pub directions: Vec<(bool, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchRecognize {
    pub input: Arc<LogicalPlan>,
    /// Partition, order, and the arguments of values.
    pub exprs: Vec<Expr>,
    pub spec: Arc<Spec>,
    schema: DFSchemaRef,
}

impl MatchRecognize {
    fn try_new(input: Arc<LogicalPlan>, exprs: Vec<Expr>, spec: Arc<Spec>) -> DfResult<Self> {
        let schema = input.schema();
        let mut fields: Vec<_> = match spec.all_rows {
            true => schema.iter().map(|(q, f)| (q.cloned(), f.clone())).collect(),
            false => exprs[..spec.partition]
                .iter()
                .map(|e| match e {
                    Expr::Column(column) => schema.qualified_field_from_column(column).map(|(q, f)| (q.cloned(), f.clone())),
                    _ => Err(DataFusionError::Internal("rows are partitioned by columns".to_string())),
                })
                .collect::<DfResult<_>>()?,
        };
        fields.extend(spec.values.iter().filter(|value| value.shown).map(|value| (None, value.field.clone())));
        let schema = DFSchema::new_with_metadata(fields, schema.metadata().clone())?;
        Ok(MatchRecognize { input, exprs, spec, schema: Arc::new(schema) })
    }

    pub fn partition(&self) -> &[Expr] {
        &self.exprs[..self.spec.partition]
    }

    pub fn order(&self) -> &[Expr] {
        &self.exprs[self.spec.partition..][..self.spec.order]
    }

    pub fn arguments(&self) -> &[Expr] {
        &self.exprs[self.spec.partition + self.spec.order..]
    }

    /// Columns of the input that come out, before the values.
    fn kept(&self) -> usize {
        if self.spec.all_rows { self.input.schema().fields().len() } else { self.spec.partition }
    }
}

/// The columns that conditions are over.
pub fn values_schema(fields: impl Iterator<Item = FieldRef>) -> DfResult<DFSchema> {
    DFSchema::from_unqualified_fields(fields.collect(), HashMap::new())
}

impl PartialOrd for MatchRecognize {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input)? {
            Ordering::Equal => self.exprs.partial_cmp(&other.exprs).filter(|o| *o != Ordering::Equal || self == other),
            unequal => Some(unequal),
        }
    }
}

impl Hash for MatchRecognize {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.exprs.hash(state);
        self.spec.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for MatchRecognize {
    fn name(&self) -> &str {
        "MatchRecognize"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.exprs.clone()
    }

    /// Without a whole partition the others match as they do; without some of its rows one has other matches.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let is_partition = |name: &str| self.partition().iter().any(|e| matches!(e, Expr::Column(c) if c.name == name));
        self.schema.fields().iter().map(|f| f.name().clone()).filter(|name| !is_partition(name)).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |exprs: &[Expr]| exprs.iter().map(|e| e.to_string()).collect::<Vec<_>>().join(", ");
        let pattern = pattern::text(&self.spec.pattern, &self.spec.variables);
        write!(f, "MatchRecognize: ({pattern}) by [{}] order by [{}]", list(self.partition()), list(self.order()))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match inputs.pop() {
            Some(input) if exprs.len() == self.exprs.len() => MatchRecognize::try_new(Arc::new(input), exprs, self.spec.clone()),
            _ => Err(DataFusionError::Internal("a row pattern has one input".to_string())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let schema = self.input.schema();
        let columns: HashSet<_> = self.exprs.iter().flat_map(|e| e.column_refs()).collect();
        let mut needed = columns.into_iter().map(|c| schema.index_of_column(c)).collect::<DfResult<BTreeSet<usize>>>().ok()?;
        if self.spec.all_rows {
            let kept = self.kept();
            needed.extend(output_columns.iter().copied().filter(|i| *i < kept));
        }
        Some(vec![needed.into_iter().collect()])
    }
}
