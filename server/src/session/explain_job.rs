//! EXPLAIN ANALYZE of a view or sink that runs: what each operator does at present, from the counters of the job as they move within
//! a moment. Nothing is measured for it, and the job does not notice.

use super::Session;
use crate::coordinator::JobStats;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::{Relation, explain};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long the counters are watched.
const WATCHED: Duration = Duration::from_secs(1);

/// One look at an operator's counters.
#[derive(Clone, Copy)]
struct Look {
    rows_in: u64,
    rows_out: u64,
    busy_nanos: u64,
    state_bytes: u64,
}

impl Session {
    pub(super) async fn explain_job(&self, job: RelationId) -> Result<Vec<String>> {
        let gone = || SqlError::new(SqlState::UNDEFINED_TABLE, "the relation does not exist any more");
        let catalog = self.services().coordinator.catalog();
        let relation = catalog.get(job).ok_or_else(gone)?;
        let plan = relation.plan().ok_or_else(gone)?;
        let name = |id: RelationId| catalog.get(id).map_or_else(|| id.to_string(), |r| r.name.clone());
        let stats = self.services().coordinator.stats().jobs.read().get(&job).cloned().ok_or_else(gone)?;
        let (before, began) = (looks(&stats), Instant::now());
        tokio::time::sleep(WATCHED).await;
        let (after, seconds) = (looks(&stats), began.elapsed().as_secs_f64());
        let mut lines = vec![self.summary(relation, &stats)];
        for (node, operator) in explain::operators(plan, &name) {
            let figures = before.get(node).zip(after.get(node)).map(|(b, a)| figures(*b, *a, seconds));
            lines.push(format!("  {operator} | {}", figures.unwrap_or_default()));
        }
        Ok(lines)
    }

    fn summary(&self, relation: &Relation, stats: &JobStats) -> String {
        let (services, name) = (self.services(), &relation.name);
        let of_all = services.coordinator.stats();
        let state = stats.state_and_progress(of_all.sinks.read().get(&relation.id).map(|sink| &**sink));
        let (epoch, steps, state_bytes) = (stats.committed(&of_all), stats.steps.load(Relaxed), stats.state_bytes.load(Relaxed));
        let millis = |micros: i64| micros as f64 / 1000.0;
        let fresh = millis(stats.freshness_micros.load(Relaxed));
        let lag = stats.lag_micros(&of_all, services.clock.now());
        let lag = lag.map_or(String::new(), |lag| format!(" lag={:.1} ms", millis(lag)));
        format!("Job {name}: {state} epoch={epoch} steps={steps} freshness={fresh:.1} ms{lag} state={state_bytes} bytes")
    }
}

fn looks(stats: &Arc<JobStats>) -> Vec<Look> {
    let look = |o: &eddyline_executor::OperatorStats| Look {
        rows_in: o.rows_in.load(Relaxed),
        rows_out: o.rows_out.load(Relaxed),
        busy_nanos: o.busy_nanos.load(Relaxed),
        state_bytes: o.state_bytes.load(Relaxed),
    };
    stats.operators.get().map(|operators| operators.iter().map(look).collect()).unwrap_or_default()
}

/// Rates over the time watched, and what there was since start.
fn figures(before: Look, after: Look, seconds: f64) -> String {
    let rate = |before: u64, after: u64| (after.saturating_sub(before) as f64 / seconds).round();
    let busy = after.busy_nanos.saturating_sub(before.busy_nanos) as f64 / 1e9 / seconds * 100.0;
    format!(
        "in={}/s out={}/s busy={busy:.1}% state={} bytes | since start: in={} out={} busy={:.3} s",
        rate(before.rows_in, after.rows_in),
        rate(before.rows_out, after.rows_out),
        after.state_bytes,
        after.rows_in,
        after.rows_out,
        after.busy_nanos as f64 / 1e9
    )
}
