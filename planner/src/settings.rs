//! The session settings that planning depends on. The session layer owns all others.

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
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            time_zone: "UTC".to_string(),
            search_path: vec!["public".to_string()],
            database: "eddyline".to_string(),
            disabled_rules: vec![],
            pipeline_name: None,
        }
    }
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
