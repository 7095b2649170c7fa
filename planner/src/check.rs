//! CHECK MATERIALIZED VIEW: the view's rows against its query run once more, both at one epoch. It is planned as a query whose rows
//! are the differences, so it runs, streams and is cancelled as one.

mod attempted;

use crate::bind::Mode;
use crate::catalog::{Relation, RelationKind};
use crate::functions::{APPROXIMATE, registry};
use crate::plan::{Emit, Op, StreamPlan};
use crate::query::{Context, recomputed_plan, relations_of};
use crate::statement::Query;
use datafusion::common::{Column as DfColumn, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{AggregateFunction, Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::sql::sqlparser::ast::ObjectName;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use std::sync::Arc;

/// Differences that are shown.
const SHOWN: usize = 100;

/// The columns in front of the view's own.
const DIFFERENCE: &str = "difference";
const TIMES: &str = "times";

pub fn check_view(name: &ObjectName, context: &Context) -> Result<Query> {
    let view = context.relation(name)?;
    let RelationKind::MaterializedView { plan, options } = &view.kind else {
        let error = SqlError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a materialized view", view.name));
        return Err(error.with_hint("Other relations have no query of their own to be checked against."));
    };
    if options.of_temporary {
        return Err(SqlError::unsupported(format!(
            "CHECK of materialized view \"{}\" is not supported: it was made of a temporary view",
            view.name
        ))
        .with_detail("Temporary views are not kept, so its statement alone does not say what its query is."));
    }
    refuse_what_differs(&view, plan)?;
    let mut settings = context.settings.clone();
    settings.time_zone = options.time_zone.clone().unwrap_or_else(|| "UTC".to_string());
    let recomputed = recomputed_plan(&view, context.catalog, &settings)?;
    let sources: Vec<String> = relations_of(&recomputed, context.catalog)
        .into_iter()
        .filter_map(|id| context.catalog.relations().into_iter().find(|r| r.id == id && !r.has_rows()))
        .map(|r| r.name.clone())
        .collect();
    if let Some(source) = sources.first() {
        return Err(SqlError::unsupported(format!("CHECK of a view over source \"{source}\" is not supported"))
            .with_detail("A source has moved on since the view's epoch; only tables and views can be read as they were.")
            .with_hint("Put the source's rows into a materialized view and build on that."));
    }
    let stored = context.binder(Mode::Batch).relation_plan(&view)?;
    let plan = attempted::attempted(recomputed).and_then(|recomputed| differences(stored, recomputed, &view.columns));
    let plan = plan.map_err(|e| crate::error::from_datafusion(e, None))?;
    let mut names = vec![DIFFERENCE.to_string(), TIMES.to_string()];
    names.extend(view.columns.iter().map(|c| c.name.clone()));
    Ok(context.finish(plan, names))
}

/// What a view is right to show though its query would not.
fn refuse_what_differs(view: &Relation, plan: &StreamPlan) -> Result<()> {
    let refuse = |why: &str, detail: &str| {
        Err(SqlError::unsupported(format!("CHECK of materialized view \"{}\" is not supported: {why}", view.name)).with_detail(detail))
    };
    for node in &plan.nodes {
        let on_close = match &node.op {
            Op::Aggregate { window: Some(window), .. } | Op::TopN { window: Some(window), .. } | Op::Over { window: Some(window), .. } => {
                window.emit == Emit::OnClose
            }
            Op::SessionAssign { emit, .. } => *emit == Emit::OnClose,
            _ => false,
        };
        if on_close {
            return refuse("it shows windows when they close", "Its query shows them from their first row on.");
        }
    }
    if plan.nodes.iter().any(|node| matches!(node.op, Op::MatchRecognize { .. })) {
        return refuse("it has MATCH_RECOGNIZE", "Row patterns run in views only.");
    }
    if plan.reads_arrival() {
        return refuse("it depends on the watermark under which rows came", "Its query would see none.");
    }
    if plan.reads_clock() || plan.reads_history() {
        return refuse("it depends on the time at which rows came", "Its query would see another time.");
    }
    Ok(())
}

/// Rows that one side has more often than the other.
fn differences(stored: LogicalPlan, recomputed: LogicalPlan, columns: &[Column]) -> DfResult<LogicalPlan> {
    let all = LogicalPlanBuilder::from(weighted(stored, columns, 1)?).union(weighted(recomputed, columns, -1)?)?;
    let group: Vec<Expr> = (0..columns.len()).map(column).collect();
    let sum = Expr::AggregateFunction(AggregateFunction::new_udf(
        registry().udaf("sum")?,
        vec![Expr::Column(DfColumn::new_unqualified(TIMES))],
        false,
        None,
        vec![],
        None,
    ));
    let net = || Expr::Column(DfColumn::new_unqualified("net"));
    let side = when(net().gt(lit(0i64)), lit("only in the view")).otherwise(lit("only in its query"))?;
    let times = when(net().gt(lit(0i64)), net()).otherwise(Expr::Negative(Box::new(net())))?;
    let shown = [side.alias(DIFFERENCE), times.alias(TIMES)].into_iter().chain((0..columns.len()).map(column));
    all.aggregate(group, vec![sum.alias("net")])?
        .filter(net().not_eq(lit(0i64)))?
        .project(shown.collect::<Vec<_>>())?
        .limit(0, Some(SHOWN))?
        .build()
}

/// A row's columns as they are compared, under names of their own, and how it counts. Sums of floats depend on their order, so
/// floats are compared by their first digits; rows and maps by their texts.
fn weighted(plan: LogicalPlan, columns: &[Column], weight: i64) -> DfResult<LogicalPlan> {
    let inputs = plan.schema().columns();
    let mut exprs = Vec::with_capacity(columns.len() + 1);
    for (i, (input, of)) in inputs.into_iter().zip(columns).enumerate() {
        let value = Expr::Column(input);
        let compared = match of.ty {
            SqlType::Real | SqlType::Double => {
                let wide = Expr::Cast(Cast::new(Box::new(value), SqlType::Double.to_arrow()));
                Expr::ScalarFunction(ScalarFunction::new_udf(registry().udf(APPROXIMATE)?, vec![wide]))
            }
            SqlType::Struct(_) | SqlType::Map(_, _) => {
                Expr::Cast(Cast { expr: Box::new(value), field: Arc::new(SqlType::Text.field("", true)) })
            }
            _ => value,
        };
        exprs.push(compared.alias(name(i)));
    }
    exprs.push(lit(weight).alias(TIMES));
    LogicalPlanBuilder::from(plan).project(exprs)?.build()
}

fn name(i: usize) -> String {
    format!("__check_{i}")
}

fn column(i: usize) -> Expr {
    Expr::Column(DfColumn::new_unqualified(name(i)))
}
