//! Options that scripts for other systems carry and that mean nothing here: how work is divided, written and stored there. They change no row, so they are
//! left out, and whoever creates something is told.

use std::collections::BTreeMap;

/// Whether an option is one of them. A partitioner is one if it is of Kafka's and Flink's own, which say nothing of rows.
pub(super) fn is_idle(key: &str, value: &str) -> bool {
    match key.trim().to_ascii_lowercase().as_str() {
        "sink.parallelism" | "scan.parallelism" | "auto-compaction" | "fillfactor" => true,
        "sink.partitioner" => ["default", "fixed", "round-robin"].iter().any(|known| value.trim().eq_ignore_ascii_case(known)),
        key => key.starts_with("sink.buffer-flush."),
    }
}

/// What there is to say of each that a statement has.
pub fn idle_notices(raw: &BTreeMap<String, String>) -> Vec<String> {
    let idle = raw.iter().filter(|(key, value)| is_idle(key, value));
    idle.map(|(key, _)| format!("option \"{key}\" means nothing here and is left out")).collect()
}
