//! A table or materialized view at the statement's epoch. Equality on every column of its key, or of an index, becomes a look-up, all
//! else a columnar scan that the engine's threads share batch by batch. What the transaction itself wrote is
//! laid over it.

use super::lookup::Access;
use super::overlay::Overlay;
use super::paced;
use crate::coordinator::ReadSnapshot;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream};
use eddyline_common::{Epoch, SqlError};
use eddyline_planner::Relation;
use eddyline_storage::view::{View, ViewKey};
use futures::stream;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct ViewTable {
    relation: Arc<Relation>,
    view: Arc<View>,
    snapshot: Arc<ReadSnapshot>,
    overlay: Option<Arc<Overlay>>,
}

impl ViewTable {
    pub fn new(relation: Arc<Relation>, view: Arc<View>, snapshot: Arc<ReadSnapshot>, overlay: Option<Arc<Overlay>>) -> Self {
        ViewTable { relation, view, snapshot, overlay }
    }

    /// The columns by which rows can be found, if others beside them are pinned too.
    fn columns_to_pin(&self) -> Vec<usize> {
        let key = match self.view.key() {
            ViewKey::Keyed(columns) => columns.as_slice(),
            ViewKey::Append | ViewKey::Multiset => &[],
        };
        key.iter().chain(self.view.indexes().iter().flat_map(|index| index.columns())).copied().collect()
    }

    /// The constants that the column must equal one of.
    fn values_of(&self, column: usize, filters: &[Expr]) -> Option<Vec<ScalarValue>> {
        let name = &self.relation.columns[column].name;
        let ty = self.view.schema().field(column).data_type();
        filters.iter().find_map(|filter| {
            let values = constants(filter, name)?;
            values.into_iter().map(|v| (v.data_type() == *ty && !v.is_null()).then_some(v)).collect::<Option<Vec<_>>>()
        })
    }
}

impl std::fmt::Debug for ViewTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ViewTable({} at {})", self.relation.name, self.snapshot.epoch)
    }
}

/// `column = constant` or `column IN (constants)`.
fn constants(filter: &Expr, name: &str) -> Option<Vec<ScalarValue>> {
    let is_column = |e: &Expr| matches!(e, Expr::Column(c) if c.name == name);
    let literal = |e: &Expr| match e {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (is_column(left), is_column(right)) {
            (true, false) => Some(vec![literal(right)?]),
            (false, true) => Some(vec![literal(left)?]),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut values = constants(left, name)?;
            for value in constants(right, name)? {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            Some(values)
        }
        Expr::InList(InList { expr, list, negated: false }) if is_column(expr) => list.iter().map(literal).collect(),
        _ => None,
    }
}

fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        self.view.schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Equalities are used and still checked above: a look-up may return more than was asked for.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let columns = self.columns_to_pin();
        let pins = |f: &&Expr| columns.iter().any(|c| constants(f, &self.relation.columns[*c].name).is_some());
        Ok(filters
            .iter()
            .map(|f| if pins(f) { TableProviderFilterPushDown::Inexact } else { TableProviderFilterPushDown::Unsupported })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let (epoch, all) = (self.snapshot.epoch, self.view.schema());
        let schema = match projection {
            None => all.clone(),
            Some(columns) => Arc::new(all.project(columns)?),
        };
        let access = Access::of(&self.view, |column| self.values_of(column, filters));
        let found_by = match &access {
            Some(access) => access.describe(&self.relation),
            None => format!("scan of {}", self.relation.name),
        };
        let source = Source { view: self.view.clone(), epoch, access, overlay: self.overlay.clone(), projection: projection.cloned() };
        // Opened here once for its errors: an epoch that is gone should not wait for the first row to say so.
        let first = source.open().map_err(external)?;
        let shared = Arc::new(SharedRows { source, rounds: Mutex::new(vec![Arc::new(Mutex::new(Some(first)))]) });
        let partitions = state.config().target_partitions().max(1);
        let partition = |_| -> Arc<dyn PartitionStream> {
            Arc::new(ViewPartition {
                schema: schema.clone(),
                rows: shared.clone(),
                executed: AtomicUsize::new(0),
                snapshot: self.snapshot.clone(),
            })
        };
        let exec = StreamingTableExec::try_new(schema.clone(), (0..partitions).map(partition).collect(), None, [], false, limit)?;
        Ok(Arc::new(ViewScan { rows: Arc::new(exec), found_by: found_by.into() }))
    }
}

/// The scan as a node of a plan: that of its partitions, and how they find their rows.
#[derive(Debug)]
struct ViewScan {
    rows: Arc<dyn ExecutionPlan>,
    found_by: Arc<str>,
}

impl ViewScan {
    fn with(&self, rows: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(ViewScan { rows, found_by: self.found_by.clone() })
    }
}

impl DisplayAs for ViewScan {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.rows.fmt_as(form, f)
    }
}

impl ExecutionPlan for ViewScan {
    fn name(&self) -> &str {
        self.rows.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.rows.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(&self, f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        self.rows.apply_expressions(f)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        self.rows.execute(partition, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.rows.metrics()
    }

    fn fetch(&self) -> Option<usize> {
        self.rows.fetch()
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        self.rows.with_fetch(limit).map(|rows| self.with(rows))
    }

    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        Ok(self.rows.try_swapping_with_projection(projection)?.map(|rows| self.with(rows)))
    }
}

/// How a plan finds the rows of tables and views, in its order: for EXPLAIN.
pub fn reads(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let own = plan.downcast_ref::<ViewScan>().map(|scan| scan.found_by.to_string());
    own.into_iter().chain(plan.children().into_iter().flat_map(reads)).collect()
}

/// Batches of one round of a scan; one iterator serves all its partitions.
type Rows = Box<dyn Iterator<Item = eddyline_common::Result<RecordBatch>> + Send>;

/// What a scan reads.
struct Source {
    view: Arc<View>,
    epoch: Epoch,
    /// `None`: all rows.
    access: Option<Access>,
    overlay: Option<Arc<Overlay>>,
    projection: Option<Vec<usize>>,
}

impl Source {
    fn open(&self) -> eddyline_common::Result<Rows> {
        // A plain scan projects by itself; look-ups and overlays need whole rows first.
        let whole = self.access.is_some() || self.overlay.is_some();
        let rows: Rows = match &self.access {
            Some(access) => access.rows(&self.view, self.epoch)?,
            None => Box::new(self.view.snapshot(self.epoch, if whole { None } else { self.projection.as_deref() })?),
        };
        let rows: Rows = match &self.overlay {
            Some(overlay) => Box::new(Overlaid { base: Some(rows), overlay: overlay.clone(), deleted: HashMap::new() }),
            None => rows,
        };
        match &self.projection {
            Some(columns) if whole => {
                let columns = columns.clone();
                Ok(Box::new(rows.map(move |batch| batch.and_then(|b| b.project(&columns).map_err(SqlError::from)))))
            }
            _ => Ok(rows),
        }
    }
}

/// The base's rows that the transaction left, then those it put in.
struct Overlaid {
    base: Option<Rows>,
    overlay: Arc<Overlay>,
    deleted: HashMap<Vec<u8>, i64>,
}

impl Iterator for Overlaid {
    type Item = eddyline_common::Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let base = self.base.as_mut()?;
        match base.next() {
            Some(batch) => Some(batch.and_then(|b| self.overlay.filter_base(&b, &mut self.deleted))),
            None => {
                self.base = None;
                Some(self.overlay.added())
            }
        }
    }
}

/// One round's rows until they are used up.
type Round = Arc<Mutex<Option<Rows>>>;

/// The rows that all partitions of a scan take from. A recursive query executes its scans again and again: the n-th
/// execution of every partition belongs to the n-th round.
struct SharedRows {
    source: Source,
    rounds: Mutex<Vec<Round>>,
}

impl SharedRows {
    fn round(&self, number: usize) -> eddyline_common::Result<Round> {
        let mut rounds = self.rounds.lock();
        while rounds.len() <= number {
            let rows = self.source.open()?;
            rounds.push(Arc::new(Mutex::new(Some(rows))));
        }
        Ok(rounds[number].clone())
    }
}

/// The next batch; what is used up is let go at once.
fn take(round: &Round) -> Option<eddyline_common::Result<RecordBatch>> {
    let mut rows = round.lock();
    let batch = rows.as_mut()?.next();
    if batch.is_none() {
        *rows = None;
    }
    batch
}

struct ViewPartition {
    schema: SchemaRef,
    rows: Arc<SharedRows>,
    executed: AtomicUsize,
    /// Keeps the epoch pinned while anything is left to read, as long as it may.
    snapshot: Arc<ReadSnapshot>,
}

impl std::fmt::Debug for ViewPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ViewPartition")
    }
}

impl PartitionStream for ViewPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let snapshot = self.snapshot.clone();
        let (round, mut failed) = match self.rows.round(self.executed.fetch_add(1, Ordering::Relaxed)) {
            Ok(round) => (Some(round), None),
            Err(error) => (None, Some(error)),
        };
        let batches = stream::iter(std::iter::from_fn(move || {
            let batch = match (&round, snapshot.check()) {
                (Some(round), Ok(())) => take(round),
                (Some(_), Err(too_old)) => Some(Err(too_old)),
                (None, _) => failed.take().map(Err),
            };
            batch.map(|b| b.map_err(external))
        }));
        paced::rows(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }
}
