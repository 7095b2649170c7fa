//! Statements whose format says a part of them: it is asked before they are planned, on a thread that may block.

use eddyline_common::{Result, SqlError};
use eddyline_planner::Parsed;

/// The statement with what its format says; `None` if it says all itself.
pub async fn described(parsed: &Parsed) -> Result<Option<Parsed>> {
    let Some(request) = parsed.format_request() else { return Ok(None) };
    let describe = move || eddyline_connectors::format::protobuf::describe(&request.options, request.wants_columns);
    let described = tokio::task::spawn_blocking(describe).await;
    let description = described.map_err(|e| SqlError::internal(format!("the format failed: {e}")))??;
    Ok(Some(parsed.with_format(description.options, description.columns)))
}
