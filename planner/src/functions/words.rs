//! What functions and casts of DataFusion and Arrow say of values and arguments that do not suit them, as PostgreSQL says it: known
//! by their texts, as the errors have no kinds. It does not know where an error comes from.

use datafusion::arrow::datatypes::DataType;
use eddyline_common::{SqlError, SqlState, SqlType};

/// What to do where no function takes what it is given.
pub const NO_SUCH_FUNCTION: &str = "No function matches the given name and argument types. You might need to add explicit type casts.";

/// What DataFusion and Arrow say in words of their own and PostgreSQL in others.
pub fn in_postgres_words(message: &str) -> Option<SqlError> {
    invalid_regex(message).or_else(|| numeric_overflow(message)).or_else(|| no_such_function(message))
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
    let shown = |ty: &str| match ty.trim().parse::<DataType>().ok().and_then(|ty| SqlType::from_arrow(&ty)) {
        Some(ty) => ty.to_string(),
        None => ty.trim().to_string(),
    };
    format!("{name}({})", types.map(shown).collect::<Vec<_>>().join(", "))
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
        assert_eq!(shown("division by zero"), None);
    }
}
