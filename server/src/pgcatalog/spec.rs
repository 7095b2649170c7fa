//! The shape of every system relation, and the built-in types, parsed once from the two text files beside.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use eddyline_common::postgres::types as wire;
use eddyline_common::types::{TYPE_METADATA_KEY, with_precision};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

pub struct RelationSpec {
    pub schema: &'static str,
    pub name: &'static str,
    pub oid: u32,
    /// `r` or `v`; `F` for a function without arguments, which `pg_class` does not list.
    pub kind: &'static str,
    pub columns: Vec<ColumnSpec>,
    pub arrow: SchemaRef,
}

pub struct ColumnSpec {
    pub name: &'static str,
    /// PostgreSQL's internal type name; arrays begin with `_`.
    pub ty: &'static str,
}

/// A row of `types.txt`.
pub struct TypeSpec {
    pub oid: u32,
    pub name: &'static str,
    pub length: i16,
    pub by_value: bool,
    pub kind: &'static str,
    pub category: &'static str,
    pub preferred: bool,
    pub element: u32,
    pub array: u32,
    pub alignment: &'static str,
    pub storage: &'static str,
    pub collation: u32,
    /// Names of functions; a dash for none.
    pub input: &'static str,
    pub output: &'static str,
    pub receive: &'static str,
    pub send: &'static str,
    pub modifier_in: &'static str,
    pub modifier_out: &'static str,
}

static RELATIONS: LazyLock<Vec<Arc<RelationSpec>>> = LazyLock::new(|| lines(include_str!("relations.txt")).map(parse_relation).collect());
static TYPES: LazyLock<Vec<TypeSpec>> = LazyLock::new(|| lines(include_str!("types.txt")).map(parse_type).collect());
static BY_NAME: LazyLock<HashMap<(&'static str, &'static str), Arc<RelationSpec>>> =
    LazyLock::new(|| RELATIONS.iter().map(|r| ((r.schema, r.name), r.clone())).collect());

pub fn relations() -> &'static [Arc<RelationSpec>] {
    &RELATIONS
}

pub fn relation(schema: &str, name: &str) -> Option<Arc<RelationSpec>> {
    BY_NAME.get(&(schema, name)).cloned()
}

pub fn types() -> &'static [TypeSpec] {
    &TYPES
}

pub fn type_by_oid(oid: u32) -> Option<&'static TypeSpec> {
    TYPES.iter().find(|t| t.oid == oid)
}

pub fn type_by_name(name: &str) -> Option<&'static TypeSpec> {
    TYPES.iter().find(|t| t.name == name)
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn parse_relation(line: &'static str) -> Arc<RelationSpec> {
    let (head, columns) = line.split_once(": ").expect("a relation's line has columns");
    let [schema, name, oid, kind] = head.split(' ').collect::<Vec<_>>()[..] else { panic!("a relation's head has four words: {head}") };
    let columns: Vec<ColumnSpec> = columns
        .split(", ")
        .map(|c| c.split_once(' ').expect("a column has a name and a type"))
        .map(|(name, ty)| ColumnSpec { name, ty })
        .collect();
    let arrow = Arc::new(Schema::new(columns.iter().map(|c| field(c.name, c.ty)).collect::<Vec<_>>()));
    Arc::new(RelationSpec { schema, name, oid: oid.parse().expect("an oid is a number"), kind, columns, arrow })
}

fn parse_type(line: &'static str) -> TypeSpec {
    let words: Vec<&'static str> = line.split(' ').collect();
    let number = |i: usize| words[i].parse().expect("a number in types.txt");
    TypeSpec {
        oid: number(0),
        name: words[1],
        length: words[2].parse().expect("a length in types.txt"),
        by_value: words[3] == "t",
        kind: words[4],
        category: words[5],
        preferred: words[6] == "t",
        element: number(7),
        array: number(8),
        alignment: words[9],
        storage: words[10],
        collation: number(11),
        input: words[12],
        output: words[13],
        receive: words[14],
        send: words[15],
        modifier_in: words[16],
        modifier_out: words[17],
    }
}

/// The Arrow field of a column of a built-in type; types that SQL columns cannot have are marked.
pub fn field(name: &str, ty: &str) -> Field {
    let (data_type, mark) = match ty {
        "bool" => (DataType::Boolean, None),
        "int2" => (DataType::Int16, None),
        "int4" => (DataType::Int32, None),
        "int8" => (DataType::Int64, None),
        "float4" => (DataType::Float32, None),
        "float8" => (DataType::Float64, None),
        "text" => (DataType::Utf8, None),
        "bytea" => (DataType::Binary, None),
        "oid" | "xid" | "regclass" | "regproc" | "regnamespace" | "regrole" => (DataType::Int64, Some(ty)),
        "timestamp" => (DataType::Timestamp(TimeUnit::Microsecond, None), None),
        "timestamptz" => (DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())), None),
        "jsonb" => (DataType::Utf8, Some("json")),
        "json" => (DataType::Utf8, Some("pgjson")),
        "int2vector" => (list(DataType::Int16), Some(ty)),
        "oidvector" => (list(DataType::Int64), Some(ty)),
        "_int2" => (list(DataType::Int16), None),
        "_int4" => (list(DataType::Int32), None),
        "_oid" => (list(DataType::Int64), Some("oid[]")),
        "_float4" => (list(DataType::Float32), None),
        "_text" | "_regtype" => (list(DataType::Utf8), None),
        "_name" => (list(DataType::Utf8), Some("name[]")),
        "_char" => (list(DataType::Utf8), Some("char[]")),
        "_aclitem" => (list(DataType::Utf8), Some("aclitem[]")),
        "name" | "char" | "varchar" | "regtype" | "pg_node_tree" | "inet" | "pg_lsn" | "anyarray" | "void" => (DataType::Utf8, Some(ty)),
        _ => (DataType::Utf8, None),
    };
    let field = Field::new(name, data_type, true);
    match mark {
        Some(mark) => field.with_metadata(HashMap::from([(TYPE_METADATA_KEY.to_string(), mark.to_string())])),
        None => field,
    }
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

/// PostgreSQL's spelling of a type, as `format_type` gives it.
pub fn format_type(oid: u32, modifier: Option<i64>) -> String {
    let Some(ty) = type_by_oid(oid) else { return if oid == 0 { "-".into() } else { "???".into() } };
    if ty.category == "A" && ty.element != 0 && ty.name.starts_with('_') {
        return format!("{}[]", format_type(ty.element, modifier));
    }
    let digits = modifier.and_then(|m| u8::try_from(m).ok());
    match (oid, modifier.filter(|m| *m >= 4)) {
        (wire::NUMERIC, Some(m)) => format!("numeric({},{})", (m - 4) >> 16, (m - 4) & 0xFFFF),
        (wire::VARCHAR, Some(m)) => format!("character varying({})", m - 4),
        (wire::BPCHAR, Some(m)) => format!("character({})", m - 4),
        (wire::BOOL, _) => "boolean".into(),
        (wire::CHAR, _) => "\"char\"".into(),
        (wire::INT2, _) => "smallint".into(),
        (wire::INT4, _) => "integer".into(),
        (wire::INT8, _) => "bigint".into(),
        (wire::FLOAT4, _) => "real".into(),
        (wire::FLOAT8, _) => "double precision".into(),
        (wire::VARCHAR, None) => "character varying".into(),
        (wire::BPCHAR, None) => "character".into(),
        (wire::TIME, _) => with_precision("time without time zone", digits),
        (wire::TIMESTAMP, _) => with_precision("timestamp without time zone", digits),
        (wire::TIMESTAMPTZ, _) => with_precision("timestamp with time zone", digits),
        (1266, _) => "time with time zone".into(),
        _ => ty.name.to_string(),
    }
}
