//! Prometheus' text format, written from the counters. Names follow its conventions: base units (seconds, bytes), a unit
//! at the end, `_total` for what only grows.

use crate::coordinator::{JobStats, PartitionOffsets, SinkStats, SourceStats, Stats};
use crate::metrics::Metrics;
use eddyline_common::{Offset, Timestamp};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const MICROS_PER_SECOND: f64 = 1e6;

/// What other parts of the server tell.
#[derive(Default)]
pub struct Told {
    /// Warnings and errors: the level, the relation that they are about, how many.
    pub errors: Vec<(&'static str, Option<String>, u64)>,
    /// Name, value, what changes it.
    pub settings: Vec<(&'static str, String, &'static str)>,
}

/// Everything as text, one family after the other.
pub fn render(stats: &Stats, metrics: &Metrics, told: &Told, uncommitted_bytes: usize, now: Timestamp) -> String {
    let mut page = Page::default();
    page.gauge("eddyline_epoch", "Newest durable epoch.", count(&stats.epoch));
    page.counter("eddyline_cuts_total", "Cuts taken since start.", count(&stats.cuts));
    sources(&mut page, stats);
    partitions(&mut page, stats);
    jobs(&mut page, stats, now);
    sinks(&mut page, stats);
    checkpoints(&mut page, stats);
    log(&mut page, stats);
    sessions(&mut page, metrics);
    memory(&mut page, stats, uncommitted_bytes);
    others(&mut page, told);
    page.0
}

fn sources(page: &mut Page, stats: &Stats) {
    let sources = stats.sources.read();
    let all: Vec<(&str, &SourceStats)> = sources.values().map(|s| (s.name.as_str(), &**s)).collect();
    let mut each = |kind, name, help, read: fn(&SourceStats) -> Option<f64>| page.family(kind, name, help, "source", &all, read);
    each(COUNTER, "eddyline_source_records_total", "Records taken into cuts.", |s| Some(count(&s.records)));
    each(COUNTER, "eddyline_source_bytes_total", "Memory of the decoded records taken into cuts.", |s| Some(count(&s.bytes)));
    each(COUNTER, "eddyline_source_undecodable_records_total", "Records that could not be decoded.", |s| Some(count(&s.undecodable)));
    each(COUNTER, "eddyline_source_ahead_rows_total", "Rows too far in the future to move the watermark.", |s| Some(count(&s.ahead)));
    each(GAUGE, "eddyline_source_lag_records", "Offsets not taken into a cut yet, where the connector knows.", |s| {
        Some(s.lag.load(Relaxed)).filter(|lag| *lag >= 0).map(|lag| lag as f64)
    });
    each(GAUGE, "eddyline_source_watermark_timestamp_seconds", "The source's watermark, once it has one.", |s| {
        Some(s.watermark.load(Relaxed)).filter(|w| *w != i64::MIN && *w != i64::MAX).map(|w| w as f64 / MICROS_PER_SECOND)
    });
    each(GAUGE, "eddyline_source_in_trouble", "1 while the external system is retried.", |s| Some(flag(s.problem.read().is_some())));
}

fn partitions(page: &mut Page, stats: &Stats) {
    let sources = stats.sources.read();
    let mut each = |name: &str, help: &str, read: fn(&PartitionOffsets) -> Option<Offset>| {
        page.head(GAUGE, name, help);
        for source in sources.values() {
            for offsets in source.offsets.read().iter() {
                let Some(offset) = read(offsets) else { continue };
                let partition = offsets.partition.0.to_string();
                page.sample(name, &labels(&[("source", source.name.as_str()), ("partition", partition.as_str())]), offset.0 as f64);
            }
        }
    };
    each("eddyline_source_next_offset", "The first offset of a partition that no cut has taken.", |p| Some(p.next));
    each("eddyline_source_end_offset", "Where a partition ends outside, where the connector knows.", |p| p.end);
}

fn jobs(page: &mut Page, stats: &Stats, now: Timestamp) {
    let jobs = stats.jobs.read();
    let names: Vec<Arc<str>> = jobs.values().map(|j| j.name.read().clone()).collect();
    let all: Vec<(&str, &JobStats)> = names.iter().zip(jobs.values()).map(|(name, j)| (&**name, &**j)).collect();
    let mut each = |kind, name, help, read: fn(&JobStats) -> Option<f64>| page.family(kind, name, help, "job", &all, read);
    each(COUNTER, "eddyline_job_rows_in_total", "Rows that the job took.", |j| Some(count(&j.rows_in)));
    each(COUNTER, "eddyline_job_rows_out_total", "Changes that the job emitted.", |j| Some(count(&j.rows_out)));
    each(COUNTER, "eddyline_job_late_rows_total", "Rows that came after their window had closed.", |j| Some(count(&j.late)));
    each(COUNTER, "eddyline_job_rejected_rows_total", "Rows on which an expression failed.", |j| Some(count(&j.rejected)));
    each(COUNTER, "eddyline_job_steps_total", "Steps done since start.", |j| Some(count(&j.steps)));
    each(COUNTER, "eddyline_job_busy_seconds_total", "Worker time spent since start.", |j| Some(seconds(&j.busy_micros)));
    each(GAUGE, "eddyline_job_state_bytes", "Operator state in memory.", |j| Some(count(&j.state_bytes)));
    let help = "Operator state in RocksDB, compressed, as of the newest checkpoint.";
    each(GAUGE, "eddyline_job_stored_bytes", help, |j| Some(count(&j.stored_bytes)));
    let help = "Old rows of its view, and of the tables and views that it reads, that are kept until it has come further.";
    each(GAUGE, "eddyline_job_held_bytes", help, |j| Some(count(&j.held_bytes)));
    each(GAUGE, "eddyline_job_freshness_seconds", "From the arrival of the newest step's oldest row to its end.", |j| {
        Some(j.freshness_micros.load(Relaxed) as f64 / MICROS_PER_SECOND)
    });
    each(GAUGE, "eddyline_job_backfill_ratio", "Share of the backfill that is done; 1 afterwards.", |j| {
        Some(count(&j.backfill_permille) / 1000.0)
    });
    each(GAUGE, "eddyline_job_stopped", "1 once the job has failed.", |j| Some(flag(j.error.read().is_some())));
    let help = "1 while a table outside that it looks rows up in does not answer.";
    each(GAUGE, "eddyline_job_in_trouble", help, |j| Some(flag(j.trouble().is_some())));
    let committed = |job: &JobStats| Some(job.committed(stats).0 as f64);
    page.family(GAUGE, "eddyline_job_epoch", "The newest durable epoch that the job has come to.", "job", &all, committed);
    let help = "How long there has been a cut that the job has not come to; nothing while it reads on its own or has stopped.";
    let lag = |job: &JobStats| Some(job.lag_micros(stats, now)? as f64 / MICROS_PER_SECOND);
    page.family(GAUGE, "eddyline_job_lag_seconds", help, "job", &all, lag);
}

fn sinks(page: &mut Page, stats: &Stats) {
    let sinks = stats.sinks.read();
    let all: Vec<(&str, &SinkStats)> = sinks.values().map(|s| (s.name.as_str(), &**s)).collect();
    let mut each = |kind, name, help, read: fn(&SinkStats) -> Option<f64>| page.family(kind, name, help, "sink", &all, read);
    each(COUNTER, "eddyline_sink_rows_sent_total", "Records acknowledged outside since start.", |s| Some(count(&s.records)));
    each(GAUGE, "eddyline_sink_waiting_bytes", "What of the sink's log is not acknowledged.", |s| Some(count(&s.waiting_bytes)));
    each(GAUGE, "eddyline_sink_epoch", "The newest epoch acknowledged outside.", |s| Some(count(&s.epoch)));
    each(COUNTER, "eddyline_sink_failures_total", "Times that sending began again.", |s| Some(count(&s.failures)));
    each(GAUGE, "eddyline_sink_in_trouble", "1 while something is being retried.", |s| Some(flag(s.problem.read().is_some())));
}

fn checkpoints(page: &mut Page, stats: &Stats) {
    let done = count(&stats.checkpoints);
    page.counter("eddyline_checkpoints_total", "Checkpoints written since start.", done);
    page.counter("eddyline_checkpoint_failures_total", "Checkpoints that failed or were given up.", count(&stats.checkpoint_failures));
    let help = "How long checkpoints took, from their epoch to their manifest.";
    page.summary("eddyline_checkpoint_duration_seconds", help, seconds(&stats.checkpoint_micros_total), done);
    let help = "How long the newest checkpoint took.";
    page.gauge("eddyline_checkpoint_last_duration_seconds", help, seconds(&stats.checkpoint_micros));
    let help = "Bytes of the files that checkpoints wrote.";
    page.counter("eddyline_checkpoint_written_bytes_total", help, count(&stats.checkpoint_bytes));
    page.gauge("eddyline_checkpoint_epoch", "Epoch of the newest checkpoint.", count(&stats.checkpoint_epoch));
}

fn log(page: &mut Page, stats: &Stats) {
    page.counter("eddyline_log_written_bytes_total", "Bytes of the log made durable since start.", count(&stats.log.bytes));
    let (took, syncs) = (seconds(&stats.log.sync_micros), count(&stats.log.syncs));
    page.summary("eddyline_log_fsync_duration_seconds", "How long syncs of the log took.", took, syncs);
}

fn sessions(page: &mut Page, metrics: &Metrics) {
    page.gauge("eddyline_sessions", "Open client sessions.", count(&metrics.sessions));
    let (took, statements) = (metrics.statement_micros.get() as f64 / MICROS_PER_SECOND, metrics.statements.get() as f64);
    page.summary("eddyline_statement_duration_seconds", "How long statements took, sending their rows included.", took, statements);
    page.counter("eddyline_plans_total", "Times that a statement was planned.", metrics.plans.get() as f64);
    let help = "Runs of prepared statements with the plan of an earlier run.";
    page.counter("eddyline_plans_reused_total", help, metrics.plans_reused.get() as f64);
    page.counter("eddyline_statement_errors_total", "Statements that failed.", metrics.statement_errors.get() as f64);
    page.counter("eddyline_rows_sent_total", "Rows sent to clients.", metrics.rows_sent.get() as f64);
    page.counter("eddyline_rows_written_total", "Rows written by statements.", metrics.rows_written.get() as f64);
}

fn memory(page: &mut Page, stats: &Stats, uncommitted_bytes: usize) {
    page.gauge("eddyline_ring_bytes", "Changes in memory that wait for views.", count(&stats.ring_bytes));
    page.gauge("eddyline_snapshots", "Moments in time that transactions, cursors and queries read at.", count(&stats.pins));
    page.gauge("eddyline_snapshot_age_seconds", "How long the oldest of them has been kept.", seconds(&stats.pin_micros));
    page.gauge("eddyline_snapshot_bytes", "Rows that have changed since and are kept for them.", count(&stats.pin_bytes));
    page.counter("eddyline_snapshots_too_old_total", "Readers that came to a limit of age or size.", count(&stats.pins_let_go));
    page.gauge(
        "eddyline_view_bytes",
        "Memory of tables and views: rows not in a mapped file yet, the index and deaths; measured every few seconds.",
        count(&stats.view_bytes),
    );
    page.gauge("eddyline_view_tail_bytes", "Rows of views that are in memory, not in a mapped file yet.", count(&stats.tail_bytes));
    let help = "Rows of sessions that are not committed yet, out of write_memory.";
    page.gauge("eddyline_uncommitted_bytes", help, uncommitted_bytes as f64);
    page.gauge("eddyline_state_bytes", "Operator state of all jobs in memory, out of state_cache.", count(&stats.state_bytes));
    if let Some(resident) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Resident memory of the server's process.", resident as f64);
    }
}

fn others(page: &mut Page, told: &Told) {
    let name = "eddyline_errors_total";
    page.head(COUNTER, name, "Warnings and errors that the server has logged since start.");
    for (level, relation, count) in &told.errors {
        page.sample(name, &labels(&[("level", *level), ("relation", relation.as_deref().unwrap_or_default())]), *count as f64);
    }
    let name = "eddyline_setting_info";
    page.head(GAUGE, name, "1 for each setting of the server with the value that is in force.");
    for (setting, value, changed_by) in &told.settings {
        page.sample(name, &labels(&[("name", *setting), ("value", value.as_str()), ("changed_by", *changed_by)]), 1.0);
    }
}

/// What the kernel counts for this process; `None` where it does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kibibytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn count(value: &AtomicU64) -> f64 {
    value.load(Relaxed) as f64
}

fn seconds(micros: &AtomicU64) -> f64 {
    count(micros) / MICROS_PER_SECOND
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

/// The text so far. Writing to a string does not fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(COUNTER, name, help);
        self.sample(name, "", value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(GAUGE, name, help);
        self.sample(name, "", value);
    }

    /// A sum and a count, whose rates give the mean.
    fn summary(&mut self, name: &str, help: &str, sum: f64, count: f64) {
        self.head("summary", name, help);
        self.sample(name, "_sum", sum);
        self.sample(name, "_count", count);
    }

    /// A sample for each that has a value.
    fn family<T>(&mut self, kind: &str, name: &str, help: &str, label: &str, all: &[(&str, &T)], read: impl Fn(&T) -> Option<f64>) {
        self.head(kind, name, help);
        for (of, item) in all {
            if let Some(value) = read(item) {
                self.sample(name, &labels(&[(label, of)]), value);
            }
        }
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        let written = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        debug_assert!(written.is_ok());
    }

    fn sample(&mut self, name: &str, suffix: &str, value: f64) {
        let written = writeln!(self.0, "{name}{suffix} {value}");
        debug_assert!(written.is_ok());
    }
}

fn labels(labels: &[(&str, &str)]) -> String {
    let each: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", each.join(","))
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_units_are_base_units() {
        let stats = Stats::default();
        let job = stats.add_job(eddyline_common::RelationId(1), "a\"b");
        job.busy_micros.store(1_500_000, Relaxed);
        let source = stats.add_source(eddyline_common::RelationId(2), "s");
        let text = render(&stats, &Metrics::default(), &Told::default(), 0, Timestamp(0));
        assert!(text.contains("eddyline_job_busy_seconds_total{job=\"a\\\"b\"} 1.5\n"), "{text}");
        // What is not known is not shown as a number.
        assert!(!text.contains("eddyline_source_lag_records{") && !text.contains("eddyline_source_watermark_timestamp_seconds{"));
        source.lag.store(7, Relaxed);
        source.watermark.store(2_000_000, Relaxed);
        let at = |partition: i32, end: Option<i64>| PartitionOffsets {
            partition: eddyline_common::PartitionId(partition),
            next: Offset(5),
            end: end.map(Offset),
        };
        source.offsets.write().extend([at(0, Some(9)), at(1, None)]);
        let told = Told {
            errors: vec![("warning", Some("s".into()), 2), ("error", None, 1)],
            settings: vec![("listen", "a:1".into(), "restart")],
        };
        let text = render(&stats, &Metrics::default(), &told, 0, Timestamp(0));
        for line in [
            "eddyline_source_next_offset{source=\"s\",partition=\"0\"} 5",
            "eddyline_source_next_offset{source=\"s\",partition=\"1\"} 5",
            "eddyline_source_end_offset{source=\"s\",partition=\"0\"} 9",
            "eddyline_errors_total{level=\"warning\",relation=\"s\"} 2",
            "eddyline_errors_total{level=\"error\",relation=\"\"} 1",
            "eddyline_setting_info{name=\"listen\",value=\"a:1\",changed_by=\"restart\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
        assert!(!text.contains("eddyline_source_end_offset{source=\"s\",partition=\"1\"}"), "what is not known is no number");
        assert!(text.contains("eddyline_source_lag_records{source=\"s\"} 7\n"), "{text}");
        assert!(text.contains("eddyline_source_watermark_timestamp_seconds{source=\"s\"} 2\n"), "{text}");
    }
}
