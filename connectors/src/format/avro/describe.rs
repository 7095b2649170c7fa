//! Columns from the schema of a record: the option's, or the newest of a registry's subject.

use super::schema::{Schema, Type, TypeId};
use super::{declared, invalid, registered};
use crate::format::describe::{Walk, newest};
use eddyline_common::{Result, SqlError, SqlType, options};
use std::collections::BTreeMap;

/// Of canonical options. Blocks where a registry is asked.
pub fn describe(options: &BTreeMap<String, String>) -> Result<Vec<(String, SqlType)>> {
    let schema = if options.get(options::FORMAT).is_some_and(|format| format == "avro-confluent") {
        newest(options, "avro-confluent", registered)?
    } else {
        declared(options)?.ok_or_else(|| {
            invalid("format \"avro\" needs columns or a schema")
                .with_hint(format!("Declare the columns, or give the option {} or schema.registry.", options::AVRO_SCHEMA))
        })?
    };
    let fields = schema.fields().map_err(invalid)?;
    columns(&schema, schema.root, fields, &mut Walk::default())
        .map_err(|why| SqlError::unsupported(why).with_hint("Declare the columns that are wanted."))
}

fn columns(schema: &Schema, id: TypeId, fields: &[(String, TypeId)], walk: &mut Walk) -> Result<Vec<(String, SqlType)>, String> {
    walk.within(id, fields.len(), ("record", schema.name(id)), |walk| {
        let typed = |(name, ty): &(String, TypeId)| {
            let ty = column(schema, *ty, walk).map_err(|why| format!("field {name}: {why}"))?;
            Ok::<_, String>((walk.name(name), ty))
        };
        fields.iter().map(typed).collect()
    })
}

fn column(schema: &Schema, id: TypeId, walk: &mut Walk) -> Result<SqlType, String> {
    Ok(match schema.get(id) {
        Type::Null => return Err("no column has the type null".to_string()),
        Type::Boolean => SqlType::Boolean,
        Type::Int => SqlType::Integer,
        Type::Long => SqlType::BigInt,
        Type::Float => SqlType::Real,
        Type::Double => SqlType::Double,
        Type::Bytes | Type::Fixed(_) => SqlType::Bytes,
        Type::String | Type::Enum(_) => SqlType::Text,
        Type::Date => SqlType::Date,
        Type::TimeOfDay { .. } => SqlType::Time,
        Type::Instant { is_local: true, .. } => SqlType::Timestamp,
        Type::Instant { is_local: false, .. } => SqlType::TimestampTz,
        Type::Decimal { precision, scale, .. } => numeric(*precision, *scale)?,
        Type::Array(item) => SqlType::Array(Box::new(column(schema, *item, walk)?)),
        Type::Map(value) => SqlType::Map(Box::new(SqlType::Text), Box::new(column(schema, *value, walk)?)),
        Type::Union(branches) => {
            let mut others = branches.iter().filter(|branch| *schema.get(**branch) != Type::Null);
            match (others.next(), others.next()) {
                (Some(only), None) => column(schema, *only, walk)?,
                (None, _) => return Err("no column has the type null".to_string()),
                (Some(_), Some(_)) => return Err("a union of several types beside null is of no one type".to_string()),
            }
        }
        Type::Record(fields) => SqlType::Struct(columns(schema, id, fields, walk)?),
    })
}

/// Digits of a numeric.
const PRECISION_MAX: u8 = 38;

fn numeric(precision: Option<u64>, scale: i8) -> Result<SqlType, String> {
    let precision = precision.ok_or("a decimal without a precision")?;
    match u8::try_from(precision) {
        Ok(digits @ 1..=PRECISION_MAX) if (0..=digits as i8).contains(&scale) => Ok(SqlType::Decimal { precision: digits, scale }),
        _ => Err(format!("a decimal of {precision} digits with {scale} behind the point; numeric has 1 to {PRECISION_MAX}")),
    }
}
