//! Optimised logical plan to streaming plan. Bottom-up, each node with what is known of it: changelog mode,
//! unique keys, time columns, window columns, and how its rows are distributed over workers. Exchanges are
//! put only where the distribution is not already right.
//!
//! Invariants: `nodes` is in topological order; what comes out is exactly what `plan` documents, so that
//! whatever is accepted here runs.

mod aggregate;
mod arrival;
mod asof;
mod calls;
mod chosen;
mod external;
mod grouping;
mod interval;
mod join;
mod keys;
mod lateral;
mod match_recognize;
mod node;
mod one_row;
mod over;
mod pre_aggregate;
mod prepare;
mod project;
mod retention;
mod session;
mod share;
mod sorted;
mod supported;
mod temporal;
mod top_n;
mod ttl;
mod union;
mod unnest;
mod version;

pub(crate) use calls::unaliased;
pub(crate) use interval::micros;

use crate::bind::RelationSource;
use crate::bind::as_of::{is_now, reads_now};
use crate::bind::chosen::ChosenJoin;
use crate::bind::match_recognize::MatchRecognize;
use crate::bind::session::SessionAssign;
use crate::bind::window::WindowAssign;
use crate::catalog::Retention;
use crate::error::from_datafusion;
use crate::expr;
use crate::plan::{ChangelogMode, Emit, Expr, Literal, LiteralValue, Node, NodeId, Op, PLAN_VERSION, StreamPlan, WindowKind};
use crate::settings::Settings;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Extension, Filter, LogicalPlan, Projection, TableScan, Values};
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType, StateTableId};
pub use interval::has_empty as has_empty_interval;
pub use lateral::join_laterals;
pub use node::Distribution;
use node::{Facts, WindowColumn, WindowPart};
pub use prepare::{event_time, in_order, in_order_of_values, prepare, with_orders};
pub use supported::{check, check_correlated, check_unnested};
pub use ttl::{StateTtls, TtlHint};

/// Hands out state table ids: the next free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTableIds(pub u32);

impl StateTableIds {
    pub fn allocate(&mut self) -> StateTableId {
        let id = StateTableId(self.0);
        self.0 += 1;
        id
    }
}

/// How windows of the query emit and how long rows stay, from the statement and its options.
#[derive(Clone, Debug)]
pub struct Emission {
    pub emit: Emit,
    pub allowed_lateness: i64,
    pub rewrites: Rewrites,
    /// Of a view.
    pub retention: Option<Retention>,
    pub ttl: StateTtls,
}

/// What only makes the plan faster, and a session may switch off.
#[derive(Clone, Copy, Debug)]
pub struct Rewrites {
    /// Equal sub-plans run once.
    pub share: bool,
    /// Rows are pre-aggregated before they are exchanged.
    pub two_phase: bool,
}

impl Rewrites {
    pub fn of(settings: &Settings) -> Self {
        let on = |rule: &str| !settings.disabled_rules.contains(&rule);
        Rewrites { share: on("enable_plan_sharing"), two_phase: on("enable_two_phase_aggregation") }
    }
}

pub(crate) struct Lowering<'a> {
    nodes: Vec<Node>,
    facts: Vec<Facts>,
    ids: &'a mut StateTableIds,
    emission: Emission,
    windowed: bool,
    /// What was refused would not be if windows were shown as they change.
    never_closes: bool,
    /// Windows told apart so far.
    windows: usize,
    /// What inputs are called, if hints name any.
    names: Vec<(NodeId, String)>,
}

/// Lowers a query to the plan of a materialized view whose columns have the given names.
pub fn lower(plan: &LogicalPlan, names: &[String], ids: &mut StateTableIds, emission: Emission) -> Result<StreamPlan> {
    let share = emission.rewrites.share;
    let mut lowering = Lowering::new(ids, emission);
    let output = lowering.query(plan, names)?;
    let output = lowering.retained(output)?;
    let mut plan = lowering.materialize(output)?;
    ttl::overwrites(&mut plan);
    Ok(if share { share::shared(plan) } else { plan })
}

/// Why a query is no sink's.
pub enum Refusal {
    /// Shown as they change, its windows could be sent.
    NeverCloses(SqlError),
    Other(SqlError),
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        Refusal::Other(error)
    }
}

impl From<Refusal> for SqlError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NeverCloses(error) | Refusal::Other(error) => error,
        }
    }
}

/// Lowers a query to the plan of a sink; `key` says by which columns the rows that come out are identified, or refuses them.
pub fn lower_sink(
    plan: &LogicalPlan,
    names: &[String],
    ids: &mut StateTableIds,
    emission: Emission,
    key: &dyn Fn(&Node) -> Result<Vec<usize>>,
) -> Result<StreamPlan, Refusal> {
    let share = emission.rewrites.share;
    let mut lowering = Lowering::new(ids, emission);
    let output = match lowering.query(plan, names) {
        Err(error) if lowering.never_closes => return Err(Refusal::NeverCloses(error)),
        lowered => lowered?,
    };
    let key = key(&lowering.nodes[output])?;
    let op = Op::Sink { key: key.clone() };
    let plan = lowering.end(output, key, op)?;
    Ok(if share { share::shared(plan) } else { plan })
}

impl<'a> Lowering<'a> {
    fn new(ids: &'a mut StateTableIds, emission: Emission) -> Self {
        let (nodes, facts) = (Vec::new(), Vec::new());
        Lowering { nodes, facts, ids, emission, windowed: false, never_closes: false, windows: 0, names: vec![] }
    }
}

impl Lowering<'_> {
    /// The node whose rows are the query's, in columns of these names.
    fn query(&mut self, plan: &LogicalPlan, names: &[String]) -> Result<NodeId> {
        let output = self.node(plan)?;
        let output = self.output_columns(output, plan.schema(), names)?;
        self.check_emission(output)?;
        Ok(output)
    }

    fn node(&mut self, plan: &LogicalPlan) -> Result<NodeId> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => {
                let node = self.node(&alias.input)?;
                self.name(node, alias.alias.table());
                Ok(node)
            }
            // The rows of a view have no order; ORDER BY without LIMIT means nothing here.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => {
                let columns = columns_of(&empty.schema)?;
                let null = |c: &Column| Literal { ty: c.ty.clone(), value: LiteralValue::Null };
                let rows = if empty.produce_one_row { vec![columns.iter().map(null).collect()] } else { vec![] };
                Ok(self.constant_rows(columns, rows))
            }
            LogicalPlan::Extension(Extension { node }) => {
                let any = node.as_any();
                if let Some(window) = any.downcast_ref::<WindowAssign>() {
                    self.window(window)
                } else if let Some(session) = any.downcast_ref::<SessionAssign>() {
                    self.session(session)
                } else if let Some(join) = any.downcast_ref::<ChosenJoin>() {
                    self.chosen_join(join)
                } else if let Some(node) = any.downcast_ref::<MatchRecognize>() {
                    self.match_recognize(node)
                } else {
                    Err(SqlError::internal(format!("no streaming form of {}", node.name())))
                }
            }
            other => {
                let name = other.display().to_string();
                let name = name.split([':', ' ']).next().unwrap_or_default().to_string();
                Err(SqlError::unsupported(format!("{name} is not supported in a materialized view")))
            }
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<NodeId> {
        let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
            return Err(SqlError::unsupported(format!("relation \"{}\" cannot be used in a materialized view", scan.table_name)));
        };
        let relation = &source.relation;
        if relation.is_looked_up() {
            return Err(relation.cannot_be_read());
        }
        let mut projection: Vec<usize> = match &scan.projection {
            Some(columns) => columns.clone(),
            None => (0..relation.columns.len()).collect(),
        };
        if projection.is_empty() {
            // Rows must be counted: a batch without columns would lose how many there are in an exchange.
            projection.push(0);
        }
        let at = |stored: usize| projection.iter().position(|p| *p == stored);
        let key: Option<Vec<usize>> = relation.key.iter().map(|k| at(*k)).collect();
        let event_time = match &relation.watermark {
            Some(watermark) => expr::map_columns(&relation.visible[watermark.column].value, &|i| at(i).map(Expr::Column)),
            None => None,
        };
        let is_source = relation.is_source();
        let facts = Facts {
            distribution: Distribution::Any,
            windows: vec![None; projection.len()],
            constants: vec![None; projection.len()],
            event_time,
            unwatermarked: (is_source && relation.watermark.is_none()).then(|| relation.name.clone()),
        };
        let node = Node {
            // What is made of a table's times has all digits there are.
            columns: projection.iter().map(|i| Column { precision: None, ..relation.columns[*i].clone() }).collect(),
            mode: relation.mode,
            unique_keys: key.filter(|k| !k.is_empty()).into_iter().collect(),
            time_columns: relation.time_columns.iter().filter_map(|t| at(*t)).collect(),
            op: Op::Scan { relation: relation.id, projection },
            inputs: vec![],
        };
        let name = relation.name.clone();
        let node = self.push(node, facts);
        self.name(node, &name);
        Ok(node)
    }

    fn filter(&mut self, filter: &Filter) -> Result<NodeId> {
        if let Some(node) = self.ranked(filter)? {
            return Ok(node);
        }
        let input = self.node(&filter.input)?;
        let predicate = expr::from_datafusion(&filter.predicate, filter.input.schema())?;
        self.filter_node(input, predicate)
    }

    fn filter_node(&mut self, input: NodeId, predicate: Expr) -> Result<NodeId> {
        if expr::reads_clock(&predicate) {
            return self.temporal_filter(input, &predicate);
        }
        self.check_arrival(input, std::iter::once(&predicate))?;
        let mut facts = self.facts[input].clone();
        keys::note_equalities(&predicate, &mut facts.constants);
        let unique_keys = keys::without_constants(&self.nodes[input].unique_keys, &facts.constants);
        let node = Node { op: Op::Filter { predicate }, inputs: vec![input], unique_keys, ..self.nodes[input].clone() };
        Ok(self.push(node, facts))
    }

    fn projection(&mut self, projection: &Projection) -> Result<NodeId> {
        let input = self.node(&projection.input)?;
        self.projected_by(input, projection)
    }

    fn projected_by(&mut self, input: NodeId, projection: &Projection) -> Result<NodeId> {
        let schema = projection.input.schema();
        let exprs = projection.expr.iter().map(|e| expr::from_datafusion(e, schema)).collect::<Result<Vec<_>>>()?;
        self.project(input, exprs, columns_of(&projection.schema)?)
    }

    fn new_window(&mut self) -> usize {
        self.windows += 1;
        self.windows
    }

    fn values(&mut self, values: &Values) -> Result<NodeId> {
        let columns = columns_of(&values.schema)?;
        let empty = DFSchema::empty();
        let cell = |e: &datafusion::logical_expr::Expr| {
            let folded = crate::optimize::fold_constant(e.clone()).map_err(|e| from_datafusion(e, None))?;
            match expr::from_datafusion(&folded, &empty)? {
                Expr::Literal(literal) => Ok(literal),
                _ => Err(SqlError::unsupported(format!("VALUES with {e} is not supported in a materialized view"))
                    .with_hint("Write constants into VALUES.")),
            }
        };
        let rows = values.values.iter().map(|row| row.iter().map(cell).collect()).collect::<Result<_>>()?;
        Ok(self.constant_rows(columns, rows))
    }

    fn constant_rows(&mut self, mut columns: Vec<Column>, mut rows: Vec<Vec<Literal>>) -> NodeId {
        if columns.is_empty() {
            columns.push(Column::new("", SqlType::Boolean, false));
            let one = || Literal { ty: SqlType::Boolean, value: LiteralValue::Boolean(true) };
            rows.iter_mut().for_each(|row| row.push(one()));
        }
        let facts = Facts::new(Distribution::Any, columns.len());
        let node = Node {
            op: Op::Values { rows },
            inputs: vec![],
            columns,
            mode: ChangelogMode::Append,
            unique_keys: vec![],
            time_columns: vec![],
        };
        self.push(node, facts)
    }

    /// A window over `PROCTIME()` closes by the clock.
    fn processing_time(&mut self, input: NodeId, column: usize, plan: &LogicalPlan, time: &datafusion::common::Column) -> NodeId {
        let source = self.nodes[input].clone();
        if source.mode == ChangelogMode::Retract || !is_now(&datafusion::logical_expr::Expr::Column(time.clone()), plan) {
            return input;
        }
        let unmoved = |w: WindowColumn| WindowColumn { event_time: false, ..w };
        let facts = Facts {
            event_time: None,
            unwatermarked: None,
            windows: self.facts[input].windows.iter().map(|w| w.map(unmoved)).collect(),
            ..self.facts[input].clone()
        };
        let node = Node { op: Op::ProcessingTime { column }, inputs: vec![input], time_columns: vec![column], ..source };
        self.push(node, facts)
    }

    fn window(&mut self, window: &WindowAssign) -> Result<NodeId> {
        let input = self.node(&window.input)?;
        let time_column = expr::position(&window.time, window.input.schema())?;
        let input = self.processing_time(input, time_column, &window.input, &window.time);
        let source = &self.nodes[input];
        let event_time = source.time_columns.contains(&time_column);
        let mut facts = self.facts[input].clone();
        if !event_time && (self.emission.emit == Emit::OnClose || facts.unwatermarked.is_some()) {
            self.never_closes = facts.unwatermarked.is_none();
            let error = needs_watermark(&source.columns[time_column].name, facts.unwatermarked.as_deref());
            return Err(of_clock(error, &window.time, &window.input));
        }
        let width = source.columns.len();
        let mut columns = source.columns.clone();
        let ty = source.columns[time_column].ty.clone();
        columns.extend(window.names.iter().map(|name| Column::new(*name, ty.clone(), true)));
        let mut time_columns = source.time_columns.clone();
        if event_time {
            time_columns.extend([width + 1, width + 2]);
        }
        // The column that tells the windows of one row apart.
        let which = match window.kind {
            WindowKind::Tumble { .. } => None,
            WindowKind::Hop { .. } => Some(width),
            WindowKind::Cumulate { .. } | WindowKind::Session { .. } => Some(width + 1),
        };
        let unique_keys = source.unique_keys.iter().map(|key| key.iter().copied().chain(which).collect()).collect();
        let node = Node {
            op: Op::WindowAssign { time_column, kind: window.kind },
            mode: source.mode,
            inputs: vec![input],
            columns,
            unique_keys,
            time_columns,
        };
        let id = self.new_window();
        let part = |part| Some(WindowColumn { window: id, part, kind: window.kind, event_time, settles: 0 });
        facts.windows.extend([part(WindowPart::Start), part(WindowPart::End), part(WindowPart::Time)]);
        facts.constants.extend([const { None }; 3]);
        Ok(self.push(node, facts))
    }

    /// The view's own columns: their names, no duplicates, no column of unknown type.
    fn output_columns(&mut self, input: NodeId, schema: &DFSchema, names: &[String]) -> Result<NodeId> {
        let mut columns = columns_of(schema)?;
        if columns.is_empty() {
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "a materialized view must have at least one column"));
        }
        let mut exprs: Vec<Expr> = (0..columns.len()).map(Expr::Column).collect();
        for (i, (column, name)) in columns.iter_mut().zip(names).enumerate() {
            column.name = name.clone();
            if column.ty == SqlType::Null {
                column.ty = SqlType::Text;
                exprs[i] = Expr::Cast { expr: Box::new(Expr::Column(i)), ty: SqlType::Text, try_cast: false };
            }
        }
        self.project(input, exprs, columns)
    }

    fn check_emission(&mut self, output: NodeId) -> Result<()> {
        if self.emission.emit == Emit::OnClose && (!self.windowed || self.nodes[output].mode == ChangelogMode::Retract) {
            self.never_closes = true;
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "EMIT ON WINDOW CLOSE needs an aggregate over a window")
                .with_detail("Every aggregate of the query must group by a window over a column with a watermark, and no table may change.")
                .with_hint("Group by window_start and window_end of TUMBLE, HOP, CUMULATE or SESSION, or leave the clause out."));
        }
        Ok(())
    }

    fn materialize(self, output: NodeId) -> Result<StreamPlan> {
        let node = &self.nodes[output];
        let key = node.unique_keys.iter().filter(|k| !k.is_empty()).min_by_key(|k| k.len()).cloned().unwrap_or_default();
        let op = Op::Materialize { key: key.clone() };
        self.end(output, key, op)
    }

    /// Puts the last node on the plan: rows that are equal in the key, or altogether if they may change, are on one worker.
    fn end(mut self, output: NodeId, key: Vec<usize>, op: Op) -> Result<StreamPlan> {
        let node = &self.nodes[output];
        let wanted = match (key.is_empty(), node.mode) {
            (false, _) => Some(key.clone()),
            (true, ChangelogMode::Retract) => Some((0..node.columns.len()).collect()),
            (true, ChangelogMode::Append) => None,
        };
        let input = match wanted {
            Some(keys) => self.exchanged(output, keys),
            None => output,
        };
        let node = Node { op, inputs: vec![input], ..self.nodes[input].clone() };
        let facts = self.facts[input].clone();
        let output = self.push(node, facts);
        let state_ttl = self.state_ttl()?;
        Ok(StreamPlan { version: PLAN_VERSION, nodes: self.nodes, output, state_ttl })
    }

    /// The input, exchanged by `keys` unless rows with equal keys are on one worker already.
    pub(crate) fn exchanged(&mut self, input: NodeId, keys: Vec<usize>) -> NodeId {
        if self.facts[input].distribution.serves(&keys) {
            return input;
        }
        let facts = Facts { distribution: Distribution::hash(&keys), ..self.facts[input].clone() };
        let node = Node { op: Op::Exchange { keys }, inputs: vec![input], ..self.nodes[input].clone() };
        self.push(node, facts)
    }

    pub(crate) fn push(&mut self, node: Node, facts: Facts) -> NodeId {
        assert_eq!(node.columns.len(), facts.windows.len(), "facts for every column");
        self.nodes.push(node);
        self.facts.push(facts);
        self.nodes.len() - 1
    }
}

pub(crate) fn needs_watermark(column: &str, source: Option<&str>) -> SqlError {
    let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, format!("a window over \"{column}\" needs a watermark on it"));
    match source {
        Some(source) => {
            error.with_hint(format!("Declare WATERMARK FOR {column} AS {column} - INTERVAL '5 seconds' in CREATE SOURCE {source}."))
        }
        None => error.with_hint("Declare a watermark on the column, and pass the column through the query as it is."),
    }
}

/// The hint where what needs a watermark is read off the clock.
fn of_clock(error: SqlError, time: &datafusion::common::Column, input: &LogicalPlan) -> SqlError {
    match reads_now(&datafusion::logical_expr::Expr::Column(time.clone()), input) {
        true => error.with_hint(
            "What is read off the clock has no watermark. Declare the column AS PROCTIME(): windows over it close by the clock.",
        ),
        false => error,
    }
}

/// The columns of a schema in our types.
pub(crate) fn columns_of(schema: &DFSchema) -> Result<Vec<Column>> {
    schema
        .fields()
        .iter()
        .map(|field| match SqlType::from_field(field) {
            Some(ty) => Ok(Column::new(field.name().clone(), ty, field.is_nullable())),
            None => Err(SqlError::unsupported(format!("column \"{}\" has the unsupported type {}", field.name(), field.data_type()))),
        })
        .collect()
}
