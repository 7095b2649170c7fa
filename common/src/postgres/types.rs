//! What a column's type is called on the wire: oid, length and type modifier, from its Arrow field.
//! System relations mark columns of types that SQL columns cannot have (`name`, `oid`, `"char"`, ...) in
//! their field's metadata; the mark changes the oid that is announced, and for `oid` the binary form.

use crate::SqlType;
use crate::types::{Column, TYPE_METADATA_KEY};
use arrow::datatypes::{DataType, Field, Schema};

pub const BOOL: u32 = 16;
pub const BYTEA: u32 = 17;
pub const CHAR: u32 = 18;
pub const NAME: u32 = 19;
pub const INT8: u32 = 20;
pub const INT2: u32 = 21;
pub const INT2VECTOR: u32 = 22;
pub const INT4: u32 = 23;
pub const REGPROC: u32 = 24;
pub const TEXT: u32 = 25;
pub const OID: u32 = 26;
pub const XID: u32 = 28;
pub const OIDVECTOR: u32 = 30;
pub const JSON: u32 = 114;
pub const NODE_TREE: u32 = 194;
pub const FLOAT4: u32 = 700;
pub const FLOAT8: u32 = 701;
pub const UNKNOWN: u32 = 705;
pub const BPCHAR: u32 = 1042;
pub const VARCHAR: u32 = 1043;
pub const DATE: u32 = 1082;
pub const TIME: u32 = 1083;
pub const TIMESTAMP: u32 = 1114;
pub const TIMESTAMPTZ: u32 = 1184;
pub const INTERVAL: u32 = 1186;
pub const NUMERIC: u32 = 1700;
pub const REGCLASS: u32 = 2205;
pub const REGTYPE: u32 = 2206;
pub const RECORD: u32 = 2249;
pub const VOID: u32 = 2278;
pub const RECORD_ARRAY: u32 = 2287;
pub const UUID: u32 = 2950;
pub const JSONB: u32 = 3802;
pub const REGNAMESPACE: u32 = 4089;
pub const REGROLE: u32 = 4096;

/// In a schema's metadata: for each column the oid of the relation that it is a plain column of, and its number there, as `16396.2 0.0 `.
pub const ORIGINS_METADATA_KEY: &str = "eddyline.origins";

/// The oids and numbers of a result's columns, zero for what is computed, without an end.
pub fn origins(schema: &Schema) -> impl Iterator<Item = (u32, i16)> {
    let noted = schema.metadata().get(ORIGINS_METADATA_KEY).map_or("", String::as_str);
    noted.split(' ').map(|text| origin(text).unwrap_or_default()).chain(std::iter::repeat((0, 0)))
}

fn origin(text: &str) -> Option<(u32, i16)> {
    let (table, column) = text.split_once('.')?;
    Some((table.parse().ok()?, column.parse().ok()?))
}

/// A type as `RowDescription` announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireType {
    pub oid: u32,
    pub length: i16,
    pub modifier: i32,
}

/// The wire type of an Arrow field; what Eddyline has no SQL type for is announced as text.
pub fn wire_type(field: &Field) -> WireType {
    if let Some(oid) = field.metadata().get(TYPE_METADATA_KEY).and_then(|mark| marked_oid(mark)) {
        return WireType { oid, length: length(oid), modifier: -1 };
    }
    match SqlType::from_field(field) {
        Some(ty) => wire_type_of(&ty),
        None => WireType { oid: TEXT, length: -1, modifier: -1 },
    }
}

pub fn wire_type_of(ty: &SqlType) -> WireType {
    let oid = oid_of(ty);
    let modifier = match ty {
        SqlType::Decimal { precision, scale } => ((*precision as i32) << 16 | (*scale as i32 & 0xFFFF)) + 4,
        SqlType::Varchar(length) | SqlType::Char(length) => *length as i32 + 4,
        _ => -1,
    };
    WireType { oid, length: length(oid), modifier }
}

/// The same with the digits behind the second that a column of times has been declared with.
pub fn wire_type_of_column(column: &Column) -> WireType {
    let ty = wire_type_of(&column.ty);
    WireType { modifier: column.precision.map_or(ty.modifier, i32::from), ..ty }
}

pub fn oid_of(ty: &SqlType) -> u32 {
    match ty {
        SqlType::Boolean => BOOL,
        SqlType::SmallInt => INT2,
        SqlType::Integer => INT4,
        SqlType::BigInt => INT8,
        SqlType::Real => FLOAT4,
        SqlType::Double => FLOAT8,
        SqlType::Decimal { .. } => NUMERIC,
        SqlType::Text | SqlType::Null => TEXT,
        SqlType::Varchar(_) => VARCHAR,
        SqlType::Char(_) => BPCHAR,
        SqlType::Uuid => UUID,
        SqlType::Bytes => BYTEA,
        SqlType::Date => DATE,
        SqlType::Time => TIME,
        SqlType::Timestamp => TIMESTAMP,
        SqlType::TimestampTz => TIMESTAMPTZ,
        SqlType::Interval => INTERVAL,
        SqlType::Json | SqlType::Map(_, _) => JSONB,
        SqlType::Array(item) => array_of(oid_of(item)),
        SqlType::Struct(_) => RECORD,
    }
}

/// The SQL type of a parameter that a client declared by oid; `None` leaves it to be inferred.
pub fn parameter_type(oid: u32) -> Option<SqlType> {
    Some(match oid {
        BOOL => SqlType::Boolean,
        INT2 => SqlType::SmallInt,
        INT4 => SqlType::Integer,
        INT8 | OID | XID | REGCLASS | REGTYPE | REGPROC => SqlType::BigInt,
        FLOAT4 => SqlType::Real,
        FLOAT8 => SqlType::Double,
        NUMERIC => SqlType::Decimal { precision: 38, scale: 10 },
        TEXT | VARCHAR | BPCHAR | NAME | CHAR => SqlType::Text,
        UUID => SqlType::Uuid,
        BYTEA => SqlType::Bytes,
        DATE => SqlType::Date,
        TIME => SqlType::Time,
        TIMESTAMP => SqlType::Timestamp,
        TIMESTAMPTZ => SqlType::TimestampTz,
        INTERVAL => SqlType::Interval,
        JSON | JSONB => SqlType::Json,
        oid => SqlType::Array(Box::new(parameter_type(element_of(oid)?)?)),
    })
}

const ARRAYS: &[(u32, u32)] = &[
    (BOOL, 1000),
    (BYTEA, 1001),
    (CHAR, 1002),
    (NAME, 1003),
    (INT2, 1005),
    (INT4, 1007),
    (REGPROC, 1008),
    (TEXT, 1009),
    (BPCHAR, 1014),
    (VARCHAR, 1015),
    (INT8, 1016),
    (FLOAT4, 1021),
    (FLOAT8, 1022),
    (OID, 1028),
    (1033, 1034),
    (TIMESTAMP, 1115),
    (DATE, 1182),
    (TIME, 1183),
    (TIMESTAMPTZ, 1185),
    (INTERVAL, 1187),
    (NUMERIC, 1231),
    (REGCLASS, 2210),
    (REGTYPE, 2211),
    (RECORD, RECORD_ARRAY),
    (UUID, 2951),
    (JSON, 199),
    (JSONB, 3807),
];

/// The oid of the array type over an element type; nested arrays have their innermost element's.
pub fn array_of(element: u32) -> u32 {
    ARRAYS.iter().find(|(e, a)| *e == element || *a == element).map_or(1009, |(_, array)| *array)
}

pub fn element_of(array: u32) -> Option<u32> {
    ARRAYS.iter().find(|(_, a)| *a == array).map(|(element, _)| *element)
}

/// The oid that a metadata mark stands for.
fn marked_oid(mark: &str) -> Option<u32> {
    Some(match mark {
        "json" => JSONB,
        "pgjson" => JSON,
        "void" => VOID,
        "name" => NAME,
        "oid" => OID,
        "xid" => XID,
        "char" => CHAR,
        "varchar" => VARCHAR,
        "regclass" => REGCLASS,
        "regtype" => REGTYPE,
        "regproc" => REGPROC,
        "regnamespace" => REGNAMESPACE,
        "regrole" => REGROLE,
        "int2vector" => INT2VECTOR,
        "oidvector" => OIDVECTOR,
        "pg_node_tree" => NODE_TREE,
        "aclitem[]" => 1034,
        "name[]" => 1003,
        "oid[]" => 1028,
        "char[]" => 1002,
        "anyarray" => 2277,
        "inet" => 869,
        "pg_lsn" => 3220,
        _ => return None,
    })
}

fn length(oid: u32) -> i16 {
    match oid {
        BOOL | CHAR => 1,
        INT2 => 2,
        INT4 | OID | XID | REGPROC | REGCLASS | REGTYPE | REGNAMESPACE | REGROLE | FLOAT4 | DATE => 4,
        INT8 | FLOAT8 | TIME | TIMESTAMP | TIMESTAMPTZ => 8,
        INTERVAL | UUID => 16,
        NAME => 64,
        _ => -1,
    }
}

/// The Arrow type that the encoders take for a column of this Arrow type: the one form that each SQL type has in
/// Eddyline. Engines may hand over view, dictionary, unsigned and other-unit forms of it.
pub fn canonical(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float16 => DataType::Float32,
        DataType::Decimal256(_, _) => DataType::Utf8,
        other => match SqlType::from_arrow(other) {
            Some(ty) => ty.to_arrow(),
            None => DataType::Utf8,
        },
    }
}
