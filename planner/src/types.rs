//! SQL type names of both accents, folded into `SqlType`. The precision of times is none of the type's, as time is microseconds: it holds for casts, and for
//! what is written to tables (`Column::precision`). Lengths of `varchar(n)` and `char(n)` hold for columns and for casts, not within arrays, rows and maps. `numeric` without a
//! precision is numeric(38,9), because a column has one scale.

use crate::error::{nearest, suggest};
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, DataType, ExactNumberInfo, Ident, ObjectName, ObjectNamePart, TimezoneInfo,
};
use eddyline_common::types::TYPE_METADATA_KEY;
use eddyline_common::{Result, SqlError, SqlState, SqlType};
use std::collections::HashMap;
use std::sync::Arc;

pub const DEFAULT_NUMERIC: SqlType = SqlType::Decimal { precision: 38, scale: 9 };
const MAX_PRECISION: u64 = 38;
/// What to do in place of a column that numbers its rows.
pub const NUMBERED: &str = "Declare the column as bigint and write its values, or key the rows by what identifies them.";

/// Every type name a column may have, for suggestions.
const NAMES: &[&str] = &[
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "float",
    "numeric",
    "decimal",
    "text",
    "varchar",
    "string",
    "char",
    "uuid",
    "bytea",
    "bytes",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timestamp_ltz",
    "interval",
    "jsonb",
    "json",
    "array",
    "row",
    "map",
];

/// A type that has one name and perhaps numbers in parentheses.
pub fn named(name: &str, modifiers: &[u64]) -> Result<SqlType> {
    let lower = name.to_lowercase();
    Ok(match lower.as_str() {
        "boolean" | "bool" => SqlType::Boolean,
        "tinyint" | "smallint" | "int2" => SqlType::SmallInt,
        "int" | "integer" | "int4" => SqlType::Integer,
        "bigint" | "int8" => SqlType::BigInt,
        "real" | "float4" => SqlType::Real,
        "float" if modifiers.first().is_some_and(|p| *p <= 24) => SqlType::Real,
        "float" | "double" | "double precision" | "float8" => SqlType::Double,
        "numeric" | "decimal" | "dec" => return decimal(modifiers),
        "varchar" | "nvarchar" | "character varying" if !modifiers.is_empty() => text_of(modifiers, SqlType::Varchar)?,
        "char" | "character" | "bpchar" if !modifiers.is_empty() => text_of(modifiers, SqlType::Char)?,
        "uuid" => SqlType::Uuid,
        "text" | "string" | "varchar" | "character varying" | "char" | "character" | "nvarchar" | "bpchar" | "name" | "\"char\""
        | "clob" => SqlType::Text,
        "bytea" | "bytes" | "binary" | "varbinary" | "blob" => SqlType::Bytes,
        "date" => SqlType::Date,
        "time" | "time without time zone" => SqlType::Time,
        "timestamp" | "timestamp without time zone" | "timestamp_ntz" | "datetime" => SqlType::Timestamp,
        "timestamptz" | "timestamp with time zone" | "timestamp_ltz" => SqlType::TimestampTz,
        "interval" => SqlType::Interval,
        "json" | "jsonb" => SqlType::Json,
        "oid" | "xid" | "regclass" | "regtype" | "regproc" | "regnamespace" | "regrole" => SqlType::BigInt,
        "cid" => SqlType::BigInt,
        "serial" | "bigserial" | "smallserial" | "serial4" | "serial8" | "serial2" => {
            return Err(SqlError::unsupported(format!("type \"{lower}\" is not supported")).with_hint(NUMBERED));
        }
        other => match other.strip_prefix('_').map(|item| named(item, modifiers)) {
            // What PostgreSQL calls the array of a type.
            Some(Ok(item)) if !matches!(item, SqlType::Array(_)) => SqlType::Array(Box::new(item.unlimited())),
            _ => return Err(unknown(name)),
        },
    })
}

fn unknown(name: &str) -> SqlError {
    let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{}\" does not exist", name.to_lowercase()));
    match name.to_lowercase().as_str() {
        "inet" | "cidr" | "macaddr" | "xml" => error.with_hint("Declare the column as text."),
        "money" => error.with_hint("Declare the column as numeric(20,2)."),
        lower if nearest(lower, NAMES.iter().copied()).is_none() => error,
        lower => suggest(error, lower, NAMES.iter().copied()),
    }
}

/// A text of a length. A greater one than PostgreSQL's greatest bounds nothing: Flink's STRING is VARCHAR(2147483647).
fn text_of(modifiers: &[u64], ty: fn(u32) -> SqlType) -> Result<SqlType> {
    const LENGTH_MAX: u64 = 10_485_760;
    match modifiers {
        [length] if *length > LENGTH_MAX => Ok(SqlType::Text),
        [length] if *length > 0 => Ok(ty(*length as u32)),
        _ => Err(SqlError::new(SqlState::INVALID_PARAMETER, "a text's length must be at least 1")),
    }
}

fn decimal(modifiers: &[u64]) -> Result<SqlType> {
    let (precision, scale) = match modifiers {
        [] => return Ok(DEFAULT_NUMERIC),
        [precision] => (*precision, 0),
        [precision, scale, ..] => (*precision, *scale),
    };
    if precision == 0 || precision > MAX_PRECISION {
        return Err(SqlError::new(
            SqlState::INVALID_PARAMETER,
            format!("numeric precision {precision} must be between 1 and {MAX_PRECISION}"),
        ));
    }
    if scale > precision {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("numeric scale {scale} must be between 0 and {precision}")));
    }
    Ok(SqlType::Decimal { precision: precision as u8, scale: scale as i8 })
}

/// The type written in an expression (`CAST`, `::`, typed literals).
pub fn from_ast(ty: &DataType) -> Result<SqlType> {
    use DataType::*;
    Ok(match ty {
        Boolean | Bool => SqlType::Boolean,
        TinyInt(_) | SmallInt(_) | Int2(_) | Int16 => SqlType::SmallInt,
        Int(_) | Integer(_) | Int4(_) | Int32 | MediumInt(_) => SqlType::Integer,
        BigInt(_) | Int8(_) | Int64 => SqlType::BigInt,
        Real | Float4 | Float32 => SqlType::Real,
        Float(ExactNumberInfo::Precision(p)) if *p <= 24 => SqlType::Real,
        Float(_) | Double(_) | DoublePrecision | Float8 | Float64 => SqlType::Double,
        Numeric(n) | Decimal(n) | Dec(n) | BigNumeric(n) | BigDecimal(n) => decimal(&exact(n))?,
        Character(Some(n)) | Char(Some(n)) => limited(n, SqlType::Char)?,
        CharacterVarying(Some(n)) | CharVarying(Some(n)) | Varchar(Some(n)) | Nvarchar(Some(n)) => limited(n, SqlType::Varchar)?,
        Character(_)
        | Char(_)
        | CharacterVarying(_)
        | CharVarying(_)
        | Varchar(_)
        | Nvarchar(_)
        | CharacterLargeObject(_)
        | CharLargeObject(_)
        | Clob(_)
        | Text
        | String(_) => SqlType::Text,
        Bytea | Bytes(_) | Binary(_) | Varbinary(_) | Blob(_) => SqlType::Bytes,
        Date | Date32 => SqlType::Date,
        Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => SqlType::Time,
        Time(_, _) => {
            return Err(SqlError::unsupported("type \"time with time zone\" is not supported").with_hint("Use time or timestamptz."));
        }
        Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) | TimestampNtz { .. } | Datetime(_) => SqlType::Timestamp,
        Timestamp(_, _) => SqlType::TimestampTz,
        Interval { .. } => SqlType::Interval,
        JSON | JSONB => SqlType::Json,
        Regclass => SqlType::BigInt,
        Uuid => SqlType::Uuid,
        Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::Parenthesis(item)) => {
            SqlType::Array(Box::new(from_ast(item)?.unlimited()))
        }
        Map(key, value) => SqlType::Map(Box::new(from_ast(key)?.unlimited()), Box::new(from_ast(value)?.unlimited())),
        Struct(fields, _) => SqlType::Struct(
            fields
                .iter()
                .enumerate()
                .map(|(i, f)| {
                    let name = f.field_name.as_ref().map_or_else(|| format!("f{}", i + 1), crate::error::fold);
                    Ok((name, from_ast(&f.field_type)?.unlimited()))
                })
                .collect::<Result<_>>()?,
        ),
        Custom(name, modifiers) => {
            let last = name.0.last().map(written_name).unwrap_or_default();
            let modifiers: Vec<u64> = modifiers.iter().filter_map(|m| m.parse().ok()).collect();
            named(&last, &modifiers)?
        }
        other => return Err(unknown(&other.to_string())),
    })
}

/// A type's name without its quotes, which tell only `"char"` from `char`.
fn written_name(part: &ObjectNamePart) -> String {
    match part.as_ident() {
        Some(ident) if ident.value != "char" => ident.value.clone(),
        _ => part.to_string(),
    }
}

fn limited(written: &CharacterLength, ty: fn(u32) -> SqlType) -> Result<SqlType> {
    match written {
        CharacterLength::IntegerLength { length: n, .. } => text_of(&[*n], ty),
        CharacterLength::Max => Ok(SqlType::Text),
    }
}

/// A type as it stands in an expression, a text without its length: it is checked when it is stored. `None` for nested ones.
pub fn to_ast(ty: &SqlType) -> Option<DataType> {
    let (name, modifiers) = match ty {
        SqlType::Array(_) | SqlType::Struct(_) | SqlType::Map(_, _) | SqlType::Null => return None,
        SqlType::Decimal { precision, scale } => ("numeric".to_string(), vec![precision.to_string(), scale.to_string()]),
        SqlType::Varchar(_) | SqlType::Char(_) => ("text".to_string(), vec![]),
        simple => (simple.to_string(), vec![]),
    };
    Some(DataType::Custom(ObjectName::from(vec![Ident::new(name)]), modifiers))
}

fn exact(info: &ExactNumberInfo) -> Vec<u64> {
    match info {
        ExactNumberInfo::None => vec![],
        ExactNumberInfo::Precision(p) => vec![*p],
        ExactNumberInfo::PrecisionAndScale(p, s) => vec![*p, (*s).max(0) as u64],
    }
}

/// Takes from a type of times how many digits behind the second it is written with, if those are fewer than there are.
pub fn take_precision(ty: &mut DataType) -> Option<u64> {
    use DataType::*;
    match ty {
        Time(digits, _) | Timestamp(digits, _) | TimestampNtz(digits) | Datetime(digits) => digits.take_if(|digits| is_precision(*digits)),
        Custom(name, modifiers) => {
            let [digits] = modifiers.as_slice() else { return None };
            let digits: u64 = digits.parse().ok()?;
            let ty = named(&name.0.last()?.as_ident()?.value, &[]).ok()?;
            (has_precision(&ty) && is_precision(digits)).then(|| {
                modifiers.clear();
                digits
            })
        }
        _ => None,
    }
}

/// The type that a cast is to, if it is a cast to that alone: not to a name that clients know it by, and not to fewer digits behind the second.
pub fn only(ty: &DataType) -> Option<SqlType> {
    let is_more = *ty == DataType::Regclass || wire_mark(ty).is_some() || take_precision(&mut ty.clone()).is_some();
    from_ast(ty).ok().filter(|_| !is_more)
}

/// The digits behind the second that a type is written with in a definition, if it is one of times and they are fewer than there are.
pub fn precision_of(ty: &SqlType, modifiers: &[u64]) -> Option<u8> {
    match modifiers {
        [digits] if has_precision(ty) && is_precision(*digits) => Some(*digits as u8),
        _ => None,
    }
}

fn has_precision(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Time | SqlType::Timestamp | SqlType::TimestampTz)
}

fn is_precision(digits: u64) -> bool {
    digits < 6
}

/// The name that clients know a type by, where it is none of ours: a cast to `oid` is a bigint that is announced as oid.
fn wire_mark(ty: &DataType) -> Option<&'static str> {
    match ty {
        DataType::Varchar(None) | DataType::CharacterVarying(None) => Some("varchar"),
        DataType::Custom(name, _) => {
            let name = &name.0.last()?.as_ident()?.value;
            let array = || array_mark(name.strip_prefix('_')?);
            ["oid", "name", "char", "xid"].into_iter().find(|known| name.eq_ignore_ascii_case(known)).or_else(array)
        }
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::Parenthesis(item),
        ) => array_mark(wire_mark(item)?),
        _ => None,
    }
}

/// The same of an array of such a type.
fn array_mark(item: &str) -> Option<&'static str> {
    ["oid[]", "name[]", "char[]"].into_iter().find(|known| known.strip_suffix("[]").is_some_and(|known| item.eq_ignore_ascii_case(known)))
}

/// The field that a cast names while names are bound. It has a name for DataFusion's sake: without one a cast is taken to change the Arrow type alone, and what was a `char(4)`
/// would be called one still. That of an array has none, since vectors of the catalog begin at zero as arrays too.
pub fn cast_field(ty: &SqlType) -> Field {
    ty.field(if matches!(ty, SqlType::Array(_)) { "" } else { "cast" }, true)
}

/// Gives DataFusion's binder our types: microseconds, `Utf8`, JSON as marked text.
#[derive(Debug)]
pub struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql_type: &DataType) -> DfResult<Option<FieldRef>> {
        let ty = from_ast(sql_type).map_err(crate::error::into_datafusion)?;
        let field = cast_field(&ty);
        Ok(Some(Arc::new(match wire_mark(sql_type) {
            Some(mark) => field.with_metadata(HashMap::from([(TYPE_METADATA_KEY.to_string(), mark.to_string())])),
            None => field,
        })))
    }
}
