//! Serving: batch queries over snapshots, and the evaluation of table writes.
//!
//! - `engine`: DataFusion with its own threads and a bounded memory pool; `narrow`: its rules for plans over one relation; `physical`, `forgetting`, `guards`, `projections`, `once`, `top_groups`: those for physical plans
//! - `explained`: what EXPLAIN tells of a query
//! - `rows`: what a query yields, batch by batch; `interrupt`: what ends one that nobody waits for
//! - `turns`: the threads of queries, and how queries share them; `paced`: joins that let others have their turns; `gathered`: windows that count what they hold; `passing`: how such
//!   stand in a plan
//! - `relation`: the table sources that plans name, and their binding to a snapshot
//! - `lookup`: rows by key, which need no planning
//! - `view_scan`, `source_scan`: how views and sources are read
//! - `overlay`: a transaction's own effects
//! - `dml`, `conflict`: INSERT, UPDATE, DELETE to net changes; `numbers`: what rows are numbered with
//! - `checked`: integer arithmetic that fails instead of wrapping; `average`: AVG of decimals that rounds; `finite`: SUM and AVG of floats that fail; `counted`: COUNT(DISTINCT) of rows and lists; `sliding`: aggregates over frames
//!   that rows leave
//! - `correlated`: subqueries that are run once per outer row
//!
//! Knows nothing of the wire and of sessions.

mod average;
pub mod checked;
pub mod conflict;
pub mod correlated;
mod counted;
pub mod dml;
pub mod engine;
pub mod explained;
mod finite;
mod forgetting;
mod gathered;
mod guards;
mod interrupt;
mod lookup;
mod narrow;
pub mod numbers;
mod once;
pub mod overlay;
mod paced;
mod passing;
pub mod physical;
mod projections;
pub mod relation;
pub mod rows;
mod sliding;
mod source_scan;
mod top_groups;
mod turns;
mod view_scan;

pub use engine::{QueryEngine, to_sql_error};
pub use relation::{Bindings, RelationSource};
pub use rows::{RowStream, split};
