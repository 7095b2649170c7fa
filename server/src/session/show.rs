//! SHOW and DESCRIBE.

use super::{Outcome, Session, Tag};
use crate::catalog::object_kind;
use crate::pgcatalog::objects::default_of;
use crate::serving::RowStream;
use crate::serving::rows::text_schema;
use arrow::datatypes::SchemaRef;
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_planner::plan::Expr;
use eddyline_planner::statement::{ObjectKind, Show};
use eddyline_planner::{Relation, without_secrets};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const COLUMNS: &[&str] = &["Column", "Type", "Nullable", "Key", "Default"];
const JOBS: &[&str] = &["Name", "State", "Epoch", "Rows in", "Rows out", "Late", "Rejected", "Error"];

/// The columns of its result.
pub fn schema(show: &Show) -> SchemaRef {
    match show {
        Show::Setting(name) => text_schema(&[&setting_name(name)]),
        Show::Name { column, .. } => text_schema(&[*column]),
        other => text_schema(columns(other)),
    }
}

fn columns(show: &Show) -> &'static [&'static str] {
    match show {
        Show::Objects(_) | Show::Name { .. } => &["Name"],
        Show::Jobs => JOBS,
        Show::Columns(_) => COLUMNS,
        Show::Create(_) | Show::CreateFunction(_) => &["Name", "Create statement"],
        Show::Setting(_) => &["setting"],
        Show::AllSettings => &["name", "setting", "description"],
    }
}

/// PostgreSQL heads the column with the parameter's own spelling.
fn setting_name(name: &str) -> String {
    let known = super::settings::DEFINITIONS.iter().find(|d| d.name.eq_ignore_ascii_case(&name.replace("time zone", "TimeZone")));
    known.map_or_else(|| name.to_lowercase(), |d| d.name.to_string())
}

impl Session {
    pub(super) fn show(&self, show: Show) -> Result<Outcome> {
        let catalog = self.shown_catalog();
        let relation = |id| -> Result<&Arc<Relation>> {
            catalog.get(id).ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the relation does not exist any more"))
        };
        let rows: Vec<Vec<String>> = match &show {
            Show::Objects(ObjectKind::Function) => catalog.functions().map(|f| vec![f.signature()]).collect(),
            Show::Objects(ObjectKind::Index) => {
                let mut names: Vec<&str> = catalog.indexes().map(|index| index.name.as_str()).collect();
                names.sort_unstable();
                names.into_iter().map(|name| vec![name.to_string()]).collect()
            }
            Show::CreateFunction(id) => {
                let function = catalog.function_by_id(*id);
                let function =
                    function.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_FUNCTION, "the function does not exist any more"))?;
                vec![vec![function.name.clone(), function.sql.clone()]]
            }
            Show::Name { value, .. } => vec![vec![value.to_string()]],
            Show::Objects(kind) => {
                let mut names: Vec<&str> = catalog.relations().filter(|r| is_listed(r, *kind)).map(|r| r.name.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                names.into_iter().map(|n| vec![n.to_string()]).collect()
            }
            Show::Jobs => self.jobs(),
            Show::Columns(id) => described(relation(*id)?),
            Show::Create(id) => {
                let relation = relation(*id)?;
                // A query has no options with secrets; only what is in the statement of a source or sink is looked through.
                let sql = match object_kind(relation) {
                    ObjectKind::Source | ObjectKind::Table | ObjectKind::Sink => without_secrets(&relation.sql),
                    _ => relation.sql.clone(),
                };
                vec![vec![relation.name.clone(), catalog.noted(relation, &sql)]]
            }
            Show::Setting(name) => match self.services().coordinator.settings().remove(name.as_str()) {
                Some(value) => vec![vec![value]],
                None => {
                    let value = match self.of_transaction(name) {
                        Some(value) => value,
                        None => self.settings.show(name)?,
                    };
                    vec![vec![value.to_string()]]
                }
            },
            Show::AllSettings => {
                let of_server = self.services().coordinator.settings();
                self.shown_settings().into_iter().chain(of_server).map(|(n, v)| vec![n, v, String::new()]).collect()
            }
        };
        let rows = match &show {
            Show::Setting(name) => RowStream::text(&[&setting_name(name)], &rows),
            Show::Name { column, .. } => RowStream::text(&[*column], &rows),
            other => RowStream::text(columns(other), &rows),
        };
        Ok(Outcome::Rows { rows, tag: Tag::Fixed("SHOW".into()) })
    }

    fn jobs(&self) -> Vec<Vec<String>> {
        let catalog = self.services().coordinator.catalog();
        let stats = self.services().coordinator.stats();
        let jobs = stats.jobs.read();
        let sinks = stats.sinks.read();
        let running = |r: &&Arc<Relation>| matches!(object_kind(r), ObjectKind::MaterializedView | ObjectKind::Sink);
        let views = catalog.relations().filter(running);
        views
            .filter_map(|r| jobs.get(&r.id).map(|job| (r, job)))
            .map(|(r, job)| {
                let sink = sinks.get(&r.id).map(|sink| &**sink);
                let error = job.error.read().clone().or_else(|| sink?.problem.read().clone()).or_else(|| job.trouble());
                let state = job.state_and_progress(sink);
                let epoch = job.committed(&stats).0.to_string();
                let counts = [&job.rows_in, &job.rows_out, &job.late, &job.rejected].map(|c| c.load(Relaxed).to_string());
                [r.name.clone(), state, epoch].into_iter().chain(counts).chain([error.unwrap_or_default()]).collect()
            })
            .collect()
    }
}

/// Whether SHOW of a kind lists it. What was made by CREATE TABLE with a connector is a source and a table.
fn is_listed(r: &Relation, kind: ObjectKind) -> bool {
    let says_table = || r.sql.split_whitespace().skip(1).take(2).any(|word| word.eq_ignore_ascii_case("table"));
    object_kind(r) == kind || kind == ObjectKind::Table && object_kind(r) == ObjectKind::Source && says_table()
}

fn described(r: &Relation) -> Vec<Vec<String>> {
    let in_key = |value: &Expr| matches!(value, Expr::Column(stored) if r.key.contains(stored));
    r.visible
        .iter()
        .enumerate()
        .map(|(index, visible)| {
            let column = &visible.column;
            vec![
                column.name.clone(),
                column.declared(),
                if column.nullable { "yes" } else { "no" }.to_string(),
                if in_key(&visible.value) { "yes" } else { "" }.to_string(),
                default_of(r, index).unwrap_or_default(),
            ]
        })
        .collect()
}
