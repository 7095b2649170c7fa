//! Plan nodes to operators. Everything that can be refused about a plan is refused here, before the job exists.

use crate::engine::StateBackend;
use crate::exchange::Exchange;
use crate::expr::{NowHandle, Predicate, Projection};
use crate::instance::{Instance, Work};
use crate::job::{JobShared, JobSpec};
use crate::operator::Wake;
use crate::operators::aggregate::{Aggregate, AggregateSpec, routing};
use crate::operators::asof_join::{AsofJoin, AsofJoinSpec};
use crate::operators::exchange::Partitioner;
use crate::operators::external_lookup::{ExternalLookup, ExternalLookupSpec};
use crate::operators::filter::Filter;
use crate::operators::join::{Join, JoinSpec};
use crate::operators::lookup_join::{LookupJoin, LookupJoinSpec};
use crate::operators::match_recognize::{MatchRecognize, MatchRecognizeSpec};
use crate::operators::materialize::Materialize;
use crate::operators::normalize::Normalize;
use crate::operators::over::{Over, OverSpec};
use crate::operators::pre_aggregate::PreAggregate;
use crate::operators::processing_time::ProcessingTime;
use crate::operators::project::Project;
use crate::operators::scan::Scan;
use crate::operators::session::{SessionAssign, SessionSpec};
use crate::operators::sink::Sink;
use crate::operators::state::StateSpec;
use crate::operators::temporal_filter::{TemporalFilter, TemporalFilterSpec};
use crate::operators::temporal_join::{TemporalJoin, TemporalJoinSpec};
use crate::operators::top_n::{self, TopN, TopNSpec};
use crate::operators::union::Union;
use crate::operators::unnest::Unnest;
use crate::operators::values::Values;
use crate::operators::window_assign::WindowAssign;
use crate::placement::Placement;
use crate::worker::panic_error;
use arrow::datatypes::SchemaRef;
use eddyline_common::connector::{LookupCache, LookupShape};
use eddyline_common::kv::KeyValueStore;
use eddyline_common::types::arrow_schema;
use eddyline_common::{Result, SqlError, SqlState, StateTableId, failpoint};
use eddyline_planner::plan::{ChangelogMode, Expr, Node, Op, PLAN_VERSION, StreamPlan};
use eddyline_storage::state::{SpillGate, StateBudget};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What operators with state need of the engine.
pub(crate) struct StateResources {
    pub kv: Arc<dyn KeyValueStore>,
    pub gate: Arc<SpillGate>,
    pub backend: StateBackend,
    pub budget: Arc<StateBudget>,
}

/// The job on one worker. The caller's thread runs more than this job, so a panic is this job's error, as it is on a worker.
pub(crate) fn build_instance(
    spec: &JobSpec,
    shared: Arc<JobShared>,
    state: &StateResources,
    wake: &Wake,
    worker: usize,
) -> Result<Instance> {
    let build = || {
        failpoint::hit("job.build")?;
        operators(spec, shared, state, wake, worker)
    };
    catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| Err(panic_error(panic.as_ref())))
}

fn operators(spec: &JobSpec, shared: Arc<JobShared>, state: &StateResources, wake: &Wake, worker: usize) -> Result<Instance> {
    check(&spec.plan)?;
    let now = NowHandle::default();
    let (placement, schemas) = (shared.placement, spec.plan.nodes.iter().map(|n| arrow_schema(&n.columns)).collect());
    let builder = Builder { spec, state, now: &now, wake, worker, placement, schemas };
    let work = (0..spec.plan.nodes.len()).map(|index| builder.node(index)).collect::<Result<Vec<_>>>()?;
    Ok(Instance::new(shared, work, now))
}

fn check(plan: &StreamPlan) -> Result<()> {
    if plan.version != PLAN_VERSION {
        let message = format!("the plan has version {}, this server runs version {PLAN_VERSION}", plan.version);
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    let ordered = plan.nodes.iter().enumerate().all(|(index, node)| node.inputs.iter().all(|input| *input < index) && arity_fits(node));
    let ends =
        plan.output + 1 == plan.nodes.len() && matches!(plan.nodes.last().map(|n| &n.op), Some(Op::Materialize { .. } | Op::Sink { .. }));
    if ordered && ends { Ok(()) } else { Err(SqlError::internal("the plan is not in order")) }
}

fn arity_fits(node: &Node) -> bool {
    match node.op {
        Op::Scan { .. } | Op::Values { .. } => node.inputs.is_empty(),
        Op::Union => !node.inputs.is_empty(),
        Op::Join { .. } | Op::LookupJoin { .. } | Op::TemporalJoin { .. } | Op::AsofJoin { .. } => node.inputs.len() == 2,
        _ => node.inputs.len() == 1,
    }
}

struct Builder<'a> {
    spec: &'a JobSpec,
    state: &'a StateResources,
    now: &'a NowHandle,
    wake: &'a Wake,
    worker: usize,
    placement: Placement,
    schemas: Vec<SchemaRef>,
}

impl Builder<'_> {
    fn node(&self, index: usize) -> Result<Work> {
        let plan = &self.spec.plan;
        let node = &plan.nodes[index];
        let output = self.schemas[index].clone();
        let input = || &self.schemas[node.inputs[0]];
        Ok(Work::Operator(match &node.op {
            Op::Scan { relation, projection } => {
                let stored = self
                    .spec
                    .inputs
                    .get(relation)
                    .ok_or_else(|| SqlError::internal(format!("the columns of relation {relation} are not given")))?;
                Box::new(Scan::new(projection.clone(), stored, output)?)
            }
            Op::Values { rows } => {
                let pending = self.worker == self.placement.worker(0) && !self.spec.restore.as_ref().is_some_and(|r| r.started);
                Box::new(Values::new(rows, &node.columns, &output, pending)?)
            }
            Op::Filter { predicate } => Box::new(Filter::new(Predicate::new(predicate, input(), self.now)?)),
            Op::TemporalFilter { from, until, state } => TemporalFilter::new(TemporalFilterSpec {
                from: from.clone(),
                until: until.clone(),
                input: input().clone(),
                input_mode: plan.nodes[node.inputs[0]].mode,
                output,
                output_mode: node.mode,
                routing: routing(plan, node.inputs[0])?,
                state: self.state_of(index, *state),
            })?,
            Op::Project { exprs } => Box::new(Project::new(Projection::new(exprs, input(), output, self.now)?)),
            Op::ProcessingTime { .. } => Box::new(ProcessingTime),
            Op::PreAggregate { keys, merged, window } => {
                let alone = self.placement.parts() == 1;
                Box::new(PreAggregate::new(keys.clone(), merged.clone(), *window, input(), alone)?)
            }
            Op::Unnest { lists } => Box::new(Unnest::new(lists.clone(), input(), output)?),
            Op::WindowAssign { time_column, kind } => Box::new(WindowAssign::new(*time_column, *kind, input(), output)?),
            Op::SessionAssign { partition, time_column, gap, emit, allowed_lateness, state } => SessionAssign::new(SessionSpec {
                partition: partition.clone(),
                time_column: *time_column,
                gap: *gap,
                emit: *emit,
                allowed_lateness: *allowed_lateness,
                input: input().clone(),
                output,
                routing: routing(plan, node.inputs[0])?,
                state: self.state_of(index, *state),
            })?,
            Op::MatchRecognize { partition, order, pattern, variables, keep, values, all_rows, skip, within, before, state } => {
                MatchRecognize::new(MatchRecognizeSpec {
                    partition: partition.clone(),
                    order: order.clone(),
                    pattern,
                    variables,
                    keep: keep.clone(),
                    values: values.clone(),
                    all_rows: *all_rows,
                    skip: *skip,
                    within: *within,
                    before: *before,
                    input: input().clone(),
                    output,
                    routing: routing(plan, node.inputs[0])?,
                    now: self.now,
                    state: self.state_of(index, *state),
                })?
            }
            Op::Union => {
                let inputs: Vec<SchemaRef> = node.inputs.iter().map(|i| self.schemas[*i].clone()).collect();
                Box::new(Union::new(&inputs, output)?)
            }
            Op::Exchange { keys } => {
                let partitioner = Partitioner::new(keys.clone(), input(), self.placement)?;
                return Ok(Work::Exchange(Exchange::new(partitioner, input().clone(), self.worker, self.placement.workers())));
            }
            Op::JoinExchange { keys } => {
                let partitioner = Partitioner::new(keys.clone(), input(), self.placement)?.spreading_nulls(input())?;
                return Ok(Work::Exchange(Exchange::new(partitioner, input().clone(), self.worker, self.placement.workers())));
            }
            Op::Join { kind, keys, nulls_equal, residual, window, interval, state } => Join::new(JoinSpec {
                kind: *kind,
                keys: keys.clone(),
                nulls_equal: *nulls_equal,
                residual: residual.as_ref(),
                window: *window,
                interval: *interval,
                inputs: [0, 1].map(|i| self.schemas[node.inputs[i]].clone()),
                input_modes: [0, 1].map(|i| plan.nodes[node.inputs[i]].mode),
                output,
                output_mode: node.mode,
                routing: [routing(plan, node.inputs[0])?, routing(plan, node.inputs[1])?],
                now: self.now,
                state: self.state_of(index, *state),
            })?,
            Op::LookupJoin { kind, keys, residual, state } => LookupJoin::new(LookupJoinSpec {
                kind: *kind,
                keys: keys.clone(),
                residual: residual.as_ref(),
                inputs: [0, 1].map(|i| self.schemas[node.inputs[i]].clone()),
                output,
                routing: [routing(plan, node.inputs[0])?, routing(plan, node.inputs[1])?],
                now: self.now,
                state: self.state_of(index, *state),
            })?,
            Op::ExternalLookup { relation, columns, kind, keys: [left, right], residual, state } => {
                let lookup = self.spec.lookups.get(relation);
                let lookup = lookup.ok_or_else(|| SqlError::internal(format!("nobody looks up rows of relation {relation}")))?;
                let share = |cache: LookupCache| LookupCache { keys_max: cache.keys_max.div_ceil(self.placement.parts()), ..cache };
                let shape = LookupShape { keys: right.clone(), columns: columns.clone() };
                let kept = |table: &StateTableId| -> Result<_> { Ok((self.state_of(index, *table), routing(plan, node.inputs[0])?)) };
                ExternalLookup::new(ExternalLookupSpec {
                    kind: *kind,
                    keys: left.clone(),
                    residual: residual.as_ref(),
                    input: input().clone(),
                    output,
                    now: self.now,
                    client: lookup.connector.open(shape, lookup.on_trouble.clone())?,
                    cache: lookup.connector.cache().map(share),
                    wake: self.wake.clone(),
                    kept: state.as_ref().map(kept).transpose()?,
                })?
            }
            Op::TemporalJoin { kind, keys, residual, times, state } => TemporalJoin::new(TemporalJoinSpec {
                kind: *kind,
                keys: keys.clone(),
                residual: residual.as_ref(),
                times: *times,
                inputs: [0, 1].map(|i| self.schemas[node.inputs[i]].clone()),
                right_mode: plan.nodes[node.inputs[1]].mode,
                output,
                routing: [routing(plan, node.inputs[0])?, routing(plan, node.inputs[1])?],
                now: self.now,
                state: self.state_of(index, *state),
            })?,
            Op::AsofJoin { kind, keys, condition, places, compared, order, bounded, state } => AsofJoin::new(AsofJoinSpec {
                kind: *kind,
                keys: keys.clone(),
                condition: condition.as_ref(),
                places: *places,
                compared: *compared,
                order: order.clone(),
                bounded: *bounded,
                inputs: [0, 1].map(|i| self.schemas[node.inputs[i]].clone()),
                input_modes: [0, 1].map(|i| plan.nodes[node.inputs[i]].mode),
                output,
                routing: [routing(plan, node.inputs[0])?, routing(plan, node.inputs[1])?],
                now: self.now,
                state: self.state_of(index, *state),
            })?,
            Op::Aggregate { group, calls, window, state } => Aggregate::new(AggregateSpec {
                group: group.clone(),
                calls: calls.clone(),
                window: *window,
                input: input().clone(),
                output,
                input_mode: plan.nodes[node.inputs[0]].mode,
                routing: routing(plan, node.inputs[0])?,
                state: self.state_of(index, *state),
            })?,
            Op::TopN { partition, order, function, offset, limit, with_rank, window, state } => TopN::new(TopNSpec {
                partition: partition.clone(),
                order: order.clone(),
                function: *function,
                offset: *offset,
                limit: *limit,
                with_rank: *with_rank,
                window: *window,
                input: input().clone(),
                output,
                input_mode: plan.nodes[node.inputs[0]].mode,
                routing: routing(plan, node.inputs[0])?,
                state: self.state_of(index, *state),
            })?,
            Op::Over { partition, order, calls, window, state } => Over::new(OverSpec {
                partition: partition.clone(),
                order: order.clone(),
                calls: calls.clone(),
                window: *window,
                input: input().clone(),
                output,
                routing: routing(plan, node.inputs[0])?,
                state: self.state_of(index, *state),
            })?,
            Op::Normalize { key } => Box::new(Normalize::new(self.spec.view.clone(), key.clone(), output)?),
            Op::Materialize { .. } => {
                let net = plan.nodes[node.inputs[0]].mode == ChangelogMode::Append || is_net(plan, node.inputs[0]);
                Box::new(Materialize::new(self.spec.view.clone(), self.worker, output, net, plan.forgets())?)
            }
            Op::Sink { .. } => {
                let net = plan.nodes[node.inputs[0]].mode == ChangelogMode::Append || is_net(plan, node.inputs[0]);
                Box::new(Sink::new(output, net)?)
            }
        }))
    }

    fn state_of(&self, index: usize, table: StateTableId) -> StateSpec {
        StateSpec {
            table,
            worker: self.placement.part_of(self.worker),
            workers: self.placement.parts(),
            kv: self.state.kv.clone(),
            backend: self.state.backend,
            budget: self.state.budget.clone(),
            gate: self.state.gate.clone(),
            restore: self.spec.restore.is_some(),
            ttl: self.spec.plan.ttl_of(index),
            forgetful: self.spec.plan.forgets(),
        }
    }
}

/// Whether no row leaves `node` in one step both with a positive and with a negative weight: true behind an aggregate, a join or a Top-N as
/// long as nothing between leaves out columns or brings streams together.
fn is_net(plan: &StreamPlan, node: usize) -> bool {
    let Node { op, inputs, .. } = &plan.nodes[node];
    match op {
        Op::Aggregate { .. } | Op::Join { .. } | Op::TemporalFilter { .. } => true,
        Op::TopN { .. } | Op::Over { .. } | Op::AsofJoin { .. } => top_n::is_exact(&arrow_schema(&plan.nodes[node].columns)),
        Op::Exchange { .. } | Op::JoinExchange { .. } | Op::Filter { .. } | Op::ProcessingTime { .. } | Op::WindowAssign { .. } => {
            is_net(plan, inputs[0])
        }
        Op::Project { exprs } => {
            let keeps = |column: usize| exprs.contains(&Expr::Column(column));
            (0..plan.nodes[inputs[0]].columns.len()).all(keeps) && is_net(plan, inputs[0])
        }
        Op::Scan { .. }
        | Op::Values { .. }
        | Op::Union
        | Op::Unnest { .. }
        | Op::PreAggregate { .. }
        | Op::SessionAssign { .. }
        | Op::MatchRecognize { .. }
        | Op::LookupJoin { .. }
        | Op::ExternalLookup { .. }
        | Op::TemporalJoin { .. }
        | Op::Normalize { .. }
        | Op::Materialize { .. }
        | Op::Sink { .. } => false,
    }
}
