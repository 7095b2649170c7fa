//! Every SQL example of the README and of docs/ runs, in the order in which it stands. The ones over Kafka get as far as
//! the broker that is not there, and one over PostgreSQL to the database; `kafka` and `lookups` run such for real. One below `-- refused with CODE[: message]` is refused like that.

use eddyline_sql_tests::{Server, ServerOptions};
use std::path::Path;

/// What stands above an example that is an error.
const REFUSED: &str = "-- refused with ";

fn examples(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```sql\n").skip(1).map(|b| b.split("```").next().unwrap());
    blocks.flat_map(|b| b.split(";\n")).map(|s| s.trim().trim_end_matches(';').to_string()).filter(|s| !s.is_empty()).collect()
}

async fn run(file: &str, at_least: usize) {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    let examples = examples(file);
    assert!(examples.len() >= at_least, "{file} has its examples");
    for example in examples {
        let result = client.simple_query(&example).await;
        if let Some(refusal) = example.strip_prefix(REFUSED) {
            let error = result.expect_err(&example);
            let shown = error.as_db_error().map(|e| format!("{}: {}", e.code().code(), e.message())).unwrap_or_default();
            let refusal = refusal.lines().next().unwrap_or_default();
            assert!(shown.starts_with(refusal), "{file}: {example} is refused with {shown}");
            continue;
        }
        if ["'kafka'", "'upsert-kafka'", "'jdbc'"].iter().any(|connector| example.contains(connector)) {
            let error = result.expect_err("nobody takes us in at the documented address");
            // Away, or somebody else's, who does not know us.
            let state = error.as_db_error().map_or("", |e| e.code().code());
            assert!(["08006", "28000", "28P01"].contains(&state), "{file}: {example}: {error:?}");
        } else if let Err(error) = result {
            panic!("{file}: {example}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readme() {
    run("README.md", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_reference() {
    run("docs/sql.md", 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connectors() {
    run("docs/connectors.md", 1).await;
}
