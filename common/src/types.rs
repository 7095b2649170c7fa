//! SQL types, columns, and their Arrow form. This is the durable spelling of types: plans and the
//! catalog store these, never Arrow's own.

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Field metadata key that says which type a Utf8 column has that is not text.
pub const TYPE_METADATA_KEY: &str = "eddyline.type";

/// The SQL types of both accents after folding their spellings together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SqlType {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    Real,
    Double,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text,
    /// Text of at most so many characters.
    Varchar(u32),
    /// Text that is shown with blanks up to so many characters. Stored without blanks at its end, where they mean nothing.
    Char(u32),
    /// Text in Arrow, in lower case with its hyphens.
    Uuid,
    Bytes,
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds, no time zone.
    Timestamp,
    /// Microseconds since the epoch, UTC.
    TimestampTz,
    Interval,
    /// JSON text; Utf8 in Arrow with `TYPE_METADATA_KEY = json` on its field.
    Json,
    Array(Box<SqlType>),
    Struct(Vec<(String, SqlType)>),
    Map(Box<SqlType>, Box<SqlType>),
    /// The type of a bare NULL.
    Null,
}

impl SqlType {
    /// With its article, as texts have it: "an integer".
    pub fn with_article(&self) -> String {
        let name = self.to_string();
        let article = if name.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
        format!("{article} {name}")
    }

    pub fn to_arrow(&self) -> DataType {
        match self {
            SqlType::Boolean => DataType::Boolean,
            SqlType::SmallInt => DataType::Int16,
            SqlType::Integer => DataType::Int32,
            SqlType::BigInt => DataType::Int64,
            SqlType::Real => DataType::Float32,
            SqlType::Double => DataType::Float64,
            SqlType::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid | SqlType::Json => DataType::Utf8,
            SqlType::Bytes => DataType::Binary,
            SqlType::Date => DataType::Date32,
            SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            SqlType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            SqlType::Array(item) => DataType::List(Arc::new(item.field("item", true))),
            SqlType::Struct(fields) => DataType::Struct(fields.iter().map(|(n, t)| t.field(n, true)).collect::<Fields>()),
            SqlType::Map(key, value) => {
                let entries = Fields::from(vec![key.field("keys", false), value.field("values", true)]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
            }
            SqlType::Null => DataType::Null,
        }
    }

    /// An Arrow field of this type.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.to_arrow(), nullable);
        match self.mark() {
            Some(mark) => field.with_metadata(HashMap::from([(TYPE_METADATA_KEY.to_string(), mark)])),
            None => field,
        }
    }

    /// What a field says besides its Arrow type.
    fn mark(&self) -> Option<String> {
        Some(match self {
            SqlType::Json => "json".to_string(),
            SqlType::Uuid => "uuid".to_string(),
            SqlType::Varchar(length) => format!("varchar({length})"),
            SqlType::Char(length) => format!("bpchar({length})"),
            _ => return None,
        })
    }

    fn of_mark(mark: &str) -> Option<SqlType> {
        let length = |name: &str| mark.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?.parse().ok();
        match mark {
            "json" => Some(SqlType::Json),
            "uuid" => Some(SqlType::Uuid),
            _ => length("varchar").map(SqlType::Varchar).or_else(|| length("bpchar").map(SqlType::Char)),
        }
    }

    /// Text of any length or of a limited one.
    pub fn is_text(&self) -> bool {
        matches!(self, SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_))
    }

    /// How many characters a text may have, if that is limited.
    pub fn length(&self) -> Option<u32> {
        if let SqlType::Varchar(length) | SqlType::Char(length) = self { Some(*length) } else { None }
    }

    /// Without the limit of a text's length.
    pub fn unlimited(self) -> SqlType {
        if self.is_text() { SqlType::Text } else { self }
    }

    /// The SQL type of an Arrow field, or `None` for an Arrow type that Eddyline has no column of.
    /// Narrower and view types map to the type that holds them; such columns need a cast.
    pub fn from_field(field: &Field) -> Option<SqlType> {
        let marked = field.metadata().get(TYPE_METADATA_KEY).and_then(|mark| SqlType::of_mark(mark));
        marked.or_else(|| SqlType::from_arrow(field.data_type()))
    }

    pub fn from_arrow(data_type: &DataType) -> Option<SqlType> {
        Some(match data_type {
            DataType::Null => SqlType::Null,
            DataType::Boolean => SqlType::Boolean,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => SqlType::SmallInt,
            DataType::UInt16 | DataType::Int32 => SqlType::Integer,
            DataType::UInt32 | DataType::Int64 | DataType::UInt64 => SqlType::BigInt,
            DataType::Float16 | DataType::Float32 => SqlType::Real,
            DataType::Float64 => SqlType::Double,
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => {
                SqlType::Decimal { precision: *p, scale: *s }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => SqlType::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => SqlType::Bytes,
            DataType::Date32 | DataType::Date64 => SqlType::Date,
            DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
            DataType::Timestamp(_, None) => SqlType::Timestamp,
            DataType::Timestamp(_, Some(_)) => SqlType::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
            DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::ListView(f) => {
                SqlType::Array(Box::new(SqlType::from_field(f)?))
            }
            DataType::Struct(fields) => {
                SqlType::Struct(fields.iter().map(|f| Some((f.name().clone(), SqlType::from_field(f)?))).collect::<Option<_>>()?)
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) => SqlType::Map(Box::new(SqlType::from_field(&kv[0])?), Box::new(SqlType::from_field(&kv[1])?)),
                _ => return None,
            },
            DataType::Dictionary(_, value) => return SqlType::from_arrow(value),
            _ => return None,
        })
    }

    pub fn is_time(&self) -> bool {
        matches!(self, SqlType::Timestamp | SqlType::TimestampTz)
    }
}

/// PostgreSQL's spelling, as `\d` and error messages show it.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlType::Boolean => f.write_str("boolean"),
            SqlType::SmallInt => f.write_str("smallint"),
            SqlType::Integer => f.write_str("integer"),
            SqlType::BigInt => f.write_str("bigint"),
            SqlType::Real => f.write_str("real"),
            SqlType::Double => f.write_str("double precision"),
            SqlType::Decimal { precision, scale } => write!(f, "numeric({precision},{scale})"),
            SqlType::Text => f.write_str("text"),
            SqlType::Varchar(length) => write!(f, "character varying({length})"),
            SqlType::Char(length) => write!(f, "character({length})"),
            SqlType::Uuid => f.write_str("uuid"),
            SqlType::Bytes => f.write_str("bytea"),
            SqlType::Date => f.write_str("date"),
            SqlType::Time => f.write_str("time without time zone"),
            SqlType::Timestamp => f.write_str("timestamp without time zone"),
            SqlType::TimestampTz => f.write_str("timestamp with time zone"),
            SqlType::Interval => f.write_str("interval"),
            SqlType::Json => f.write_str("jsonb"),
            SqlType::Array(item) => write!(f, "{item}[]"),
            SqlType::Struct(_) => f.write_str("record"),
            SqlType::Map(_, _) => f.write_str("map"),
            SqlType::Null => f.write_str("unknown"),
        }
    }
}

/// A column of a relation. `name` is folded as SQL sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
    /// To how many digits behind the second a table rounds the times that are written to it; `None`: microseconds, as of any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<u8>,
}

impl Column {
    pub fn new(name: impl Into<String>, ty: SqlType, nullable: bool) -> Self {
        Column { name: name.into(), ty, nullable, precision: None }
    }

    /// The type as it can be declared.
    pub fn declared(&self) -> String {
        with_precision(&self.ty.to_string(), self.precision)
    }
}

/// The name of a type of times with its digits behind the second: `timestamp(3) without time zone`.
pub fn with_precision(ty: &str, digits: Option<u8>) -> String {
    let Some(digits) = digits else { return ty.to_string() };
    let (name, zone) = ty.split_at(ty.find(' ').unwrap_or(ty.len()));
    format!("{name}({digits}){zone}")
}

/// The Arrow schema of a list of columns.
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| c.ty.field(&c.name, c.nullable)).collect::<Vec<_>>()))
}
