//! Values there and back: what the encoder writes, the decoder and tokio-postgres read as the same value, in text
//! and in binary, for every type.

use super::extended::parameter;
use crate::session::settings::utc;
use arrow::array::timezone::Tz;
use arrow::array::*;
use arrow::datatypes::{Field, Schema};
use bytes::{Buf, BytesMut};
use eddyline_common::SqlType;
use eddyline_common::postgres::decode::ColumnBuilder;
use eddyline_common::postgres::encode::{Format, RowFormat};
use eddyline_common::postgres::types;
use eddyline_planner::casts::constant;
use std::sync::Arc;
use tokio_postgres::types::{FromSql, Type};

/// The fields of the one `DataRow` that an array of one value gives.
fn encoded(array: ArrayRef, ty: &SqlType, format: Format) -> Option<Vec<u8>> {
    let schema = Arc::new(Schema::new(vec![ty.field("x", true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
    let row_format = RowFormat { schema, formats: vec![format], zone: utc() };
    let mut out = BytesMut::new();
    assert_eq!(row_format.bind(&batch).unwrap().write_rows(0, 1, usize::MAX, &mut out).unwrap(), 1);
    assert_eq!(out.get_u8(), b'D');
    assert_eq!(out.get_i32() as usize, out.len() + 4);
    assert_eq!(out.get_i16(), 1);
    let length = out.get_i32();
    (length >= 0).then(|| out.to_vec())
}

fn from_text(text: &str, ty: &SqlType) -> ArrayRef {
    let mut builder = ColumnBuilder::new(ty).unwrap();
    builder.append_text(text).unwrap();
    builder.finish().unwrap()
}

/// Text in, the same text out; and through the binary form back to the same value.
fn round_trip(ty: &SqlType, text: &str) {
    shown_as(ty, text, text);
}

fn shown_as(ty: &SqlType, text: &str, shown: &str) {
    let value = from_text(text, ty);
    let as_text = encoded(value.clone(), ty, Format::Text).unwrap();
    assert_eq!(String::from_utf8(as_text).unwrap(), shown, "{ty} {text}");
    let binary = encoded(value.clone(), ty, Format::Binary).unwrap();
    let back = parameter(Some(&binary), true, ty, utc()).unwrap();
    assert_eq!(back, constant(&value).unwrap(), "{ty} {text}");
}

/// A time that names no zone is one of the session's, as a parameter, in an array, in a place that had a time of its own, and where the clock is put forward.
#[test]
fn times_without_a_zone_are_in_the_sessions() {
    let zone: Tz = "Europe/Berlin".parse().unwrap();
    let times = SqlType::Array(Box::new(SqlType::TimestampTz));
    for (ty, text, utc) in [
        (&SqlType::TimestampTz, "2024-01-01 00:00:00", "2023-12-31 23:00:00+00"),
        (&SqlType::TimestampTz, "2024-01-01 00:00:00Z", "2024-01-01 00:00:00+00"),
        (&SqlType::TimestampTz, "2024-03-31 02:30", "2024-03-31 01:30:00+00"),
        (&SqlType::TimestampTz, "infinity", "infinity"),
        (&times, "{2024-07-01}", "{\"2024-06-30 22:00:00+00\"}"),
    ] {
        assert_eq!(parameter(Some(text.as_bytes()), false, ty, zone).unwrap(), constant(&from_text(utc, ty)).unwrap(), "{text}");
    }
    let mut shown = BytesMut::new();
    eddyline_common::postgres::text::timestamptz(-2_840_140_800_000_000, &zone, &mut shown);
    assert_eq!(shown, "1880-01-01 00:53:28+00:53:28");
}

/// An array whose own field says nothing of its items is written as what was declared.
#[test]
fn items_are_what_was_declared() {
    let (plain, uuids) = (SqlType::Array(Box::new(SqlType::Text)), SqlType::Array(Box::new(SqlType::Uuid)));
    let text = "{00000000-0000-0000-0000-000000000001}";
    let array = from_text(text, &plain);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![plain.field("x", true)])), vec![array]).unwrap();
    let schema = Arc::new(Schema::new(vec![uuids.field("x", true)]));
    let row_format = RowFormat { schema, formats: vec![Format::Binary], zone: utc() };
    let mut out = BytesMut::new();
    row_format.bind(&batch).unwrap().write_rows(0, 1, usize::MAX, &mut out).unwrap();
    // A message's head: its type, its length, the count of fields, the field's length.
    assert_eq!(out[11..].to_vec(), encoded(from_text(text, &uuids), &uuids, Format::Binary).unwrap());
}

fn decimal(precision: u8, scale: i8) -> SqlType {
    SqlType::Decimal { precision, scale }
}

#[test]
fn every_type_goes_there_and_back() {
    let int_array = SqlType::Array(Box::new(SqlType::Integer));
    let text_array = SqlType::Array(Box::new(SqlType::Text));
    for (ty, texts) in [
        (SqlType::Boolean, vec!["t", "f"]),
        (SqlType::SmallInt, vec!["0", "-32768", "32767"]),
        (SqlType::Integer, vec!["0", "-2147483648", "2147483647"]),
        (SqlType::BigInt, vec!["0", "-9223372036854775808", "9223372036854775807"]),
        (SqlType::Real, vec!["0", "-0", "1.5", "1e+06", "999999", "0.1", "1e-05", "NaN", "Infinity", "-Infinity"]),
        (SqlType::Double, vec!["0.1", "1e+15", "100000000000000", "123456789012345", "0.0001", "1e-05", "5e-324", "-2.5"]),
        (decimal(38, 9), vec!["0.000000000", "1.500000000", "-99999999999999999999999999999.999999999", "0.000000001"]),
        (decimal(10, 2), vec!["12345678.90", "-0.05", "0.00", "10000.00", "9999.99"]),
        (decimal(38, 0), vec!["99999999999999999999999999999999999999", "10000", "-1", "0"]),
        (decimal(12, 3), vec!["0.001", "123456789.125", "1.000"]),
        (SqlType::Text, vec!["", "abc", "naïve ✓", "a\tb"]),
        (SqlType::Bytes, vec!["\\x", "\\x00ff10"]),
        (SqlType::Date, vec!["1970-01-01", "2000-02-29", "0044-03-15", "9999-12-31"]),
        (SqlType::Time, vec!["00:00:00", "23:59:59.999999", "12:30:00.5"]),
        (SqlType::Timestamp, vec!["1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "2024-02-29 12:34:56.78"]),
        (SqlType::TimestampTz, vec!["2024-02-29 12:34:56.78+00"]),
        (SqlType::Interval, vec!["1 year 2 mons 3 days 04:05:06.789", "00:00:00", "-1 days +02:00:00", "1 day", "-00:00:01"]),
        (SqlType::Json, vec!["{\"a\": [1, null]}"]),
        (int_array, vec!["{}", "{1,NULL,3}"]),
        (text_array, vec!["{a,\"b c\",\"\",NULL,\"NULL\",\"x\\\"y\\\\z\"}"]),
    ] {
        texts.into_iter().for_each(|text| round_trip(&ty, text));
    }
}

#[test]
fn other_spellings_are_understood() {
    shown_as(&SqlType::Boolean, "yes", "t");
    shown_as(&decimal(10, 2), "1.005", "1.01");
    shown_as(&decimal(10, 2), "-1.005e1", "-10.05");
    shown_as(&decimal(5, 0), "0.5", "1");
    shown_as(&SqlType::TimestampTz, "2024-01-01T02:00:00+02:00", "2024-01-01 00:00:00+00");
    shown_as(&SqlType::TimestampTz, "2024-01-01", "2024-01-01 00:00:00+00");
    shown_as(&SqlType::Timestamp, "2024-01-01T00:00:00Z", "2024-01-01 00:00:00");
    shown_as(&SqlType::Bytes, "a\\\\b\\001", "\\x615c6201");
    shown_as(&SqlType::Date, "20240229", "2024-02-29");
    shown_as(&SqlType::Date, "2024-02-29 12:00 Europe/Berlin", "2024-02-29");
    round_trip(&SqlType::Date, "0044-03-15 BC");
    round_trip(&SqlType::Timestamp, "0001-01-01 12:00:00 BC");
    shown_as(&SqlType::TimestampTz, "2024-01-01 00:00 America/New_York", "2024-01-01 05:00:00+00");
    shown_as(&SqlType::TimestampTz, "1880-01-01 00:53:28+00:53:28", "1880-01-01 00:00:00+00");
}

#[test]
fn what_does_not_fit_is_refused_by_state() {
    let state = |text: &str, ty: &SqlType| ColumnBuilder::new(ty).unwrap().append_text(text).unwrap_err().state.0;
    assert_eq!(state("12a", &SqlType::Integer), "22P02");
    assert_eq!(state("", &SqlType::Integer), "22P02");
    assert_eq!(state("3000000000", &SqlType::Integer), "22003");
    assert_eq!(state("1e400", &SqlType::Double), "22003");
    assert_eq!(state("100000000", &decimal(10, 2)), "22003");
    assert_eq!(state("1.2.3", &decimal(10, 2)), "22P02");
    assert_eq!(state("2024-02-30", &SqlType::Date), "22008");
    assert_eq!(state("2024-01-01 someday", &SqlType::Date), "22007");
    assert_eq!(state("0000-01-01", &SqlType::Date), "22008");
    assert_eq!(state("2024-01-01 00:00+16", &SqlType::TimestampTz), "22008");
    assert_eq!(state("someday", &SqlType::Timestamp), "22007");
    let integers = SqlType::Array(Box::new(SqlType::Integer));
    assert_eq!(state("{1", &integers), "22P02");
    let nested = ColumnBuilder::new(&integers).unwrap().append_text("{{1},{2}}").unwrap_err();
    assert!(nested.hint.is_some_and(|hint| hint.contains("integer[][]")));
    assert_eq!(state("{\"a\":}", &SqlType::Json), "22P02");
    assert_eq!(parameter(Some(&[1, 2, 3]), true, &SqlType::Integer, utc()).unwrap_err().state.0, "22P03");
    assert_eq!(parameter(Some(&[0xFF]), false, &SqlType::Text, utc()).unwrap_err().state.0, "22021");
}

#[test]
fn tokio_postgres_reads_the_binary_form() {
    fn read<T: for<'a> FromSql<'a>>(text: &str, ty: &SqlType, pg: Type) -> T {
        let bytes = encoded(from_text(text, ty), ty, Format::Binary).unwrap();
        T::from_sql(&pg, &bytes).unwrap()
    }
    assert!(read::<bool>("t", &SqlType::Boolean, Type::BOOL));
    assert_eq!(read::<i16>("-5", &SqlType::SmallInt, Type::INT2), -5);
    assert_eq!(read::<i32>("77", &SqlType::Integer, Type::INT4), 77);
    assert_eq!(read::<i64>("-9000000000", &SqlType::BigInt, Type::INT8), -9_000_000_000);
    assert_eq!(read::<f32>("1.25", &SqlType::Real, Type::FLOAT4), 1.25);
    assert_eq!(read::<f64>("-0.1", &SqlType::Double, Type::FLOAT8), -0.1);
    assert_eq!(read::<String>("häuser", &SqlType::Text, Type::TEXT), "häuser");
    assert_eq!(read::<Vec<u8>>("\\x0102", &SqlType::Bytes, Type::BYTEA), vec![1, 2]);
    let list = SqlType::Array(Box::new(SqlType::BigInt));
    assert_eq!(read::<Vec<Option<i64>>>("{1,NULL}", &list, Type::INT8_ARRAY), vec![Some(1), None]);
    // PostgreSQL has the length of each dimension in front, and items of arrays alone behind them.
    let table = SqlType::Array(Box::new(SqlType::Array(Box::new(SqlType::SmallInt))));
    let bytes = encoded(from_text("{{1,2},{3,NULL}}", &table), &table, Format::Binary).unwrap();
    let words = [0, 2, 0, 1, 0, 21, 0, 2, 0, 1, 0, 2, 0, 1, 0, 2, 1, 0, 2, 2, 0, 2, 3, u16::MAX, u16::MAX];
    assert_eq!(bytes, words.map(u16::to_be_bytes).concat());
    ["{{1,2},{3,NULL}}", "{{1},{2,3}}", "{{1},NULL}", "{}"].iter().for_each(|text| round_trip(&table, text));
    let endless = [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 21, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    assert_eq!(parameter(Some(&endless), true, &table, utc()).unwrap_err().state.0, "22P03");
    let texts = SqlType::Array(Box::new(SqlType::Text));
    assert_eq!(read::<Vec<String>>("{a,\"b,c\"}", &texts, Type::TEXT_ARRAY), vec!["a", "b,c"]);
    let at = read::<std::time::SystemTime>("2024-01-01 00:00:00.5", &SqlType::Timestamp, Type::TIMESTAMP);
    assert_eq!(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros(), 1_704_067_200_500_000);
}

#[test]
fn infinite_times_have_bytes_of_their_own() {
    for (text, day, time) in [("infinity", i32::MAX, i64::MAX), ("-infinity", i32::MIN, i64::MIN)] {
        let binary = |ty: &SqlType| encoded(from_text(text, ty), ty, Format::Binary).unwrap();
        assert_eq!(binary(&SqlType::Date), day.to_be_bytes());
        assert_eq!(binary(&SqlType::Timestamp), time.to_be_bytes());
        [SqlType::Date, SqlType::Timestamp, SqlType::TimestampTz].iter().for_each(|ty| round_trip(ty, text));
    }
    let beyond = i32::MAX - 1;
    assert_eq!(parameter(Some(&beyond.to_be_bytes()), true, &SqlType::Date, utc()).unwrap_err().state.0, "22008");
}

#[test]
fn nulls_have_no_bytes() {
    for ty in [SqlType::Integer, SqlType::Text, SqlType::Null, SqlType::Array(Box::new(SqlType::Text))] {
        let mut builder = ColumnBuilder::new(&ty).unwrap();
        builder.append_null();
        assert_eq!(encoded(builder.finish().unwrap(), &ty, Format::Text), None);
    }
    assert_eq!(types::oid_of(&SqlType::Null), types::TEXT);
}

#[test]
fn foreign_arrow_forms_are_brought_home() {
    let show = |array: ArrayRef| {
        let schema = Arc::new(Schema::new(vec![Field::new("x", array.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
        let format = RowFormat::text(schema, utc());
        let mut out = BytesMut::new();
        format.bind(&batch).unwrap().write_rows(0, 1, usize::MAX, &mut out).unwrap();
        String::from_utf8(out[11..].to_vec()).unwrap()
    };
    assert_eq!(show(Arc::new(StringViewArray::from(vec!["view"]))), "view");
    assert_eq!(show(Arc::new(UInt64Array::from(vec![i64::MAX as u64]))), "9223372036854775807");
    assert_eq!(show(Arc::new(UInt32Array::from(vec![7]))), "7");
    assert_eq!(show(Arc::new(TimestampNanosecondArray::from(vec![1_500_000_000]))), "1970-01-01 00:00:01.5");
    assert_eq!(show(Arc::new(DurationMillisecondArray::from(vec![1500]))), "00:00:01.5");
}

#[test]
fn a_value_beyond_its_sql_type_is_an_error() {
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    let schema = Arc::new(Schema::new(vec![Field::new("x", column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    assert!(RowFormat::text(schema, utc()).bind(&batch).is_err());
}

#[test]
fn records_and_maps_have_text_forms() {
    let fields = vec![("a".to_string(), SqlType::Integer), ("b".to_string(), SqlType::Text)];
    let ty = SqlType::Struct(fields);
    let arrow::datatypes::DataType::Struct(inner) = ty.to_arrow() else { panic!("a struct") };
    let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![Some(1)])), Arc::new(StringArray::from(vec![Some("x, y")]))];
    let record: ArrayRef = Arc::new(StructArray::new(inner, columns, None));
    assert_eq!(encoded(record, &ty, Format::Text).unwrap(), b"(1,\"x, y\")");
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k\"");
    map.values().append_value(1);
    map.append(true).unwrap();
    let map: ArrayRef = Arc::new(map.finish());
    let schema = Arc::new(Schema::new(vec![Field::new("x", map.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![map]).unwrap();
    let mut out = BytesMut::new();
    RowFormat::text(schema, utc()).bind(&batch).unwrap().write_rows(0, 1, usize::MAX, &mut out).unwrap();
    assert_eq!(&out[11..], b"{\"k\\\"\": 1}");
}

/// A row is never cut: the writer stops between rows once the buffer is full.
#[test]
fn writing_stops_between_rows() {
    let schema = Arc::new(Schema::new(vec![SqlType::Text.field("x", true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(StringArray::from(vec!["0123456789"; 10]))]).unwrap();
    let format = RowFormat::text(schema, utc());
    let bound = format.bind(&batch).unwrap();
    let mut out = BytesMut::new();
    let first = bound.write_rows(0, 10, 30, &mut out).unwrap();
    assert!(first < 10 && first > 0);
    assert_eq!(bound.write_rows(first, 10 - first, usize::MAX, &mut out).unwrap(), 10 - first);
    assert_eq!(out.len(), 10 * (1 + 4 + 2 + 4 + 10));
}
