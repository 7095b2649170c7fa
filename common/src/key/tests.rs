//! Tests of the key encoding.

use super::*;
use proptest::prelude::*;

fn round_trip(columns: Vec<ArrayRef>) -> KeyRows {
    let codec = KeyCodec::new(columns.iter().map(|c| c.data_type().clone()).collect()).unwrap();
    let mut rows = KeyRows::default();
    codec.encode(&columns, columns[0].len(), &mut rows);
    let back = codec.decode(rows.iter()).unwrap();
    assert_eq!(columns, back);
    rows
}

proptest! {
    #[test]
    fn integers_and_text_round_trip_in_order(rows in prop::collection::vec((any::<Option<i64>>(), any::<Option<String>>()), 1..50)) {
        let mut sorted = rows.clone();
        sorted.sort();
        let keys = round_trip(vec![
            Arc::new(Int64Array::from_iter(sorted.iter().map(|r| r.0))),
            Arc::new(StringArray::from_iter(sorted.iter().map(|r| r.1.clone()))),
        ]);
        for pair in 1..keys.len() {
            prop_assert!(keys.row(pair - 1) <= keys.row(pair));
        }
    }

    #[test]
    fn floats_order_like_postgres(mut values in prop::collection::vec(any::<f64>(), 1..50)) {
        values.sort_by(|a, b| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
        let codec = KeyCodec::new(vec![DataType::Float64]).unwrap();
        let mut keys = KeyRows::default();
        codec.encode(&[Arc::new(Float64Array::from(values.clone()))], values.len(), &mut keys);
        for pair in 1..keys.len() {
            prop_assert!(keys.row(pair - 1) <= keys.row(pair));
        }
    }
}

#[test]
fn maps_are_part_of_whole_rows_only() {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for entries in [Some(vec![("b", Some(1)), ("a", None)]), None, Some(vec![]), Some(vec![("b", Some(1)), ("a", None)])] {
        for (key, value) in entries.iter().flatten() {
            maps.keys().append_value(key);
            maps.values().append_option(*value);
        }
        maps.append(entries.is_some()).unwrap();
    }
    let maps: ArrayRef = Arc::new(maps.finish());
    let ty = maps.data_type().clone();
    assert_eq!(KeyCodec::new(vec![ty.clone()]).unwrap_err().state.0, "0A000");
    let codec = KeyCodec::rows(vec![ty]).unwrap();
    let mut keys = KeyRows::default();
    codec.encode(std::slice::from_ref(&maps), 4, &mut keys);
    assert_eq!(codec.decode(keys.iter()).unwrap(), vec![maps]);
    assert_eq!(keys.row(0), keys.row(3));
    assert_ne!(keys.row(1), keys.row(2));
}

/// A value of every kind, and a null.
fn every_type() -> Vec<ArrayRef> {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    let st = StructArray::from(vec![(
        Arc::new(Field::new("a", DataType::Int32, true)),
        Arc::new(Int32Array::from(vec![Some(-3), None])) as ArrayRef,
    )]);
    vec![
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Int16Array::from(vec![Some(-7), None])),
        Arc::new(Int32Array::from(vec![Some(i32::MIN), None])),
        Arc::new(Date32Array::from(vec![Some(-1), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None]).with_timezone("+00:00")),
        Arc::new(Float32Array::from(vec![Some(-1.5), None])),
        Arc::new(Decimal128Array::from(vec![Some(-123), None]).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255, 0][..]), None])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![Some(IntervalMonthDayNano::new(-1, 2, -3)), None])),
        Arc::new(list),
        Arc::new(st),
    ]
}

#[test]
fn every_type_round_trips() {
    round_trip(every_type());
}

#[test]
fn an_order_says_where_its_first_column_ends() {
    let mut columns = every_type();
    let texts = [vec!["", "a"], vec!["a\0b", "\0"], vec!["\0\0", "\u{ff}\0"]];
    columns.extend(texts.map(|texts| Arc::new(StringArray::from(texts)) as ArrayRef));
    let lists = [Some(vec![]), Some(vec![None, Some(0), None])];
    columns.push(Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)));
    let integers: ArrayRef = Arc::new(Int64Array::from(vec![1, 1]));
    for (first, descending) in columns.iter().flat_map(|first| [(first, false), (first, true)]) {
        let direction = ColumnOrder { descending, nulls_first: descending };
        let encoded = |columns: &[ArrayRef]| {
            let codec = OrderCodec::new(columns.iter().map(|c| (c.data_type().clone(), direction)).collect()).unwrap();
            let mut keys = KeyRows::default();
            codec.encode(columns, 2, &mut keys);
            (codec, keys)
        };
        let ((_, alone), (codec, both)) = (encoded(std::slice::from_ref(first)), encoded(&[first.clone(), integers.clone()]));
        for row in 0..2 {
            let len = alone.row(row).len();
            assert_eq!(codec.first_len(both.row(row)).unwrap(), len, "{first:?} {descending}");
            assert!((0..len).all(|cut| codec.first_len(&both.row(row)[..cut]).is_err()), "{first:?} {descending} is cut off");
        }
    }
}

#[test]
fn damage_is_an_error() {
    let codec = KeyCodec::new(vec![DataType::Int64]).unwrap();
    assert!(codec.decode([&[VALUE, 1, 2][..]].into_iter()).is_err());
    assert!(codec.decode([&[NULL, 9][..]].into_iter()).is_err());
}

#[test]
fn orders_compare_as_order_by_does() {
    let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("ab"), Some("b\0c"), Some(""), None]));
    let sorted = |descending, nulls_first| {
        let codec = OrderCodec::new(vec![(DataType::Utf8, ColumnOrder { descending, nulls_first })]).unwrap();
        let mut keys = KeyRows::default();
        codec.encode(std::slice::from_ref(&values), values.len(), &mut keys);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| keys.row(*a).cmp(keys.row(*b)));
        order
    };
    assert_eq!(sorted(false, false), [3, 0, 1, 2, 4]);
    assert_eq!(sorted(false, true), [4, 3, 0, 1, 2]);
    assert_eq!(sorted(true, true), [4, 2, 1, 0, 3]);
    assert_eq!(sorted(true, false), [2, 1, 0, 3, 4]);
}

#[test]
fn nulls_within_lists_are_larger_than_everything() {
    let list = |items: &[Option<i32>]| Some(items.to_vec());
    let values = [list(&[Some(1), None]), list(&[Some(1), Some(2)]), list(&[None, Some(1)]), None, list(&[Some(1)]), list(&[])];
    let values: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(values));
    let sorted = |descending| {
        let order = ColumnOrder { descending, nulls_first: descending };
        let codec = OrderCodec::new(vec![(values.data_type().clone(), order)]).unwrap();
        let mut keys = KeyRows::default();
        codec.encode(std::slice::from_ref(&values), values.len(), &mut keys);
        assert!(keys.iter().all(|key| codec.first_len(key).unwrap() == key.len()));
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| keys.row(*a).cmp(keys.row(*b)));
        order
    };
    assert_eq!(sorted(false), [5, 4, 1, 0, 2, 3]);
    assert_eq!(sorted(true), [3, 2, 0, 1, 4, 5]);
}

#[test]
fn exact_floats_keep_their_bits() {
    let values = Float64Array::from(vec![-0.0, 0.0, f64::NAN, -f64::NAN, f64::INFINITY, -1.5]);
    let codec = KeyCodec::exact(vec![DataType::Float64]).unwrap();
    let mut keys = KeyRows::default();
    codec.encode(&[Arc::new(values.clone())], values.len(), &mut keys);
    let back = codec.decode(keys.iter()).unwrap();
    let bits = |array: &Float64Array| array.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(back[0].as_primitive()), bits(&values));
    assert!(keys.row(0) < keys.row(1));
}
