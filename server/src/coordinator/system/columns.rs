//! The relations of the schema `eddyline` that the coordinator has the rows of: their names and columns.

use super::SystemRelation;
use arrow::datatypes::SchemaRef;
use eddyline_common::types::arrow_schema;
use eddyline_common::{Column, SqlType};

/// The name in schema `eddyline` and the columns of each system relation.
pub const SYSTEM_RELATIONS: [(SystemRelation, &str); 10] = [
    (SystemRelation::Sources, "sources"),
    (SystemRelation::Jobs, "jobs"),
    (SystemRelation::Sinks, "sinks"),
    (SystemRelation::LateRows, "late_rows"),
    (SystemRelation::RejectedRows, "rejected_rows"),
    (SystemRelation::UndecodableRecords, "undecodable_records"),
    (SystemRelation::Checkpoints, "checkpoints"),
    (SystemRelation::Operators, "operators"),
    (SystemRelation::Options, "options"),
    (SystemRelation::Comments, "comments"),
];

fn columns(relation: SystemRelation) -> Vec<Column> {
    let column = |name: &str, ty: SqlType| Column::new(name, ty, true);
    let (text, bigint) = (SqlType::Text, SqlType::BigInt);
    match relation {
        SystemRelation::Sources => vec![
            column("source", text.clone()),
            column("partition", bigint.clone()),
            column("next_offset", bigint.clone()),
            column("end_offset", bigint.clone()),
            column("lag", bigint.clone()),
            column("watermark", SqlType::Timestamp),
            column("records", bigint.clone()),
            column("records_per_second", bigint.clone()),
            column("undecodable", bigint.clone()),
            column("ahead", bigint),
            column("problem", text),
        ],
        SystemRelation::Jobs => vec![
            column("job", text.clone()),
            column("state", text.clone()),
            column("epoch", bigint.clone()),
            column("rows_in", bigint.clone()),
            column("rows_out", bigint.clone()),
            column("rows_per_second", bigint.clone()),
            column("late", bigint.clone()),
            column("rejected", bigint.clone()),
            column("busy_micros", bigint.clone()),
            column("busy_micros_per_second", bigint.clone()),
            column("state_bytes", bigint.clone()),
            column("stored_bytes", bigint.clone()),
            column("held_bytes", bigint.clone()),
            column("freshness_micros", bigint.clone()),
            column("lag_micros", bigint.clone()),
            column("backfill_permille", bigint),
            column("error", text),
        ],
        SystemRelation::Operators => vec![
            column("job", text.clone()),
            column("node", bigint.clone()),
            column("operator", text),
            column("rows_in", bigint.clone()),
            column("rows_out", bigint.clone()),
            column("busy_micros", bigint.clone()),
            column("state_bytes", bigint),
        ],
        SystemRelation::Options => {
            vec![column("relation", text.clone()), column("kind", text.clone()), column("option", text.clone()), column("value", text)]
        }
        SystemRelation::Comments => vec![column("relation", text.clone()), column("column", text.clone()), column("comment", text)],
        SystemRelation::Sinks => vec![
            column("sink", text.clone()),
            column("connector", text.clone()),
            column("state", text.clone()),
            column("sent_epoch", bigint.clone()),
            column("rows_sent", bigint.clone()),
            column("waiting_bytes", bigint.clone()),
            column("failures", bigint),
            column("problem", text),
        ],
        SystemRelation::LateRows | SystemRelation::RejectedRows => vec![
            column("view", text.clone()),
            column("epoch", bigint.clone()),
            column("reason", text.clone()),
            column("row", text),
            column("weight", bigint),
        ],
        SystemRelation::UndecodableRecords => vec![
            column("source", text.clone()),
            column("topic", text.clone()),
            column("partition", bigint.clone()),
            column("offset", bigint.clone()),
            column("epoch", bigint),
            column("reason", text.clone()),
            column("excerpt", text),
        ],
        SystemRelation::Checkpoints => {
            vec![column("checkpoint", bigint.clone()), column("epoch", bigint.clone()), column("micros", bigint), column("problem", text)]
        }
    }
}

pub fn schema(relation: SystemRelation) -> SchemaRef {
    arrow_schema(&columns(relation))
}
