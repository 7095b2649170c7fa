//! System relations: `pg_catalog` and `information_schema` as PostgreSQL 15 has them, and `eddyline`. They are
//! DataFusion tables, filled from the catalog snapshot when a statement scans them, so they are always
//! true to it and cost nothing otherwise.
//!
//! - `spec`: columns and types, read from `relations.txt` and `types.txt`
//! - `rows`: building rows by column name
//! - `table`: the table provider
//! - `objects`, `indexes`, `procs`, `builtin`, `information_schema`: what the rows are
//! - `own`: the schema `eddyline`
//! - `functions`, `describe`, `values`: `pg_*` functions and their kin
//! - `sleep`, `advisory`: `pg_sleep`, `pg_advisory_lock` and its kin
//! - `typing`: which columns of a query have types that only system relations have; `origins`: which are plain columns of a relation
//!
//! Relations that Eddyline has nothing to say in are there and empty. It knows nothing of query texts.

mod advisory;
mod builtin;
mod describe;
pub mod functions;
mod indexes;
mod information_schema;
pub mod objects;
pub mod origins;
mod own;
mod procs;
pub mod rows;
mod sleep;
pub mod spec;
mod table;
pub mod typing;
mod values;

use crate::catalog::CatalogSnapshot;
use crate::session::Services;
use datafusion::datasource::{DefaultTableSource, TableProvider};
use datafusion::logical_expr::TableSource;
use eddyline_planner::Parsed;
use parking_lot::Mutex;
use std::sync::Arc;

/// The one database and the owner of everything in it.
pub const DATABASE: &str = "eddyline";
pub const OWNER: &str = "eddyline";

/// What a system relation or function may look at. One is made per statement.
pub struct SystemContext {
    pub catalog: Arc<CatalogSnapshot>,
    pub session: SessionFacts,
    pub services: Option<Arc<Services>>,
    /// Settings that `set_config` changed: name, value, local. The session applies them after the statement.
    pub set_config: Mutex<Vec<(String, String, bool)>>,
    pub now_micros: i64,
}

/// What a session tells about itself.
#[derive(Clone, Debug, Default)]
pub struct SessionFacts {
    pub user: String,
    pub process: i32,
    /// The number of the transaction that the statement was planned in.
    pub transaction: u64,
    pub settings: Vec<(String, String)>,
    /// Cursors by name with their statements.
    pub cursors: Vec<(String, Arc<Parsed>)>,
    /// Prepared statements by name, with the oids of their parameters' types.
    pub statements: Vec<(String, Arc<Parsed>, Vec<u32>)>,
}

impl SystemContext {
    /// Of a plan that was found to ask for nothing of its session.
    pub fn unasked(catalog: Arc<CatalogSnapshot>) -> SystemContext {
        SystemContext { catalog, session: SessionFacts::default(), services: None, set_config: Mutex::default(), now_micros: 0 }
    }

    pub fn setting(&self, name: &str) -> Option<&str> {
        self.session.settings.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A system relation by name; without a schema, one of `pg_catalog`.
pub fn table_source(context: &Arc<SystemContext>, schema: Option<&str>, name: &str) -> Option<Arc<dyn TableSource>> {
    let provider: Arc<dyn TableProvider> = match schema.unwrap_or("pg_catalog") {
        "eddyline" => {
            let (relation, _) = own::own_relations().find(|(_, known)| *known == name)?;
            Arc::new(own::OwnTable::new(relation, context.clone()))
        }
        schema => Arc::new(table::SystemTable::new(spec::relation(schema, name)?, context.clone())),
    };
    Some(Arc::new(DefaultTableSource::new(provider)))
}

#[cfg(test)]
pub(crate) mod tests;
