//! SQL text to streaming plan: parse, bind, optimise, lower. Pure and synchronous; it knows nothing of
//! execution, storage or connectors.

pub mod catalog;
pub mod plan;
pub mod statement;

pub use catalog::{Catalog, Relation, RelationKind};
pub use statement::Planned;
