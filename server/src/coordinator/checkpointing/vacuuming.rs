//! When views are cleaned between checkpoints, and what of them may wait to be frozen.

use super::super::core::Core;
use super::maintenance::MaintenanceTask;
use std::time::Duration;

/// How often old row versions are cleaned away while something changes.
const VACUUM_INTERVAL: Duration = Duration::from_secs(2);

/// When views have this much that is not frozen, they are cleaned at once: a few steps' output, so that writing stays ahead.
const TAILS_BYTES_HIGH: usize = 64 << 20;

/// How often that may be, so that a full disk is not asked without pause.
const VACUUM_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// With this much not frozen, jobs wait until the disk has taken it. Bounds the memory of views whatever the input.
const TAILS_BYTES_MAX: usize = 256 << 20;

impl Core {
    pub(in super::super) fn vacuum_if_due(&mut self) {
        let waited = self.instant() - self.checkpoints.vacuumed;
        let due = waited >= VACUUM_INTERVAL && self.last_cut > self.checkpoints.last_epoch;
        let much = self.checkpoints.unclean || self.segments.tail_bytes() >= TAILS_BYTES_HIGH;
        let pressing = waited >= VACUUM_INTERVAL_MIN && much;
        if self.checkpoints.vacuuming || !(due || pressing) {
            return;
        }
        self.checkpoints.vacuuming = true;
        self.checkpoints.vacuumed = self.instant();
        self.note_kept();
        let views = self.jobs.values().flat_map(|j| j.views().map(|view| (view.clone(), j.kept_from))).collect();
        self.checkpoints.background.maintain(MaintenanceTask::Vacuum(views));
    }

    pub(in super::super) fn on_vacuumed(&mut self, more: bool) {
        self.checkpoints.vacuuming = false;
        self.checkpoints.unclean = more;
    }

    /// Too many rows wait for being frozen: no step may add more.
    pub(in super::super) fn tails_are_full(&self) -> bool {
        self.segments.tail_bytes() >= TAILS_BYTES_MAX
    }
}
