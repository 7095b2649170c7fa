//! `pg_typeof(any)`: a type's name as PostgreSQL has it, without its modifiers; and Flink's `TYPEOF(any)`.

use super::shaped::shaped;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, Signature, Volatility};
use eddyline_common::SqlType;
use std::sync::Arc;

const POSTGRES: &str = "pg_typeof";
const FLINK: &str = "typeof";

/// The functions, for the registry.
pub fn functions() -> [ScalarUDF; 2] {
    [POSTGRES, FLINK].map(|name| shaped(name, Signature::any(1, Volatility::Immutable), shape, type_name))
}

/// As PostgreSQL shows a type, without its modifiers.
fn in_postgres(ty: &SqlType) -> String {
    let name = ty.to_string();
    match name.split_once('(') {
        Some((before, after)) => format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest)),
        None => name,
    }
}

/// As Flink shows a type. What may be null cannot be told for sure, so nothing is said of it.
fn in_flink(ty: &SqlType) -> String {
    match ty {
        SqlType::Boolean => "BOOLEAN".to_string(),
        SqlType::SmallInt => "SMALLINT".to_string(),
        SqlType::Integer => "INT".to_string(),
        SqlType::BigInt => "BIGINT".to_string(),
        SqlType::Real => "FLOAT".to_string(),
        SqlType::Double => "DOUBLE".to_string(),
        SqlType::Decimal { precision, scale } => format!("DECIMAL({precision}, {scale})"),
        SqlType::Text | SqlType::Uuid | SqlType::Json => "STRING".to_string(),
        SqlType::Varchar(length) => format!("VARCHAR({length})"),
        SqlType::Char(length) => format!("CHAR({length})"),
        SqlType::Bytes => "BYTES".to_string(),
        SqlType::Date => "DATE".to_string(),
        SqlType::Time => "TIME(6)".to_string(),
        SqlType::Timestamp => "TIMESTAMP(6)".to_string(),
        SqlType::TimestampTz => "TIMESTAMP_LTZ(6)".to_string(),
        SqlType::Interval => "INTERVAL".to_string(),
        SqlType::Array(item) => format!("ARRAY<{}>", in_flink(item)),
        SqlType::Map(key, value) => format!("MAP<{}, {}>", in_flink(key), in_flink(value)),
        SqlType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|(name, ty)| format!("`{name}` {}", in_flink(ty))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        SqlType::Null => "NULL".to_string(),
    }
}

fn shape(name: &'static str, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
    Ok(Arc::new(Field::new(name, DataType::Utf8, false)))
}

fn type_name(name: &'static str, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    let shown = if name == FLINK { in_flink } else { in_postgres };
    let name = SqlType::from_field(&args.arg_fields[0]).map_or_else(|| "unknown".to_string(), |ty| shown(&ty));
    Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
}
