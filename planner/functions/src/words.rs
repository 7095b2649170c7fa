//! What functions and casts of DataFusion and Arrow say of values and arguments that do not suit them, as PostgreSQL says it: known
//! by their texts, as the errors have no kinds. It does not know where an error comes from.

use super::registry;
use datafusion::arrow::datatypes::DataType;
use datafusion::execution::FunctionRegistry;
use eddyline_common::postgres::parse;
use eddyline_common::{SqlError, SqlState, SqlType};

/// What to do where no function takes what it is given.
pub const NO_SUCH_FUNCTION: &str = "No function matches the given name and argument types. You might need to add explicit type casts.";

/// The same for an operator.
pub const NO_SUCH_OPERATOR: &str = "No operator matches the given name and argument types. You might need to add explicit type casts.";

/// What DataFusion and Arrow say in words of their own and PostgreSQL in others.
pub fn in_postgres_words(message: &str) -> Option<SqlError> {
    let known = [
        invalid_regex,
        numeric_overflow,
        no_such_function,
        no_such_operator,
        no_boolean,
        misplaced,
        failed_cast,
        no_text,
        no_such_part,
        no_range,
    ];
    known.into_iter().find_map(|known| known(message))
}

/// Two operands that an operator does not take.
fn no_such_operator(message: &str) -> Option<SqlError> {
    const HEADS: [&str; 3] =
        ["Cannot coerce arithmetic expression ", "common string type for string concat operation ", "common type for bitwise operation "];
    let like = || {
        let (left, rest) = message.split_once("There isn't a common type to coerce ")?.1.split_once(" and ")?;
        let (right, operator) = rest.split_once(" in ")?;
        let operator = if operator.starts_with("ILIKE") { "~~*" } else { "~~" };
        Some((left, operator, right))
    };
    let binary = || {
        let operation = HEADS.iter().find_map(|head| message.split_once(*head))?.1.lines().next()?;
        let operation = operation.split(" to valid types").next()?;
        const OPERATORS: [&str; 12] = ["+", "-", "*", "/", "%", "||", "&", "|", "#", "BIT_XOR", "<<", ">>"];
        OPERATORS.iter().find_map(|op| operation.split_once(&format!(" {op} ")).map(|(left, right)| (left, *op, right)))
    };
    let (left, operator, right) = binary().or_else(like)?;
    let error = format!("operator does not exist: {} {operator} {}", shown_type(left), shown_type(right));
    Some(SqlError::new(SqlState::UNDEFINED_FUNCTION, error).with_hint(NO_SUCH_OPERATOR))
}

/// A condition that is none.
fn no_boolean(message: &str) -> Option<SqlError> {
    let after = |head: &str| message.split_once(head).map(|(_, rest)| rest.lines().next().unwrap_or_default());
    let (clause, ty) = if let Some(rest) = after("Cannot create filter with non-boolean predicate '") {
        let (predicate, ty) = rest.rsplit_once("' returning ")?;
        (if calls_aggregate(predicate) { "HAVING" } else { "WHERE" }, ty)
    } else if let Some(rest) = after("oin condition must be boolean type, but got ") {
        ("JOIN/ON", rest)
    } else if let Some(rest) = after("Unary operator 'NOT' requires a boolean expression, got ") {
        ("NOT", rest)
    } else {
        let operation = after("common argument type for logical boolean operation ")?;
        let (clause, (left, right)) = ["AND", "OR"].into_iter().find_map(|op| Some((op, operation.split_once(&format!(" {op} "))?)))?;
        (clause, if matches!(left, "Boolean" | "Null") { right } else { left })
    };
    let message = format!("argument of {clause} must be type boolean, not type {}", shown_type(ty));
    Some(SqlError::new(SqlState::DATATYPE_MISMATCH, message))
}

/// Only HAVING asks aggregates for a truth.
fn calls_aggregate(predicate: &str) -> bool {
    let name =
        |call: &str| call.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().is_some_and(|name| registry().udaf(name).is_ok());
    predicate.match_indices('(').any(|(at, _)| name(&predicate[..at]))
}

/// What stands where it may not: columns beside aggregates, positions in ORDER BY, limits.
fn misplaced(message: &str) -> Option<SqlError> {
    let between = |from: &str, to: &str| Some(message.split_once(from)?.1.split_once(to)?.0);
    let known = |state: &'static str, message: String| Some(SqlError::new(SqlState(state), message));
    if let Some(column) = between("column \"", "\" must appear in the GROUP BY clause or must be part of an aggregate function") {
        return known("42803", format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"));
    }
    if message.contains("For SELECT DISTINCT, ORDER BY expressions ") {
        return known("42P10", "for SELECT DISTINCT, ORDER BY expressions must appear in select list".to_string());
    }
    if let Some(position) = between("Order by column out of bounds, specified: ", ",") {
        return known("42P10", format!("ORDER BY position {position} is not in select list"));
    }
    if let Some(position) = between("Cannot find column with position ", " in SELECT clause") {
        return known("42P10", format!("GROUP BY position {position} is not in select list"));
    }
    if message.contains("Aggregate function calls cannot be nested") {
        return known("42803", "aggregate function calls cannot be nested".to_string());
    }
    if message.contains("subquery should only return one column") {
        return known("42601", "subquery must return only one column".to_string());
    }
    if message.contains("Inconsistent data length across values list") {
        return known("42601", "VALUES lists must all be the same length".to_string());
    }
    if let Some((clause, given)) = message.split_once(" to be an integer or null, but got ") {
        let clause = if clause.ends_with("OFFSET") { "OFFSET" } else { "LIMIT" };
        let ty = shown_type(given.lines().next().unwrap_or_default());
        return known("42804", format!("argument of {clause} must be type bigint, not type {ty}"));
    }
    if message.contains("LIMIT must be >= 0, ") {
        return known("2201W", "LIMIT must not be negative".to_string());
    }
    if message.contains("OFFSET must be >=0, ") {
        return known("2201X", "OFFSET must not be negative".to_string());
    }
    let qualifier = message.split_once("Invalid qualifier ")?.1.lines().next()?;
    known("42P01", format!("missing FROM-clause entry for table \"{qualifier}\""))
}

/// A value that cannot be cast, in the names that Arrow has for types.
fn failed_cast(message: &str) -> Option<SqlError> {
    let line = message.lines().next()?;
    let rest_of = |head: &str| line.split_once(head).map(|(_, rest)| rest);
    let number = rest_of("Can't cast value ").and_then(|rest| rest.split_once(" to type "));
    let decimal = || rest_of("value of ").and_then(|rest| rest.split_once(" is out of range "));
    if let Some((_, ty)) = number.or_else(decimal) {
        return Some(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{} out of range", shown_type(ty))));
    }
    let (text, ty) = rest_of("Cannot cast string '").or_else(|| rest_of("Cannot cast value '"))?.rsplit_once("' to value of ")?;
    let ty = shown_type(ty.trim_end_matches(" type"));
    Some(no_integer(text, &ty).unwrap_or_else(|| parse::invalid(&ty, text)))
}

/// Bytes that are no text.
fn no_text(message: &str) -> Option<SqlError> {
    let message = message.to_ascii_lowercase();
    let is_one = message.contains("invalid utf-8 sequence") || message.contains("incomplete utf-8 byte sequence");
    is_one.then(|| SqlError::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\""))
}

/// A part that times of a type do not have, in the names that Arrow has for parts.
fn no_such_part(message: &str) -> Option<SqlError> {
    let (part, ty) = message.lines().next()?.split_once(" does not support: ")?;
    let part = match part.rsplit(": ").next().filter(|part| part.chars().all(char::is_alphanumeric))? {
        "DayOfWeekSunday0" => "dow".to_string(),
        "DayOfWeekMonday1" => "isodow".to_string(),
        "DayOfYear" => "doy".to_string(),
        "WeekISO" => "week".to_string(),
        "YearISO" => "isoyear".to_string(),
        other => other.to_lowercase(),
    };
    Some(SqlError::unsupported(format!("unit \"{part}\" not supported for type {}", shown_type(ty))))
}

/// A window in the order of values that have no distances.
fn no_range(message: &str) -> Option<SqlError> {
    let ty = message.split_once("Cannot run range queries on datatype: ")?.1.lines().next()?.trim_end_matches('.');
    let error = SqlError::unsupported(format!("a RANGE frame in the order of values of type {} is not supported", shown_type(ty)));
    Some(error.with_hint("Say ROWS; without a frame it is RANGE UNBOUNDED PRECEDING."))
}

/// What is wrong with a text that is no integer of a type; `None` for other types.
fn no_integer(text: &str, ty: &str) -> Option<SqlError> {
    match ty {
        "smallint" => parse::integer::<i16>(text.trim(), ty).err(),
        "integer" => parse::integer::<i32>(text.trim(), ty).err(),
        "bigint" => parse::integer::<i64>(text.trim(), ty).err(),
        _ => None,
    }
}

/// A number that a numeric has no room for.
pub fn numeric_overflow(message: &str) -> Option<SqlError> {
    let (precision, scale): (usize, usize) = match message.split_once(" to store in a Decimal") {
        Some((_, rest)) => {
            let (precision, bound) = rest.split_once(" of precision ")?.1.split_once(". M")?;
            let fraction = bound.split_whitespace().last()?.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            (precision.parse().ok()?, fraction)
        }
        None => {
            let (ty, fault) = message.split_once("Cannot cast to Decimal")?.1.split_once(')')?;
            let (precision, scale) = ty.split_once('(')?.1.split_once(", ").filter(|_| fault.contains("verflow"))?;
            (precision.parse().ok()?, scale.parse().ok()?)
        }
    };
    let bound = match precision.saturating_sub(scale) {
        0 => "1".to_string(),
        digits => format!("10^{digits}"),
    };
    let detail = format!("A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}.");
    Some(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric field overflow").with_detail(detail))
}

/// A call of a function that takes no such arguments. Where types are bound DataFusion tells them, later it does not.
fn no_such_function(message: &str) -> Option<SqlError> {
    let between = |from: &str, to: &str| Some(message.split_once(from)?.1.split_once(to)?.0);
    let bound = between("No function matches the given name and argument types '", "'. You might").map(shown_call);
    let coerced = || {
        let name = between("arguments to satisfy a call to '", "' function")?;
        Some(shown_call(&format!("{name}({})", between("coercion from ", " to the signature")?)))
    };
    let named = || between("Function '", "' failed to match any signature").map(str::to_string);
    let call = bound.or_else(coerced).or_else(named)?;
    Some(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {call} does not exist")).with_hint(NO_SUCH_FUNCTION))
}

/// A call over Arrow's types as one over SQL's.
fn shown_call(call: &str) -> String {
    let Some((name, types)) = call.strip_suffix(')').and_then(|call| call.split_once('(')) else { return call.to_string() };
    let mut depth = 0;
    let types = types.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    format!("{name}({})", types.map(shown_type).collect::<Vec<_>>().join(", "))
}

/// A type of Arrow's as SQL's.
fn shown_type(ty: &str) -> String {
    match ty.trim() {
        "Int8" => "smallint".to_string(),
        time if time.starts_with("Time32") || time.starts_with("Time64") => "time".to_string(),
        short if short.starts_with("Decimal") && !short.contains('(') => "numeric".to_string(),
        long => match long.parse::<DataType>().ok().and_then(|ty| SqlType::from_arrow(&ty)) {
            Some(ty) => ty.to_string(),
            None => long.to_string(),
        },
    }
}

/// What the parser of regular expressions has to say, in whatever words it is quoted.
pub fn invalid_regex(message: &str) -> Option<SqlError> {
    // Quoted with its escapes where the error was printed for programmers.
    let message = message[message.find("regex parse error")?..].replace("\\n", "\n");
    let reason = message.lines().find_map(|line| line.trim_start().strip_prefix("error: ")).unwrap_or("syntax error");
    let reason = reason.trim_end_matches(|c: char| !c.is_alphanumeric());
    Some(SqlError::new(SqlState("2201B"), format!("invalid regular expression: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_others_become_those_of_postgres() {
        let shown = |message: &str| in_postgres_words(message).map(|e| (e.state.0, e.message, e.detail));
        let overflow = |bound: &str| {
            let detail = format!("A field with precision 5, scale 3 must round to an absolute value less than {bound}.");
            Some(("22003", "numeric field overflow".to_string(), Some(detail)))
        };
        assert_eq!(shown("123.456 is too large to store in a Decimal128 of precision 5. Max is 99.999"), overflow("10^2"));
        assert_eq!(shown("Cannot cast to Decimal128(5, 3). Overflowing on 123456"), overflow("10^2"));
        let regex = "Regular expression did not compile: Syntax(\n~~~\nregex parse error:\n    (\n    ^\nerror: unclosed group\n~~~\n)";
        assert_eq!(shown(regex), Some(("2201B", "invalid regular expression: unclosed group".to_string(), None)));
        let missing = |call: &str| Some(("42883", format!("function {call} does not exist"), None));
        let call = "No function matches the given name and argument types 'round(Utf8, Decimal128(5, 2))'. You might need to add explicit type casts.";
        assert_eq!(shown(call), missing("round(text, numeric(5,2))"));
        assert_eq!(shown("Function 'abs' failed to match any signature, errors: x"), missing("abs"));
        let other = |state: &'static str, message: &str| Some((state, message.to_string(), None));
        let coerced = "Cannot coerce arithmetic expression Utf8 + Int32 to valid types";
        assert_eq!(shown(coerced), other("42883", "operator does not exist: text + integer"));
        let concat = "Cannot infer common string type for string concat operation Int32 || Int32";
        assert_eq!(shown(concat), other("42883", "operator does not exist: integer || integer"));
        let filter = |predicate: &str| format!("Cannot create filter with non-boolean predicate '{predicate}' returning Int32");
        assert_eq!(shown(&filter("CAST(Int64(1) AS Int32)")), other("42804", "argument of WHERE must be type boolean, not type integer"));
        assert_eq!(shown(&filter("sum(t.a)")), other("42804", "argument of HAVING must be type boolean, not type integer"));
        assert_eq!(shown("Can't cast value 40000 to type Int16"), other("22003", "smallint out of range"));
        let boolean = "Cannot cast value 'zz' to value of Boolean type";
        assert_eq!(shown(boolean), other("22P02", "invalid input syntax for type boolean: \"zz\""));
        let integer = |text: &str| format!("Cannot cast string '{text}' to value of Int32 type");
        assert_eq!(shown(&integer("99999999999")), other("22003", "value \"99999999999\" is out of range for type integer"));
        assert_eq!(shown(&integer("1.5")), other("22P02", "invalid input syntax for type integer: \"1.5\""));
        let offset = "Expected OFFSET to be an integer or null, but got Utf8";
        assert_eq!(shown(offset), other("42804", "argument of OFFSET must be type bigint, not type text"));
        assert_eq!(shown("division by zero"), None);
        for part in ["DayOfWeekSunday0", "Compute error: DayOfWeekSunday0"] {
            let part = format!("{part} does not support: Interval(MonthDayNano)");
            assert_eq!(shown(&part), other("0A000", "unit \"dow\" not supported for type interval"));
        }
        let bytes = "Encountered non UTF-8 data: invalid utf-8 sequence of 1 bytes from index 0";
        assert_eq!(shown(bytes), other("22021", "invalid byte sequence for encoding \"UTF8\""));
    }
}
