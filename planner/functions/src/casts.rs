//! Casts between text and the types whose text Arrow spells or reads in another way than PostgreSQL: times, intervals,
//! numerics, floats, bytea, arrays, rows; from one type of row to another, whose columns correspond by their order; from numerics to floats, where the nearest one is meant, and from
//! doubles to reals, which may be too large for these; and from numbers to integers, which rounds, also in arrays. An analyzer
//! rule, which runs after type coercion, puts functions in their place, so queries and views agree. A `timestamptz` is spelled in the zone that a cast written in a statement was bound with
//! (the planner's `bind::casts`), and in UTC where the coercion of types made the cast.

use crate::checked::rewrite_expressions;
use crate::typed::type_of;
use crate::{registry, zone_of};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray, StringBuilder, StructArray};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options, unary};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Schema, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use eddyline_common::postgres::decode::ColumnBuilder;
use eddyline_common::postgres::encode::RowFormat;
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use eddyline_walk::Walk;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

pub const TO_TEXT: &str = "eddyline_to_text";
const TO_BYTEA: &str = "eddyline_to_bytea";
const TO_INTERVAL: &str = "eddyline_to_interval";
const TO_ARRAY: &str = "eddyline_to_array";
const TO_TIMESTAMP: &str = "eddyline_to_timestamp";
const TO_DATE: &str = "eddyline_to_date";
const TO_TIME: &str = "eddyline_to_time";
const TO_ROW: &str = "eddyline_to_row";
const TO_NUMERIC: &str = "eddyline_to_numeric";
const TRY_TO_NUMERIC: &str = "eddyline_try_to_numeric";
const TO_FLOAT: &str = "eddyline_to_float";
const TRY_TO_FLOAT: &str = "eddyline_try_to_float";
const ROUNDED: &str = "eddyline_rounded";

#[derive(Debug)]
pub struct PostgresCasts;

impl AnalyzerRule for PostgresCasts {
    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        rewrite_expressions(plan, &|expr, schema| expr.up(|e| rewrite(e, schema)))
    }

    fn name(&self) -> &str {
        "postgres_casts"
    }
}

/// One expression, outside of any plan.
pub fn rewrite_expr(expr: Expr, schema: &DFSchema) -> DfResult<Expr> {
    expr.up(|e| rewrite(e, schema)).map(|t| t.data)
}

fn rewrite(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    if let Expr::Cast(Cast { expr: inner, field }) | Expr::TryCast(TryCast { expr: inner, field }) = &expr
        && let Some(round) = rounding(inner, field.data_type(), schema)?
    {
        return expr.map_children(|inner| Ok(Transformed::yes(round.call(vec![inner]))));
    }
    let (inner, field, tries) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        // Every value has a text; one that reads a text may fail, which TRY_CAST must not.
        Expr::TryCast(TryCast { expr, field }) if *field.data_type() == DataType::Utf8 => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) if matches!(field.data_type(), DataType::Decimal128(_, _)) => (expr, field, true),
        Expr::TryCast(TryCast { expr, field }) if field.data_type().is_floating() => (expr, field, true),
        _ => return Ok(Transformed::no(expr)),
    };
    let Ok(from) = type_of(inner, schema) else { return Ok(Transformed::no(expr)) };
    let Some(name) = between(&from, field.data_type()) else { return Ok(Transformed::no(expr)) };
    let name = match name {
        TO_NUMERIC if tries => TRY_TO_NUMERIC,
        TO_FLOAT if tries => TRY_TO_FLOAT,
        name => name,
    };
    let mut args = vec![inner.as_ref().clone()];
    if matches!(name, TO_ARRAY | TO_ROW | TO_NUMERIC | TRY_TO_NUMERIC | TO_FLOAT | TRY_TO_FLOAT) {
        // The target's type travels as a null of it.
        args.push(Expr::Literal(ScalarValue::try_from(field.data_type())?, None));
    }
    Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function(name), args))))
}

/// Whether an expression is one of the functions that this rule puts in the place of casts.
pub fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if FUNCTIONS.iter().any(|function| function.name() == call.func.name()))
}

fn function(name: &str) -> Arc<ScalarUDF> {
    FUNCTIONS.iter().find(|f| f.name() == name).expect("every name is in the list").clone()
}

/// What rounds a number with a fraction that becomes an integer, or those of an array; `None` where there is nothing to round.
fn rounding(inner: &Expr, to: &DataType, schema: &DFSchema) -> DfResult<Option<Arc<ScalarUDF>>> {
    let is_rounded = matches!(inner, Expr::ScalarFunction(call) if call.args.len() == 1 && ["round", ROUNDED].contains(&call.func.name()));
    if is_rounded || !type_of(inner, schema).is_ok_and(|from| loses_fraction(&from, to)) {
        return Ok(None);
    }
    Ok(Some(match to {
        DataType::List(_) => function(ROUNDED),
        _ => registry().udf("round")?,
    }))
}

/// Whether Arrow's cast cuts fractions off.
fn loses_fraction(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::List(from), DataType::List(to)) => loses_fraction(from.data_type(), to.data_type()),
        (from, to) => to.is_signed_integer() && (from.is_floating() || matches!(from, DataType::Decimal128(_, 1..))),
    }
}

/// The function that casts as PostgreSQL does, where Arrow does not.
fn between(from: &DataType, to: &DataType) -> Option<&'static str> {
    use DataType::*;
    let is_text = |ty: &DataType| matches!(ty, Utf8 | LargeUtf8 | Utf8View);
    match (from, to) {
        (from, Utf8) if !is_text(from) => matches!(
            from,
            Date32 | Timestamp(_, _) | Time64(_) | Interval(_) | Duration(_) | Float32 | Float64 | Binary | List(_) | Struct(_) | Map(_, _)
        )
        .then_some(TO_TEXT),
        (from, Binary) if is_text(from) => Some(TO_BYTEA),
        (from, Interval(_)) if is_text(from) => Some(TO_INTERVAL),
        (from, Decimal128(_, _)) if is_text(from) => Some(TO_NUMERIC),
        (Utf8 | LargeUtf8 | Utf8View | Decimal128(_, _), Float32 | Float64) | (Float64, Float32) => Some(TO_FLOAT),
        (from, List(_)) if is_text(from) => Some(TO_ARRAY),
        (from, Timestamp(TimeUnit::Microsecond, None)) if is_text(from) => Some(TO_TIMESTAMP),
        (from, Date32) if is_text(from) => Some(TO_DATE),
        (from, Time64(TimeUnit::Microsecond)) if is_text(from) => Some(TO_TIME),
        (Struct(from), Struct(to)) if from != to && from.len() == to.len() => Some(TO_ROW),
        (List(items), List(item)) if from != to && (says_other(from, to) || between(items.data_type(), item.data_type()).is_some()) => {
            Some(TO_ROW)
        }
        _ => None,
    }
}

/// Whether these are lists of the same values of which only the fields differ, as those of uuids and of texts do: a cast of DataFusion's leaves
/// constants as they are.
fn says_other(from: &DataType, to: &DataType) -> bool {
    matches!((from, to), (DataType::List(_), DataType::List(_))) && from.equals_datatype(to)
}

/// The one value of an array. A list keeps what its field says of the items, which DataFusion's own way forgets.
pub fn constant(value: &ArrayRef) -> DfResult<ScalarValue> {
    match value.data_type() {
        DataType::List(_) if value.len() == 1 => Ok(ScalarValue::List(Arc::new(value.as_list::<i32>().clone()))),
        _ => ScalarValue::try_from_array(value, 0),
    }
}

static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let udf = |name, arguments: &[usize]| {
        let counts = arguments.iter().map(|count| TypeSignature::Any(*count)).collect();
        let signature = Signature::one_of(counts, Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(TextCast { name, signature }))
    };
    // The second argument of a text is the zone of its times.
    vec![
        udf(TO_TEXT, &[1, 2]),
        udf(TO_BYTEA, &[1]),
        udf(TO_INTERVAL, &[1]),
        udf(TO_TIMESTAMP, &[1]),
        udf(TO_DATE, &[1]),
        udf(TO_TIME, &[1]),
        udf(TO_ARRAY, &[2]),
        udf(TO_ROW, &[2]),
        udf(TO_NUMERIC, &[2]),
        udf(TRY_TO_NUMERIC, &[2]),
        udf(TO_FLOAT, &[2]),
        udf(TRY_TO_FLOAT, &[2]),
        udf(ROUNDED, &[1]),
    ]
});

/// The functions, for the registry: streaming plans name them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextCast {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for TextCast {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(match self.name {
            TO_TEXT => DataType::Utf8,
            TO_BYTEA => DataType::Binary,
            TO_INTERVAL => SqlType::Interval.to_arrow(),
            TO_TIMESTAMP => SqlType::Timestamp.to_arrow(),
            TO_DATE => SqlType::Date.to_arrow(),
            TO_TIME => SqlType::Time.to_arrow(),
            ROUNDED => whole(&types[0]),
            _ => types[1].clone(),
        })
    }

    /// That of what is cast, as casts of DataFusion's have it: an expression keeps its name, and is found by it.
    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        Ok(args.first().map_or_else(|| self.name.to_string(), |value| value.schema_name().to_string()))
    }

    /// Null only where its argument is, if it is not one that tries.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = matches!(self.name, TRY_TO_NUMERIC | TRY_TO_FLOAT) || args.arg_fields[0].is_nullable();
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let is_constant = matches!(args.args[0], ColumnarValue::Scalar(_));
        let values = args.args[0].to_array(if is_constant { 1 } else { args.number_rows })?;
        let external = |e: SqlError| DataFusionError::External(Box::new(e));
        let result = match self.name {
            TO_TEXT => zone(args.args.get(1)).and_then(|zone| to_text(&values, &args.arg_fields[0], zone)),
            TO_ROW => to_row(&values, args.return_field.data_type()),
            name @ (TO_FLOAT | TRY_TO_FLOAT) => to_float(&values, args.return_field.data_type(), name == TRY_TO_FLOAT),
            ROUNDED => rounded(&values, args.return_field.data_type()),
            name => from_text(&values, args.return_field.data_type(), name == TRY_TO_NUMERIC),
        }
        .map_err(external)?;
        match is_constant {
            true => Ok(ColumnarValue::Scalar(constant(&result)?)),
            false => Ok(ColumnarValue::Array(result)),
        }
    }
}

/// The zone that a constant argument names, UTC without one.
pub(crate) fn zone(argument: Option<&ColumnarValue>) -> Result<Tz> {
    zone_of(word(argument).unwrap_or("+00:00"))
}

/// The text that a constant argument is.
pub(crate) fn word(argument: Option<&ColumnarValue>) -> Option<&str> {
    match argument? {
        ColumnarValue::Scalar(word) => word.try_as_str().flatten(),
        ColumnarValue::Array(words) => words.as_string_opt::<i32>().and_then(|words| words.iter().flatten().next()),
    }
}

/// A text stays as it is stored, whatever its field says of it: the blanks of a character(n) are shown only.
pub(crate) fn to_text(values: &ArrayRef, field: &Field, zone: Tz) -> Result<ArrayRef> {
    if *values.data_type() == DataType::Utf8 {
        return Ok(values.clone());
    }
    let schema = Arc::new(Schema::new(vec![field.clone().with_data_type(values.data_type().clone()).with_nullable(true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![values.clone()])?;
    let format = RowFormat::text(schema, zone);
    let bound = format.bind(&batch)?;
    let writer = &bound.text_writers()[0];
    let mut texts = StringBuilder::with_capacity(values.len(), values.len() * 16);
    let mut text = bytes::BytesMut::new();
    for row in 0..values.len() {
        if writer.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        writer.text(row, &mut text);
        texts.append_value(std::str::from_utf8(&text).map_err(SqlError::internal)?);
    }
    Ok(Arc::new(texts.finish()))
}

/// A text that is none of the type's is an error, or null where that is tried.
fn from_text(values: &ArrayRef, target: &DataType, tries: bool) -> Result<ArrayRef> {
    let ty = SqlType::from_arrow(target).ok_or_else(|| SqlError::unsupported(format!("text cannot be cast to {target}")))?;
    let texts = cast(values, &DataType::Utf8)?;
    let texts: &StringArray = texts.as_string();
    let mut column = ColumnBuilder::new(&ty)?;
    for text in texts {
        match text {
            Some(text) => match column.append_text(text) {
                Err(_) if tries => column.append_null(),
                appended => appended?,
            },
            None => column.append_null(),
        }
    }
    let column = column.finish()?;
    if column.data_type() == target { Ok(column) } else { Ok(cast(&column, target)?) }
}

/// Rows column by column, or lists of them item by item; whatever is in them as casts of its own.
fn to_row(values: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    Ok(match (values.data_type(), target) {
        (from, to) if from == to => values.clone(),
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let rows = values.as_struct();
            let columns = rows.columns().iter().zip(fields).map(|(column, field)| to_row(column, field.data_type()));
            Arc::new(StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, rows.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(field)) => {
            let lists = values.as_list::<i32>();
            let items = to_row(lists.values(), field.data_type())?;
            Arc::new(ListArray::try_new(field.clone(), lists.offsets().clone(), items, lists.nulls().cloned())?)
        }
        (from, to) => match between(from, to) {
            Some(TO_TEXT) => to_text(values, &Field::new("", from.clone(), true), zone(None)?)?,
            Some(TO_FLOAT) => to_float(values, to, false)?,
            Some(_) => from_text(values, to, false)?,
            None if loses_fraction(from, to) => strictly(&rounded(values, &whole(from))?, to)?,
            None => strictly(values, to)?,
        },
    })
}

/// What is out of range is an error, or null where that is tried; a numeric never is.
fn to_float(values: &ArrayRef, target: &DataType, tries: bool) -> Result<ArrayRef> {
    match *values.data_type() {
        DataType::Decimal128(_, scale) => Ok(numeric_to_float(values, i32::from(scale), target)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => from_text(values, target, tries),
        DataType::Float64 if *target == DataType::Float32 => to_real(values.as_primitive(), tries),
        _ => strictly(values, target),
    }
}

/// The float that is nearest to each numeric. A quotient is that where its digits and the power of ten are floats themselves, as they mostly are.
fn numeric_to_float(values: &ArrayRef, scale: i32, target: &DataType) -> ArrayRef {
    let numerics = values.as_primitive::<Decimal128Type>();
    match target {
        DataType::Float32 => Arc::new(unary::<_, _, Float32Type>(numerics, |digits| nearest(digits, scale))),
        _ => {
            let (is_short, power) = ((0..=22).contains(&scale), 10f64.powi(scale));
            let divided = |digits: i128| match is_short && digits.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS {
                true => digits as f64 / power,
                false => nearest(digits, scale),
            };
            Arc::new(unary::<_, _, Float64Type>(numerics, divided))
        }
    }
}

fn to_real(doubles: &Float64Array, tries: bool) -> Result<ArrayRef> {
    let lost = |how: &str| SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("value out of range: {how}"));
    let real = |double: f64| match double as f32 {
        real if real.is_infinite() && double.is_finite() => Err(lost("overflow")),
        real if real == 0.0 && double != 0.0 => Err(lost("underflow")),
        real => Ok(real),
    };
    Ok(match tries {
        true => Arc::new(doubles.unary_opt::<_, Float32Type>(|double| real(double).ok())),
        false => Arc::new(doubles.try_unary::<_, Float32Type, SqlError>(real)?),
    })
}

/// As it is read from a text.
fn nearest<F: FromStr + Default>(digits: i128, scale: i32) -> F {
    format!("{digits}e{}", -scale).parse().unwrap_or_default()
}

pub(crate) fn strictly(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(values, to, &CastOptions { safe: false, ..Default::default() })?)
}

/// The type of whole numbers of a type with fractions, or of arrays of those.
fn whole(ty: &DataType) -> DataType {
    match ty {
        DataType::List(field) => DataType::List(Arc::new(field.as_ref().clone().with_data_type(whole(field.data_type())))),
        DataType::Decimal128(_, _) => DataType::Decimal128(38, 0),
        other => other.clone(),
    }
}

/// Whole numbers of the type that `whole` gives, also in arrays: of two as near a double goes to the even one, and a numeric away from zero.
fn rounded(values: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    Ok(match (values.data_type(), target) {
        (DataType::List(_), DataType::List(field)) => {
            let lists = values.as_list::<i32>();
            let items = rounded(lists.values(), field.data_type())?;
            Arc::new(ListArray::try_new(field.clone(), lists.offsets().clone(), items, lists.nulls().cloned())?)
        }
        (DataType::Float32, _) => Arc::new(unary::<_, _, Float32Type>(values.as_primitive::<Float32Type>(), f32::round_ties_even)),
        (DataType::Float64, _) => Arc::new(unary::<_, _, Float64Type>(values.as_primitive::<Float64Type>(), f64::round_ties_even)),
        (_, target) => strictly(values, target)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: ScalarValue) -> String {
        let field = Field::new("x", value.data_type(), true);
        let text = to_text(&value.to_array().unwrap(), &field, zone(None).unwrap()).unwrap();
        text.as_string::<i32>().value(0).to_string()
    }

    #[test]
    fn values_are_spelled_as_postgres_spells_them() {
        assert_eq!(shown(ScalarValue::TimestampMicrosecond(Some(1_500_000), None)), "1970-01-01 00:00:01.5");
        assert_eq!(shown(ScalarValue::TimestampMicrosecond(Some(0), Some("+00:00".into()))), "1970-01-01 00:00:00+00");
        assert_eq!(shown(ScalarValue::Float64(Some(1.0))), "1");
        assert_eq!(shown(ScalarValue::Binary(Some(vec![0, 255]))), "\\x00ff");
        let day = datafusion::arrow::datatypes::IntervalMonthDayNano::new(14, 3, 3_600_000_000_000);
        assert_eq!(shown(ScalarValue::IntervalMonthDayNano(Some(day))), "1 year 2 mons 3 days 01:00:00");
    }

    #[test]
    fn constant_lists_keep_the_type_of_their_items() {
        let marked = SqlType::Array(Box::new(SqlType::Uuid)).to_arrow();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["{00000000-0000-0000-0000-000000000001}"]));
        let list = from_text(&texts, &marked, false).unwrap();
        assert_eq!(constant(&list).unwrap().data_type(), marked);
        let plain = SqlType::Array(Box::new(SqlType::Text)).to_arrow();
        assert_eq!(between(&plain, &marked), Some(TO_ROW));
        assert_eq!(to_row(&from_text(&texts, &plain, false).unwrap(), &marked).unwrap().data_type(), &marked);
    }

    #[test]
    fn fractions_in_arrays_are_rounded() {
        let list = |ty: SqlType| SqlType::Array(Box::new(ty)).to_arrow();
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("{1.5,2.5,-5.62,NULL}"), None]));
        for (from, expected) in [(SqlType::Decimal { precision: 5, scale: 2 }, "{2,3,-6,NULL}"), (SqlType::Double, "{2,2,-6,NULL}")] {
            let values = from_text(&texts, &list(from), false).unwrap();
            let values = rounded(&values, &whole(values.data_type())).unwrap();
            let whole = strictly(&values, &list(SqlType::Integer)).unwrap();
            let text = to_text(&whole, &Field::new("x", whole.data_type().clone(), true), zone(None).unwrap()).unwrap();
            assert_eq!((text.as_string::<i32>().value(0), text.is_null(1)), (expected, true));
        }
    }

    #[test]
    fn floats_are_those_nearest_to_numerics() {
        for text in ["94.19895434327705", "-0.30000000000000004", "123.5", "12345678901234567890.25", "0.00000000000000000001"] {
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i8);
            let one: ArrayRef = Arc::new(StringArray::from(vec![text]));
            let numeric = from_text(&one, &DataType::Decimal128(38, scale), false).unwrap();
            let float = |ty: DataType| shown(ScalarValue::try_from_array(&to_float(&numeric, &ty, false).unwrap(), 0).unwrap());
            assert_eq!(float(DataType::Float64).parse::<f64>(), text.parse::<f64>(), "{text}");
            assert_eq!(float(DataType::Float32).parse::<f32>(), text.parse::<f32>(), "{text}");
        }
    }

    #[test]
    fn floats_out_of_range_are_errors_or_null_where_they_are_tried() {
        let texts = |texts: &[&str]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
        let doubles = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
        for (values, target) in [
            (texts(&["1e400"]), DataType::Float64),
            (texts(&["-1e-400"]), DataType::Float64),
            (texts(&["1e39"]), DataType::Float32),
            (doubles(&[1e39]), DataType::Float32),
            (doubles(&[-1e-60]), DataType::Float32),
        ] {
            assert_eq!(to_float(&values, &target, false).unwrap_err().state, SqlState::NUMERIC_OUT_OF_RANGE);
            assert_eq!(to_float(&values, &target, true).unwrap().null_count(), 1);
        }
        let fine = to_float(&doubles(&[1.5, f64::INFINITY, 0.0]), &DataType::Float32, false).unwrap();
        assert_eq!(fine.as_primitive::<Float32Type>().values().to_vec(), [1.5, f32::INFINITY, 0.0]);
        let fine = to_float(&texts(&["-inf", "0e999", "5e-324"]), &DataType::Float64, false).unwrap();
        assert_eq!(fine.as_primitive::<Float64Type>().values().to_vec(), [f64::NEG_INFINITY, 0.0, 5e-324]);
    }

    #[test]
    fn text_is_read_as_postgres_reads_it() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("\\x00ff"), Some("a\\\\b"), None]));
        let bytes = from_text(&texts, &DataType::Binary, false).unwrap();
        assert_eq!((bytes.as_binary::<i32>().value(0), bytes.as_binary::<i32>().value(1)), (&[0u8, 255][..], &b"a\\b"[..]));
        assert!(bytes.is_null(2));
        let list = SqlType::Array(Box::new(SqlType::BigInt)).to_arrow();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["{1,NULL,3}"]));
        assert_eq!(from_text(&texts, &list, false).unwrap().as_list::<i32>().value(0).len(), 3);
        let bad: ArrayRef = Arc::new(StringArray::from(vec!["\\x0"]));
        assert_eq!(from_text(&bad, &DataType::Binary, false).unwrap_err().state.0, "22P02");
    }
}
