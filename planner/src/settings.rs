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
    /// What the next running INSERT is called.
    pub pipeline_name: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            time_zone: "UTC".to_string(),
            search_path: vec!["public".to_string()],
            database: "eddyline".to_string(),
            pipeline_name: None,
        }
    }
}
