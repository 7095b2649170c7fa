//! Avro schemas from JSON, as far as reading needs them: types in one list, named ones found by their names.

use crate::format::PayloadColumn;
use eddyline_common::{Result as SqlResult, SqlError, SqlType};
use serde_json::Value;
use std::collections::HashMap;

/// Index into `Schema::types`.
pub type TypeId = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Date,
    /// A long or int that counts so many to the second, of the day or since 1970.
    TimeOfDay {
        per_second: i64,
    },
    /// `is_local`: of no zone.
    Instant {
        per_second: i64,
        is_local: bool,
    },
    /// Bytes, or so many of them, that are an unscaled number.
    Decimal {
        precision: Option<u64>,
        scale: i8,
        size: Option<usize>,
    },
    Fixed(usize),
    Enum(Vec<String>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<(String, TypeId)>),
}

#[derive(Debug)]
pub struct Schema {
    types: Vec<Type>,
    pub root: TypeId,
    /// See `Parser`.
    names: HashMap<String, TypeId>,
}

/// Nesting of a schema's text.
const DEPTH_MAX: usize = 64;

impl Schema {
    /// `imported`: names and texts of the schemas whose types this one names, each behind what it needs.
    pub fn parse(text: &str, imported: &[(String, String)]) -> Result<Schema, String> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        for (name, text) in imported {
            parser.parse_text(text).map_err(|why| format!("{name}, which it refers to: {why}"))?;
        }
        let root = parser.parse_text(text)?;
        Ok(Schema { types: parser.types, root, names: parser.names })
    }

    /// The schema that Flink derives from columns.
    pub fn of_columns<'a>(columns: impl Iterator<Item = &'a PayloadColumn>) -> SqlResult<Schema> {
        let mut schema = Schema { types: Vec::new(), root: 0, names: HashMap::new() };
        let fields = columns.map(|c| Ok((c.external_name.clone(), schema.add_column(&c.external_name, &c.ty, c.nullable && !c.is_key)?)));
        let fields = fields.collect::<SqlResult<Vec<_>>>()?;
        schema.root = schema.add(Type::Record(fields));
        Ok(schema)
    }

    /// Those of the record, which the schema must be of.
    pub fn fields(&self) -> Result<&[(String, TypeId)], String> {
        match &self.types[self.root] {
            Type::Record(fields) => Ok(fields),
            _ => Err("the Avro schema is not of a record".to_string()),
        }
    }

    /// What the schema calls a type, for messages.
    pub fn name(&self, id: TypeId) -> &str {
        self.names.iter().find(|(_, named)| **named == id).map_or("", |(name, _)| name.as_str())
    }

    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id]
    }

    fn add(&mut self, ty: Type) -> TypeId {
        self.types.push(ty);
        self.types.len() - 1
    }

    fn add_column(&mut self, name: &str, ty: &SqlType, nullable: bool) -> SqlResult<TypeId> {
        let plain = match ty {
            SqlType::Boolean => Type::Boolean,
            SqlType::SmallInt | SqlType::Integer => Type::Int,
            SqlType::BigInt => Type::Long,
            SqlType::Real => Type::Float,
            SqlType::Double => Type::Double,
            SqlType::Text | SqlType::Varchar(_) | SqlType::Char(_) | SqlType::Uuid => Type::String,
            SqlType::Bytes => Type::Bytes,
            SqlType::Date => Type::Date,
            SqlType::Time => Type::TimeOfDay { per_second: 1_000 },
            SqlType::Timestamp => Type::Instant { per_second: 1_000, is_local: true },
            SqlType::TimestampTz => Type::Instant { per_second: 1_000, is_local: false },
            SqlType::Decimal { precision, scale } => Type::Decimal { precision: Some(u64::from(*precision)), scale: *scale, size: None },
            SqlType::Array(item) => Type::Array(self.add_column(name, item, true)?),
            SqlType::Map(key, value) if **key == SqlType::Text => Type::Map(self.add_column(name, value, true)?),
            SqlType::Struct(fields) => {
                let fields = fields.iter().map(|(name, ty)| Ok((name.clone(), self.add_column(name, ty, true)?)));
                Type::Record(fields.collect::<SqlResult<_>>()?)
            }
            SqlType::Json | SqlType::Interval | SqlType::Map(..) | SqlType::Null => {
                return Err(SqlError::unsupported(format!("column \"{name}\" of type {ty} has no Avro type"))
                    .with_hint("Give the schema with the option avro.schema."));
            }
        };
        let plain = self.add(plain);
        if !nullable {
            return Ok(plain);
        }
        let null = self.add(Type::Null);
        Ok(self.add(Type::Union(vec![null, plain])))
    }
}

struct Parser {
    types: Vec<Type>,
    /// Full names; of a name without namespace that alone.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, ty: Type) -> TypeId {
        self.types.push(ty);
        self.types.len() - 1
    }

    fn parse_text(&mut self, text: &str) -> Result<TypeId, String> {
        let json: Value = serde_json::from_str(text).map_err(|e| format!("not a schema: {e}"))?;
        self.parse(&json, "", 0)
    }

    fn parse(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<TypeId, String> {
        if depth > DEPTH_MAX {
            return Err("nested too deep".to_string());
        }
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|b| self.parse(b, namespace, depth + 1)).collect::<Result<_, _>>()?;
                Ok(self.add(Type::Union(branches)))
            }
            Value::Object(object) => {
                let ty = object.get("type").ok_or("a type without \"type\"")?;
                let Value::String(name) = ty else { return self.parse(ty, namespace, depth + 1) };
                match name.as_str() {
                    "record" | "error" => self.record(json, namespace, depth),
                    "enum" => {
                        let symbols = json["symbols"].as_array().ok_or("an enum without symbols")?;
                        let symbols = symbols.iter().map(|s| s.as_str().map(str::to_string)).collect::<Option<Vec<_>>>();
                        self.define(json, namespace, Type::Enum(symbols.ok_or("a symbol that is no text")?))
                    }
                    "fixed" => {
                        let size = json["size"].as_u64().ok_or("a fixed without size")? as usize;
                        let ty = if logical(json) == "decimal" { decimal(json, Some(size))? } else { Type::Fixed(size) };
                        self.define(json, namespace, ty)
                    }
                    "array" => {
                        let items = self.parse(&json["items"], namespace, depth + 1)?;
                        Ok(self.add(Type::Array(items)))
                    }
                    "map" => {
                        let values = self.parse(&json["values"], namespace, depth + 1)?;
                        Ok(self.add(Type::Map(values)))
                    }
                    primitive => match logical_type(primitive, json)? {
                        Some(ty) => Ok(self.add(ty)),
                        None => self.named(primitive, namespace),
                    },
                }
            }
            _ => Err("a type that is neither a name nor an object nor a list".to_string()),
        }
    }

    fn record(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<TypeId, String> {
        // Known before its fields are: they may name it.
        let id = self.define(json, namespace, Type::Record(Vec::new()))?;
        let (_, namespace) = full_name(json, namespace)?;
        let mut fields = Vec::new();
        for field in json["fields"].as_array().ok_or("a record without fields")? {
            let name = field["name"].as_str().ok_or("a field without name")?;
            let ty = field.get("type").ok_or_else(|| format!("field {name} has no type"))?;
            fields.push((name.to_string(), self.parse(ty, &namespace, depth + 1)?));
        }
        self.types[id] = Type::Record(fields);
        Ok(id)
    }

    fn define(&mut self, json: &Value, namespace: &str, ty: Type) -> Result<TypeId, String> {
        let (name, _) = full_name(json, namespace)?;
        let id = self.add(ty);
        self.names.insert(name, id);
        Ok(id)
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        let primitive = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => {
                let known = self.names.get(&format!("{namespace}.{name}")).or_else(|| self.names.get(name));
                return known.copied().ok_or_else(|| format!("type {name} is not defined"));
            }
        };
        Ok(self.add(primitive))
    }
}

/// A definition's full name and its namespace.
fn full_name(json: &Value, enclosing: &str) -> Result<(String, String), String> {
    let name = json["name"].as_str().ok_or("a named type without name")?;
    if let Some((namespace, _)) = name.rsplit_once('.') {
        return Ok((name.to_string(), namespace.to_string()));
    }
    let namespace = json["namespace"].as_str().unwrap_or(enclosing);
    Ok((if namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") }, namespace.to_string()))
}

fn logical(json: &Value) -> &str {
    json["logicalType"].as_str().unwrap_or("")
}

fn decimal(json: &Value, size: Option<usize>) -> Result<Type, String> {
    let scale = json.get("scale").map_or(Some(0), Value::as_i64).ok_or("a decimal's scale is no number")?;
    let scale = i8::try_from(scale).map_err(|_| format!("a decimal of scale {scale}"))?;
    Ok(Type::Decimal { precision: json["precision"].as_u64(), scale, size })
}

/// What a primitive with a logical type means; one that is not known means nothing.
fn logical_type(primitive: &str, json: &Value) -> Result<Option<Type>, String> {
    let instant = |per_second: i64, is_local: bool| Some(Type::Instant { per_second, is_local });
    Ok(match (primitive, logical(json)) {
        ("int", "date") => Some(Type::Date),
        ("int", "time-millis") => Some(Type::TimeOfDay { per_second: 1_000 }),
        ("long", "time-micros") => Some(Type::TimeOfDay { per_second: 1_000_000 }),
        ("long", "timestamp-millis") => instant(1_000, false),
        ("long", "timestamp-micros") => instant(1_000_000, false),
        ("long", "timestamp-nanos") => instant(1_000_000_000, false),
        ("long", "local-timestamp-millis") => instant(1_000, true),
        ("long", "local-timestamp-micros") => instant(1_000_000, true),
        ("long", "local-timestamp-nanos") => instant(1_000_000_000, true),
        ("bytes", "decimal") => Some(decimal(json, None)?),
        _ => match json["connect.name"].as_str() {
            // Debezium's own, which Avro's list lacks. It has texts for times with a zone.
            Some("io.debezium.time.Date") => Some(Type::Date),
            Some("io.debezium.time.Timestamp") => instant(1_000, true),
            Some("io.debezium.time.MicroTimestamp") => instant(1_000_000, true),
            Some("io.debezium.time.NanoTimestamp") => instant(1_000_000_000, true),
            _ => None,
        },
    })
}
