//! Turns the errors of the parser and of DataFusion into `SqlError`: SQLSTATE, a lower-case primary
//! line, a hint with the nearest name, and a position in characters of the text as the client sent it.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;
use eddyline_common::{SqlError, SqlState, SqlType};
use std::sync::Arc;

/// The whole text a statement came in, for positions and for cutting out its parts.
#[derive(Clone, Debug)]
pub struct SourceText {
    text: Arc<str>,
    /// Byte offset of each line's start.
    lines: Arc<[usize]>,
}

impl SourceText {
    pub fn new(sql: &str) -> Self {
        let lines = std::iter::once(0).chain(sql.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect();
        SourceText { text: sql.into(), lines }
    }

    /// Character offset from 1 of a location; `None` for the parser's "nowhere". Walks the text.
    pub fn position(&self, location: Location) -> Option<usize> {
        if location.line == 0 {
            return None;
        }
        Some(self.text[..self.byte_offset(location)].chars().count() + 1)
    }

    /// The text between two locations, the second excluded.
    pub fn slice(&self, start: Location, end: Location) -> &str {
        let from = self.byte_offset(start);
        let to = self.byte_offset(end).max(from);
        &self.text[from..to]
    }

    fn byte_offset(&self, location: Location) -> usize {
        let Some(start) = self.lines.get((location.line.max(1) - 1) as usize) else { return self.text.len() };
        let column = location.column.max(1) as usize - 1;
        self.text[*start..].char_indices().nth(column).map_or(self.text.len(), |(byte, _)| start + byte)
    }

    pub fn at(&self, error: SqlError, location: Location) -> SqlError {
        match self.position(location) {
            Some(position) if error.position.is_none() => error.with_position(position),
            _ => error,
        }
    }
}

/// The folded name of an identifier: lower case unless quoted.
pub fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// Adds `Perhaps you meant "x".` when a known name is near.
pub fn suggest<'a>(error: SqlError, wrong: &str, known: impl IntoIterator<Item = &'a str>) -> SqlError {
    match nearest(wrong, known) {
        Some(name) => error.with_hint(format!("Perhaps you meant \"{name}\".")),
        None => error,
    }
}

/// The known name with the smallest edit distance, if that is at most a third of its length.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.chars().count().max(wrong.chars().count()) / 3).max(1))
        .min_by_key(|(distance, name)| (*distance, *name))
        .map(|(_, name)| name)
}

/// A syntax error as PostgreSQL words it. sqlparser puts the place into its message only.
pub fn from_parser(error: ParserError, text: &SourceText) -> SqlError {
    let message = match error {
        ParserError::RecursionLimitExceeded => return too_deep(),
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
    };
    let (message, location) = match message.rfind(" at Line: ") {
        Some(at) => (message[..at].to_string(), parse_location(&message[at..])),
        None => (message, None),
    };
    let error = match message.split_once(", found: ") {
        Some((expected, "EOF")) => SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input").with_detail(sentence(expected)),
        Some((expected, found)) => {
            SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{found}\"")).with_detail(sentence(expected))
        }
        None => SqlError::new(SqlState::SYNTAX_ERROR, lower_first(&message)),
    };
    match location {
        Some(location) => text.at(error, location),
        None => error,
    }
}

pub fn too_deep() -> SqlError {
    SqlError::new(SqlState::TOO_COMPLEX, "statement is too complex: nested too deeply")
        .with_hint("Break the expression into common table expressions, or use IN for long lists of alternatives.")
}

fn parse_location(text: &str) -> Option<Location> {
    let rest = text.strip_prefix(" at Line: ")?;
    let (line, column) = rest.split_once(", Column: ")?;
    let column: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some(Location { line: line.trim().parse().ok()?, column: column.parse().ok()? })
}

fn sentence(expected: &str) -> String {
    let expected = expected.strip_prefix("Expected: ").or_else(|| expected.strip_prefix("Expected ")).unwrap_or(expected);
    format!("Expected {}.", expected.trim_end_matches('.'))
}

/// Lower-cases the first letter unless the word is all upper case, and drops the final stop.
pub fn lower_first(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let mut chars = message.chars();
    match (chars.next(), message.chars().nth(1)) {
        (Some(first), second) if first.is_uppercase() && !second.is_some_and(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => message.to_string(),
    }
}

/// What DataFusion's binder, analyzer or optimizer had to say.
pub fn from_datafusion(error: DataFusionError, text: Option<&SourceText>) -> SqlError {
    let mut location = None;
    let converted = convert(&error, &mut location);
    match (text, location) {
        (Some(text), Some(location)) => text.at(converted, location),
        _ => converted,
    }
}

fn convert(error: &DataFusionError, location: &mut Option<Location>) -> SqlError {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<SqlError>() {
            Some(ours) => ours.clone(),
            None => in_postgres_words(&inner.to_string()).unwrap_or_else(|| SqlError::internal(inner)),
        },
        DataFusionError::Context(_, inner) => convert(inner, location),
        DataFusionError::Shared(inner) => convert(inner, location),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => convert(first, location),
            None => SqlError::internal("no error"),
        },
        DataFusionError::Diagnostic(diagnostic, inner) => {
            if let Some(span) = diagnostic.span {
                *location = Some(Location { line: span.start.line, column: span.start.column });
            }
            convert(inner, location)
        }
        DataFusionError::SchemaError(inner, _) => from_schema(inner, location),
        DataFusionError::SQL(inner, _) => SqlError::new(SqlState::SYNTAX_ERROR, lower_first(&inner.to_string())),
        DataFusionError::NotImplemented(message) => SqlError::unsupported(lower_first(first_line(message))),
        DataFusionError::Plan(message) => from_plan_message(message),
        DataFusionError::ArrowError(inner, _) => clone_arrow(inner),
        DataFusionError::Internal(message) => {
            in_postgres_words(message).unwrap_or_else(|| SqlError::internal(lower_first(first_line(message))))
        }
        other => {
            let text = other.strip_backtrace();
            let known = quoted(&text).or_else(|| in_postgres_words(&text));
            known.unwrap_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, lower_first(first_line(&text))))
        }
    }
}

fn from_schema(error: &SchemaError, location: &mut Option<Location>) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            if let (None, Some(span)) = (&location, field.spans().first()) {
                *location = Some(Location { line: span.start.line, column: span.start.column });
            }
            let shown = match &field.relation {
                Some(relation) => format!("column {}.{} does not exist", relation.table(), field.name),
                None => format!("column \"{}\" does not exist", field.name),
            };
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, shown);
            suggest(error, &field.name, valid_fields.iter().map(|c| c.name.as_str()))
        }
        SchemaError::AmbiguousReference { field } => {
            SqlError::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name))
                .with_hint("Write the table's name or alias in front of it.")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"))
                .with_hint("Give the columns different names with AS.")
        }
    }
}

/// An error of ours that DataFusion has put into words of its own.
fn quoted(message: &str) -> Option<SqlError> {
    let (text, rest) = message.split_once("External error: ")?.1.split_once(" (SQLSTATE ")?;
    let state = match rest.get(..5)? {
        "42883" => SqlState::UNDEFINED_FUNCTION,
        "42804" => SqlState::DATATYPE_MISMATCH,
        _ => return None,
    };
    let error = SqlError::new(state, text);
    let hint = rest.split_once(" HINT: ").map(|(_, hint)| hint.split(" No function matches").next().unwrap_or(hint).trim_end());
    Some(match hint {
        Some(hint) => error.with_hint(format!("{}.", hint.trim_end_matches('.'))),
        None => error,
    })
}

/// What DataFusion and Arrow say in words of their own and PostgreSQL in others.
pub fn in_postgres_words(message: &str) -> Option<SqlError> {
    invalid_regex(message).or_else(|| numeric_overflow(message)).or_else(|| no_such_function(message))
}

/// A number that a numeric has no room for.
fn numeric_overflow(message: &str) -> Option<SqlError> {
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
    let hint = "No function matches the given name and argument types. You might need to add explicit type casts.";
    Some(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {call} does not exist")).with_hint(hint))
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

fn from_plan_message(message: &str) -> SqlError {
    if let Some(error) = quoted(message) {
        return error;
    }
    if let Some(error) = in_postgres_words(message) {
        return error;
    }
    let line = first_line(message);
    let lower = line.to_lowercase();
    let state = if lower.contains("no function matches") || lower.contains("failed to coerce") || lower.contains("signature") {
        SqlState::UNDEFINED_FUNCTION
    } else if lower.contains("coerc") || lower.contains("cannot infer common") || lower.contains("cannot cast") {
        SqlState::DATATYPE_MISMATCH
    } else if lower.contains("group by") || lower.contains("aggregate") {
        SqlState::GROUPING_ERROR
    } else if lower.contains("invalid function") {
        SqlState::UNDEFINED_FUNCTION
    } else if lower.contains("same name") {
        SqlState::DUPLICATE_COLUMN
    } else {
        SqlState::SYNTAX_ERROR
    };
    SqlError::new(state, lower_first(line))
}

fn clone_arrow(error: &datafusion::arrow::error::ArrowError) -> SqlError {
    use datafusion::arrow::error::ArrowError::*;
    match error {
        DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArithmeticOverflow(what) => SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, what.to_lowercase()),
        CastError(what) | ParseError(what) => {
            numeric_overflow(what).unwrap_or_else(|| SqlError::new(SqlState::INVALID_TEXT, lower_first(what)))
        }
        other => in_postgres_words(&other.to_string()).unwrap_or_else(|| SqlError::internal(other)),
    }
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// Our error inside DataFusion's, for the traits we implement for it.
pub fn into_datafusion(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
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
