//! The batch side: DataFusion with its own optimiser and subqueries row by row, as queries have it, over the whole content of the inputs at one epoch.

use super::case::Case;
use super::catalog::OracleCatalog;
use super::compare::difference;
use super::tables::Table;
use super::versions::Helped;
use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::collect;
use datafusion::prelude::{SessionConfig, SessionContext};
use eddyline_common::types::{Column, arrow_schema};
use eddyline_common::{Epoch, RelationId, SqlType, Timestamp};
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_planner::walk::{Walk, WalkPlan};
use eddyline_planner::{batch_rules, oracle_plan};
use eddyline_server::serving::turns::Threads;
use eddyline_server::serving::{correlated, physical};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What must be true of a view at an epoch.
#[derive(Clone)]
pub struct Expected {
    pub rows: RecordBatch,
    /// Summed weights of late and of rejected rows.
    pub late: i64,
    pub rejected: i64,
}

/// DataFusion as the server's queries have it, but for its own rules.
pub fn context() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1);
    config.options_mut().execution.skip_physical_aggregate_schema_check = true;
    let state = SessionStateBuilder::new().with_config(config).with_default_features();
    let state = state.with_optimizer_rules(batch_rules()).with_physical_optimizer_rules(physical::rules());
    SessionContext::new_with_state(state.build())
}

pub struct Batch {
    context: SessionContext,
    runtime: tokio::runtime::Runtime,
    /// Subqueries that are run row by row are work of a query, as in the server.
    threads: Threads,
    known: HashMap<(RelationId, Epoch), Arc<Expected>>,
}

impl Batch {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Batch { context: context(), runtime, threads: Threads::new(1).unwrap(), known: HashMap::new() }
    }

    /// The expected state of a view, and of the views below it.
    pub fn expected(&mut self, view: &Relation, epoch: Epoch, world: &World) -> Arc<Expected> {
        if let Some(known) = self.known.get(&(view.id, epoch)) {
            return known.clone();
        }
        let case = &world.cases[&view.id];
        let below: Vec<(String, RecordBatch)> = case
            .over
            .iter()
            .map(|name| {
                let relation = world.view(name);
                (name.clone(), self.expected(&relation, epoch, world).rows.clone())
            })
            .collect();
        for table in world.tables.iter() {
            world.catalog.set_content(&table.spec.name, table.content(epoch).clone());
        }
        below.into_iter().for_each(|(name, rows)| world.catalog.set_content(&name, rows));
        let expected = Arc::new(self.compute(view, case, epoch, world));
        self.known.insert((view.id, epoch), expected.clone());
        expected
    }

    fn compute(&self, view: &Relation, case: &Case, epoch: Epoch, world: &World) -> Expected {
        let mut expected = Expected { rows: RecordBatch::new_empty(arrow_schema(&view.columns)), late: 0, rejected: 0 };
        if let Some(sql) = &case.rejected {
            expected.rejected = self.count(sql, epoch, world);
        }
        let mut any_late = true;
        if let Some(window) = &case.window {
            let table = world.tables.iter().find(|t| t.spec.name == window.table).expect("a case names its table");
            let name = table.spec.windowed_name();
            let schema = arrow_schema(&world.view(&name).columns);
            let windowed = window.apply(table, &schema, epoch);
            assert_eq!(windowed.produced, windowed.accepted + windowed.late, "the model's own: what it assigned is accepted or late");
            world.catalog.set_content(&name, windowed.rows);
            expected.late = windowed.late * case.readers;
            expected.rejected += if case.takes_no_time { 0 } else { windowed.rejected * case.readers };
            any_late = windowed.any_late;
        }
        if let Some(helper) = &case.helper {
            let schema = arrow_schema(&world.view(&helper.name()).columns);
            let Helped { rows, late, rejected } = helper.content(world, &schema, epoch);
            world.catalog.set_content(&helper.name(), rows);
            expected.late += late;
            expected.rejected += rejected;
        }
        expected.rows = match &case.batch {
            None => self.run(view, epoch, world),
            Some(sql) => self.run(&as_view(sql, view.columns.clone()), epoch, world),
        };
        if case.window.is_some_and(|w| !w.on_close) && !any_late {
            // As nothing was late, the text itself says what the result is.
            let plain = self.run(view, epoch, world);
            if let Some(difference) = difference(&expected.rows, &plain, case.approximate) {
                panic!("the batch plan of {} differs from windows assigned one by one: {difference}", case.sql);
            }
        }
        expected
    }

    fn count(&self, sql: &str, epoch: Epoch, world: &World) -> i64 {
        let rows = self.run(&as_view(sql, vec![Column::new("n", SqlType::BigInt, true)]), epoch, world);
        match ScalarValue::try_from_array(rows.column(0), 0).unwrap() {
            ScalarValue::Int64(Some(n)) => n,
            other => panic!("{sql} gave {other}"),
        }
    }

    fn run(&self, view: &Relation, epoch: Epoch, world: &World) -> RecordBatch {
        let plan = oracle_plan(view, &world.catalog).unwrap_or_else(|e| panic!("no batch plan of {}: {e}", view.sql));
        let plan = at(plan, world.now(epoch));
        let context = self.context.clone();
        let rows = self.threads.spawn(async move {
            let plan = correlated::physical(plan, correlated::Statement::unwatched(context.state())).await?;
            collect(plan, context.task_ctx()).await
        });
        let rows = self.runtime.block_on(rows).unwrap();
        let rows = rows.unwrap_or_else(|e| panic!("batch run of {} failed: {e}", view.sql));
        let schema = arrow_schema(&view.columns);
        let rows: Vec<RecordBatch> = rows
            .into_iter()
            .map(|batch| {
                let unfit = batch.columns().iter().zip(schema.fields()).any(|(c, f)| !f.is_nullable() && c.null_count() > 0);
                assert!(!unfit, "{} has a null where the planner says there is none", view.sql);
                RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).unwrap()
            })
            .collect();
        concat_batches(&schema, &rows).unwrap()
    }
}

/// The plan with `now()` at a moment.
fn at(plan: LogicalPlan, now: Timestamp) -> LogicalPlan {
    let moment = Expr::Literal(ScalarValue::TimestampMicrosecond(Some(now.0), Some("+00:00".into())), None);
    let one = |e: Expr| match &e {
        Expr::ScalarFunction(call) if call.func.name() == "now" => Ok(Transformed::yes(moment.clone())),
        _ => Ok(Transformed::no(e)),
    };
    let plan = plan.up_with_subqueries(|node| node.map_own(|e| e.up(one)));
    plan.unwrap().data
}

fn as_view(sql: &str, columns: Vec<Column>) -> Relation {
    Relation {
        id: RelationId(0),
        name: "expected".to_string(),
        sql: format!("CREATE VIEW expected AS {sql}"),
        columns,
        visible: vec![],
        key: vec![],
        mode: eddyline_planner::plan::ChangelogMode::Retract,
        watermark: None,
        time_columns: vec![],
        kind: RelationKind::View { query: sql.to_string() },
        depends_on: vec![],
        named: BTreeMap::new(),
    }
}

/// What outlives the process under test: the log of cuts and the definitions.
pub struct World {
    pub catalog: OracleCatalog,
    pub tables: Vec<Table>,
    pub cases: HashMap<RelationId, Case>,
    /// Of each epoch, from 0.
    pub nows: Vec<Timestamp>,
}

impl World {
    pub fn view(&self, name: &str) -> Arc<Relation> {
        use eddyline_planner::Catalog;
        self.catalog.relation(None, name).unwrap_or_else(|| panic!("relation {name} was not created"))
    }

    pub fn now(&self, epoch: Epoch) -> Timestamp {
        self.nows[epoch.0 as usize]
    }

    pub fn table(&self, id: RelationId) -> Option<&Table> {
        self.tables.iter().find(|t| t.relation.id == id)
    }
}
