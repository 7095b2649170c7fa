//! DataFusion's functions that PostgreSQL has otherwise: what they take and give stays, what they do with it is ours, before or
//! after they are called, or instead. DataFusion's planner calls some of them without asking a registry (`a[1]`, `x = ANY(a)`); those calls
//! are replaced after type coercion (`checked`). What counts in unsigned integers gives bigint: no type of SQL is one, and only functions of bigint take them.

use super::named::known_by_name;
use super::{bounded, lists, numbers, series, texts, times};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::{Arc, LazyLock};

/// The work, given the function that is amended.
pub type Run = fn(&ScalarUDF, ScalarFunctionArgs) -> DfResult<ColumnarValue>;
/// What arguments are brought to, where that is not the function's own.
pub type Coerce = fn(&ScalarUDF, &[DataType]) -> DfResult<Vec<DataType>>;

struct Row {
    name: &'static str,
    /// The function of DataFusion's.
    of: &'static str,
    run: Run,
    coerce: Option<Coerce>,
}

const fn row(name: &'static str, of: &'static str, run: Run) -> Row {
    Row { name, of, run, coerce: None }
}

const ROWS: &[Row] = &[
    row("array_has", "array_has", lists::has),
    row("array_has_all", "array_has_all", lists::has_all),
    row("array_has_any", "array_has_any", lists::has_any),
    row("array_element", "array_element", lists::element),
    row("array_length", "array_length", lists::length),
    row("array_ndims", "array_ndims", plain),
    row("array_position", "array_position", plain),
    row("array_positions", "array_positions", lists::positions),
    row("array_remove", "array_remove_all", lists::remove),
    row("array_replace", "array_replace_all", plain),
    row("cardinality", "cardinality", plain),
    row("abs", "abs", numbers::of_integers),
    row("gcd", "gcd", numbers::of_integers),
    row("lcm", "lcm", numbers::of_integers),
    Row { name: "round", of: "round", run: numbers::round, coerce: Some(numbers::round_types) },
    row("sqrt", "sqrt", numbers::sqrt),
    row("ln", "ln", numbers::logarithm),
    row("log", "log", numbers::logarithm),
    row("log2", "log2", numbers::logarithm),
    row("log10", "log10", numbers::logarithm),
    row("power", "power", numbers::power),
    row("ceiling", "ceil", plain),
    row("date_trunc", "date_trunc", times::date_trunc),
    row("date_bin", "date_bin", times::date_bin),
    row("make_date", "make_date", times::make_date),
    row("repeat", "repeat", bounded::repeat),
    row("lpad", "lpad", bounded::pad),
    row("rpad", "rpad", bounded::pad),
    row("array_repeat", "array_repeat", bounded::array_repeat),
    row("array_resize", "array_resize", bounded::array_resize),
    row("array_to_string", "array_to_string", bounded::array_to_string),
    row("replace", "replace", bounded::replace),
    row("range", "range", series::range),
    row("regexp_replace", "regexp_replace", texts::regexp_replace),
    Row { name: "concat", of: "concat", run: texts::concat, coerce: Some(texts::concat_types) },
];

/// Under another name, or for its type alone.
fn plain(of: &ScalarUDF, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
    of.invoke_with_args(args)
}

/// What a function gives, for what it gives in DataFusion.
fn signed(name: &str, ty: &DataType) -> DataType {
    match (name, ty) {
        ("array_length" | "array_ndims" | "array_position" | "cardinality", _) => DataType::Int64,
        ("array_positions", DataType::List(item)) => DataType::List(Arc::new(item.as_ref().clone().with_data_type(DataType::Int64))),
        _ => ty.clone(),
    }
}

static FUNCTIONS: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let theirs = SessionStateDefaults::default_scalar_functions();
    let amended = |row: &Row| {
        let of = theirs.iter().find(|f| f.name() == row.of).expect("DataFusion has what is amended").clone();
        Arc::new(ScalarUDF::new_from_impl(Amended { name: row.name, of, run: row.run, coerce: row.coerce }))
    };
    ROWS.iter().map(amended).collect()
});

/// Of those that say themselves what arguments are brought to.
static COERCED: LazyLock<Signature> = LazyLock::new(|| Signature::user_defined(Volatility::Immutable));

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS.clone()
}

/// Ours for a function of DataFusion's.
pub fn in_place_of(function: &ScalarUDF) -> Option<Arc<ScalarUDF>> {
    FUNCTIONS.iter().find(|ours| ours.name() == function.name() && ours.as_ref() != function).cloned()
}

struct Amended {
    name: &'static str,
    of: Arc<ScalarUDF>,
    run: Run,
    coerce: Option<Coerce>,
}

known_by_name!(Amended);

impl ScalarUDFImpl for Amended {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        if self.name == self.of.name() { self.of.aliases() } else { &[] }
    }

    fn signature(&self) -> &Signature {
        if self.coerce.is_some() { &COERCED } else { self.of.signature() }
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        match self.coerce {
            Some(coerce) => coerce(&self.of, types),
            None => self.of.coerce_types(types),
        }
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(signed(self.name, &self.of.return_type(types)?))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = self.of.return_field_from_args(args)?;
        let ty = signed(self.name, field.data_type());
        Ok(Arc::new(field.as_ref().clone().with_data_type(ty)))
    }

    fn is_strict(&self) -> bool {
        self.of.is_strict()
    }

    /// As the function's own, which expects arguments of its own types.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> DfResult<ExprSimplifyResult> {
        match self.coerce {
            Some(_) => Ok(ExprSimplifyResult::Original(args)),
            None => self.of.simplify(args, info),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let value = (self.run)(&self.of, args)?;
        let (given, ty) = (value.data_type(), signed(self.name, &value.data_type()));
        if ty == given { Ok(value) } else { value.cast_to(&ty, None) }
    }
}
