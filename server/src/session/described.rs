//! Statements whose format says a part of them: it is asked before they are planned, on a thread that may block.

use super::Session;
use eddyline_common::{Result, SqlError};
use eddyline_planner::{FormatRequest, Parsed};

impl Session {
    /// What a statement has to ask its format for: nothing for what exists already.
    pub(super) fn format_request(&self, parsed: &Parsed) -> Option<FormatRequest> {
        parsed.format_request().filter(|_| parsed.existing(&self.catalog()).is_none())
    }
}

/// The statement with what its format says; `None` if it says all itself.
pub async fn described(parsed: &Parsed, request: Option<FormatRequest>) -> Result<Option<Parsed>> {
    let Some(request) = request else { return Ok(None) };
    let describe = move || eddyline_connectors::format::describe(&request.options, request.wants_columns);
    let described = tokio::task::spawn_blocking(describe).await;
    let description = described.map_err(|e| SqlError::internal(format!("the format failed: {e}")))??;
    Ok(Some(parsed.with_format(description.options, description.columns)))
}
