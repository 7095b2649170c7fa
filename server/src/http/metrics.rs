//! Prometheus' text format, written from the counters. Names follow its conventions: base units, `_total`.

use crate::coordinator::{JobStats, Stats};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// Everything as text, one family after the other.
pub fn render(stats: &Stats, sessions: u64) -> String {
    let mut out = String::new();
    family(&mut out, "eddyline_epoch", "gauge", "Newest durable epoch.", [("", stats.epoch.load(Relaxed) as f64)]);
    family(&mut out, "eddyline_cuts_total", "counter", "Cuts taken since start.", [("", stats.cuts.load(Relaxed) as f64)]);
    family(
        &mut out,
        "eddyline_checkpoints_total",
        "counter",
        "Checkpoints written since start.",
        [("", stats.checkpoints.load(Relaxed) as f64)],
    );
    let failures = stats.checkpoint_failures.load(Relaxed) as f64;
    family(&mut out, "eddyline_checkpoint_failures_total", "counter", "Checkpoints that failed or were abandoned.", [("", failures)]);
    family(
        &mut out,
        "eddyline_checkpoint_epoch",
        "gauge",
        "Epoch of the newest checkpoint.",
        [("", stats.checkpoint_epoch.load(Relaxed) as f64)],
    );
    let seconds = stats.checkpoint_micros.load(Relaxed) as f64 / 1e6;
    family(&mut out, "eddyline_checkpoint_seconds", "gauge", "How long the newest checkpoint took.", [("", seconds)]);
    family(&mut out, "eddyline_ring_bytes", "gauge", "Changes that wait for views.", [("", stats.ring_bytes.load(Relaxed) as f64)]);
    let (tail, state) = (stats.tail_bytes.load(Relaxed) as f64, stats.state_bytes.load(Relaxed) as f64);
    family(&mut out, "eddyline_view_tail_bytes", "gauge", "Rows of views that are in memory, not in a mapped file yet.", [("", tail)]);
    family(&mut out, "eddyline_state_bytes", "gauge", "Operator state of all jobs in memory, out of state_cache.", [("", state)]);
    family(&mut out, "eddyline_sessions", "gauge", "Open client sessions.", [("", sessions as f64)]);
    sources(&mut out, stats);
    jobs(&mut out, stats);
    out
}

fn sources(out: &mut String, stats: &Stats) {
    let sources = stats.sources.read();
    let of = |read: fn(&crate::coordinator::SourceStats) -> f64| {
        sources.values().map(|s| (label("source", &s.name), read(s))).collect::<Vec<_>>()
    };
    family(out, "eddyline_source_records_total", "counter", "Records taken into cuts.", of(|s| s.records.load(Relaxed) as f64));
    family(
        out,
        "eddyline_source_undecodable_total",
        "counter",
        "Records that could not be decoded.",
        of(|s| s.undecodable.load(Relaxed) as f64),
    );
    family(
        out,
        "eddyline_source_retrying",
        "gauge",
        "1 while the external system is in trouble.",
        of(|s| s.problem.read().is_some() as u8 as f64),
    );
}

fn jobs(out: &mut String, stats: &Stats) {
    let jobs = stats.jobs.read();
    let of = |read: fn(&JobStats) -> f64| jobs.values().map(|j| (label("job", &j.name), read(j))).collect::<Vec<_>>();
    family(out, "eddyline_job_rows_in_total", "counter", "Rows that a job took.", of(|j| j.rows_in.load(Relaxed) as f64));
    family(out, "eddyline_job_rows_out_total", "counter", "Changes that a job emitted.", of(|j| j.rows_out.load(Relaxed) as f64));
    family(out, "eddyline_job_late_total", "counter", "Rows that came after their window closed.", of(|j| j.late.load(Relaxed) as f64));
    family(out, "eddyline_job_rejected_total", "counter", "Rows that failed.", of(|j| j.rejected.load(Relaxed) as f64));
    family(out, "eddyline_job_busy_seconds_total", "counter", "Worker time spent.", of(|j| j.busy_micros.load(Relaxed) as f64 / 1e6));
    family(out, "eddyline_job_state_bytes", "gauge", "Operator state in memory.", of(|j| j.state_bytes.load(Relaxed) as f64));
    family(out, "eddyline_job_epoch", "gauge", "Epoch that the job is at.", of(|j| j.epoch.load(Relaxed) as f64));
    family(
        out,
        "eddyline_job_freshness_seconds",
        "gauge",
        "Arrival to commit of the newest step.",
        of(|j| j.freshness_micros.load(Relaxed) as f64 / 1e6),
    );
    family(out, "eddyline_job_stopped", "gauge", "1 once the job has failed.", of(|j| j.error.read().is_some() as u8 as f64));
}

fn label(key: &str, value: &str) -> String {
    format!("{{{key}=\"{}\"}}", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn family<L: AsRef<str>>(out: &mut String, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = (L, f64)>) {
    let head = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    debug_assert!(head.is_ok(), "writing to a string does not fail");
    for (labels, value) in samples {
        let line = writeln!(out, "{name}{} {value}", labels.as_ref());
        debug_assert!(line.is_ok(), "writing to a string does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_a_family_and_labels_are_escaped() {
        let stats = Stats::default();
        stats.add_job(eddyline_common::RelationId(1), "a\"b");
        let text = render(&stats, 3);
        assert!(text.contains("eddyline_sessions 3\n"));
        assert!(text.contains("eddyline_job_rows_in_total{job=\"a\\\"b\"} 0\n"));
        assert!(text.lines().filter(|l| !l.starts_with('#')).all(|l| l.starts_with("eddyline_")));
    }
}
