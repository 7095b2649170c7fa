//! ALTER SYSTEM: settings of the server that change while it runs. They are in the log and in checkpoints, and take the place of
//! what the server is started with, until they are reset. None of them changes what an epoch holds.

use super::core::Core;
use super::ddl::Done;
use super::handle::DdlOutcome;
use super::pins::PinLimits;
use super::records::DdlRecord;
use eddyline_common::options::{self, bytes_of_size, micros_of_duration};
use eddyline_common::{Result, SqlError, SqlState};
use std::collections::BTreeMap;
use std::time::Duration;

/// What can change, and whether it is a time; the others are sizes.
pub const ALTERABLE: [(&str, bool); 4] =
    [("checkpoint_interval", true), ("ring_size", false), ("snapshot_age", true), ("snapshot_size", false)];

/// What counts once the server has started only.
const FIXED: [&str; 11] = [
    "data_dir",
    "checkpoint_store",
    "listen",
    "http",
    "workers",
    "state_backend",
    "state_cache",
    "max_connections",
    "query_memory",
    "write_memory",
    "query_spill",
];

/// A size or time of nothing, or nearly so, would keep the server busy with itself.
const TIME_MIN: Duration = Duration::from_millis(50);
const BYTES_MIN: u64 = 64 << 10;

/// The values that the server works with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunable {
    pub checkpoint_interval: Duration,
    pub ring_bytes: usize,
    pub pin_limits: PinLimits,
}

impl Tunable {
    fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let invalid = |wanted: &str| {
            SqlError::new(SqlState::INVALID_PARAMETER, format!("invalid value for parameter \"{name}\": \"{text}\""))
                .with_detail(format!("The parameter takes {wanted}."))
        };
        let time = || {
            let time = micros_of_duration(text).and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros);
            time.filter(|time| *time >= TIME_MIN).ok_or_else(|| invalid("a time of at least 50 ms, such as '5 s'"))
        };
        let bytes = || {
            let bytes = bytes_of_size(text).filter(|bytes| *bytes >= BYTES_MIN).and_then(|bytes| usize::try_from(bytes).ok());
            bytes.ok_or_else(|| invalid("a size of at least 64 KiB, such as '256MiB'"))
        };
        match name {
            "checkpoint_interval" => self.checkpoint_interval = time()?,
            "ring_size" => self.ring_bytes = bytes()?,
            "snapshot_age" => self.pin_limits.age = time()?,
            "snapshot_size" => self.pin_limits.bytes = bytes()?,
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    /// Every setting with its value.
    pub fn listed(&self) -> BTreeMap<String, String> {
        let time = |time: Duration| eddyline_planner::catalog::duration_text(time.as_micros() as i64);
        let values =
            [time(self.checkpoint_interval), size_text(self.ring_bytes), time(self.pin_limits.age), size_text(self.pin_limits.bytes)];
        ALTERABLE.iter().map(|(name, _)| name.to_string()).zip(values).collect()
    }
}

/// As it is written, in the largest unit of which it is a whole number.
pub fn size_text(bytes: usize) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.into_iter().find(|(shift, _)| bytes > 0 && bytes % (1usize << shift) == 0);
    whole.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn unknown(name: &str) -> SqlError {
    if FIXED.contains(&name) {
        return SqlError::new(SqlState("55P02"), format!("parameter \"{name}\" cannot be changed without restarting the server"))
            .with_hint("Give it as a flag or in the configuration file.");
    }
    let names = ALTERABLE.map(|(name, _)| name);
    let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("the server has no parameter \"{name}\""));
    match options::nearest(name, names) {
        Some(meant) => error.with_hint(format!("Perhaps you meant \"{meant}\".")),
        None => error.with_hint(format!("What can be changed: {}.", names.join(", "))),
    }
}

impl Core {
    /// `value` is absent for RESET; then the name `all` stands for all.
    pub(super) fn alter_system(&mut self, name: String, value: Option<String>) -> Result<Done> {
        match &value {
            Some(value) => {
                let mut tried = self.started;
                tried.set(&name, value)?;
            }
            None if name == "all" || ALTERABLE.iter().any(|(known, _)| *known == name) => {}
            None => return Err(unknown(&name)),
        }
        let logged = self.log_ddl(&DdlRecord::AlterSystem { name: name.clone(), value: value.clone() })?;
        self.apply_alter_system(name, value);
        Ok((DdlOutcome::default(), Some(logged)))
    }

    pub(super) fn apply_alter_system(&mut self, name: String, value: Option<String>) {
        match value {
            Some(value) => drop(self.altered.insert(name, value)),
            None if name == "all" => self.altered.clear(),
            None => drop(self.altered.remove(&name)),
        }
        self.apply_settings();
    }

    /// Works with what the server was started with, and with what was altered in its place.
    pub(super) fn apply_settings(&mut self) {
        let mut values = self.started;
        for (name, value) in &self.altered {
            if let Err(error) = values.set(name, value) {
                // Of another version: it counts again there.
                tracing::warn!("a parameter of the server is left as it was at its start: {error}");
            }
        }
        self.config.checkpoint_interval = values.checkpoint_interval;
        self.config.ring_bytes = values.ring_bytes;
        self.config.pin_limits = values.pin_limits;
        *self.handle.settings.write() = values.listed();
    }
}
