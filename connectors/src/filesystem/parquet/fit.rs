//! From the types of a Parquet file to those that a source declares. Values keep their meaning: what could lose some of it (a
//! fraction in an integer) is refused for the file, and what a single value does not fit (300 in a smallint of three digits) for its
//! row. Nested values are taken apart, so that fields go by name and a bad value within finds its row.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StringArray, StructArray, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Fields, TimeUnit};
use eddyline_common::{Result, SqlError, SqlType};
use std::sync::Arc;

/// How the values of one column are brought to their type.
pub struct Fit {
    /// Before anything else: dictionaries and views are spread out, lists have narrow offsets.
    plain: DataType,
    step: Step,
    /// Texts hold no NUL, and are not refused for it: whoever reads no texts need not look.
    is_text: bool,
}

enum Step {
    As(DataType),
    /// Through a type between.
    Through(DataType, DataType),
    List(Box<Fit>, DataType),
    Struct(Vec<Option<(usize, Fit)>>, Fields),
    Map(Box<Fit>, Box<Fit>, DataType),
}

impl Fit {
    /// Or why the one can never be the other. `unit`: what an integer counts in the place of a timestamp.
    pub fn new(from: &DataType, to: &SqlType, unit: TimeUnit) -> Result<Fit, String> {
        let plain = plain(from);
        let wrong = || Err(format!("a column of type {from} in the file cannot be {to}"));
        let target = to.to_arrow();
        let step = match (&plain, to) {
            (DataType::List(item), SqlType::Array(ty)) => Step::List(Box::new(Fit::new(item.data_type(), ty, unit)?), target),
            (DataType::Struct(fields), SqlType::Struct(wanted)) => fields_of(fields, wanted, unit)?,
            (DataType::Map(entries, _), SqlType::Map(key, value)) => {
                let DataType::Struct(pair) = entries.data_type() else { return wrong() };
                let [keys, values] = &pair[..] else { return wrong() };
                // A key that does not fit would leave a gap, which a map cannot have.
                if self::plain(keys.data_type()) != key.to_arrow() {
                    return wrong();
                }
                let (key, value) = (Fit::new(keys.data_type(), key, unit)?, Fit::new(values.data_type(), value, unit)?);
                Step::Map(Box::new(key), Box::new(value), target)
            }
            (DataType::Int64, SqlType::Timestamp | SqlType::TimestampTz) => Step::Through(DataType::Timestamp(unit, None), target),
            // Bytes that are text, as old writers have it.
            (DataType::Binary, to) if target == DataType::Utf8 && *to != SqlType::Uuid => Step::As(target),
            _ if is_harmless(&plain, &target) => Step::As(target),
            _ => return wrong(),
        };
        let is_text = *to != SqlType::Json && matches!(step, Step::As(DataType::Utf8));
        Ok(Fit { plain, step, is_text })
    }

    /// Whether every value fits.
    pub fn is_total(&self) -> bool {
        match &self.step {
            Step::As(to) => keeps_all(&self.plain, to),
            Step::Through(between, to) => keeps_all(&self.plain, between) && keeps_all(between, to),
            Step::List(fit, _) => fit.is_total(),
            Step::Struct(fits, _) => fits.iter().flatten().all(|(_, fit)| fit.is_total()),
            Step::Map(key, value, _) => key.is_total() && value.is_total(),
        }
    }

    /// Tells `refuse` which rows have a value that does not fit.
    pub fn apply(&self, given: &ArrayRef, refuse: &mut dyn FnMut(usize)) -> Result<ArrayRef> {
        let given = if *given.data_type() == self.plain { given.clone() } else { fitted(given, &self.plain, refuse)? };
        let array = match &self.step {
            Step::As(ty) if given.data_type() == ty => given,
            Step::As(ty) => fitted(&given, ty, refuse)?,
            Step::Through(between, ty) => fitted(&fitted(&given, between, refuse)?, ty, refuse)?,
            Step::List(fit, ty) => list(&given, fit, ty, refuse)?,
            Step::Struct(fits, fields) => structure(&given, fits, fields, refuse)?,
            Step::Map(key, value, ty) => map(&given, key, value, ty, refuse)?,
        };
        Ok(if self.is_text { without_nul(array) } else { array })
    }
}

fn without_nul(array: ArrayRef) -> ArrayRef {
    let Some(texts) = array.as_string_opt::<i32>().filter(|texts| memchr::memchr(0, texts.value_data()).is_some()) else { return array };
    Arc::new(texts.iter().map(|text| text.map(|text| text.replace('\0', "\u{FFFD}"))).collect::<StringArray>())
}

/// The type that says the same with one layout per meaning.
fn plain(ty: &DataType) -> DataType {
    match ty {
        DataType::Dictionary(_, value) => plain(value),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        other => other.clone(),
    }
}

fn fields_of(given: &Fields, wanted: &[(String, SqlType)], unit: TimeUnit) -> Result<Step, String> {
    let mut fits = Vec::with_capacity(wanted.len());
    for (name, ty) in wanted {
        let exact = given.iter().position(|f| f.name() == name);
        let found = exact.or_else(|| given.iter().position(|f| f.name().eq_ignore_ascii_case(name)));
        fits.push(match found {
            Some(at) => Some((at, Fit::new(given[at].data_type(), ty, unit).map_err(|why| format!("field {name}: {why}"))?)),
            None => None,
        });
    }
    match SqlType::Struct(wanted.to_vec()).to_arrow() {
        DataType::Struct(fields) => Ok(Step::Struct(fits, fields)),
        other => Err(format!("a row cannot be {other}")),
    }
}

/// No value loses a part that says something, but for digits behind a decimal's or a microsecond's last.
fn is_harmless(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    if from == to || matches!(from, Null) {
        return true;
    }
    if !can_cast_types(from, to) {
        return false;
    }
    let is_text = matches!(from, Utf8);
    match to {
        Boolean => is_text,
        Int16 | Int32 | Int64 => from.is_integer() || is_text,
        Float32 | Float64 => from.is_integer() || from.is_floating() || is_decimal(from) || is_text,
        Decimal128(..) => from.is_integer() || from.is_floating() || is_decimal(from) || is_text,
        Date32 => matches!(from, Date64) || is_text,
        Time64(_) => matches!(from, Time32(_) | Time64(_)) || is_text,
        Timestamp(..) => matches!(from, Timestamp(..) | Date32 | Date64) || is_text,
        Binary => is_text,
        _ => false,
    }
}

/// No value is lost on the way.
fn keeps_all(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
        (UInt8, Int16 | Int32 | Int64) | (UInt16, Int32 | Int64) | (UInt32, Int64) => true,
        (Float32, Float64) => true,
        (Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, from), Timestamp(TimeUnit::Microsecond, to)) => {
            from.is_some() == to.is_some()
        }
        _ => from == to,
    }
}

fn is_decimal(ty: &DataType) -> bool {
    matches!(ty, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// A value that cannot be had is NULL where there was one.
fn fitted(given: &ArrayRef, ty: &DataType, refuse: &mut dyn FnMut(usize)) -> Result<ArrayRef> {
    let array = cast_with_options(given, ty, &CastOptions { safe: true, ..Default::default() })?;
    if array.null_count() > given.null_count() {
        (0..array.len()).filter(|row| array.is_null(*row) && given.is_valid(*row)).for_each(refuse);
    }
    Ok(array)
}

/// Tells `refuse` the list that an item is of. A slice of lists has items that none of them has.
fn of_items<'a>(offsets: &'a OffsetBuffer<i32>, refuse: &'a mut dyn FnMut(usize)) -> impl FnMut(usize) + 'a {
    move |item| {
        let behind = offsets.partition_point(|start| *start as usize <= item);
        if (1..offsets.len()).contains(&behind) {
            refuse(behind - 1);
        }
    }
}

fn list(given: &ArrayRef, fit: &Fit, ty: &DataType, refuse: &mut dyn FnMut(usize)) -> Result<ArrayRef> {
    let lists: &ListArray = given.as_list();
    let items = fit.apply(lists.values(), &mut of_items(lists.offsets(), refuse))?;
    match ty {
        DataType::List(field) => Ok(Arc::new(ListArray::try_new(field.clone(), lists.offsets().clone(), items, lists.nulls().cloned())?)),
        other => Err(SqlError::internal(format!("a list cannot be {other}"))),
    }
}

fn structure(given: &ArrayRef, fits: &[Option<(usize, Fit)>], fields: &Fields, refuse: &mut dyn FnMut(usize)) -> Result<ArrayRef> {
    let rows = given.as_struct();
    let mut columns = Vec::with_capacity(fits.len());
    for (fit, field) in fits.iter().zip(fields) {
        columns.push(match fit {
            Some((at, fit)) => fit.apply(rows.column(*at), refuse)?,
            None => new_null_array(field.data_type(), rows.len()),
        });
    }
    let nulls: Option<NullBuffer> = rows.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?))
}

fn map(given: &ArrayRef, key: &Fit, value: &Fit, ty: &DataType, refuse: &mut dyn FnMut(usize)) -> Result<ArrayRef> {
    let maps = given.as_map();
    let keys = key.apply(maps.keys(), refuse)?;
    let values = value.apply(maps.values(), &mut of_items(maps.offsets(), refuse))?;
    let DataType::Map(entries, sorted) = ty else { return Err(SqlError::internal(format!("a map cannot be {ty}"))) };
    let DataType::Struct(pair) = entries.data_type() else { return Err(SqlError::internal("a map has pairs")) };
    let pairs = StructArray::try_new(pair.clone(), vec![keys, values], None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), maps.offsets().clone(), pairs, maps.nulls().cloned(), *sorted)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};

    fn fit(given: ArrayRef, to: &SqlType) -> Result<(ArrayRef, Vec<usize>), String> {
        let mut refused = Vec::new();
        let fit = Fit::new(given.data_type(), to, TimeUnit::Millisecond)?;
        let array = fit.apply(&given, &mut |row| refused.push(row)).unwrap();
        assert_eq!((array.data_type(), array.len()), (&to.to_arrow(), given.len()));
        Ok((array, refused))
    }

    #[test]
    fn values_keep_their_meaning() {
        let (small, refused) = fit(Arc::new(Int64Array::from(vec![Some(7), Some(70_000), None])), &SqlType::SmallInt).unwrap();
        assert_eq!((small.as_primitive::<arrow::datatypes::Int16Type>().value(0), refused), (7, vec![1]));
        let why = |array: ArrayRef, to: &SqlType| fit(array, to).unwrap_err();
        assert_eq!(why(Arc::new(Float64Array::from(vec![1.5])), &SqlType::BigInt), "a column of type Float64 in the file cannot be bigint");
        why(Arc::new(BooleanArray::from(vec![true])), &SqlType::Integer);
        why(Arc::new(Decimal128Array::from(vec![15])), &SqlType::Integer);
        let nanos = TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789]).with_timezone("UTC");
        for to in [SqlType::Timestamp, SqlType::TimestampTz] {
            let (times, _) = fit(Arc::new(nanos.clone()), &to).unwrap();
            assert_eq!(times.as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_123_456);
        }
        let (times, _) = fit(Arc::new(Int64Array::from(vec![1_700_000_000_123])), &SqlType::Timestamp).unwrap();
        assert_eq!(times.as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_123_000);
        let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("a")].into_iter().collect();
        assert_eq!(fit(Arc::new(words), &SqlType::Text).unwrap().0.as_string::<i32>().value(2), "a");
        let (texts, refused) = fit(Arc::new(StringArray::from(vec![Some("a\0b"), None])), &SqlType::Text).unwrap();
        assert_eq!((texts.as_string::<i32>().iter().collect::<Vec<_>>(), refused.len()), (vec![Some("a\u{FFFD}b"), None], 0));
        let bytes = BinaryArray::from(vec![b"a".as_slice(), b"\xff"]);
        assert_eq!(fit(Arc::new(bytes), &SqlType::Text).unwrap().1, [1]);
    }

    #[test]
    fn nested_values_are_taken_apart() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1)]),
            None,
            Some(vec![Some(2), Some(1 << 40)]),
            Some(vec![]),
        ]);
        let of_integers = SqlType::Array(Box::new(SqlType::Integer));
        assert_eq!(fit(Arc::new(lists.clone()), &of_integers).unwrap().1, [2]);
        assert_eq!(fit(Arc::new(lists.slice(0, 2)), &of_integers).unwrap().1, Vec::<usize>::new());
        assert_eq!(fit(Arc::new(lists.slice(2, 2)), &of_integers).unwrap().1, [0]);
        let a: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let rows = StructArray::try_from(vec![("A", a.clone()), ("b", a)]).unwrap();
        let ty = SqlType::Struct(vec![("a".into(), SqlType::BigInt), ("c".into(), SqlType::Text)]);
        let (rows, refused) = fit(Arc::new(rows), &ty).unwrap();
        assert_eq!((rows.as_struct().column(0).as_primitive::<Int64Type>().value(1), refused.len()), (2, 0));
        assert_eq!(rows.as_struct().column(1).null_count(), 2);
    }
}
