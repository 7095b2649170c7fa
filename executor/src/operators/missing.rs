//! Retractions of rows that state does not know, because they were forgotten: they change nothing, and go to the side.

use crate::layout::RowLayout;
use crate::operator::StepContext;
use crate::operators::scan::assemble;
use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use eddyline_common::{ChangeBatch, Result};
use eddyline_storage::state::{KeyedRows, RowChunk};

/// Takes them out of what the step did to `rows`. When all of its changes are in.
pub(super) fn ignore_missing(rows: &mut KeyedRows, layout: &RowLayout, input: &SchemaRef, ctx: &mut StepContext) -> Result<()> {
    let mut missing = RowChunk::default();
    rows.ignore_missing(&mut missing);
    if !missing.is_empty() {
        let weights = Int64Array::from(missing.weights().to_vec());
        ctx.forgotten(ChangeBatch::with_weights(assemble(input, layout.columns(&missing)?, missing.len())?, weights));
    }
    Ok(())
}
