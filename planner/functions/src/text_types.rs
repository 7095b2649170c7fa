//! Texts of a limited length and uuids: what a cast to one makes of a text, and what storing it does. A cast cuts; what is
//! stored must fit.

use super::shaped::shaped;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Signature, TypeSignature, Volatility, lit,
};
use eddyline_common::postgres::parse;
use eddyline_common::{SqlError, SqlType};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// Each takes a text; those with a length take that too.
const NAMES: [&str; 6] =
    ["eddyline_uuid", "eddyline_try_uuid", "eddyline_varchar", "eddyline_bpchar", "eddyline_store_varchar", "eddyline_store_bpchar"];

/// What makes a text a value of a type: by a cast, or because it is stored in a column.
pub fn call(text: Expr, ty: &SqlType, stored: bool, safe: bool) -> Option<Expr> {
    let (name, length) = match (ty, stored) {
        (SqlType::Uuid, false) if safe => ("eddyline_try_uuid", None),
        (SqlType::Uuid, _) => ("eddyline_uuid", None),
        (SqlType::Varchar(length), false) => ("eddyline_varchar", Some(*length)),
        (SqlType::Varchar(length), true) => ("eddyline_store_varchar", Some(*length)),
        (SqlType::Char(length), false) => ("eddyline_bpchar", Some(*length)),
        (SqlType::Char(length), true) => ("eddyline_store_bpchar", Some(*length)),
        _ => return None,
    };
    let udf = FUNCTIONS.iter().find(|f| f.name() == name).expect("every name is in the list").clone();
    let args = [text].into_iter().chain(length.map(|n| lit(i64::from(n)))).collect();
    Some(Expr::ScalarFunction(datafusion::logical_expr::expr::ScalarFunction::new_udf(udf, args)))
}

static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let udf = |name: &'static str| {
        let signature = Signature::one_of(vec![TypeSignature::Any(1), TypeSignature::Any(2)], Volatility::Immutable);
        Arc::new(shaped(name, signature, shape, values))
    };
    NAMES.into_iter().map(udf).collect()
});

/// The functions, for the registry: streaming plans name them.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS.clone()
}

fn type_of(name: &str, length: Option<i64>) -> SqlType {
    let length = length.and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX);
    match name {
        "eddyline_uuid" | "eddyline_try_uuid" => SqlType::Uuid,
        "eddyline_varchar" | "eddyline_store_varchar" => SqlType::Varchar(length),
        _ => SqlType::Char(length),
    }
}

fn value<'a>(name: &str, text: &'a str, ty: &SqlType) -> Result<Option<Cow<'a, str>>, SqlError> {
    Ok(Some(match ty {
        SqlType::Varchar(length) | SqlType::Char(length) if name.starts_with("eddyline_store") => parse::limited(text, *length, ty)?.into(),
        SqlType::Varchar(length) | SqlType::Char(length) => parse::stored(parse::cut(text, *length), ty).into(),
        _ if name == "eddyline_try_uuid" => return Ok(parse::uuid(text.trim()).ok().map(Cow::from)),
        _ => parse::uuid(text.trim())?.into(),
    }))
}

fn constant(value: Option<&ScalarValue>) -> Option<i64> {
    match value?.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => number,
        _ => None,
    }
}

fn shape(name: &'static str, args: ReturnFieldArgs) -> DfResult<FieldRef> {
    let length = constant(args.scalar_arguments.get(1).copied().flatten());
    let nullable = args.arg_fields[0].is_nullable() || name == "eddyline_try_uuid";
    Ok(Arc::new(type_of(name, length).field(name, nullable)))
}

fn values(name: &'static str, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let length = match args.args.get(1) {
        Some(ColumnarValue::Scalar(value)) => constant(Some(value)),
        Some(ColumnarValue::Array(values)) if !values.is_empty() => constant(Some(&ScalarValue::try_from_array(values, 0)?)),
        _ => None,
    };
    let ty = type_of(name, length);
    let is_constant = matches!(args.args[0], ColumnarValue::Scalar(_));
    let values = cast(&args.args[0].to_array(if is_constant { 1 } else { args.number_rows })?, &DataType::Utf8)?;
    let values: &StringArray = values.as_string();
    let mut builder = StringBuilder::with_capacity(values.len(), values.value_data().len());
    for text in values {
        let value = match text {
            Some(text) => value(name, text, &ty).map_err(|e| DataFusionError::External(Box::new(e)))?,
            None => None,
        };
        builder.append_option(value);
    }
    let result: ArrayRef = Arc::new(builder.finish());
    match is_constant {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
        false => Ok(ColumnarValue::Array(result)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &'static str, text: &str, length: i64) -> Result<Option<String>, String> {
        value(name, text, &type_of(name, Some(length))).map(|v| v.map(Cow::into_owned)).map_err(|e| e.state.0.to_string())
    }

    #[test]
    fn a_cast_cuts_and_a_column_refuses() {
        let some = |text: &str| Ok(Some(text.to_string()));
        assert_eq!(made("eddyline_varchar", "émile", 3), some("émi"));
        assert_eq!(made("eddyline_store_varchar", "abc", 3), some("abc"));
        assert_eq!(made("eddyline_store_varchar", "abc  ", 4), some("abc "), "blanks beyond the end go");
        assert_eq!(made("eddyline_store_varchar", "abcd", 3), Err("22001".to_string()));
        assert_eq!(made("eddyline_bpchar", "ab   cd", 4), some("ab"));
        assert_eq!(made("eddyline_store_bpchar", "ab", 4), some("ab"));
        assert_eq!(made("eddyline_store_bpchar", "abcde", 4), Err("22001".to_string()));
    }

    #[test]
    fn a_uuid_has_one_spelling() {
        let spelled = Ok(Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11".to_string()));
        for text in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 ",
        ] {
            assert_eq!(made("eddyline_uuid", text, 0), spelled, "{text}");
        }
        assert_eq!(made("eddyline_uuid", "a0eebc99", 0), Err("22P02".to_string()));
        assert_eq!(made("eddyline_try_uuid", "x", 0), Ok(None));
    }
}
