//! Plan expressions made executable: `plan::Expr` to DataFusion physical expressions, and their evaluation over change
//! batches with single failing rows set aside.
//!
//! - `compile`: one plan expression to one physical expression.
//! - `functions`: scalar functions by name.
//! - `special`: the physical expressions that DataFusion has no match for.
//! - `literal`: plan constants to scalars and columns.
//! - `evaluate`: evaluation over batches, and the search for failing rows.
//!
//! It knows no operators, and no SQL text, and leaves to `planner::functions::failed` what a failed evaluation says to a user.

mod compile;
mod evaluate;
mod functions;
mod literal;
mod special;

#[cfg(test)]
mod tests;

pub use compile::{compile, compile_as};
pub use evaluate::{Predicate, Projection};
pub use literal::{literal_column, literal_scalar};
pub use special::NowHandle;
