//! What a failed evaluation says: SQLSTATE and primary line out of DataFusion's and Arrow's errors, and which errors are
//! a row's own fault.

use super::words::in_postgres_words;
use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use eddyline_common::{SqlError, SqlState};

/// The error of an evaluation. Classes 21, 22 and 23 (data) are errors of a row, and so is what asks for too much (54000); all others are errors of the job.
pub fn evaluation_error(error: DataFusionError) -> SqlError {
    match error {
        DataFusionError::ArrowError(inner, _) => arrow_error(*inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => evaluation_error(*inner),
        DataFusionError::Execution(message) => invalid(&message),
        DataFusionError::NotImplemented(message) => SqlError::unsupported(primary_line(&message)),
        DataFusionError::External(inner) => match inner.downcast::<SqlError>() {
            Ok(error) => *error,
            Err(other) => invalid(&other.to_string()),
        },
        DataFusionError::Shared(inner) => SqlError::new(SqlState::INVALID_PARAMETER, primary_line(&inner.strip_backtrace())),
        other => SqlError::internal(primary_line(&other.strip_backtrace())),
    }
}

/// The same of an error of Arrow's.
pub fn arrow_error(error: ArrowError) -> SqlError {
    match error {
        ArrowError::DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(what) => {
            let what = what.strip_prefix("Overflow happened on: ").unwrap_or(&what);
            SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("value out of range: {}", primary_line(what)))
        }
        ArrowError::CastError(what) | ArrowError::ParseError(what) => {
            in_postgres_words(&what).unwrap_or_else(|| SqlError::new(SqlState::INVALID_TEXT, cast_message(&what)))
        }
        ArrowError::ComputeError(what) | ArrowError::InvalidArgumentError(what) => invalid(&what),
        ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
            Ok(error) => evaluation_error(*error),
            Err(other) => SqlError::new(SqlState::INVALID_PARAMETER, primary_line(&other.to_string())),
        },
        other => SqlError::internal(primary_line(&other.to_string())),
    }
}

/// What a function says of a value that does not suit it.
fn invalid(what: &str) -> SqlError {
    in_postgres_words(what).unwrap_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, primary_line(what)))
}

/// Whether the error lies in the data of a row, so that the row can be rejected and the rest go on.
pub fn is_row_error(error: &SqlError) -> bool {
    error.state == SqlState::PROGRAM_LIMIT_EXCEEDED || ["21", "22", "23"].iter().any(|class| error.state.0.starts_with(class))
}

/// PostgreSQL's words for text that is no value of the wanted type.
fn cast_message(what: &str) -> String {
    let parsed = what.strip_prefix("Cannot cast string '").and_then(|rest| {
        let (value, ty) = rest.rsplit_once("' to value of ")?;
        Some((value, ty.strip_suffix(" type").unwrap_or(ty)))
    });
    match parsed {
        Some((value, ty)) => format!("invalid input syntax for type {}: \"{value}\"", type_name(ty)),
        None => primary_line(what),
    }
}

fn type_name(arrow: &str) -> String {
    match arrow {
        "Int8" | "Int16" => "smallint".to_string(),
        "Int32" => "integer".to_string(),
        "Int64" => "bigint".to_string(),
        "Float32" => "real".to_string(),
        "Float64" => "double precision".to_string(),
        "Date32" => "date".to_string(),
        "Boolean" => "boolean".to_string(),
        other if other.starts_with("Decimal") => "numeric".to_string(),
        other if other.starts_with("Timestamp") => "timestamp".to_string(),
        other if other.starts_with("Time64") => "time".to_string(),
        other if other.starts_with("Interval") => "interval".to_string(),
        other => other.to_lowercase(),
    }
}

/// The first line, its first letter in lower case unless it starts an acronym, without a full stop.
fn primary_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim().trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => line.to_string(),
    }
}
