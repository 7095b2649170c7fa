//! PostgreSQL's and Flink's functions that make JSON of values, as calls of ours, which are told how it is written and in which zone times are shown; aggregates of
//! JSON as `array_agg` over a text for each item; a relation's name in their arguments as its row; and the operators of jsonb. It does not know the sets that JSON is taken apart into.

use super::columns::{Known, Named, factors, own_name};
use super::level;
use super::matching::is_text_literal;
use super::operands::parameter_as;
use super::rewrite::{arguments, call, cast, string_expr};
use super::unknown::type_of;
use crate::error::{fold, into_datafusion};
use crate::functions::json::made;
use crate::functions::registry;
use crate::functions::typed::field_of;
use crate::functions::words::NO_SUCH_OPERATOR;
use crate::walk::sql;
use datafusion::arrow::datatypes::{DataType as ArrowType, Field};
use datafusion::common::{DFSchema, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::Expr as Bound;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::RawBinaryExpr;
use datafusion::sql::sqlparser::ast::*;
use eddyline_common::{SqlError, SqlState, SqlType};

/// Aggregates, how many values they take, and in which style they are written.
const AGGREGATES: &[(&str, usize, &str)] = &[
    ("json_agg", 1, "json"),
    ("jsonb_agg", 1, "jsonb"),
    ("json_object_agg", 2, "json"),
    ("jsonb_object_agg", 2, "jsonb"),
    ("json_arrayagg", 1, "absent"),
    ("json_objectagg", 2, "row"),
];

/// Functions that take rows, by the names of relations too.
const OF_ROWS: &[&str] = &["row_to_json", "to_json", "to_jsonb", "json_agg", "jsonb_agg", "json_build_object", "jsonb_build_object"];

pub fn is_aggregate(name: &str) -> bool {
    AGGREGATES.iter().any(|(aggregate, _, _)| *aggregate == name)
}

/// The expression that stands for a call of the function.
pub fn replacement(name: &str, function: &Function, args: &[Expr], zone: &str) -> Option<Expr> {
    let made = |what: &str, style: &str| Some(of_values(what, style, zone, args.iter().map(|value| with_names(value, zone)).collect()));
    match (name, args.len()) {
        ("to_json" | "row_to_json" | "array_to_json", 1) => made(made::VALUE, "row"),
        ("to_jsonb", 1) => made(made::VALUE, "jsonb"),
        ("json_build_object", _) => made(made::OBJECT, "json"),
        ("jsonb_build_object", _) => made(made::OBJECT, "jsonb"),
        ("json_build_array", _) => made(made::ARRAY, "json"),
        ("jsonb_build_array", _) => made(made::ARRAY, "jsonb"),
        ("json_object", count) if count.is_multiple_of(2) => made(made::OBJECT, on_null(function).unwrap_or("row")),
        ("json_array", _) => made(made::ARRAY, on_null(function).unwrap_or("absent")),
        ("json_string", 1) => made(made::VALUE, "row").map(|json| cast(json, DataType::Text)),
        ("json_query", 2 | 6 | 7) => returned(function, args),
        ("coalesce", _) => instead(args),
        (name, count) => {
            let (_, _, style) = AGGREGATES.iter().find(|(aggregate, values, _)| *aggregate == name && *values == count)?;
            aggregate(function, args, on_null(function).unwrap_or(style), zone)
        }
    }
}

/// `COALESCE(json_agg(x), '[]')` is JSON, as the aggregate is. What has been gone through already is in parentheses.
fn instead(args: &[Expr]) -> Option<Expr> {
    let (Expr::Function(first), rest) = args.split_first()? else { return None };
    let is_open = |expr: &Expr| match expr {
        Expr::Value(value) => matches!(value.value, Value::SingleQuotedString(_) | Value::Null),
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::JSON | DataType::JSONB),
        _ => false,
    };
    let name = fold(first.name.0.last()?.as_ident()?);
    if !is_aggregate(&name) || !rest.iter().all(is_open) {
        return None;
    }
    let aggregate = Expr::Nested(Box::new(Expr::Function(first.clone())));
    Some(cast(call("coalesce", std::iter::once(aggregate).chain(rest.iter().cloned()).collect()), DataType::JSONB))
}

/// The style that `{NULL | ABSENT} ON NULL` asks for.
fn on_null(function: &Function) -> Option<&'static str> {
    let FunctionArguments::List(list) = &function.args else { return None };
    list.clauses.iter().find_map(|clause| match clause {
        FunctionArgumentClause::JsonNullClause(JsonNullClause::NullOnNull) => Some("row"),
        FunctionArgumentClause::JsonNullClause(JsonNullClause::AbsentOnNull) => Some("absent"),
        _ => None,
    })
}

/// `JSON_QUERY(... RETURNING type)`, of a text or an array of texts.
fn returned(function: &Function, args: &[Expr]) -> Option<Expr> {
    let query = call("json_query", args.to_vec());
    match super::spellings::returning(function)? {
        DataType::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, _)) if is_text(&item) => {
            Some(call("eddyline_json_texts", vec![query]))
        }
        ty if is_text(&ty) => Some(query),
        _ => None,
    }
}

fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::String(_) | DataType::Text | DataType::Varchar(_))
}

fn of_values(what: &str, style: &str, zone: &str, values: Vec<Expr>) -> Expr {
    call(what, [string_expr(style), string_expr(zone)].into_iter().chain(values).collect())
}

/// A row that is written out, as an object whose fields have PostgreSQL's names for them.
fn with_names(value: &Expr, zone: &str) -> Expr {
    let values: Vec<Expr> = match value {
        Expr::Tuple(values) => values.clone(),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("row") => {
            arguments(function).into_iter().cloned().collect()
        }
        other => return other.clone(),
    };
    let fields = values.into_iter().enumerate().flat_map(|(i, value)| [string_expr(&format!("f{}", i + 1)), value]);
    of_values(made::OBJECT, "row", zone, fields.collect())
}

/// The aggregate over texts of items or fields, and one text of all. Values of which equal ones count once are collected as they are.
fn aggregate(function: &Function, args: &[Expr], style: &str, zone: &str) -> Option<Expr> {
    let mut collected = function.clone();
    collected.name = ObjectName::from(vec![Ident::new("array_agg")]);
    let FunctionArguments::List(list) = &mut collected.args else { return None };
    list.clauses.retain(|clause| !matches!(clause, FunctionArgumentClause::JsonNullClause(_)));
    let is_distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let (value, whole) = match args {
        [value] if is_distinct => (value.clone(), made::LISTED),
        [value] => {
            let value = with_names(value, zone);
            let style = if style == "json" && is_object(&value) { "lines" } else { style };
            (of_values(made::ITEM, style, zone, vec![value]), made::ITEMS)
        }
        _ => (of_values(made::FIELD, style, zone, args.to_vec()), made::FIELDS),
    };
    list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(value))];
    Some(of_values(whole, style, zone, vec![Expr::Function(collected)]))
}

fn is_object(value: &Expr) -> bool {
    matches!(value, Expr::Function(function) if function.name.to_string() == made::OBJECT)
}

/// Where functions of JSON are given the name of a relation in FROM, and it is no column's, they get the relation's row as an object.
pub fn whole_rows(select: &mut Select, known: &Known, zone: &str) {
    let takes_rows = |expr: &Expr| {
        let Expr::Function(function) = expr else { return false };
        function.name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| OF_ROWS.contains(&fold(name).as_str()))
    };
    if !sql::any(&select.projection, takes_rows) {
        return;
    }
    let from = select.from.clone();
    level::before(&mut select.projection, |expr| {
        if !takes_rows(expr) {
            return;
        }
        let Expr::Function(function) = expr else { return };
        let FunctionArguments::List(list) = &mut function.args else { return };
        for arg in &mut list.args {
            if let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = arg {
                as_row(value, &from, known, zone);
            }
        }
    });
}

/// `t`, and `(SELECT t FROM ... t)`.
fn as_row(value: &mut Expr, from: &[TableWithJoins], known: &Known, zone: &str) {
    match value {
        Expr::Identifier(name) => {
            if let Some(row) = row_of(name, from, known, zone) {
                *value = row;
            }
        }
        Expr::Nested(inner) => as_row(inner, from, known, zone),
        Expr::Subquery(query) => {
            let known = known.with_ctes(query);
            let SetExpr::Select(select) = query.body.as_mut() else { return };
            if let [SelectItem::UnnamedExpr(item)] = select.projection.as_mut_slice() {
                as_row(item, &select.from, &known, zone);
            }
        }
        _ => {}
    }
}

fn row_of(name: &Ident, from: &[TableWithJoins], known: &Known, zone: &str) -> Option<Expr> {
    let folded = fold(name);
    let factors = factors(from);
    let is_column = |columns: Vec<Named>| columns.iter().any(|column| column.name == folded);
    if factors.iter().any(|factor| known.of_factor(factor).is_some_and(is_column)) {
        return None;
    }
    let relation = factors.into_iter().find(|factor| own_name(factor).is_some_and(|own| fold(&own) == folded))?;
    let columns = known.of_factor(relation)?;
    let fields = columns.into_iter().flat_map(|column| [string_expr(&column.name), column.value]).collect();
    Some(of_values(made::OBJECT, "row", zone, fields))
}

/// What an operator of jsonb stands for; `None` for other operands.
pub fn operator(binary: &RawBinaryExpr, schema: &DFSchema) -> DfResult<Option<Bound>> {
    use BinaryOperator::*;
    let name = match &binary.op {
        AtArrow => "jsonb_contains",
        ArrowAt => "jsonb_contained",
        Question => "jsonb_exists",
        QuestionPipe => "jsonb_exists_any",
        QuestionAnd => "jsonb_exists_all",
        StringConcat => "jsonb_concat",
        Minus => "jsonb_delete",
        HashMinus => "jsonb_delete_path",
        _ => return Ok(None),
    };
    // What cannot be typed is reported by the binder, with its place.
    let (Ok(left), Ok(right)) = (field_of(&binary.left, schema), field_of(&binary.right, schema)) else { return Ok(None) };
    let (of_left, of_right) = (is_json(&left), is_json(&right));
    let is_open = |expr: &Bound, field: &Field| is_text_literal(expr) || field.data_type().is_null();
    let right_type = right.data_type();
    let is_parameter = right_type.is_null() && matches!(binary.right, Bound::Placeholder(_));
    let fits = match &binary.op {
        AtArrow | ArrowAt | StringConcat => {
            of_left && (of_right || is_open(&binary.right, &right)) || of_right && is_open(&binary.left, &left)
        }
        Question => of_left && (right_type.is_string() || right_type.is_null()),
        QuestionPipe | QuestionAnd | HashMinus => of_left && (is_list(right_type) || is_open(&binary.right, &right)),
        _ => of_left && !of_right && (right_type.is_string() || right_type.is_integer() || is_list(right_type) || is_parameter),
    };
    if fits {
        let beside = match &binary.op {
            AtArrow | ArrowAt | StringConcat => SqlType::Json,
            QuestionPipe | QuestionAnd | HashMinus => SqlType::Array(Box::new(SqlType::Text)),
            _ => SqlType::Text,
        };
        let args = vec![parameter_as(binary.left.clone(), SqlType::Json), parameter_as(binary.right.clone(), beside)];
        return Ok(Some(Bound::ScalarFunction(ScalarFunction::new_udf(registry().udf(name)?, args))));
    }
    let is_of_lists = is_list(left.data_type()) || is_list(right_type);
    if matches!(binary.op, StringConcat | Minus) || is_of_lists && matches!(binary.op, AtArrow | ArrowAt) {
        return Ok(None);
    }
    let message = format!("operator does not exist: {} {} {}", type_of(&binary.left, schema), binary.op, type_of(&binary.right, schema));
    Err(into_datafusion(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(NO_SUCH_OPERATOR)))
}

fn is_json(field: &Field) -> bool {
    SqlType::from_field(field) == Some(SqlType::Json)
}

fn is_list(ty: &ArrowType) -> bool {
    matches!(ty, ArrowType::List(_) | ArrowType::LargeList(_))
}
