//! All scalar, aggregate and window functions in one registry: DataFusion's, and ours. Durable plans name
//! functions by their name here, so a name, once released, keeps its meaning.
//!
//! Ours: `now()` and kin in microseconds (a streaming plan replaces them by the cut's time), and the
//! arithmetic of windows, with which a batch query computes what `Op::WindowAssign` does.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::execution::{FunctionRegistry, SessionStateDefaults};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, Expr, HigherOrderUDF, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, WindowUDF,
};
use eddyline_common::{Result, SqlType};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

pub const WINDOW_START: &str = "eddyline_window_start";
pub const WINDOW_SHIFT: &str = "eddyline_window_shift";
pub const HOP_STARTS: &str = "eddyline_hop_starts";
pub const CUMULATE_ENDS: &str = "eddyline_cumulate_ends";
/// A list, and an empty one for null: what `ARRAY(SELECT ...)` is without rows.
pub const ARRAY_OF_ROWS: &str = "eddyline_array_of_rows";
pub const NOW: &str = "now";

/// Functions by every name they answer to.
#[derive(Clone, Default)]
pub struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Functions({} scalar, {} aggregate)", self.scalar.len(), self.aggregate.len())
    }
}

static REGISTRY: LazyLock<Arc<Functions>> = LazyLock::new(|| {
    let mut functions = Functions::default();
    register_defaults(&mut functions).and_then(|_| register(&mut functions)).expect("built-in functions register");
    Arc::new(functions)
});

/// DataFusion's functions and ours. What a streaming plan may call is exactly what is in here.
pub fn registry() -> Arc<Functions> {
    REGISTRY.clone()
}

fn register_defaults(functions: &mut Functions) -> Result<()> {
    let failed = |e: DataFusionError| crate::error::from_datafusion(e, None);
    for udf in SessionStateDefaults::default_scalar_functions() {
        functions.register_udf(udf).map_err(failed)?;
    }
    for udf in SessionStateDefaults::default_higher_order_functions() {
        functions.register_higher_order_function(udf).map_err(failed)?;
    }
    for udf in SessionStateDefaults::default_aggregate_functions() {
        functions.register_udaf(udf).map_err(failed)?;
    }
    for udf in SessionStateDefaults::default_window_functions() {
        functions.register_udwf(udf).map_err(failed)?;
    }
    Ok(())
}

/// Adds our functions to a registry, over DataFusion's of the same name.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for udf in ours().into_iter().map(Arc::new).chain(crate::casts::functions()) {
        registry.register_udf(udf).map_err(|e| crate::error::from_datafusion(e, None))?;
    }
    Ok(())
}

fn ours() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::new_from_impl(Now::new()),
        ScalarUDF::new_from_impl(ArrayOfRows { signature: Signature::any(1, Volatility::Immutable) }),
        ScalarUDF::new_from_impl(WindowMath::new(WINDOW_START, 3)),
        ScalarUDF::new_from_impl(WindowMath::new(WINDOW_SHIFT, 2)),
        ScalarUDF::new_from_impl(WindowMath::new(HOP_STARTS, 4)),
        ScalarUDF::new_from_impl(WindowMath::new(CUMULATE_ENDS, 4)),
    ]
}

impl FunctionRegistry for Functions {
    fn udfs(&self) -> HashSet<String> {
        self.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> HashSet<String> {
        self.higher_order.keys().cloned().collect()
    }

    fn udafs(&self) -> HashSet<String> {
        self.aggregate.keys().cloned().collect()
    }

    fn udwfs(&self) -> HashSet<String> {
        self.window.keys().cloned().collect()
    }

    fn udf(&self, name: &str) -> DfResult<Arc<ScalarUDF>> {
        self.scalar.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn higher_order_function(&self, name: &str) -> DfResult<Arc<HigherOrderUDF>> {
        self.higher_order.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn udaf(&self, name: &str) -> DfResult<Arc<AggregateUDF>> {
        self.aggregate.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn udwf(&self, name: &str) -> DfResult<Arc<WindowUDF>> {
        self.window.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn register_udf(&mut self, udf: Arc<ScalarUDF>) -> DfResult<Option<Arc<ScalarUDF>>> {
        for alias in udf.aliases() {
            self.scalar.insert(alias.clone(), udf.clone());
        }
        Ok(self.scalar.insert(udf.name().to_string(), udf))
    }

    fn register_higher_order_function(&mut self, udf: Arc<HigherOrderUDF>) -> DfResult<Option<Arc<HigherOrderUDF>>> {
        for alias in udf.aliases() {
            self.higher_order.insert(alias.clone(), udf.clone());
        }
        Ok(self.higher_order.insert(udf.name().to_string(), udf))
    }

    fn register_udaf(&mut self, udf: Arc<AggregateUDF>) -> DfResult<Option<Arc<AggregateUDF>>> {
        for alias in udf.aliases() {
            self.aggregate.insert(alias.clone(), udf.clone());
        }
        Ok(self.aggregate.insert(udf.name().to_string(), udf))
    }

    fn register_udwf(&mut self, udf: Arc<WindowUDF>) -> DfResult<Option<Arc<WindowUDF>>> {
        for alias in udf.aliases() {
            self.window.insert(alias.clone(), udf.clone());
        }
        Ok(self.window.insert(udf.name().to_string(), udf))
    }

    fn expr_planners(&self) -> Vec<Arc<dyn ExprPlanner>> {
        SessionStateDefaults::default_expr_planners()
    }
}

fn missing(name: &str) -> DataFusionError {
    DataFusionError::Plan(format!("function {name} does not exist"))
}

/// `now()`, `current_timestamp`, `proctime()`: the statement's start in a batch query, folded by the
/// optimizer; the cut's time in a streaming plan.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

impl Now {
    fn new() -> Self {
        let aliases = ["current_timestamp", "proctime", "transaction_timestamp", "statement_timestamp", "current_row_timestamp"];
        Now { signature: Signature::nullary(Volatility::Stable), aliases: aliases.map(String::from).to_vec() }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        NOW
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(SqlType::TimestampTz.to_arrow())
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        Ok(match info.query_execution_start_time() {
            Some(start) => {
                let now = ScalarValue::TimestampMicrosecond(Some(start.timestamp_micros()), Some("+00:00".into()));
                ExprSimplifyResult::Simplified(Expr::Literal(now, None))
            }
            None => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal("now() is replaced by a constant before it runs".to_string()))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayOfRows {
    signature: Signature,
}

impl ScalarUDFImpl for ArrayOfRows {
    fn name(&self) -> &str {
        ARRAY_OF_ROWS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(arg_types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(args.arg_fields[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        let Some(list) = lists.as_list_opt::<i32>().filter(|list| list.null_count() > 0) else { return Ok(ColumnarValue::Array(lists)) };
        let empty = list.values().slice(0, 0);
        let rows: Vec<ArrayRef> = (0..list.len()).map(|row| if list.is_null(row) { empty.clone() } else { list.value(row) }).collect();
        let parts: Vec<&dyn Array> = rows.iter().map(|r| r.as_ref()).collect();
        let offsets = OffsetBuffer::from_lengths(parts.iter().map(|p| p.len()));
        let DataType::List(field) = list.data_type() else { return Ok(ColumnarValue::Array(lists)) };
        let filled = ListArray::new(field.clone(), offsets, datafusion::arrow::compute::concat(&parts)?, None);
        Ok(ColumnarValue::Array(Arc::new(filled)))
    }
}

/// Window arithmetic over a timestamp column (either kind) and microseconds:
/// `eddyline_window_start(ts, size, offset)`, `eddyline_window_shift(ts, by)`,
/// `eddyline_hop_starts(ts, size, slide, offset)` and `eddyline_cumulate_ends(ts, size, step, offset)` (lists, earliest first).
/// Null in, null out.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowMath {
    name: &'static str,
    signature: Signature,
}

impl WindowMath {
    fn new(name: &'static str, arguments: usize) -> Self {
        WindowMath { name, signature: Signature::any(arguments, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowMath {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let time = micros_type(&arg_types[0])?;
        Ok(match self.name {
            HOP_STARTS | CUMULATE_ENDS => DataType::List(Arc::new(Field::new("item", time, true))),
            _ => time,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let time_type = micros_type(&args.args[0].data_type())?;
        let times = cast(&args.args[0].to_array(rows)?, &time_type)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let constants = args.args[1..]
            .iter()
            .map(|arg| {
                let array = cast(&arg.to_array(1.max(rows))?, &DataType::Int64)?;
                Ok(array.as_primitive::<Int64Type>().clone())
            })
            .collect::<DfResult<Vec<Int64Array>>>()?;
        let at = |constant: usize, row: usize| constants[constant].value(row);
        let result: ArrayRef = match self.name {
            WINDOW_START => map_times(times, &time_type, |row, t| window_start(t, at(0, row), at(1, row))),
            WINDOW_SHIFT => map_times(times, &time_type, |row, t| t.checked_add(at(0, row))),
            CUMULATE_ENDS => time_lists(times, &time_type, |row, t, ends| cumulate_ends(t, at(0, row), at(1, row), at(2, row), ends)),
            _ => time_lists(times, &time_type, |row, t, starts| hop_starts(t, at(0, row), at(1, row), at(2, row), starts)),
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn micros_type(ty: &DataType) -> DfResult<DataType> {
    match ty {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Null => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        other => Err(DataFusionError::Plan(format!("a window needs a timestamp, not {other}"))),
    }
}

fn map_times(times: &PrimitiveArray<TimestampMicrosecondType>, ty: &DataType, mut f: impl FnMut(usize, i64) -> Option<i64>) -> ArrayRef {
    let values = (0..times.len()).map(|row| if times.is_null(row) { None } else { f(row, times.value(row)) });
    Arc::new(values.collect::<PrimitiveArray<TimestampMicrosecondType>>().with_data_type(ty.clone()))
}

fn time_lists(times: &PrimitiveArray<TimestampMicrosecondType>, ty: &DataType, f: impl Fn(usize, i64, &mut Vec<i64>)) -> ArrayRef {
    let mut starts = Vec::new();
    let lengths: Vec<usize> = (0..times.len())
        .map(|row| {
            let before = starts.len();
            if !times.is_null(row) {
                f(row, times.value(row), &mut starts);
            }
            starts.len() - before
        })
        .collect();
    let values = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(starts).with_data_type(ty.clone());
    let nulls = times.nulls().map(|n| NullBuffer::from_iter(n.iter()));
    Arc::new(ListArray::new(Arc::new(Field::new("item", ty.clone(), true)), OffsetBuffer::from_lengths(lengths), Arc::new(values), nulls))
}

/// The start of the tumbling window that holds `time`; `None` on overflow.
pub fn window_start(time: i64, size: i64, offset: i64) -> Option<i64> {
    time.checked_sub(offset)?.div_euclid(size).checked_mul(size)?.checked_add(offset)
}

/// The ends of all cumulating windows that hold `time`, earliest first.
pub fn cumulate_ends(time: i64, size: i64, step: i64, offset: i64, ends: &mut Vec<i64>) {
    let Some(start) = window_start(time, size, offset) else { return };
    let Some(last) = start.checked_add(size) else { return };
    let first = start + (time - start) / step * step;
    let mut end = first;
    while end < last {
        end += step;
        ends.push(end);
    }
}

/// The starts of all windows `[start, start + size)` that hold `time`, earliest first.
pub fn hop_starts(time: i64, size: i64, slide: i64, offset: i64, starts: &mut Vec<i64>) {
    let Some(last) = window_start(time, slide, offset) else { return };
    let mut start = last;
    while start.checked_sub(slide).is_some_and(|s| s.checked_add(size).is_some_and(|end| end > time)) {
        start -= slide;
    }
    while start <= last {
        // A slide larger than the size leaves gaps.
        if start.checked_add(size).is_some_and(|end| end > time) {
            starts.push(start);
        }
        start += slide;
    }
}
