//! A declared table and the one over there: which of its columns is which, whether its types fit, and the query that asks for keys.
//! Pure; it knows no connection.

use arrow::array::timezone::Tz;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use bytes::BytesMut;
use eddyline_common::connector::{ColumnOrigin, LookupShape, SourceColumn, SourceSpec};
use eddyline_common::postgres::encode::RowFormat;
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};
use std::str::FromStr;
use std::sync::Arc;

/// The columns of a table by name, with their types; of a domain, those of the type beneath.
pub const DESCRIBE: &str = "SELECT a.attname::text, t.typname::text, t.typtype::text \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type d ON d.oid = a.atttypid \
     JOIN pg_catalog.pg_type t ON t.oid = CASE WHEN d.typtype = 'd' THEN d.typbasetype ELSE d.oid END \
     WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped";

/// Texts, and what is shown as one.
const TEXTS: &[&str] = &["text", "varchar", "bpchar", "name"];
const SHOWN_AS_TEXT: &[&str] = &["uuid", "json", "jsonb", "xml"];

/// The keys that are asked for, column by column: the text of each. Only those that a text over there can be.
pub struct Keys {
    pub texts: Vec<Vec<String>>,
    /// Which of the keys that were given each is.
    pub places: Vec<u32>,
}

/// A declared table.
pub struct Table {
    /// As it is written in queries.
    pub name: String,
    pub columns: Vec<SourceColumn>,
}

/// A column over there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As it is written in queries.
    name: String,
    /// What it is cast to, for a value of ours.
    cast: &'static str,
    /// Its values compare with those of that type as they are, so that an index on it serves.
    compares: bool,
}

impl Table {
    pub fn new(spec: &SourceSpec) -> Result<Self> {
        let of = |key: &str| spec.options.get(key).map(String::as_str).unwrap_or_default();
        let (table, schema) = (of(options::TABLE), of(options::SCHEMA));
        if table.is_empty() {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{}\" names no table", options::TABLE)));
        }
        let name = match (schema, table.split_once('.')) {
            ("", Some((schema, table))) => format!("{}.{}", quoted(schema), quoted(table)),
            ("", None) => quoted(table),
            (schema, _) => format!("{}.{}", quoted(schema), quoted(table)),
        };
        for column in &spec.columns {
            if column.origin != ColumnOrigin::Payload {
                return Err(SqlError::unsupported("a table that is looked up has no metadata"));
            }
            if over_there(&column.ty).is_none() {
                let message = format!("column \"{}\" of type {} cannot be looked up in PostgreSQL", column.external_name, column.ty);
                return Err(SqlError::unsupported(message).with_hint("Leave it out, or declare it as text."));
            }
        }
        Ok(Table { name, columns: spec.columns.clone() })
    }

    /// The column over there that is one of ours. `columns` are those that there are, as `DESCRIBE` gives them.
    pub fn find(&self, column: usize, columns: &[[String; 3]]) -> Result<Found> {
        let SourceColumn { external_name, ty, .. } = &self.columns[column];
        // A name without quotes was folded there as it is here.
        let named = |name: &str| columns.iter().find(|[there, ..]| there == name);
        let found = named(external_name).or_else(|| named(&external_name.to_lowercase()));
        let Some([name, there, kind]) = found else {
            let names: Vec<&str> = columns.iter().map(|[name, ..]| name.as_str()).collect();
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("table {} has no column \"{external_name}\"", self.name));
            return Err(match options::nearest(external_name, names.iter().copied()) {
                Some(near) => error.with_hint(format!("Perhaps you meant \"{near}\".")),
                None => error.with_detail(format!("Its columns are: {}.", names.join(", "))),
            });
        };
        let internal = || SqlError::internal("a column of a type that is not looked up");
        let (cast, accepted) = over_there(ty).ok_or_else(internal)?;
        let compares = accepted.contains(&there.as_str());
        let is_shown = *ty == SqlType::Text && (SHOWN_AS_TEXT.contains(&there.as_str()) || kind == "e");
        if !compares && !is_shown {
            let message = format!("column \"{name}\" of table {} is of type {there}, which is no {ty}", self.name);
            let error = SqlError::new(SqlState::DATATYPE_MISMATCH, message);
            return Err(match declared_as(there) {
                Some(ty) => error.with_hint(format!("Declare it as {ty}.")),
                None => error.with_hint("Leave it out, or make a view over there that casts it."),
            });
        }
        // The types of JSON compare in no index, or not at all.
        Ok(Found { name: quoted(name), cast, compares: compares && *ty != SqlType::Json })
    }
}

/// The query for a shape; `$1`, `$2`, ... are the texts of the keys by column. Its rows are the number of a key, from one on, and the
/// columns.
pub fn query(table: &str, shape: &LookupShape, found: &dyn Fn(usize) -> Result<Found>) -> Result<String> {
    let columns = shape.columns.iter().map(|column| found(*column).map(|f| format!(", t.{}::{}", f.name, f.cast)));
    let columns = columns.collect::<Result<String>>()?;
    let keys = shape.keys.iter().map(|key| found(*key)).collect::<Result<Vec<Found>>>()?;
    let lists: Vec<String> = keys.iter().enumerate().map(|(at, key)| format!("${}::text[]::{}[]", at + 1, key.cast)).collect();
    let names: Vec<String> = (1..=keys.len()).map(|at| format!("k{at}")).collect();
    let equal = |(at, key): (usize, &Found)| {
        let cast = if key.compares { String::new() } else { format!("::{}", key.cast) };
        format!("t.{}{cast} = k.k{}", key.name, at + 1)
    };
    let condition: Vec<String> = keys.iter().enumerate().map(equal).collect();
    Ok(format!(
        "SELECT k.n{columns} FROM unnest({}) WITH ORDINALITY AS k ({}, n) JOIN {table} AS t ON {}",
        lists.join(", "),
        names.join(", "),
        condition.join(" AND ")
    ))
}

/// What a type of ours is called over there, and the types whose values it can hold.
fn over_there(ty: &SqlType) -> Option<(&'static str, &'static [&'static str])> {
    let (cast, accepted): (&'static str, &'static [&'static str]) = match ty {
        SqlType::Boolean => ("bool", &["bool"]),
        SqlType::SmallInt => ("int2", &["int2"]),
        SqlType::Integer => ("int4", &["int2", "int4"]),
        SqlType::BigInt => ("int8", &["int2", "int4", "int8"]),
        SqlType::Real => ("float4", &["float4"]),
        SqlType::Double => ("float8", &["float4", "float8"]),
        SqlType::Decimal { .. } => ("numeric", &["int2", "int4", "int8", "numeric"]),
        SqlType::Text => ("text", TEXTS),
        SqlType::Json => ("text", &["json", "jsonb"]),
        SqlType::Bytes => ("bytea", &["bytea"]),
        SqlType::Date => ("date", &["date"]),
        SqlType::Time => ("time", &["time"]),
        SqlType::Timestamp => ("timestamp", &["timestamp"]),
        SqlType::TimestampTz => ("timestamptz", &["timestamptz"]),
        SqlType::Interval => ("interval", &["interval"]),
        SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Uuid
        | SqlType::Array(_)
        | SqlType::Struct(_)
        | SqlType::Map(_, _)
        | SqlType::Null => return None,
    };
    Some((cast, accepted))
}

/// How a column of a type over there can be declared.
fn declared_as(there: &str) -> Option<&'static str> {
    Some(match there {
        "bool" => "BOOLEAN",
        "int2" => "SMALLINT",
        "int4" => "INT",
        "int8" => "BIGINT",
        "float4" => "REAL",
        "float8" => "DOUBLE PRECISION",
        "numeric" => "DECIMAL(p, s)",
        "bytea" => "BYTES",
        "date" => "DATE",
        "time" => "TIME",
        "timestamp" => "TIMESTAMP",
        "timestamptz" => "TIMESTAMP_LTZ",
        "interval" => "INTERVAL",
        _ if TEXTS.contains(&there) || SHOWN_AS_TEXT.contains(&there) => "STRING",
        _ => return None,
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The texts of keys, none of which is null. A text with a zero byte is none over there, so nothing equals it.
pub fn text_of_keys(keys: &[ArrayRef], types: &[SqlType]) -> Result<Keys> {
    let fields: Vec<_> = types.iter().enumerate().map(|(at, ty)| ty.field(&format!("k{at}"), false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), keys.to_vec())?;
    let zone = Tz::from_str("+00:00").map_err(SqlError::internal)?;
    let format = RowFormat::text(schema, zone);
    let writer = format.bind(&batch)?;
    let writers = writer.text_writers();
    let mut found = Keys { texts: vec![Vec::with_capacity(batch.num_rows()); types.len()], places: Vec::with_capacity(batch.num_rows()) };
    let mut buffer = BytesMut::new();
    for row in 0..batch.num_rows() {
        let mut texts = Vec::with_capacity(types.len());
        for writer in &writers {
            buffer.clear();
            writer.text(row, &mut buffer);
            texts.push(String::from_utf8_lossy(&buffer).into_owned());
        }
        if texts.iter().any(|text| text.contains('\0')) {
            continue;
        }
        found.places.push(row as u32);
        found.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Int64Array, StringArray};
    use std::collections::BTreeMap;

    fn table(columns: &[(&str, SqlType)]) -> Result<Table> {
        let column = |(name, ty): &(&str, SqlType)| SourceColumn {
            external_name: name.to_string(),
            ty: ty.clone(),
            nullable: true,
            length: None,
            origin: ColumnOrigin::Payload,
        };
        let options = BTreeMap::from([(options::TABLE.to_string(), "shop.customers".to_string())]);
        Table::new(&SourceSpec { name: "c".to_string(), options, columns: columns.iter().map(column).collect(), key: vec![] })
    }

    fn there(columns: &[(&str, &str, &str)]) -> Vec<[String; 3]> {
        columns.iter().map(|(name, ty, kind)| [name.to_string(), ty.to_string(), kind.to_string()]).collect()
    }

    #[test]
    fn a_query_asks_for_many_keys_and_says_whose_each_row_is() {
        let table = table(&[("ID", SqlType::BigInt), ("region", SqlType::Text), ("name", SqlType::Text)]).unwrap();
        let columns = there(&[("id", "int4", "b"), ("region", "uuid", "b"), ("name", "varchar", "b"), ("more", "point", "b")]);
        let shape = LookupShape { keys: vec![0, 1], columns: vec![2, 0] };
        let query = query(&table.name, &shape, &|column| table.find(column, &columns)).unwrap();
        assert_eq!(
            query,
            "SELECT k.n, t.\"name\"::text, t.\"id\"::int8 \
             FROM unnest($1::text[]::int8[], $2::text[]::text[]) WITH ORDINALITY AS k (k1, k2, n) \
             JOIN \"shop\".\"customers\" AS t ON t.\"id\" = k.k1 AND t.\"region\"::text = k.k2"
        );
    }

    #[test]
    fn what_is_not_as_declared_is_named() {
        let declared = [("id", SqlType::Integer), ("nmae", SqlType::Text), ("mood", SqlType::Text), ("born", SqlType::Timestamp)];
        let table = table(&declared).unwrap();
        let columns = there(&[("id", "int8", "b"), ("name", "text", "b"), ("mood", "mood", "e"), ("born", "timestamptz", "b")]);
        let found = |column: usize| table.find(column, &columns);
        let narrow = found(0).unwrap_err();
        assert_eq!((narrow.state, narrow.hint.as_deref()), (SqlState::DATATYPE_MISMATCH, Some("Declare it as BIGINT.")));
        let missing = found(1).unwrap_err();
        assert_eq!((missing.state, missing.hint.as_deref()), (SqlState::UNDEFINED_COLUMN, Some("Perhaps you meant \"name\".")));
        assert!(!found(2).unwrap().compares, "an enum is shown as text and has no equality with it");
        assert_eq!(found(3).unwrap_err().state, SqlState::DATATYPE_MISMATCH);
    }

    #[test]
    fn types_without_a_counterpart_are_refused_at_once() {
        let array = SqlType::Array(Box::new(SqlType::Integer));
        assert_eq!(table(&[("tags", array)]).err().map(|e| e.state), Some(SqlState::FEATURE_NOT_SUPPORTED));
    }

    #[test]
    fn keys_are_sent_as_texts() {
        let keys: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, -2, 3])),
            Arc::new(StringArray::from(vec!["a", "x\0y", "é'\""])),
            Arc::new(Date32Array::from(vec![0, 1, 2])),
        ];
        let found = text_of_keys(&keys, &[SqlType::BigInt, SqlType::Text, SqlType::Date]).unwrap();
        assert_eq!(found.places, [0, 2]);
        assert_eq!(found.texts, [["1", "3"], ["a", "é'\""], ["1970-01-01", "1970-01-03"]]);
    }
}
