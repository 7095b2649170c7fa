//! Window table functions in the logical plan: one node, `WindowAssign`, that adds `window_start`, `window_end`
//! and `window_time` to its input. A streaming plan lowers it to `Op::WindowAssign`; for a batch query
//! `expand` turns it into projections (and an unnest) that DataFusion runs by itself.

use super::match_recognize::MatchRecognize;
use super::rewrite::arguments;
use super::session::{PARTITION, SessionAssign};
use crate::error::{fold, into_datafusion, suggest};
use crate::expr::call;
use crate::functions::{CUMULATE_ENDS, HOP_STARTS, WINDOW_SHIFT, WINDOW_START};
use crate::parse::table_factor;
use crate::plan::WindowKind;
use crate::walk::WalkPlan;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DFSchemaRef, DataFusionError, Diagnostic, Result as DfResult, ScalarValue, Span};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore, lit};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, TableAlias, TableFactor, UnaryOperator,
};
use eddyline_common::time::{MICROS_PER_DAY, MICROS_PER_MILLI};
use eddyline_common::{SqlError, SqlState};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The columns a window function adds, and the hidden names they have under `GROUP BY TUMBLE(...)`.
pub const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];
pub const GROUP_WINDOW_COLUMNS: [&str; 3] = ["__window_start", "__window_end", "__window_time"];
/// In front of a window function's name: it stands for a group window.
pub const GROUP_WINDOW_PREFIX: &str = "__group_";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowAssign {
    pub input: Arc<LogicalPlan>,
    pub time: Column,
    pub kind: WindowKind,
    pub names: [&'static str; 3],
    schema: DFSchemaRef,
}

impl WindowAssign {
    fn try_new(input: Arc<LogicalPlan>, time: Column, kind: WindowKind, names: [&'static str; 3]) -> DfResult<Self> {
        let (_, field) = input.schema().qualified_field_from_column(&time)?;
        let time_type = field.data_type().clone();
        let mut fields: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        fields.extend(names.iter().map(|name| (None, Arc::new(Field::new(*name, time_type.clone(), true)))));
        let schema = DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?;
        Ok(WindowAssign { input, time, kind, names, schema: Arc::new(schema) })
    }

    /// The node as plain relational algebra.
    fn expand(&self) -> DfResult<LogicalPlan> {
        let failed = into_datafusion;
        let time = Expr::Column(self.time.clone());
        let inputs: Vec<Expr> = self.input.schema().columns().into_iter().map(Expr::Column).collect();
        let shifted = |start: Expr, by: i64| call(WINDOW_SHIFT, vec![start, lit(by)]).map_err(failed);
        let rows = LogicalPlanBuilder::from(self.input.as_ref().clone()).filter(time.clone().is_not_null())?;
        if let WindowKind::Cumulate { size, step, offset } = self.kind {
            let ends = call(CUMULATE_ENDS, vec![time.clone(), lit(size), lit(step), lit(offset)]).map_err(failed)?;
            let end = Column::new_unqualified(self.names[1]);
            let rows = rows.project(inputs.iter().cloned().chain([ends.alias(self.names[1])]).collect::<Vec<_>>())?;
            let windows = [
                call(WINDOW_START, vec![time, lit(size), lit(offset)]).map_err(failed)?.alias(self.names[0]),
                Expr::Column(end.clone()),
                shifted(Expr::Column(end.clone()), -MICROS_PER_MILLI)?.alias(self.names[2]),
            ];
            return rows.unnest_column(end)?.project(inputs.into_iter().chain(windows).collect::<Vec<_>>())?.build();
        }
        let start_column = || Expr::Column(Column::new_unqualified(self.names[0]));
        let (rows, size) = match self.kind {
            WindowKind::Tumble { size, offset } => {
                let start = call(WINDOW_START, vec![time, lit(size), lit(offset)]).map_err(failed)?;
                let starts = inputs.iter().cloned().chain([start.alias(self.names[0])]);
                (rows.project(starts.collect::<Vec<_>>())?, size)
            }
            WindowKind::Hop { size, slide, offset } => {
                let starts = call(HOP_STARTS, vec![time, lit(size), lit(slide), lit(offset)]).map_err(failed)?;
                let rows = rows.project(inputs.iter().cloned().chain([starts.alias(self.names[0])]).collect::<Vec<_>>())?;
                (rows.unnest_column(Column::new_unqualified(self.names[0]))?, size)
            }
            WindowKind::Cumulate { .. } | WindowKind::Session { .. } => {
                return Err(DataFusionError::Internal("not one window per start".to_string()));
            }
        };
        let windows = [
            start_column(),
            shifted(start_column(), size)?.alias(self.names[1]),
            shifted(start_column(), size - MICROS_PER_MILLI)?.alias(self.names[2]),
        ];
        rows.project(inputs.into_iter().chain(windows).collect::<Vec<_>>())?.build()
    }
}

impl PartialOrd for WindowAssign {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.input.partial_cmp(&other.input)? {
            Ordering::Equal => self.time.partial_cmp(&other.time).filter(|o| *o != Ordering::Equal || self == other),
            unequal => Some(unequal),
        }
    }
}

impl Hash for WindowAssign {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.time.hash(state);
        self.kind.hash(state);
        self.names.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for WindowAssign {
    fn name(&self) -> &str {
        "WindowAssign"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.time.clone())]
    }

    /// A filter on the window itself must see the window; any other may run before it is assigned.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.names.iter().map(|n| n.to_string()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowAssign: {} on {}", crate::explain::window_kind(&self.kind), self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        match (exprs.pop(), inputs.pop()) {
            (Some(Expr::Column(time)), Some(input)) => WindowAssign::try_new(Arc::new(input), time, self.kind, self.names),
            _ => Err(DataFusionError::Internal("a window is assigned by a column".to_string())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|i| *i < width).collect();
        needed.push(self.input.schema().index_of_column(&self.time).ok()?);
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Replaces every window node by what DataFusion can run.
pub fn expand(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let plan = plan.up_with_subqueries(|node| match &node {
        LogicalPlan::Extension(Extension { node: extension }) => {
            let any = extension.as_any();
            if any.downcast_ref::<MatchRecognize>().is_some() {
                let error = SqlError::unsupported("MATCH_RECOGNIZE is supported in materialized views and sinks only");
                return Err(into_datafusion(error.with_hint("Create a materialized view with it, and read that.")));
            }
            match (any.downcast_ref::<WindowAssign>(), any.downcast_ref::<SessionAssign>()) {
                (Some(window), _) => Ok(Transformed::yes(window.expand()?)),
                (_, Some(session)) => Ok(Transformed::yes(session.expand()?)),
                _ => Ok(Transformed::no(node)),
            }
        }
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(plan.data)
}

/// Plans `TUMBLE(...)`, `HOP(...)`, `CUMULATE(...)` and `SESSION(...)` in FROM, in every spelling.
#[derive(Debug)]
pub struct WindowFunctions;

impl RelationPlanner for WindowFunctions {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let Some((name, args, alias)) = call_of(&relation) else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let Some((function, names)) = window_of(name) else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let call = WindowCall::new(&function, args)?;
        // What a group window reads goes by the names that it had in FROM.
        let of_query = names == GROUP_WINDOW_COLUMNS && matches!(call.data, SqlExpr::Subquery(_));
        let default_alias = (!of_query).then(|| call.default_alias(&function));
        let plan = call.plan(names, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone().or(default_alias)))))
    }
}

/// A function in FROM: its name, its arguments and what its rows go by.
fn call_of(relation: &TableFactor) -> Option<(&ObjectName, &[FunctionArg], &Option<TableAlias>)> {
    match relation {
        TableFactor::TableFunction { expr: SqlExpr::Function(f), alias } => match &f.args {
            FunctionArguments::List(list) => Some((&f.name, &list.args, alias)),
            _ => None,
        },
        TableFactor::Table { name, args: Some(args), alias, .. } => Some((name, &args.args, alias)),
        TableFactor::Function { name, args, alias, .. } => Some((name, args, alias)),
        _ => None,
    }
}

/// Which window function a name is, and what the columns it adds are called.
fn window_of(name: &ObjectName) -> Option<(String, [&'static str; 3])> {
    let function = name.0.last().and_then(|part| part.as_ident()).map(fold)?;
    let (function, names) = match function.strip_prefix(GROUP_WINDOW_PREFIX) {
        Some(rest) => (rest.to_string(), GROUP_WINDOW_COLUMNS),
        None => (function, WINDOW_COLUMNS),
    };
    matches!(function.as_str(), "tumble" | "hop" | "cumulate" | "session").then_some((function, names))
}

/// The table that a window function in FROM reads, be it through another one. A subquery that it reads is a query of its own.
pub fn table_read(relation: &TableFactor) -> Option<ObjectName> {
    let (name, args, _) = call_of(relation)?;
    table_in_call(name, args)
}

fn table_in_call(name: &ObjectName, args: &[FunctionArg]) -> Option<ObjectName> {
    let (function, _) = window_of(name)?;
    let mut data = WindowCall::new(&function, args).ok()?.data;
    while let SqlExpr::Nested(inner) = data {
        data = inner;
    }
    match data {
        SqlExpr::Identifier(ident) => Some(ObjectName::from(vec![ident.clone()])),
        SqlExpr::CompoundIdentifier(parts) => Some(ObjectName::from(parts.clone())),
        SqlExpr::Function(Function { name, args: FunctionArguments::List(list), .. }) => table_in_call(name, &list.args),
        _ => None,
    }
}

/// The arguments of a window function by their meaning.
struct WindowCall<'a> {
    data: &'a SqlExpr,
    time: &'a SqlExpr,
    /// The gap of SESSION.
    size: &'a SqlExpr,
    /// Of SESSION, which has one argument more if it is given.
    partition: Option<&'a Function>,
    session: bool,
    /// Of HOP.
    slide: Option<&'a SqlExpr>,
    /// Of CUMULATE.
    step: Option<&'a SqlExpr>,
    offset: Option<&'a SqlExpr>,
}

impl<'a> WindowCall<'a> {
    fn new(function: &str, args: &'a [FunctionArg]) -> DfResult<Self> {
        let order: &[&str] = match function {
            "hop" => &["data", "timecol", "slide", "size", "offset"],
            "cumulate" => &["data", "timecol", "step", "size", "offset"],
            "session" => &["data", "timecol", "gap"],
            _ => &["data", "timecol", "size", "offset"],
        };
        let partition = args.iter().find_map(partition_of);
        let mut found: Vec<(&str, &SqlExpr)> = Vec::new();
        for (i, arg) in args.iter().filter(|arg| partition_of(arg).is_none()).enumerate() {
            let (name, value) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (order.get(i).copied().unwrap_or(""), value),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (known(order, &name.value), value),
                other => return Err(bad_argument(function, &other.to_string())),
            };
            if name.is_empty() || found.iter().any(|(n, _)| *n == name) {
                return Err(bad_argument(function, &arg.to_string()));
            }
            found.push((name, value));
        }
        let get = |name: &str| found.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        let need = |name: &str| {
            get(name).ok_or_else(|| {
                let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("{}() lacks its argument {name}", function));
                into_datafusion(error.with_hint(usage(function)))
            })
        };
        let wanted = |name: &'static str| order.contains(&name).then(|| need(name)).transpose();
        let (slide, step) = (wanted("slide")?, wanted("step")?);
        let session = function == "session";
        if let (Some(partition), false) = (partition, session) {
            return Err(bad_argument(
                function,
                &format!("PARTITION BY {}", arguments(partition).iter().map(|e| e.to_string()).collect::<Vec<_>>().join(", ")),
            ));
        }
        let size = need(if session { "gap" } else { "size" })?;
        Ok(WindowCall { data: need("data")?, time: need("timecol")?, size, partition, session, slide, step, offset: get("offset") })
    }

    fn default_alias(&self, function: &str) -> TableAlias {
        let name = match self.data {
            SqlExpr::Identifier(ident) => ident.clone(),
            SqlExpr::CompoundIdentifier(parts) => parts.last().cloned().unwrap_or_else(|| Ident::new(function)),
            _ => Ident::new(function),
        };
        TableAlias { explicit: false, name, columns: vec![], at: None }
    }

    fn plan(&self, names: [&'static str; 3], context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
        let input = context.plan(data_factor(self.data)?)?;
        let time = time_column(self.time, &input)?;
        if self.session {
            let gap = micros(self.size, "gap", context)?;
            let keys = self.partition.map(arguments).unwrap_or_default();
            let keys = keys.into_iter().map(|e| context.sql_to_expr(e.clone(), input.schema())).collect::<DfResult<Vec<_>>>()?;
            let node = SessionAssign::try_new(Arc::new(input), keys, time, gap, names)?;
            return Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }));
        }
        let size = micros(self.size, "size", context)?;
        let offset = self.offset.map(|e| signed_micros(e, context)).transpose()?.unwrap_or(0);
        let kind = match (self.slide, self.step) {
            (Some(slide), _) => WindowKind::Hop { size, slide: micros(slide, "slide", context)?, offset },
            (_, Some(step)) => WindowKind::Cumulate { size, step: whole_step(size, micros(step, "step", context)?)?, offset },
            (None, None) => WindowKind::Tumble { size, offset },
        };
        let node = WindowAssign::try_new(Arc::new(input), time, kind, names)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }
}

/// `PARTITION BY a, b`, as the tokens were rewritten.
fn partition_of(arg: &FunctionArg) -> Option<&Function> {
    let value = match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => value,
        FunctionArg::Named { arg: FunctionArgExpr::Expr(value), .. } => value,
        _ => return None,
    };
    match value {
        SqlExpr::Function(function) if function.name.to_string() == PARTITION => Some(function),
        _ => None,
    }
}

fn whole_step(size: i64, step: i64) -> DfResult<i64> {
    if size % step == 0 {
        return Ok(step);
    }
    let error = SqlError::new(SqlState::INVALID_PARAMETER, "the size of a CUMULATE window must be a multiple of its step");
    Err(into_datafusion(error.with_hint("Choose a step that divides the size.")))
}

fn known<'a>(order: &[&'a str], name: &str) -> &'a str {
    order.iter().copied().find(|known| known.eq_ignore_ascii_case(name)).unwrap_or("")
}

fn usage(function: &str) -> &'static str {
    match function {
        "hop" => "Write HOP(TABLE t, DESCRIPTOR(ts), slide, size [, offset]) or hop(t, ts, slide, size [, offset]).",
        "session" => "Write SESSION(TABLE t [PARTITION BY k], DESCRIPTOR(ts), gap) or session(t [PARTITION BY k], ts, gap).",
        "cumulate" => "Write CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset]) or cumulate(t, ts, step, size [, offset]).",
        _ => "Write TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset]) or tumble(t, ts, size [, offset]).",
    }
}

fn bad_argument(function: &str, argument: &str) -> DataFusionError {
    let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("{function}() does not take the argument {argument}"));
    into_datafusion(error.with_hint(usage(function)))
}

/// The table, subquery or nested window function that a window function reads.
fn data_factor(data: &SqlExpr) -> DfResult<TableFactor> {
    Ok(match data {
        SqlExpr::Identifier(ident) => table_factor(&ObjectName::from(vec![ident.clone()]), None),
        SqlExpr::CompoundIdentifier(parts) => table_factor(&ObjectName::from(parts.clone()), None),
        SqlExpr::Subquery(subquery) => TableFactor::Derived { lateral: false, subquery: subquery.clone(), alias: None, sample: None },
        SqlExpr::Nested(inner) => return data_factor(inner),
        SqlExpr::Function(_) => TableFactor::TableFunction { expr: data.clone(), alias: None },
        other => {
            let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("a window function reads a table, not {other}"));
            return Err(into_datafusion(error));
        }
    })
}

/// `DESCRIPTOR(ts)` or `ts`, as a column of the input.
fn time_column(time: &SqlExpr, input: &LogicalPlan) -> DfResult<Column> {
    let ident = descriptor(time).ok_or_else(|| {
        into_datafusion(
            SqlError::new(SqlState::SYNTAX_ERROR, format!("a window's time must be a column, not {time}"))
                .with_hint("Compute it in a subquery or a view, or as a column of the source."),
        )
    })?;
    let name = fold(ident);
    let located = |error: SqlError| {
        let span = Span::try_from_sqlparser_span(ident.span);
        into_datafusion(error.clone()).with_diagnostic(Diagnostic::new_error(error.message, span))
    };
    let schema = input.schema();
    let mut found = schema.qualified_fields_with_unqualified_name(&name);
    if found.len() > 1
        && let Some(relation) = relation_of(time).map(fold)
    {
        found.retain(|(qualifier, _)| qualifier.is_some_and(|q| q.table() == relation));
    }
    let (qualifier, field) = match found.as_slice() {
        [] => {
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
            return Err(located(suggest(error, &name, schema.fields().iter().map(|f| f.name().as_str()))));
        }
        [one] => *one,
        _ => {
            let message = format!("column reference \"{name}\" is ambiguous");
            return Err(located(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message)));
        }
    };
    if !matches!(field.data_type(), DataType::Timestamp(_, _)) {
        let ty = eddyline_common::SqlType::from_field(field).map_or_else(|| field.data_type().to_string(), |t| t.to_string());
        let error = SqlError::new(SqlState::DATATYPE_MISMATCH, format!("window time column \"{name}\" must be a timestamp, not {ty}"));
        return Err(located(error.with_hint("Cast it in a computed column of the source or in a view.")));
    }
    Ok(Column::from((qualifier, field)))
}

/// The column that `DESCRIPTOR(x)`, `x` or `t.x` names.
pub fn descriptor(time: &SqlExpr) -> Option<&Ident> {
    match time {
        SqlExpr::Identifier(ident) => Some(ident),
        SqlExpr::CompoundIdentifier(parts) => parts.last(),
        SqlExpr::Nested(inner) => descriptor(inner),
        SqlExpr::Function(Function { name, args: FunctionArguments::List(list), .. })
            if name.0.len() == 1 && name.to_string().eq_ignore_ascii_case("descriptor") =>
        {
            match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))] => descriptor(inner),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The `t` of a time `t.x`.
pub fn relation_of(time: &SqlExpr) -> Option<&Ident> {
    match time {
        SqlExpr::CompoundIdentifier(parts) => parts.iter().rev().nth(1),
        SqlExpr::Nested(inner) => relation_of(inner),
        _ => None,
    }
}

fn micros(expr: &SqlExpr, what: &str, context: &mut dyn RelationPlannerContext) -> DfResult<i64> {
    let micros = signed_micros(expr, context)?;
    if micros <= 0 {
        let error = SqlError::new(SqlState::INVALID_PARAMETER, format!("a window's {what} must be positive"));
        return Err(into_datafusion(error));
    }
    Ok(micros)
}

fn signed_micros(expr: &SqlExpr, context: &mut dyn RelationPlannerContext) -> DfResult<i64> {
    if let SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } = expr {
        return Ok(-signed_micros(expr, context)?);
    }
    let bound = context.sql_to_expr(expr.clone(), &DFSchema::empty())?;
    interval_micros(&bound).map_err(into_datafusion)
}

/// Microseconds of a constant interval; months have no fixed length.
pub fn interval_micros(expr: &Expr) -> Result<i64, SqlError> {
    let bad = || {
        SqlError::new(SqlState::INVALID_PARAMETER, format!("expected a constant interval, not {expr}"))
            .with_hint("Write INTERVAL '10' MINUTES or INTERVAL '10 minutes'.")
    };
    let value = match expr {
        Expr::Literal(value, _) => value.clone(),
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).map_err(|_| bad())?,
            _ => return Err(bad()),
        },
        _ => return Err(bad()),
    };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => {
            Ok(i64::from(v.days) * MICROS_PER_DAY + v.nanoseconds.div_euclid(1_000))
        }
        ScalarValue::IntervalDayTime(Some(v)) => Ok(i64::from(v.days) * MICROS_PER_DAY + i64::from(v.milliseconds) * 1_000),
        ScalarValue::IntervalMonthDayNano(Some(_)) | ScalarValue::IntervalYearMonth(Some(_)) => {
            Err(SqlError::unsupported("intervals of months or years are not supported here").with_hint("Say it in days."))
        }
        _ => Err(bad()),
    }
}
