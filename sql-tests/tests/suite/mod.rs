//! - `tidy`: house rules that the compiler does not check
//! - `slt`: SQL behaviour, by feature, in every mode
//! - `altering`: options that change while things run
//! - `avro`: Avro from a real broker and a schema registry
//! - `backfill`: private readings through restarts
//! - `brokers`: what the tests on a real Kafka broker start it with
//! - `consistency`: what several views say together
//! - `copying`: COPY in its formats
//! - `crash`: kills at failpoints and at random moments
//! - `faults`: full disks, damaged files, clients that vanish
//! - `formats`: what earlier servers wrote
//! - `docs`: the examples of README and docs/
//! - `golden`: the rows that Apache Flink came to
//! - `indexes`: rows by other columns than their key
//! - `jdbc`: PostgreSQL's JDBC driver
//! - `kafka`: the main job on a real broker
//! - `kafka_edges`: where keys go, where sources start, what is missing or away
//! - `kafka_keyed`: keyed sources on a real broker
//! - `lagging`: jobs that lag while others depend on them
//! - `operating`: what an operator asks with psql
//! - `object_stores`: checkpoints, sources and sinks in stores that go away
//! - `sources`: sources that need no other service, through kills
//! - `rejected`: rows on which expressions fail
//! - `state_ttl`: state that is forgotten, through kills
//! - `snapshots`: readers that take their time
//! - `sinks`: what leaves the server, on a real broker and in files
//! - `segments`: rows of views in mapped files
//! - `lookups`: rows of a real PostgreSQL that are looked up
//! - `spill`: queries that need more memory than there is
//! - `stopping`: jobs that stop, and what a checkpoint must have of them
//! - `subscribing`: deltas of a view add up to it
//! - `lateness`: the same rows are late for every view
//! - `long_inserts`: thousands of literal rows in one statement
//! - `long_queries`: others while queries go on for minutes, and the ends of these
//! - `many_views`: hundreds of views over one input
//! - `metrics`: what Prometheus sees
//! - `nexmark`, `tpch`: public suites of queries, views against batch; `scripts`: what they share
//! - `oracle`: incremental against batch, in process; what leaves a server that is killed, against batch
//! - `prepared`: statements that are bound again and again
//! - `protobuf`: Protocol Buffers from a real broker and a schema registry
//! - `transactions`: what a transaction may do, and keeps others from
//! - `wide`: a table of many columns
//! - `psql`: the real psql and its commands

mod altering;
mod avro;
mod backfill;
mod brokers;
mod consistency;
mod copying;
mod crash;
mod docs;
mod faults;
mod formats;
mod golden;
mod indexes;
mod jdbc;
mod kafka;
mod kafka_edges;
mod kafka_keyed;
mod lagging;
mod lateness;
mod long_inserts;
mod long_queries;
mod lookups;
mod many_views;
mod metrics;
mod nexmark;
mod object_stores;
mod operating;
mod oracle;
mod prepared;
mod protobuf;
mod psql;
mod rejected;
mod scripts;
mod segments;
mod sinks;
mod slt;
mod snapshots;
mod sources;
mod spill;
mod state_ttl;
mod stopping;
mod subscribing;
mod tidy;
mod tpch;
mod transactions;
mod wide;
