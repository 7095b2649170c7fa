//! SQL text to streaming plan: parse, bind, optimise, lower. Pure and synchronous; it knows nothing of
//! execution, storage or connectors.
//!
//! # Layout, in the order of a statement's life
//! - `dialect`, `parse`: text to statements (`Parsed`)
//! - `bind`: names and types over the `catalog`, to DataFusion's logical plan
//! - `assign`: which values a column takes; `locks`: which rows are not to change
//! - `described`: what a statement leaves to its format
//! - `query`, `dml`, `create`, `add_column`, `alter`, `function`, `index`, `check`, `keyed`, `like`, `sink`, `sink_into`, `subscribe`, `table_as`: what each kind of statement makes of that;
//!   `planning` chooses; `spelling`: what a sink's fields are called outside
//! - `optimize`, `lower`: a view's logical plan to the streaming `plan`; `expr` and `types` serve both
//! - `forgetting`: what a job that forgets state asks of those it reads
//! - `explain`: every stage as text
//! - `statement`: what comes out; `error`: what is said instead
//! - `settings`: of the session, which planning depends on
//!
//! Of crates of their own: `functions` and `casts` (`planner/functions`), `walk` (`planner/walk`).

mod add_column;
mod alter;
mod assign;
mod bind;
pub mod catalog;
mod check;
mod create;
mod described;
mod dialect;
mod dml;
mod error;
pub mod explain;
mod expr;
mod forgetting;
mod function;
mod index;
mod keyed;
mod like;
mod locks;
mod lower;
mod optimize;
mod parse;
pub mod plan;
mod planning;
mod query;
mod settings;
mod sink;
mod sink_into;
mod spelling;
pub mod statement;
mod subscribe;
mod table_as;
mod types;

pub use catalog::{Catalog, Relation, RelationKind};
pub use create::table_plan;
pub use described::FormatRequest;
pub use eddyline_functions::{self as functions, casts};
pub use eddyline_walk as walk;
pub use expr::{to_datafusion as expr_to_datafusion, to_scalar as literal_to_scalar};
pub use keyed::keyed_plan;
pub use lower::StateTableIds;
pub use optimize::{Operands, Projections, PushDown, Simplify, batch_rules, correlation, simplified};
pub use parse::{Parsed, SetPiece, hide_secrets, parse, without_secrets};
pub use planning::{bind_parameters, parameter_fields, parameter_types, plan};
pub use query::oracle_plan;
pub use settings::{DEFAULTS, RULES, Settings, check_default};
pub use sink_into::reaches;
pub use statement::Planned;
