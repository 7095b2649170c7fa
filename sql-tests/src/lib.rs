//! What the tests from outside share: a server as a process of its own that can be killed and started again, clients
//! for it, and waiting for conditions. Knows the product only by its binary and its wire.

pub mod azure;
pub mod bucket;
pub mod client;
pub mod gcs;
pub mod hdfs;
pub mod process;
pub mod program;
pub mod registry;
pub mod s3;
pub mod script;
pub mod stores;
pub mod tpch;
pub mod wait;

pub use process::{Server, ServerOptions};
