//! Turns the errors of the parser and of DataFusion into `SqlError`: SQLSTATE, a lower-case primary
//! line, a hint with the nearest name, and a position in characters of the text as the client sent it.

pub use crate::functions::error::into_datafusion;
use crate::functions::words::in_postgres_words;
use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;
use eddyline_common::{SqlError, SqlState};
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

    pub fn as_str(&self) -> &str {
        &self.text
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

/// The message of a statement that breaks off. Its place is where the statement ends.
pub const END_OF_INPUT: &str = "syntax error at end of input";

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
        Some((expected, "EOF")) => SqlError::new(SqlState::SYNTAX_ERROR, END_OF_INPUT).with_detail(sentence(expected)),
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
        ArithmeticOverflow(what) => {
            let what = what.strip_prefix("Overflow happened on: ").unwrap_or(what);
            SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("value out of range: {}", lower_first(what)))
        }
        CastError(what) | ParseError(what) => {
            in_postgres_words(what).unwrap_or_else(|| SqlError::new(SqlState::INVALID_TEXT, lower_first(what)))
        }
        // A kernel that values do not suit.
        ComputeError(what) => {
            in_postgres_words(what).unwrap_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, lower_first(first_line(what))))
        }
        other => in_postgres_words(&other.to_string()).unwrap_or_else(|| SqlError::internal(other)),
    }
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}
