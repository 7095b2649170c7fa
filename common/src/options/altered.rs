//! ALTER ... SET and RESET: which options may change while the thing they belong to exists. Those that say what rows there are
//! (topic, path, format, key, start) may not: what was read once must read the same again after a restart.

use super::known::{CONNECTORS, OWNER_TABLE, OWNER_VIEW, Owner, STORES};
use super::sinks::{INTO, SINKS, check_fixed};
use super::*;

/// Options as the user spelled them: with new values, and those that go back to their defaults.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub set: BTreeMap<String, String>,
    pub reset: Vec<String>,
}

const OF_WATERMARK: &[&str] = &[IDLE_TIMEOUT, FUTURE_GUARD];

/// How the outside is reached and asked, and how files are rolled.
const OF_SOURCE: &[&str] = &[
    BOOTSTRAP_SERVERS,
    DISCOVERY_INTERVAL,
    LOST_OFFSETS,
    MONITOR_INTERVAL,
    REGISTRY_URL,
    REGISTRY_USER,
    REGISTRY_PASSWORD,
    WEBHOOK_TOKEN,
    "nexmark.rate",
    ROLL_BYTES,
    ROLL_INTERVAL,
];

const OF_JOB: &[&str] = &[ON_ERROR, EMIT_INTERVAL];
const OF_SINK: &[&str] = &[BOOTSTRAP_SERVERS, SINK_LOG_BYTES, ROLL_BYTES, ROLL_INTERVAL];

/// Where an object store is and who asks it.
fn is_of_store(key: &str) -> bool {
    STORES.iter().any(|def| def.name == key)
}

/// The options of a source, or of a table with a connector.
pub fn altered_source(current: &BTreeMap<String, String>, changes: &Changes) -> Result<BTreeMap<String, String>> {
    let connector = current.get(CONNECTOR).map_or("", String::as_str);
    let owner = CONNECTORS.iter().chain(SINKS).find(|c| c.name == connector).ok_or_else(|| unknown_connector(connector))?;
    let passes = |key: &str| owner.passes(key) && ![GROUP_ID, AUTO_OFFSET_RESET, "properties.isolation.level"].contains(&key);
    let may_change = |key: &str| OF_WATERMARK.contains(&key) || OF_SOURCE.contains(&key) || is_of_store(key) || passes(key);
    merged(owner, current, changes, &may_change)
}

/// Those of a table without a connector; only what changes is told.
pub fn altered_table(changes: &Changes) -> Result<BTreeMap<String, Option<String>>> {
    canonical_changes(&OWNER_TABLE, changes, &|key| OF_WATERMARK.contains(&key))
}

pub fn altered_sink(current: &BTreeMap<String, String>, changes: &Changes) -> Result<BTreeMap<String, String>> {
    let connector = current.get(CONNECTOR).map_or("", String::as_str);
    let owner = SINKS.iter().chain([&INTO]).find(|c| c.name == connector).ok_or_else(|| unknown_connector(connector))?;
    merged(owner, current, changes, &|key| OF_JOB.contains(&key) || OF_SINK.contains(&key) || is_of_store(key) || owner.passes(key))
}

/// Those of a materialized view; only what changes is told.
pub fn altered_view(changes: &Changes) -> Result<BTreeMap<String, Option<String>>> {
    canonical_changes(&OWNER_VIEW, changes, &|key| OF_JOB.contains(&key))
}

fn why_fixed(option: &str) -> &'static str {
    match option {
        // Every reader, restart and backfill decides alike which rows are late, and what was closed is final.
        ALLOWED_LATENESS => "Which rows were late would depend on when it was changed. Make the view anew, with CREATE OR REPLACE.",
        PARALLELISM => "State is divided among so many workers. Make the view anew, with CREATE OR REPLACE.",
        _ => "It says what the rows are. Drop the object and create it anew.",
    }
}

fn merged(
    owner: &Owner,
    current: &BTreeMap<String, String>,
    changes: &Changes,
    may_change: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, String>> {
    let mut options = current.clone();
    for (key, value) in canonical_changes(owner, changes, may_change)? {
        match value {
            Some(value) => drop(options.insert(key, value)),
            None => drop(options.remove(&key)),
        }
    }
    let options = canonicalize_for(owner, options)?;
    check_fixed(&options)?;
    Ok(options)
}

/// By canonical key; `None`: the default again.
pub(super) fn canonical_changes(
    owner: &Owner,
    changes: &Changes,
    may_change: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    let set = changes.set.iter().map(|(key, text)| (key, Some(text)));
    for (key, text) in set.chain(changes.reset.iter().map(|key| (key, None))) {
        let (canonical, def) = canonical_key(owner, key)?;
        if !may_change(&canonical) {
            let error = SqlError::unsupported(format!("option \"{canonical}\" of {} cannot be changed", owner.title));
            return Err(error.with_hint(why_fixed(&canonical)));
        }
        let value = text.map(|text| canonical_value(def, key, text.clone())).transpose()?;
        if found.insert(canonical.clone(), value).is_some() {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("option \"{canonical}\" is given twice")));
        }
    }
    Ok(found)
}
