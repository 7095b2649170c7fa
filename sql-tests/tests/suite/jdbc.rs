//! PostgreSQL's JDBC driver, as programs on the JVM and BI tools use it: writes, parameters in text and binary, cursors, timeouts
//! and what it asks of the catalog.

use eddyline_sql_tests::{Server, ServerOptions};
use std::path::Path;
use std::process::Command;

const EXPECTED: &str = "\
batch: 50
null: 1
generated keys: 1001|z
copy: 2
rollback: 0
view: n0|10|102.50 n1|10|102.50 n2|10|102.50 n3|10|102.50 n4|10|102.50 q|1|null r|1|null z|1|null null|1|null
binary: 21 10.25 2026-01-01 00:00:00.123 false 2024-02-29 31.5
array: 3
cursor: 5000050000
timeout: 57014 ERROR: canceling statement due to user request
unknown column: 42703 ERROR: column \"nme\" does not exist
tables: by_name|MATERIALIZED VIEW account|TABLE
columns: id|int8|0|NO name|text|0|YES amount|numeric|2|YES at|timestamp|6|YES ok|bool|0|YES d|date|0|YES x|float8|17|YES
key: id|account_pkey
index: account_pkey|id
foreign keys: 
schemas: eddyline information_schema pg_catalog public
catalogs: eddyline
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_finds_what_it_expects() {
    let server = Server::start(ServerOptions::default());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/jdbc.sh");
    let run = || Command::new(&script).arg(server.port.to_string()).output().expect("the script runs");
    let output = tokio::task::block_in_place(run);
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, EXPECTED, "{complaints}");
}
