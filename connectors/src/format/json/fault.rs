//! Why a record is refused, in words that name the column, the path below it and the value.

use super::numbers::NumberFault;
use eddyline_common::SqlType;

/// Why a record is refused: it is no JSON, or a value does not fit at a path below its column.
pub enum Fault {
    Malformed(String),
    Value { path: String, reason: String },
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Malformed(reason)
    }
}

impl Fault {
    #[cold]
    pub fn value(reason: impl Into<String>) -> Self {
        Fault::Value { path: String::new(), reason: reason.into() }
    }

    pub fn below(self, step: impl FnOnce() -> String) -> Self {
        match self {
            Fault::Value { path, reason } => Fault::Value { path: step() + &path, reason },
            malformed => malformed,
        }
    }

    pub fn in_column(self, name: &str) -> String {
        match self {
            Fault::Malformed(reason) => reason,
            Fault::Value { path, reason } => format!("column {name}{path}: {reason}"),
        }
    }
}

#[cold]
pub fn wrong(ty: &SqlType, what: &str) -> Fault {
    Fault::value(format!("{what} where {ty} is expected"))
}

/// Characters of a value that a reason shows.
const SHOWN_CHARS_MAX: usize = 60;

#[cold]
pub fn not_of(ty: &SqlType, text: &str, fault: NumberFault) -> Fault {
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    Fault::value(match fault {
        NumberFault::Malformed => format!("\"{shown}\" is not {}", ty.with_article()),
        NumberFault::Fraction => format!("{shown} is not a whole number, which {ty} is"),
        NumberFault::Range => format!("{shown} is out of range for {ty}"),
    })
}
