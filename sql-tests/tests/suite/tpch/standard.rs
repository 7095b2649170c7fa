//! The benchmark's own rows, queries and parameters at scale factor 0.01: some 86,000 rows. Each round has refreshes (new orders come, the oldest go) and
//! changes of every table but the two that are fixed. PostgreSQL gets the same as it comes.

use super::{check_all, compare, execute};
use crate::suite::oracle::postgres::Cluster;
use eddyline_sql_tests::tpch::{self, Data, QUERIES, Rows};
use eddyline_sql_tests::{Server, ServerOptions};
use tokio_postgres::Client;

const SCALE: f64 = 0.01;
const ROUNDS: usize = 3;
const KILL_AFTER: usize = 2;
/// In a hundred.
const REFRESHED: usize = 1;
/// What they ask for one finds a few times in a million rows.
const RARE: [usize; 4] = [17, 18, 19, 20];

fn query(number: usize) -> String {
    tpch::query(number, SCALE)
}

async fn copy(clients: [&Client; 2], all: &[Rows]) {
    for client in clients {
        for rows in all {
            rows.copy(client).await.unwrap_or_else(|e| panic!("COPY into {}: {e:?}", rows.table));
        }
    }
}

async fn execute_all(clients: [&Client; 2], statements: &[String]) {
    for client in clients {
        for statement in statements {
            execute(client, statement).await;
        }
    }
}

/// Every row that a number picks out changes, so that a round changes others than the one before.
fn changes(round: usize) -> Vec<String> {
    vec![
        format!(
            "UPDATE lineitem SET l_quantity = 51 - l_quantity, l_receiptdate = l_receiptdate + INTERVAL '9' DAY WHERE l_partkey % 97 = {round}"
        ),
        format!("UPDATE orders SET o_orderstatus = 'F', o_custkey = o_custkey % 1000 + 1 WHERE o_custkey % 97 = {round}"),
        format!("UPDATE customer SET c_acctbal = c_acctbal + 1000, c_nationkey = (c_nationkey + 1) % 25 WHERE c_custkey % 50 = {round}"),
        format!("UPDATE supplier SET s_nationkey = (s_nationkey + 1) % 25 WHERE s_suppkey % 20 = {round}"),
        format!("UPDATE part SET p_size = p_size % 50 + 1, p_container = 'MED BOX' WHERE p_partkey % 50 = {round}"),
        format!("UPDATE partsupp SET ps_supplycost = ps_supplycost + 0.5, ps_availqty = ps_availqty + 1 WHERE ps_partkey % 50 = {round}"),
        format!("DELETE FROM customer WHERE c_custkey % 200 = {round}"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rocksdb_with_2_workers_and_as_in_postgresql() {
    let options = ServerOptions { workers: 2, state_cache: "8MiB", checkpoint_interval: "1s", ..Default::default() };
    let mut server = Server::start(options);
    let mut client = server.connect().await;
    let cluster = Cluster::start();
    let postgres = cluster.connect().await;
    let mut data = Data::new(SCALE);
    execute_all([&client, &postgres], &tpch::tables()).await;
    // Half the views read what is there already, the others see it come.
    let create = |number: usize| format!("CREATE MATERIALIZED VIEW q{number} AS {}", query(number));
    for number in QUERIES.filter(|n| n % 2 == 0) {
        execute(&client, &create(number)).await;
    }
    copy([&client, &postgres], &data.initial()).await;
    for number in QUERIES.filter(|n| n % 2 == 1) {
        execute(&client, &create(number)).await;
    }
    check_all(&client, 0).await;
    for round in 1..=ROUNDS {
        let refresh = data.refresh(data.orders() * REFRESHED / 100);
        copy([&client, &postgres], &refresh.new).await;
        execute_all([&client, &postgres], &refresh.old).await;
        execute_all([&client, &postgres], &changes(round)).await;
        if round == KILL_AFTER {
            server.kill_and_restart();
            client = server.connect().await;
        }
        check_all(&client, round).await;
    }
    execute(&postgres, "ANALYZE").await;
    compare(&client, &postgres, query, &RARE).await;
}
