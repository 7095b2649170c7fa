//! How a failed file operation reads in an error: what was tried, on which path, and why it failed. A full disk
//! keeps its own SQLSTATE and hint.

use eddyline_common::SqlError;
use std::io;
use std::path::Path;

/// For `map_err`: `cannot <action> "<path>": <cause>`.
pub(crate) fn failed<'a>(action: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> SqlError + 'a {
    move |error| {
        let mut error = SqlError::from(error);
        error.message = format!("cannot {action} \"{}\": {}", path.display(), error.message);
        error
    }
}
