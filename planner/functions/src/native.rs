//! A scalar function as a row of a table: its name, what it takes, what it gives, and its work over columns.
//! Arguments arrive in the types that `Arg` names, all of one length; null handling is the function's own.

use super::arguments::{columns, result, rows};
use super::named::known_by_name;
use super::words::NO_SUCH_FUNCTION;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder, new_null_array};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::{Arc, LazyLock};

/// The type an argument is brought to.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    Text,
    /// A text, or a bytea as it is.
    TextOrBytes,
    /// A text, or an array as it is.
    TextOrList,
    /// A time of day, or what `Time` makes of another.
    Moment,
    /// A text, or what `Time` makes of a time.
    TextOrTime,
    BigInt,
    /// A text is read as one. The binder has a difference of times for a duration, until it is replaced.
    Interval,
    /// A timestamp of either kind; dates and texts become timestamps without a zone.
    Time,
    /// Any number as it comes, an interval, or a `Time`.
    TimeOrNumber,
    /// Any number, as it comes.
    Number,
    /// As it comes.
    Any,
}

impl Arg {
    fn coerce(self, given: &DataType) -> Option<DataType> {
        let timestamp = || SqlType::Timestamp.to_arrow();
        Some(match (self, given) {
            (Arg::Any, given) => given.clone(),
            (Arg::TimeOrNumber, number) if number.is_numeric() => number.clone(),
            (Arg::TimeOrNumber, DataType::Interval(_) | DataType::Duration(_)) => SqlType::Interval.to_arrow(),
            (Arg::TimeOrNumber, other) => return Arg::Time.coerce(other),
            (Arg::Time, DataType::Timestamp(_, Some(_))) => SqlType::TimestampTz.to_arrow(),
            (Arg::Time, DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 | DataType::Null) => timestamp(),
            (Arg::Time, text) if text.is_string() => timestamp(),
            (Arg::Text, text) if text.is_string() || text.is_null() => DataType::Utf8,
            (Arg::Interval, DataType::Interval(_) | DataType::Duration(_) | DataType::Null) => SqlType::Interval.to_arrow(),
            (Arg::Interval, text) if text.is_string() => SqlType::Interval.to_arrow(),
            (Arg::Moment, DataType::Time32(_) | DataType::Time64(_)) => SqlType::Time.to_arrow(),
            (Arg::Moment, other) => return Arg::Time.coerce(other),
            (Arg::TextOrTime, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64) => return Arg::Time.coerce(given),
            (Arg::TextOrTime, text) if text.is_string() || text.is_null() => DataType::Utf8,
            (Arg::TextOrBytes, text) if text.is_string() || text.is_null() => DataType::Utf8,
            (Arg::TextOrBytes, bytes) if bytes.is_binary() => DataType::Binary,
            (Arg::TextOrList, text) if text.is_string() || text.is_null() => DataType::Utf8,
            (Arg::TextOrList, list @ DataType::List(_)) => list.clone(),
            (Arg::Number, number) if number.is_numeric() => number.clone(),
            (Arg::Number, DataType::Null) => DataType::Float64,
            (Arg::BigInt, number) if number.is_numeric() || number.is_null() => DataType::Int64,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy)]
pub struct Native {
    pub name: &'static str,
    pub required: &'static [Arg],
    pub optional: &'static [Arg],
    pub returns: Returns,
    pub run: Run,
    /// Null only where an argument is.
    total: bool,
}

pub type Returns = fn(&[DataType]) -> SqlType;
pub type Run = fn(&[ArrayRef]) -> Result<ArrayRef, SqlError>;

impl Native {
    /// Gives null only where an argument is null.
    pub const fn total(name: &'static str, required: &'static [Arg], optional: &'static [Arg], returns: Returns, run: Run) -> Self {
        Native { name, required, optional, returns, run, total: true }
    }

    /// May find nothing to give.
    pub const fn partial(name: &'static str, required: &'static [Arg], optional: &'static [Arg], returns: Returns, run: Run) -> Self {
        Native { name, required, optional, returns, run, total: false }
    }
}

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

known_by_name!(Native);

impl ScalarUDFImpl for Native {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let wanted = self.required.iter().chain(self.optional);
        let fits = (self.required.len()..=self.required.len() + self.optional.len()).contains(&given.len());
        let types: Option<Vec<DataType>> = given.iter().zip(wanted).map(|(given, arg)| arg.coerce(given)).collect();
        types.filter(|_| fits).ok_or_else(|| DataFusionError::External(Box::new(no_such_function(self.name, given))))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok((self.returns)(types).to_arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new((self.returns)(&types).field(self.name, !self.total || args.arg_fields.iter().any(|f| f.is_nullable()))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = columns(&args)?;
        // An array of the type of NULL does not say of its rows that they are null.
        let untyped = self.total && arrays.iter().any(|a| a.data_type().is_null());
        let made = match untyped {
            true => new_null_array(args.return_field.data_type(), rows(&args)),
            false => (self.run)(&arrays).map_err(crate::error::into_datafusion)?,
        };
        result(made, &args)
    }
}

/// That a function takes no such arguments.
pub fn no_such_function(name: &str, given: &[DataType]) -> SqlError {
    let shown: Vec<String> = given.iter().map(|ty| SqlType::from_arrow(ty).map_or_else(|| ty.to_string(), |ty| ty.to_string())).collect();
    let message = format!("function {name}({}) does not exist", shown.join(", "));
    SqlError::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(NO_SUCH_FUNCTION)
}

pub fn text(_: &[DataType]) -> SqlType {
    SqlType::Text
}

pub fn boolean(_: &[DataType]) -> SqlType {
    SqlType::Boolean
}

pub fn text_array(_: &[DataType]) -> SqlType {
    SqlType::Array(Box::new(SqlType::Text))
}

pub fn json(_: &[DataType]) -> SqlType {
    SqlType::Json
}

/// A column of text.
pub fn texts(array: &ArrayRef) -> &StringArray {
    array.as_string::<i32>()
}

/// Row by row to text: `f` writes a value and says whether there is one; a row with a null argument is null.
pub fn map_text(args: &[ArrayRef], mut f: impl FnMut(usize, &mut String) -> Result<bool, SqlError>) -> Result<ArrayRef, SqlError> {
    let rows = args[0].len();
    let mut builder = StringBuilder::with_capacity(rows, rows * 8);
    let mut value = String::new();
    for row in 0..rows {
        value.clear();
        if args.iter().any(|a| a.is_null(row)) || !f(row, &mut value)? {
            builder.append_null();
        } else {
            builder.append_value(&value);
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Row by row to arrays of texts: `f` adds the items of one and says whether there is an array; a row with a null argument is null.
pub fn map_lists(args: &[ArrayRef], mut f: impl FnMut(usize, &mut StringBuilder) -> Result<bool, SqlError>) -> Result<ArrayRef, SqlError> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..args[0].len() {
        let is_known = !args.iter().any(|a| a.is_null(row)) && f(row, lists.values())?;
        lists.append(is_known);
    }
    Ok(Arc::new(lists.finish()))
}

/// Row by row to anything: a row with a null argument is null.
pub fn map_rows<T, C: FromIterator<Option<T>>>(
    args: &[ArrayRef],
    mut f: impl FnMut(usize) -> Result<Option<T>, SqlError>,
) -> Result<C, SqlError> {
    (0..args[0].len()).map(|row| if args.iter().any(|a| a.is_null(row)) { Ok(None) } else { f(row) }).collect()
}

/// What was made of the last text of a column: constants are looked at once.
pub struct Memo<T> {
    last: Option<(String, T)>,
}

impl<T> Memo<T> {
    pub fn new() -> Self {
        Memo { last: None }
    }

    pub fn get(&mut self, text: &str, make: impl FnOnce(&str) -> Result<T, SqlError>) -> Result<&T, SqlError> {
        if self.last.as_ref().is_none_or(|(known, _)| known != text) {
            self.last = Some((text.to_string(), make(text)?));
        }
        Ok(&self.last.as_ref().expect("set above").1)
    }
}
