//! The session settings that planning depends on. The session layer owns all others.

use crate::catalog::ViewOptions;
use eddyline_common::{Result, options};
use std::collections::BTreeMap;

/// What SET changes that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// IANA name or offset; text without a zone that becomes a timestamptz is read in it.
    pub time_zone: String,
    /// Schemas that unqualified names are looked up in. User objects all live in `public`.
    pub search_path: Vec<String>,
    /// The one database there is; names may carry it.
    pub database: String,
    /// Rules of `RULES` that are switched off.
    pub disabled_rules: Vec<&'static str>,
    /// What the next running INSERT is called.
    pub pipeline_name: Option<String>,
    /// Options that what is created has unless it says otherwise; see `DEFAULTS`.
    pub defaults: BTreeMap<&'static str, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            time_zone: "UTC".to_string(),
            search_path: vec!["public".to_string()],
            database: "eddyline".to_string(),
            disabled_rules: vec![],
            pipeline_name: None,
            defaults: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Adds what the session says of options that the statement does not name.
    pub fn complete(&self, options: &mut BTreeMap<String, String>, keys: &[&'static str]) {
        for key in keys {
            if let Some(value) = self.defaults.get(key) {
                options.entry(key.to_string()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// Flink's names of settings that are options here, with the options' names.
pub const DEFAULTS: [(&str, &str); 3] = [
    ("parallelism.default", options::PARALLELISM),
    ("table.exec.source.idle-timeout", options::IDLE_TIMEOUT),
    ("table.exec.state.ttl", options::STATE_TTL),
];

/// Those that say something of a job.
pub const OF_JOBS: [&str; 2] = [options::PARALLELISM, options::STATE_TTL];

/// Whether a value can be such a setting's.
pub fn check_default(name: &str, option: &str, value: &str) -> Result<()> {
    if option == options::IDLE_TIMEOUT {
        return options::duration(name, value).map(drop);
    }
    ViewOptions::of(&options::canonicalize_view([(name.to_string(), value.to_string())].into())?).map(drop)
}

/// The rewrites of a view's plan that only make it faster, by the settings that switch them.
pub const RULES: [&str; 8] = [
    "enable_common_subexpressions",
    "enable_filter_pushdown",
    "enable_join_reordering",
    "enable_null_key_filter",
    "enable_outer_join_elimination",
    "enable_plan_sharing",
    "enable_projection_pushdown",
    "enable_two_phase_aggregation",
];
