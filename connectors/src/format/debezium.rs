//! Debezium's envelope: a change with the row before and after it.

pub mod encode;
