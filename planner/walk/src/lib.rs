//! Walks over trees, each compiled once and here: `sql` over parsed statements, `plan` over expressions and logical plans, `binder`
//! from the one to the other. Those of sqlparser and DataFusion are generic over what is done at a node, so that each use compiles
//! all of a walk anew (sqlparser's is some 4,000 functions); here that is behind a `dyn`. They do not know what is done at a node.

pub mod binder;
mod plan;
pub mod sql;

pub use plan::{Walk, WalkPlan};

#[cfg(test)]
mod tests;
