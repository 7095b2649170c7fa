//! Tests of the planner through its public face, over a catalog in memory that is filled by the planner's own
//! DDL. Nothing here runs a streaming plan; `batch` runs batch plans with DataFusion.

mod batch;
mod catalog_queries;
mod errors;
mod functions;
mod plans;
mod statements;
mod support;
mod values;
