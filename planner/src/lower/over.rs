//! OVER windows: functions over the rows around each row. Rows are exchanged by their partition; functions of one partition and
//! order are one operator. What is only a rank is a Top-N (`top_n`).

use super::aggregate::Inputs;
use super::calls::{order, unaliased};
use super::top_n::rank_function;
use super::{Lowering, columns_of, keys};
use crate::expr;
use crate::plan::{
    AggregateCall, Expr, Frame, FrameBound, FrameUnit, Literal, LiteralValue, Node, NodeId, Op, OrderKey, OverCall, OverFunction,
    RankFunction,
};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort, WindowFunction};
use datafusion::logical_expr::{Expr as DfExpr, Window, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use eddyline_common::time::MICROS_PER_DAY;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType};

/// Functions of one partition and order.
struct Group<'a> {
    partition: &'a [DfExpr],
    order: Vec<Sort>,
    /// Positions among the window's functions.
    calls: Vec<usize>,
}

/// Without an order all rows of a partition have the first rank, which nobody asks for.
pub(super) fn check_order(call: &WindowFunction) -> Result<()> {
    let name = call.fun.name();
    if !matches!(name, "rank" | "dense_rank" | "percent_rank" | "cume_dist") || !call.params.order_by.is_empty() {
        return Ok(());
    }
    let message = format!("{} needs an ORDER BY in its window", name.to_uppercase());
    Err(SqlError::new(SqlState::WINDOWING_ERROR, message)
        .with_hint("Write OVER (PARTITION BY ... ORDER BY ...): which order ranks the rows."))
}

impl Lowering<'_> {
    pub(super) fn over(&mut self, window: &Window) -> Result<NodeId> {
        window.window_expr.iter().try_for_each(|call| check_order(window_function(call)?))?;
        if let Some(node) = self.placed(window)? {
            return Ok(node);
        }
        let calls = window.window_expr.iter().map(window_function).collect::<Result<Vec<_>>>()?;
        let mut groups: Vec<Group> = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            let params = &call.params;
            // What is constant orders nothing.
            let order: Vec<Sort> = params.order_by.iter().filter(|sort| !matches!(sort.expr, DfExpr::Literal(..))).cloned().collect();
            match groups.iter_mut().find(|g| g.partition == params.partition_by.as_slice() && g.order == order) {
                Some(group) => group.calls.push(index),
                None => groups.push(Group { partition: &params.partition_by, order, calls: vec![index] }),
            }
        }
        let schema = window.input.schema();
        let output = columns_of(&window.schema)?;
        let width = schema.fields().len();
        let mut node = self.node(&window.input)?;
        // A node whose columns nobody asks for has one nevertheless.
        let below = self.nodes[node].columns.len();
        let mut places = vec![0; calls.len()];
        let mut added = 0;
        for group in &groups {
            let own: Vec<(&WindowFunction, Column)> = group.calls.iter().map(|i| (calls[*i], output[width + i].clone())).collect();
            node = self.over_group(node, schema, group, &own)?;
            for index in &group.calls {
                places[*index] = below + added;
                added += 1;
            }
        }
        let exprs = (0..width).chain(places).map(Expr::Column).collect();
        self.project(node, exprs, output)
    }

    /// Adds the columns of one group's functions behind those that `input` has.
    fn over_group(&mut self, input: NodeId, schema: &DFSchema, group: &Group, calls: &[(&WindowFunction, Column)]) -> Result<NodeId> {
        let source = &self.nodes[input];
        let width = source.columns.len();
        let mut inputs = Inputs::of(&source.columns);
        let mut partition = inputs.add_keys(group.partition, schema)?;
        let order = order(&group.order, schema, &mut inputs)?;
        let mut over = Vec::new();
        for (function, column) in calls {
            over.push(over_call(function, schema, &order, &mut inputs, column.ty.clone())?);
        }
        let all = inputs.columns.len();
        let (input, windowed) = self.partitioned(input, inputs, &mut partition)?;
        let columns: Vec<Column> = calls.iter().map(|(_, column)| column.clone()).collect();
        let node = self.over_node(input, partition, order, over, columns, windowed);
        if all == width {
            return Ok(node);
        }
        let exprs: Vec<Expr> = (0..width).chain(all..all + calls.len()).map(Expr::Column).collect();
        let columns = exprs.iter().filter_map(|e| if let Expr::Column(c) = e { Some(self.nodes[node].columns[*c].clone()) } else { None });
        let columns = columns.collect();
        self.project(node, exprs, columns)
    }

    fn over_node(
        &mut self,
        input: NodeId,
        partition: Vec<usize>,
        order: Vec<OrderKey>,
        calls: Vec<OverCall>,
        added: Vec<Column>,
        windowed: bool,
    ) -> NodeId {
        let source = &self.nodes[input];
        let mut columns = source.columns.clone();
        let mut unique_keys = if windowed { keys::without_late(source, partition[0]) } else { source.unique_keys.clone() };
        for (place, call) in calls.iter().enumerate() {
            if call.function == OverFunction::Rank(RankFunction::RowNumber) {
                unique_keys.push(partition.iter().copied().chain([columns.len() + place]).collect());
            }
        }
        columns.extend(added);
        let mut facts = self.facts[input].clone();
        facts.windows.resize(columns.len(), None);
        facts.constants.resize(columns.len(), None);
        let (window, time_columns, mode) = self.by_window(&mut facts, &partition, windowed);
        let node = Node {
            mode,
            columns,
            unique_keys,
            time_columns,
            inputs: vec![input],
            op: Op::Over { partition, order, calls, window, state: self.ids.allocate() },
        };
        self.push(node, facts)
    }
}

fn window_function(e: &DfExpr) -> Result<&WindowFunction> {
    match unaliased(e) {
        DfExpr::WindowFunction(call) => Ok(call),
        other => Err(SqlError::internal(format!("not a window function: {other}"))),
    }
}

fn refused(what: &str, hint: &str) -> SqlError {
    SqlError::unsupported(format!("{what} is not supported in a materialized view")).with_hint(hint)
}

fn over_call(call: &WindowFunction, schema: &DFSchema, order: &[OrderKey], inputs: &mut Inputs, output: SqlType) -> Result<OverCall> {
    let params = &call.params;
    let frame = frame(call, order, inputs)?;
    let function = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(udaf) => {
            let (args, filter) = (params.args.clone(), params.filter.clone());
            let call = AggregateFunction::new_udf(udaf.clone(), args, params.distinct, filter, vec![], params.null_treatment);
            aggregate(udaf.name(), super::calls::call(&DfExpr::AggregateFunction(call), schema, inputs, output.clone())?)?
        }
        WindowFunctionDefinition::WindowUDF(_) if params.filter.is_some() => {
            return Err(refused("FILTER of a function that is no aggregate", "FILTER is of aggregates."));
        }
        WindowFunctionDefinition::WindowUDF(_) if params.distinct => {
            return Err(refused("DISTINCT of a function that is no aggregate", "DISTINCT is of aggregates."));
        }
        WindowFunctionDefinition::WindowUDF(_) => own_function(call, schema, inputs)?,
    };
    Ok(OverCall { function, frame, output })
}

/// An aggregate, if it can be one over frames. A list has the window's order, and of equal values none that is to be kept.
fn aggregate(name: &str, call: AggregateCall) -> Result<OverFunction> {
    use crate::plan::AggregateFunction::*;
    match call.function {
        FirstValue | PercentileCont | PercentileDisc | Mode => Err(refused(&format!("{name}() OVER a window"), SUPPORTED)),
        ArrayAgg | StringAgg if call.distinct => {
            let hint = "Make the list with GROUP BY and join it, or count the values: COUNT(DISTINCT x) OVER a window is supported.";
            Err(refused(&format!("DISTINCT in {name}() OVER a window"), hint))
        }
        _ => Ok(OverFunction::Aggregate(call)),
    }
}

const SUPPORTED: &str = "ROW_NUMBER, RANK, DENSE_RANK, PERCENT_RANK, CUME_DIST, NTILE, LAG, LEAD, FIRST_VALUE, LAST_VALUE, NTH_VALUE, COUNT, SUM, \
                         AVG, MIN, MAX, STDDEV, VARIANCE, BOOL_AND, BOOL_OR, ARRAY_AGG and STRING_AGG are.";

fn own_function(call: &WindowFunction, schema: &DFSchema, inputs: &mut Inputs) -> Result<OverFunction> {
    let (name, args) = (call.fun.name(), call.params.args.as_slice());
    let ignore_nulls = call.params.null_treatment == Some(NullTreatment::IgnoreNulls);
    if ignore_nulls && !matches!(name, "lag" | "lead" | "first_value" | "last_value" | "nth_value") {
        return Err(refused(&format!("IGNORE NULLS of {name}()"), "It is of LAG, LEAD, FIRST_VALUE, LAST_VALUE and NTH_VALUE."));
    }
    if let Some(rank) = rank_function(call) {
        return Ok(OverFunction::Rank(rank));
    }
    let argument = |inputs: &mut Inputs| match args {
        [first, ..] => inputs.add_key(first, schema),
        [] => Err(SqlError::internal(format!("{name}() has no argument"))),
    };
    Ok(match name {
        "percent_rank" => OverFunction::PercentRank,
        "cume_dist" => OverFunction::CumeDist,
        "ntile" => match number(name, args.first())?.filter(|n| *n > 0) {
            Some(buckets) => OverFunction::Ntile { buckets },
            None => return Err(SqlError::new(SqlState::INVALID_PARAMETER, "argument of ntile must be greater than zero")),
        },
        "lag" | "lead" => {
            let argument = argument(inputs)?;
            let distance = match args.get(1) {
                Some(places) if places.any_column_refs() => None,
                Some(places) => number(name, Some(places))?,
                None => Some(1),
            };
            // Of each row, or null.
            let places = args.get(1).filter(|_| distance.is_none());
            let places = places.map(|places| inputs.add_key(&whole(places), schema)).transpose()?;
            let distance = distance.unwrap_or(1);
            let offset = if name == "lag" { distance } else { distance.saturating_neg() };
            let default = constant(args.get(2), &inputs.columns[argument].ty)?;
            OverFunction::Lag { argument, offset, places, default, ignore_nulls }
        }
        "first_value" => OverFunction::NthValue { argument: argument(inputs)?, n: 1, ignore_nulls },
        "last_value" => OverFunction::NthValue { argument: argument(inputs)?, n: -1, ignore_nulls },
        "nth_value" => match number(name, args.get(1))?.filter(|n| *n != 0) {
            Some(n) => OverFunction::NthValue { argument: argument(inputs)?, n, ignore_nulls },
            None => return Err(SqlError::new(SqlState::INVALID_PARAMETER, "argument of nth_value must not be zero")),
        },
        other => return Err(refused(&format!("{other}() OVER a window"), SUPPORTED)),
    })
}

fn folded(e: &DfExpr) -> Result<Literal> {
    let varies = || refused(&format!("an OVER window with {e}, which is not constant,"), "Write a constant.");
    if e.any_column_refs() {
        return Err(varies());
    }
    let folded = crate::optimize::fold_constant(e.clone()).map_err(|e| crate::error::from_datafusion(e, None))?;
    match expr::from_datafusion(&folded, &DFSchema::empty())? {
        Expr::Literal(literal) => Ok(literal),
        _ => Err(varies()),
    }
}

fn whole(e: &DfExpr) -> DfExpr {
    datafusion::logical_expr::cast(e.clone(), SqlType::BigInt.to_arrow())
}

/// A whole number among the arguments; `None` if it is absent or null.
fn number(function: &str, e: Option<&DfExpr>) -> Result<Option<i64>> {
    match e.map(folded).transpose()?.map(|literal| literal.value) {
        None | Some(LiteralValue::Null) => Ok(None),
        Some(LiteralValue::Int(n)) => Ok(Some(n)),
        Some(_) => Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("{function}() counts in whole numbers"))),
    }
}

/// A constant of type `ty`, null if it is absent.
fn constant(e: Option<&DfExpr>, ty: &SqlType) -> Result<Literal> {
    let Some(e) = e else { return Ok(Literal { ty: ty.clone(), value: LiteralValue::Null }) };
    let cast = datafusion::logical_expr::cast(e.clone(), ty.to_arrow());
    let literal = folded(&cast)?;
    Ok(Literal { ty: ty.clone(), value: literal.value })
}

fn frame(call: &WindowFunction, order: &[OrderKey], inputs: &Inputs) -> Result<Frame> {
    let frame = &call.params.window_frame;
    let unit = match frame.units {
        WindowFrameUnits::Rows => FrameUnit::Rows,
        // They differ in what a distance is.
        WindowFrameUnits::Range | WindowFrameUnits::Groups => FrameUnit::Range,
    };
    let distance = |value: &ScalarValue| match frame.units {
        WindowFrameUnits::Rows => rows(value),
        WindowFrameUnits::Groups => Err(refused("an OVER window of GROUPS", "Use ROWS or RANGE.")),
        WindowFrameUnits::Range => match order {
            [key] => range(value, &inputs.columns[key.column].ty),
            _ => Err(SqlError::internal("a frame of a distance has one order")),
        },
    };
    let bound = |bound: &WindowFrameBound| {
        Ok::<_, SqlError>(match bound {
            bound if bound.is_unbounded() => FrameBound::Unbounded,
            WindowFrameBound::CurrentRow => FrameBound::CurrentRow,
            WindowFrameBound::Preceding(value) => FrameBound::Offset(distance(value)?.saturating_neg()),
            WindowFrameBound::Following(value) => FrameBound::Offset(distance(value)?),
        })
    };
    let (start, end) = (bound(&frame.start_bound)?, bound(&frame.end_bound)?);
    let offset = |bound: FrameBound| match bound {
        FrameBound::Unbounded => None,
        FrameBound::CurrentRow => Some(0),
        FrameBound::Offset(n) => Some(n),
    };
    if let (Some(from), Some(to)) = (offset(start), offset(end))
        && from > to
    {
        return Err(refused("an OVER window that starts after its end", "Such a window is always empty."));
    }
    Ok(Frame { unit, start, end })
}

fn rows(value: &ScalarValue) -> Result<i64> {
    match expr::literal_value(value)? {
        LiteralValue::Int(n) if n >= 0 => Ok(n),
        _ => Err(SqlError::new(SqlState::INVALID_PARAMETER, "a frame of ROWS counts in whole numbers that are not negative")),
    }
}

/// A distance in the units of a column of type `ty`.
fn range(value: &ScalarValue, ty: &SqlType) -> Result<i64> {
    let unsupported = || {
        refused(
            &format!("an OVER window of a RANGE of {value} over type {ty}"),
            "Distances are of integers, dates and timestamps, without months.",
        )
    };
    let micros = |days: i32, nanos: i64| i64::from(days) * MICROS_PER_DAY + nanos / 1_000;
    let distance = match (expr::literal_value(value)?, ty) {
        (LiteralValue::Int(n), SqlType::SmallInt | SqlType::Integer | SqlType::BigInt) => n,
        (LiteralValue::Interval { months: 0, days, nanos: 0 }, SqlType::Date) => i64::from(days),
        (LiteralValue::Interval { months: 0, days, nanos }, SqlType::Timestamp | SqlType::TimestampTz) => micros(days, nanos),
        _ => return Err(unsupported()),
    };
    if distance < 0 {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, "a distance in a frame must not be negative"));
    }
    Ok(distance)
}
