//! Keyed sources on a real broker: upserts with tombstones, and Debezium's changes, while the server is killed.

use super::brokers::broker;
use eddyline_connectors::testing::KafkaBroker;
use eddyline_sql_tests::client::numbers;
use eddyline_sql_tests::wait::until;
use eddyline_sql_tests::{Server, ServerOptions};

const KEYS: i64 = 500;
const PARTITIONS: i32 = 2;

/// Writes every key once more; of the key's every tenth version is a deletion.
fn round(broker: &KafkaBroker, version: i64) {
    for key in 0..KEYS {
        let partition = (key % PARTITIONS as i64) as i32;
        let record_key = format!("{{\"id\":{key}}}");
        let gone = (key + version) % 10 == 0;
        let value = format!("{{\"id\":{key},\"v\":{version}}}");
        broker.send("upserts", partition, Some(record_key.as_bytes()), if gone { None } else { Some(value.as_bytes()) });
        let event = if gone {
            format!("{{\"before\":{{\"id\":{key},\"v\":0}},\"after\":null,\"op\":\"d\"}}")
        } else {
            format!("{{\"schema\":{{}},\"payload\":{{\"before\":null,\"after\":{value},\"op\":\"u\"}}}}")
        };
        broker.send("changes", partition, Some(record_key.as_bytes()), Some(event.as_bytes()));
        if gone {
            broker.send("changes", partition, Some(record_key.as_bytes()), None);
        }
    }
    broker.flush().expect("the broker takes the records");
}

/// The definition of a source that keeps the last row of each key.
fn upserts(name: &str, broker: &KafkaBroker) -> String {
    format!(
        "CREATE TABLE {name} (id BIGINT, v BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='upserts', \
         'properties.bootstrap.servers'='{}', 'key.format'='json', 'value.format'='json')",
        broker.bootstrap
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_record_of_a_key_counts_through_kills() {
    let broker = broker(&[("upserts", PARTITIONS), ("changes", PARTITIONS)]);
    let mut server = Server::start(ServerOptions { checkpoint_interval: "200ms", state_cache: "1MiB", ..Default::default() });
    let client = server.connect().await;
    for statement in [
        upserts("ups", &broker),
        format!(
            "CREATE SOURCE cdc (id BIGINT PRIMARY KEY, v BIGINT) INCLUDE PARTITION AS p WITH (connector = 'kafka', topic = 'changes', \
             properties.bootstrap.server = '{}') FORMAT DEBEZIUM ENCODE JSON",
            broker.bootstrap
        ),
        "CREATE MATERIALIZED VIEW of_ups AS SELECT v, COUNT(*) AS n FROM ups GROUP BY v".to_string(),
        "CREATE MATERIALIZED VIEW of_cdc AS SELECT v, COUNT(*) AS n FROM cdc GROUP BY v".to_string(),
    ] {
        client.batch_execute(&statement).await.expect("the definitions are accepted");
    }
    let counts = "SELECT (SELECT COUNT(*) FROM ups), (SELECT COUNT(*) FROM cdc), (SELECT SUM(v * n)::bigint FROM of_ups), \
                  (SELECT SUM(v * n)::bigint FROM of_cdc), (SELECT SUM(v)::bigint FROM ups), (SELECT SUM(v)::bigint FROM cdc)";
    for version in 1..=4 {
        std::thread::scope(|scope| {
            scope.spawn(|| round(&broker, version));
            server.kill();
            server.launch().expect("the server starts again");
        });
        let client = server.connect().await;
        let alive = KEYS - KEYS / 10;
        let sum = alive * version;
        until("every key has its last row", || async {
            let counts = numbers(&client, counts).await?;
            assert_eq!((counts[2], counts[3]), (counts[4], counts[5]), "views follow their sources");
            (counts == [alive, alive, sum, sum, sum, sum]).then_some(())
        })
        .await;
    }
    // A query right after CREATE finds what the topic holds, as does one of a view over the source.
    let client = server.connect().await;
    let (alive, sum) = (KEYS - KEYS / 10, (KEYS - KEYS / 10) * 4);
    for name in ["fresh", "beneath"] {
        client.batch_execute(&upserts(name, &broker)).await.expect("the source is accepted");
        if name == "beneath" {
            let above = "CREATE MATERIALIZED VIEW above AS SELECT COUNT(*) AS n, SUM(v) AS v FROM beneath";
            client.batch_execute(above).await.expect("the view is accepted");
        }
    }
    assert_eq!(numbers(&client, "SELECT COUNT(*), SUM(v)::bigint FROM fresh").await, Some(vec![alive, sum]));
    assert_eq!(numbers(&client, "SELECT n, v::bigint FROM above").await, Some(vec![alive, sum]));
    server.kill_and_restart();
    let client = server.connect().await;
    let again = "CREATE MATERIALIZED VIEW again AS SELECT COUNT(*) AS n FROM cdc WHERE v = 4";
    client.batch_execute(again).await.expect("the view is accepted");
    assert_eq!(numbers(&client, "SELECT n FROM again").await, Some(vec![KEYS - KEYS / 10]));
    // A key that is no JSON is found with its place and reason.
    tokio::task::block_in_place(|| {
        broker.send("upserts", 0, Some(b"abc"), None);
        broker.flush().expect("the broker takes the record");
    });
    let bad = "SELECT COUNT(*) FROM eddyline.undecodable_records WHERE source = 'ups' AND reason LIKE 'key: malformed JSON%'";
    until("a bad key is put down", || async { (numbers(&client, bad).await? == [1]).then_some(()) }).await;
}
