//! `pg_typeof(any)`: a type's name as PostgreSQL has it, without its modifiers; and Flink's `TYPEOF(any)`.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use eddyline_common::SqlType;
use eddyline_common::types::TYPE_METADATA_KEY;
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TypeName {
    name: &'static str,
    signature: Signature,
}

impl TypeName {
    pub fn of_postgres() -> Self {
        TypeName { name: "pg_typeof", signature: Signature::any(1, Volatility::Immutable) }
    }

    pub fn of_flink() -> Self {
        TypeName { name: "typeof", ..TypeName::of_postgres() }
    }
}

/// As PostgreSQL shows a type, without its modifiers.
fn in_postgres(ty: &SqlType) -> String {
    let name = ty.to_string();
    match name.split_once('(') {
        Some((before, after)) => format!("{before}{}", after.split_once(')').map_or("", |(_, rest)| rest)),
        None => name,
    }
}

/// A type that only system relations have: its mark is its name.
fn of_catalog(field: &Field) -> Option<String> {
    match field.metadata().get(TYPE_METADATA_KEY)?.as_str() {
        "char" => Some("\"char\"".to_string()),
        "varchar" => Some("character varying".to_string()),
        "pgjson" => Some("json".to_string()),
        own if matches!(own, "json" | "uuid") || own.contains('(') => None,
        name => Some(name.to_string()),
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

impl ScalarUDFImpl for TypeName {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let (field, is_flink) = (&args.arg_fields[0], self.name == "typeof");
        let name = match SqlType::from_field(field) {
            Some(ty) if is_flink => in_flink(&ty),
            Some(ty) => of_catalog(field).unwrap_or_else(|| in_postgres(&ty)),
            None => "unknown".to_string(),
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
    }
}
