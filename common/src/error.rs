//! The one error that crosses part boundaries: SQLSTATE, primary line, DETAIL, HINT, position.
//! Broken invariants are assertions, not errors; a bad record is data with a reason.

use std::any::Any;
use std::fmt;

pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// A five-character SQLSTATE (PostgreSQL, Appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    pub const SUCCESS: SqlState = SqlState("00000");
    pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState("0A000");
    pub const PROTOCOL_VIOLATION: SqlState = SqlState("08P01");
    pub const CONNECTION_FAILURE: SqlState = SqlState("08006");
    pub const CARDINALITY_VIOLATION: SqlState = SqlState("21000");
    pub const STRING_TRUNCATION: SqlState = SqlState("22001");
    pub const NUMERIC_OUT_OF_RANGE: SqlState = SqlState("22003");
    pub const DIVISION_BY_ZERO: SqlState = SqlState("22012");
    pub const INTERVAL_FIELD_OVERFLOW: SqlState = SqlState("22015");
    pub const BAD_CHARACTER: SqlState = SqlState("22021");
    pub const INVALID_PARAMETER: SqlState = SqlState("22023");
    pub const INVALID_TEXT: SqlState = SqlState("22P02");
    pub const BAD_COPY_FORMAT: SqlState = SqlState("22P04");
    pub const NOT_NULL_VIOLATION: SqlState = SqlState("23502");
    pub const UNIQUE_VIOLATION: SqlState = SqlState("23505");
    pub const ACTIVE_TRANSACTION: SqlState = SqlState("25001");
    pub const NO_ACTIVE_TRANSACTION: SqlState = SqlState("25P01");
    pub const FAILED_TRANSACTION: SqlState = SqlState("25P02");
    pub const INVALID_STATEMENT_NAME: SqlState = SqlState("26000");
    pub const DEPENDENT_OBJECTS: SqlState = SqlState("2BP01");
    pub const INVALID_CATALOG_NAME: SqlState = SqlState("3D000");
    pub const INVALID_CURSOR_NAME: SqlState = SqlState("34000");
    pub const INVALID_SCHEMA_NAME: SqlState = SqlState("3F000");
    pub const SERIALIZATION_FAILURE: SqlState = SqlState("40001");
    pub const STATEMENT_COMPLETION_UNKNOWN: SqlState = SqlState("40003");
    pub const SYNTAX_ERROR: SqlState = SqlState("42601");
    pub const INSUFFICIENT_PRIVILEGE: SqlState = SqlState("42501");
    pub const INVALID_NAME: SqlState = SqlState("42602");
    pub const NAME_TOO_LONG: SqlState = SqlState("42622");
    pub const UNDEFINED_COLUMN: SqlState = SqlState("42703");
    pub const UNDEFINED_OBJECT: SqlState = SqlState("42704");
    pub const DUPLICATE_COLUMN: SqlState = SqlState("42701");
    pub const AMBIGUOUS_COLUMN: SqlState = SqlState("42702");
    pub const INVALID_COLUMN_REFERENCE: SqlState = SqlState("42P10");
    pub const DUPLICATE_OBJECT: SqlState = SqlState("42710");
    pub const GROUPING_ERROR: SqlState = SqlState("42803");
    pub const WINDOWING_ERROR: SqlState = SqlState("42P20");
    pub const DATATYPE_MISMATCH: SqlState = SqlState("42804");
    pub const WRONG_OBJECT_TYPE: SqlState = SqlState("42809");
    pub const UNDEFINED_FUNCTION: SqlState = SqlState("42883");
    pub const UNDEFINED_TABLE: SqlState = SqlState("42P01");
    pub const DUPLICATE_CURSOR: SqlState = SqlState("42P03");
    pub const DUPLICATE_TABLE: SqlState = SqlState("42P07");
    pub const INVALID_TABLE_DEFINITION: SqlState = SqlState("42P16");
    pub const INVALID_OBJECT_DEFINITION: SqlState = SqlState("42P17");
    pub const TOO_MANY_CONNECTIONS: SqlState = SqlState("53300");
    pub const DISK_FULL: SqlState = SqlState("53100");
    pub const LIMIT_EXCEEDED: SqlState = SqlState("53400");
    pub const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState("54000");
    pub const TOO_COMPLEX: SqlState = SqlState("54001");
    pub const OBJECT_NOT_READY: SqlState = SqlState("55000");
    pub const OBJECT_IN_USE: SqlState = SqlState("55006");
    pub const QUERY_CANCELED: SqlState = SqlState("57014");
    pub const ADMIN_SHUTDOWN: SqlState = SqlState("57P01");
    pub const IO_ERROR: SqlState = SqlState("58030");
    pub const SNAPSHOT_TOO_OLD: SqlState = SqlState("72000");
    pub const INTERNAL_ERROR: SqlState = SqlState("XX000");
    pub const DATA_CORRUPTED: SqlState = SqlState("XX001");
}

/// An error as a client sees it. `message` is lower case without a full stop; `detail` and `hint`
/// are sentences; `position` counts characters of the statement from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub state: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub position: Option<usize>,
    pub about: Option<Box<About>>,
}

/// What of which table an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub table: String,
    pub column: Option<String>,
    pub constraint: Option<String>,
}

impl SqlError {
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        SqlError { state, message: message.into(), detail: None, hint: None, position: None, about: None }
    }

    /// Back from what `Display` made of an error, as far as it says; any other text is a message of the state `otherwise`.
    pub fn from_shown(shown: &str, otherwise: SqlState) -> Self {
        let parts = shown.split_once(" (SQLSTATE ").and_then(|(message, rest)| Some((message, rest.split_once(')')?)));
        let Some((message, (code, rest))) = parts.filter(|(_, (code, _))| code.len() == 5) else { return SqlError::new(otherwise, shown) };
        let (detail, hint) = rest.split_once(" HINT: ").map_or((rest, None), |(detail, hint)| (detail, Some(hint.to_string())));
        let detail = detail.strip_prefix(" DETAIL: ").map(String::from);
        // Five bytes are never freed; few errors are read back.
        let state = SqlState(Box::leak(code.to_string().into_boxed_str()));
        SqlError { detail, hint, ..SqlError::new(state, message) }
    }

    /// What a client is told though nothing is wrong.
    pub fn notice(message: impl Into<String>) -> Self {
        Self::new(SqlState::SUCCESS, message)
    }

    /// The notice that takes an error's place where the statement says that it is none.
    pub fn skipped(self) -> Self {
        SqlError { message: self.message + ", skipping", ..self }
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, message)
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message.to_string())
    }

    pub fn io(message: impl fmt::Display) -> Self {
        Self::new(SqlState::IO_ERROR, message.to_string())
    }

    pub fn corrupt(message: impl fmt::Display) -> Self {
        Self::new(SqlState::DATA_CORRUPTED, message.to_string())
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn with_column(mut self, table: &str, column: &str) -> Self {
        self.about = Some(Box::new(About { table: table.to_string(), column: Some(column.to_string()), constraint: None }));
        self
    }

    pub fn with_constraint(mut self, table: &str, constraint: &str) -> Self {
        self.about = Some(Box::new(About { table: table.to_string(), column: None, constraint: Some(constraint.to_string()) }));
        self
    }

    pub fn with_position(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.state.0)?;
        if let Some(detail) = &self.detail {
            write!(f, " DETAIL: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " HINT: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

impl From<std::io::Error> for SqlError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => SqlError::new(SqlState::DISK_FULL, error.to_string())
                .with_hint("Free some space on the data directory's file system; work resumes by itself."),
            _ => SqlError::io(error),
        }
    }
}

/// What was said as something panicked.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_string())
}

/// Arrow's words about a text that is no timestamp.
const UNREADABLE_TIME: &str = "Error parsing timestamp from '";

fn unreadable_time(what: &str) -> SqlError {
    let text = what.strip_prefix(UNREADABLE_TIME).and_then(|rest| rest.rsplit_once("': ")).map_or("", |(text, _)| text);
    SqlError::new(SqlState("22007"), format!("invalid input syntax for type timestamp: \"{text}\""))
}

impl From<arrow::error::ArrowError> for SqlError {
    fn from(error: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError::*;
        match error {
            DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
            ArithmeticOverflow(what) => SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, what.to_lowercase()),
            ParseError(what) if what.starts_with(UNREADABLE_TIME) => unreadable_time(&what),
            CastError(what) | ParseError(what) => SqlError::new(SqlState::INVALID_TEXT, what),
            other => SqlError::internal(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_error_is_read_back() {
        let plain = SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero");
        let full = plain.clone().with_detail("Of 1 by 0.").with_hint("Do not.");
        for error in [plain.clone(), plain.clone().with_hint("Do not."), full] {
            assert_eq!(SqlError::from_shown(&error.to_string(), SqlState::OBJECT_NOT_READY), error);
        }
        assert_eq!(SqlError::from_shown("division by zero (SQLSTATE 22012) (SQLSTATE 55000)", SqlState::OBJECT_NOT_READY), plain);
        let other = SqlError::from_shown("it is broken", SqlState::OBJECT_NOT_READY);
        assert_eq!((other.state, other.message.as_str()), (SqlState::OBJECT_NOT_READY, "it is broken"));
    }
}
