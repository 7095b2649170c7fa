//! Flink's functions of maps. In a map of ours no key is there twice.

use super::native::{Arg, Memo, Native, no_such_function, texts};
use super::regexes::compiled;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, MapArray, MapBuilder, MapFieldNames, StringBuilder, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{cast, interleave};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use eddyline_common::{SqlError, SqlType};
use regex::Regex;
use std::collections::HashMap;
use std::sync::Arc;

pub const FUNCTIONS: &[Native] = &[
    Native::total("map_union", &[Arg::Any], &[Arg::Any; 63], first_type, union),
    Native::total("str_to_map", &[Arg::Text], &[Arg::Text, Arg::Text], map_of_texts, str_to_map),
];

fn map_of_texts(_: &[DataType]) -> SqlType {
    SqlType::Map(Box::new(SqlType::Text), Box::new(SqlType::Text))
}

/// The type of the first argument that has one.
fn first_type(types: &[DataType]) -> SqlType {
    types.iter().find(|ty| !ty.is_null()).and_then(SqlType::from_arrow).unwrap_or(SqlType::Null)
}

/// `MAP_UNION(map, ...)`: of a key that several have the last one's value.
fn union(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let ty = first_type(&args.iter().map(|a| a.data_type().clone()).collect::<Vec<_>>()).to_arrow();
    let DataType::Map(field, _) = &ty else { return Err(mismatch(args)) };
    let DataType::Struct(fields) = field.data_type() else { return Err(mismatch(args)) };
    let maps = args.iter().map(|a| a.as_map_opt().ok_or_else(|| mismatch(args))).collect::<Result<Vec<_>, _>>()?;
    let keys = maps.iter().map(|map| cast(map.keys(), fields[0].data_type())).collect::<Result<Vec<_>, _>>()?;
    let values = maps.iter().map(|map| cast(map.values(), fields[1].data_type())).collect::<Result<Vec<_>, _>>()?;
    let converter = RowConverter::new(vec![SortField::new(fields[0].data_type().clone())])?;
    let compared = keys.iter().map(|keys| converter.convert_columns(std::slice::from_ref(keys))).collect::<Result<Vec<_>, _>>()?;
    let (mut chosen, mut lengths, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..args[0].len() {
        let (before, mut places) = (chosen.len(), HashMap::new());
        let is_known = maps.iter().all(|map| map.is_valid(row));
        for (of, map) in maps.iter().enumerate().filter(|_| is_known) {
            for at in map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize {
                let place = *places.entry(compared[of].row(at)).or_insert(chosen.len());
                match chosen.get_mut(place) {
                    Some(entry) => *entry = (of, at),
                    None => chosen.push((of, at)),
                }
            }
        }
        lengths.push(chosen.len() - before);
        known.push(is_known);
    }
    let gathered = |columns: &[ArrayRef]| interleave(&columns.iter().map(|c| c.as_ref()).collect::<Vec<&dyn Array>>(), &chosen);
    let entries = StructArray::try_new(fields.clone(), vec![gathered(&keys)?, gathered(&values)?], None)?;
    let nulls = Some(NullBuffer::from(known));
    Ok(Arc::new(MapArray::try_new(field.clone(), OffsetBuffer::from_lengths(lengths), entries, nulls, false)?))
}

fn mismatch(args: &[ArrayRef]) -> SqlError {
    no_such_function("map_union", &args.iter().map(|a| a.data_type().clone()).collect::<Vec<_>>())
}

/// `STR_TO_MAP(text [, between pairs [, between key and value]])`: both are regular expressions, of which a comma and an equals sign go without saying.
/// What has no value gets a null.
fn str_to_map(args: &[ArrayRef]) -> Result<ArrayRef, SqlError> {
    let values = texts(&args[0]);
    let (pairs, sides) = (args.get(1).map(texts), args.get(2).map(texts));
    let (mut of_pairs, mut of_sides) = (Memo::new(), Memo::new());
    let names = MapFieldNames { entry: "entries".to_string(), key: "keys".to_string(), value: "values".to_string() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..values.len() {
        if args.iter().any(|a| a.is_null(row)) {
            builder.append(false)?;
            continue;
        }
        let of_pairs: &Regex = of_pairs.get(pairs.map_or(",", |p| p.value(row)), compiled)?;
        let of_sides: &Regex = of_sides.get(sides.map_or("=", |s| s.value(row)), compiled)?;
        for (key, value) in entries(values.value(row), of_pairs, of_sides) {
            builder.keys().append_value(key);
            builder.values().append_option(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// The entries in a text, by the place of their key's first one. Java leaves out empty pairs at the end.
fn entries<'t>(text: &'t str, of_pairs: &Regex, of_sides: &Regex) -> Vec<(&'t str, Option<&'t str>)> {
    let mut pairs: Vec<&str> = of_pairs.split(text).collect();
    while pairs.last().is_some_and(|pair| pair.is_empty()) {
        pairs.pop();
    }
    let (mut entries, mut places) = (Vec::new(), HashMap::new());
    for pair in pairs {
        let mut sides = of_sides.splitn(pair, 2);
        let entry = (sides.next().unwrap_or_default(), sides.next());
        let place = *places.entry(entry.0).or_insert(entries.len());
        match entries.get_mut(place) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_entries_as_in_flink() {
        let of = |text, pairs, sides| entries(text, &compiled(pairs).unwrap(), &compiled(sides).unwrap());
        assert_eq!(of("k1=v1,k2=v2", ",", "="), [("k1", Some("v1")), ("k2", Some("v2"))]);
        assert_eq!(of("k1:v1;k2; k3:v3:x;;", ";", ":"), [("k1", Some("v1")), ("k2", None), (" k3", Some("v3:x"))]);
        assert_eq!(of("a=1,b=2,a=3", ",", "="), [("a", Some("3")), ("b", Some("2"))]);
        assert_eq!(of("a$$b::c$$d", r"\$\$", "::"), [("a", None), ("b", Some("c")), ("d", None)]);
        assert!(of("", ",", "=").is_empty());
    }
}
