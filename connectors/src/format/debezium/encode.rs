//! Changes in Debezium's envelope, as JSON without a schema: `{"before": ..., "after": ..., "op": "c" | "u" | "d",
//! "ts_ms": ...}`. `ts_ms` is the time of the cut that the change belongs to, so that one that is sent again is the same.

use crate::changes::Change;
use crate::format::json::encode::JsonRows;
use bytes::{BufMut, BytesMut};
use eddyline_common::Timestamp;
use eddyline_common::postgres::text;
use eddyline_common::time::MICROS_PER_MILLI;

pub fn write(change: Change, rows: &JsonRows, now: Timestamp, out: &mut BytesMut) {
    let (before, after, op) = match change {
        Change::New(row) => (None, Some(row), "c"),
        Change::Replaced { old, new } => (Some(old), Some(new), "u"),
        Change::Gone(row) => (Some(row), None, "d"),
    };
    let mut side = |name: &str, row: Option<usize>| {
        out.put_slice(name.as_bytes());
        match row {
            Some(row) => rows.write(row, out),
            None => out.put_slice(b"null"),
        }
    };
    side("{\"before\":", before);
    side(",\"after\":", after);
    out.put_slice(b",\"op\":\"");
    out.put_slice(op.as_bytes());
    out.put_slice(b"\",\"ts_ms\":");
    text::integer(now.0.div_euclid(MICROS_PER_MILLI), out);
    out.put_u8(b'}');
}
