//! What goes wrong again and again is told once a minute: a disk that stays full must not fill the log, and `eddyline.errors`, with that alone.
//! Knows nothing of what is told.

use crate::SqlState;
use std::time::{Duration, Instant};

/// Between two times that one kind of trouble is told.
const INTERVAL: Duration = Duration::from_secs(60);

/// What was told within the last minute. One for each thing that is tried again.
#[derive(Debug, Default)]
pub struct Told(Vec<(SqlState, Instant)>);

impl Told {
    /// Whether trouble of this kind is to be told now; it is not again for a minute.
    pub fn is_due(&mut self, kind: SqlState, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < INTERVAL);
        let is_due = self.0.iter().all(|(told, _)| *told != kind);
        if is_due {
            self.0.push((kind, now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_a_minute() {
        let (mut told, begun) = (Told::default(), Instant::now());
        let mut told_at = |kind, seconds| told.is_due(kind, begun + Duration::from_secs(seconds));
        assert!(told_at(SqlState::DISK_FULL, 0));
        assert!(!told_at(SqlState::DISK_FULL, 1));
        assert!(told_at(SqlState::IO_ERROR, 2));
        assert!(!told_at(SqlState::DISK_FULL, 59));
        assert!(told_at(SqlState::DISK_FULL, 60));
        assert!(!told_at(SqlState::IO_ERROR, 61));
    }
}
