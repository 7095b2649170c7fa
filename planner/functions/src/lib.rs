//! All scalar, aggregate and window functions in one registry: DataFusion's, and ours. Durable plans name
//! functions by their name here, so a name, once released, keeps its meaning.
//!
//! - `clock`: `now()` and kin, and the watermark; `as_of`: the mark of a version; `windows`: the arithmetic of windows; `checked`: arithmetic that never wraps
//! - `coalesce`: with literals that have no type yet
//! - `texts`, `regexes`, `encodings`, `urls`, `json`, `times`, `hashes`, `intervals`, `numbers`, `number_patterns`, `lists`, `maps`, `truncated`, `whole`, `type_name`: what Flink and PostgreSQL have and DataFusion has not, or otherwise
//! - `series`: those of integers and times, as lists
//! - `quotient`: divisions of numerics; `precision`: times with fewer digits
//! - `constants`: those of which it is known that no row can be worked on by them
//! - `amended`: which of DataFusion's functions do something else; `bounded`: those of them that make texts and lists as long as they are told; `words`: what they say of values that do not suit them
//! - `percentile`: PERCENTILE_CONT and PERCENTILE_DISC; `string_agg`: with orders of its own; `extremes`: MIN and MAX of floats; `ranks`: those that count rows in a window; `shifts`: those that look at a neighbour; `pattern`: of dates and times; `not_null`: what guards a column that is written; `like`: what guards a pattern; `like_any`: several of them; `one_row`: subqueries that stand for a value; `or_null`: those of them that may have no row
//! - `native`: how those are defined, a line each; `shaped`: others, by the fields of what they take and give; `named`: how all these are told apart; `arguments`: as columns; `text_types`: texts of a limited length, uuids; `arrays`: arrays of rows; `casts`: those that stand for casts; `error`: ours within DataFusion's
//! - `failed`: what a failed evaluation says, and whether the row is to blame; `attempt`: expressions of which rows may fail; `lazy`: AND and OR
//! - `typed`: types of expressions, without names

mod amended;
pub mod arguments;
mod arrays;
mod as_of;
pub mod attempt;
mod bounded;
pub mod casts;
pub mod checked;
mod clock;
mod coalesce;
pub mod constants;
mod encodings;
pub mod error;
mod extremes;
pub mod failed;
mod hashes;
mod intervals;
pub mod json;
pub mod lazy;
mod like;
mod like_any;
mod lists;
mod maps;
mod named;
mod native;
mod not_null;
mod number_patterns;
mod numbers;
mod one_row;
mod or_null;
pub mod pattern;
pub mod percentile;
mod precision;
mod quotient;
mod ranks;
mod regexes;
mod series;
mod shaped;
mod shifts;
mod string_agg;
pub mod text_types;
mod texts;
mod times;
mod truncated;
mod type_name;
pub mod typed;
mod urls;
mod whole;
mod windows;
pub mod words;

pub use clock::OfArrival;
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::{FunctionRegistry, SessionStateDefaults};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
pub use encodings::CHARSETS;
pub use intervals::{CLOCK_OF as INTERVAL_CLOCK, DAYS_OF as INTERVAL_DAYS, LENGTH as INTERVAL_LENGTH, SINCE as TIME_SINCE};
pub use number_patterns::NumberPattern;
pub use numbers::{OVER as INTERVAL_OVER, TIMES as INTERVAL_TIMES};
pub use precision::{TIME_PRECISION, rounded_to, unit as unit_of_precision};
pub use quotient::QUOTIENT;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};
pub use times::{is_of_clock, zone_of};
pub use windows::{hop_starts, window_start};

pub const WINDOW_START: &str = "eddyline_window_start";
pub const WINDOW_SHIFT: &str = "eddyline_window_shift";
pub const HOP_STARTS: &str = "eddyline_hop_starts";
pub const CUMULATE_ENDS: &str = "eddyline_cumulate_ends";
/// A list, and an empty one for null: what `ARRAY(SELECT ...)` is without rows.
pub const ARRAY_OF_ROWS: &str = "eddyline_array_of_rows";
/// What an UNNEST in FROM is over: a list, or a map's entries as one.
pub const ENTRIES: &str = "eddyline_entries";
/// Bytes of a text in a character set, and the text of such bytes.
pub const TO_CHARSET: &str = "eddyline_to_charset";
pub const FROM_CHARSET: &str = "eddyline_from_charset";
/// A list of the matches of a regular expression, each a list of its groups.
pub const REGEXP_MATCHES: &str = "eddyline_regexp_matches";
/// Several texts as one that tells them apart, null if one of them is.
pub const VALUES: &str = "eddyline_values";
/// The number in a text by a pattern, as a text that a cast reads.
pub const NUMBER_OF: &str = "eddyline_number_of";
pub const NOW: &str = "now";
/// Whether a time lies before the watermark that its row came under.
pub const BEHIND_WATERMARK: &str = "eddyline_behind_watermark";
/// The regular expression of a pattern of `SIMILAR TO`.
pub const SIMILAR_TO: &str = "eddyline_similar_to";
/// A pattern of `LIKE` whose escape is a backslash, for one with another.
pub const LIKE_ESCAPE: &str = "like_escape";
/// A pattern of `LIKE` beside the text that is matched: an error if that comes to an escape at its end.
pub const LIKE_PATTERN: &str = "eddyline_like_pattern";
/// Whether a text matches any pattern of an array, by the operator that the third argument names.
pub const LIKE_ANY: &str = "eddyline_like_any";
/// The parts of a time that have a fraction.
pub const PART: &str = "eddyline_part";
/// The parts of a time that are of many years.
pub const YEARS: &str = "eddyline_years";
/// `TIMESTAMPADD` of a unit that a date has no room for.
pub const ADD_CLOCK: &str = "eddyline_add_clock";
/// A double's first digits.
pub const APPROXIMATE: &str = "eddyline_approximate";
/// Its first argument, which is not null, or an error that names the second.
pub const NOT_NULL: &str = "eddyline_not_null";
/// An aggregate: a list of its values, in which several are as good as all.
pub const FEW_ROWS: &str = "eddyline_few_rows";
/// The value in a list, which has one at most.
pub const ONLY_ROW: &str = "eddyline_only_row";
/// Its argument, the value of a subquery that may have no row.
pub const OR_NULL: &str = "eddyline_or_null";
/// In the condition of a join: its right side is that of the argument's time.
pub const AS_OF: &str = "__as_of";
/// In the condition of a join: its right side is the nearest by the argument, a comparison.
pub const ASOF: &str = "__asof";

/// Functions by every name they answer to.
#[derive(Clone, Default)]
pub struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    higher_order: HashMap<String, Arc<HigherOrderUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Functions({} scalar, {} aggregate)", self.scalar.len(), self.aggregate.len())
    }
}

static REGISTRY: LazyLock<Arc<Functions>> = LazyLock::new(|| {
    let mut functions = Functions::default();
    register_defaults(&mut functions).and_then(|_| register(&mut functions)).expect("built-in functions register");
    Arc::new(functions)
});

/// DataFusion's functions and ours. What a streaming plan may call is exactly what is in here.
pub fn registry() -> Arc<Functions> {
    REGISTRY.clone()
}

fn register_defaults(functions: &mut Functions) -> DfResult<()> {
    for udf in SessionStateDefaults::default_scalar_functions() {
        functions.register_udf(udf)?;
    }
    for udf in SessionStateDefaults::default_higher_order_functions() {
        functions.register_higher_order_function(udf)?;
    }
    for udf in SessionStateDefaults::default_aggregate_functions() {
        functions.register_udaf(udf)?;
    }
    for udf in SessionStateDefaults::default_window_functions() {
        functions.register_udwf(udf)?;
    }
    Ok(())
}

/// Adds our functions to a registry, over DataFusion's of the same name.
fn register(registry: &mut dyn FunctionRegistry) -> DfResult<()> {
    let others = casts::functions().into_iter().chain(text_types::functions()).chain(amended::functions());
    for udf in ours().into_iter().map(Arc::new).chain(others) {
        registry.register_udf(udf)?;
    }
    for udaf in percentile::functions().into_iter().chain(extremes::functions()) {
        registry.register_udaf(Arc::new(udaf))?;
    }
    registry.register_udaf(Arc::new(AggregateUDF::new_from_impl(one_row::FewRows::new())))?;
    registry.register_udaf(Arc::new(AggregateUDF::new_from_impl(string_agg::StringAgg::default())))?;
    for udwf in ranks::functions().into_iter().chain(shifts::functions()) {
        registry.register_udwf(udwf)?;
    }
    Ok(())
}

fn ours() -> Vec<ScalarUDF> {
    let mut functions = vec![
        ScalarUDF::new_from_impl(clock::Now::new()),
        clock::behind_watermark(),
        ScalarUDF::new_from_impl(coalesce::Coalesce::new()),
        arrays::array_of_rows(),
        ScalarUDF::new_from_impl(arrays::Entries::new()),
        ScalarUDF::new_from_impl(series::Series::new()),
        ScalarUDF::new_from_impl(truncated::Trunc::new()),
        ScalarUDF::new_from_impl(whole::Whole::ceil()),
        ScalarUDF::new_from_impl(whole::Whole::floor()),
        as_of::mark(AS_OF),
        as_of::mark(ASOF),
        not_null::not_null(),
        one_row::only_row(),
        ScalarUDF::new_from_impl(or_null::OrNull::new()),
        ScalarUDF::new_from_impl(like::LikePattern::new()),
        ScalarUDF::new_from_impl(windows::WindowMath::new(WINDOW_START, 3)),
        ScalarUDF::new_from_impl(windows::WindowMath::new(WINDOW_SHIFT, 2)),
        ScalarUDF::new_from_impl(windows::WindowMath::new(HOP_STARTS, 4)),
        ScalarUDF::new_from_impl(windows::WindowMath::new(CUMULATE_ENDS, 4)),
    ];
    functions.extend(checked::functions());
    functions.extend(json::made::functions());
    functions.extend(type_name::functions());
    functions.extend(
        [
            texts::FUNCTIONS,
            regexes::FUNCTIONS,
            encodings::FUNCTIONS,
            urls::FUNCTIONS,
            json::FUNCTIONS,
            json::OF_JSONB,
            json::OF_JSONPATH,
            json::OF_FLINK,
            times::FUNCTIONS,
            hashes::FUNCTIONS,
            intervals::FUNCTIONS,
            numbers::FUNCTIONS,
            number_patterns::FUNCTIONS,
            quotient::FUNCTIONS,
            precision::FUNCTIONS,
            lists::FUNCTIONS,
            like_any::FUNCTIONS,
            maps::FUNCTIONS,
        ]
        .concat()
        .into_iter()
        .map(ScalarUDF::new_from_impl),
    );
    functions
}

impl FunctionRegistry for Functions {
    fn udfs(&self) -> HashSet<String> {
        self.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> HashSet<String> {
        self.higher_order.keys().cloned().collect()
    }

    fn udafs(&self) -> HashSet<String> {
        self.aggregate.keys().cloned().collect()
    }

    fn udwfs(&self) -> HashSet<String> {
        self.window.keys().cloned().collect()
    }

    fn udf(&self, name: &str) -> DfResult<Arc<ScalarUDF>> {
        self.scalar.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn higher_order_function(&self, name: &str) -> DfResult<Arc<HigherOrderUDF>> {
        self.higher_order.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn udaf(&self, name: &str) -> DfResult<Arc<AggregateUDF>> {
        self.aggregate.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn udwf(&self, name: &str) -> DfResult<Arc<WindowUDF>> {
        self.window.get(name).cloned().ok_or_else(|| missing(name))
    }

    fn register_udf(&mut self, udf: Arc<ScalarUDF>) -> DfResult<Option<Arc<ScalarUDF>>> {
        for alias in udf.aliases() {
            self.scalar.insert(alias.clone(), udf.clone());
        }
        Ok(self.scalar.insert(udf.name().to_string(), udf))
    }

    fn register_higher_order_function(&mut self, udf: Arc<HigherOrderUDF>) -> DfResult<Option<Arc<HigherOrderUDF>>> {
        for alias in udf.aliases() {
            self.higher_order.insert(alias.clone(), udf.clone());
        }
        Ok(self.higher_order.insert(udf.name().to_string(), udf))
    }

    fn register_udaf(&mut self, udf: Arc<AggregateUDF>) -> DfResult<Option<Arc<AggregateUDF>>> {
        for alias in udf.aliases() {
            self.aggregate.insert(alias.clone(), udf.clone());
        }
        Ok(self.aggregate.insert(udf.name().to_string(), udf))
    }

    fn register_udwf(&mut self, udf: Arc<WindowUDF>) -> DfResult<Option<Arc<WindowUDF>>> {
        for alias in udf.aliases() {
            self.window.insert(alias.clone(), udf.clone());
        }
        Ok(self.window.insert(udf.name().to_string(), udf))
    }

    fn expr_planners(&self) -> Vec<Arc<dyn ExprPlanner>> {
        SessionStateDefaults::default_expr_planners()
    }
}

fn missing(name: &str) -> DataFusionError {
    DataFusionError::Plan(format!("function {name} does not exist"))
}
