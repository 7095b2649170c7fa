//! Secondary indexes: when look-ups take them, and that what they find is what a scan finds, through random changes, at old epochs, and after kills.

use eddyline_sql_tests::client::{number, rows, run};
use eddyline_sql_tests::{Server, ServerOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

const ITEMS: i64 = 3000;

async fn create(client: &Client) {
    run(client, "CREATE TABLE item (id BIGINT PRIMARY KEY, kind TEXT, shelf INT, v BIGINT)").await;
    run(client, "CREATE MATERIALIZED VIEW stock AS SELECT kind, shelf, COUNT(*) AS n FROM item GROUP BY kind, shelf").await;
    run(client, "CREATE MATERIALIZED VIEW cheap AS SELECT kind, v FROM item WHERE v < 50").await;
    run(client, "CREATE INDEX by_kind ON item (kind)").await;
    run(client, "CREATE INDEX by_both ON item (shelf, kind) INCLUDE (v)").await;
    run(client, "CREATE INDEX by_n ON stock (n)").await;
    run(client, "CREATE INDEX of_cheap ON cheap (kind)").await;
}

/// How EXPLAIN says that rows are found.
async fn reads(client: &Client, query: &str) -> Vec<String> {
    let lines = rows(client, &format!("EXPLAIN {query}")).await.into_iter().map(|mut row| row.remove(0).unwrap_or_default());
    lines.skip_while(|line| line != "Reads:").skip(1).map(|line| line.trim().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_says_how_rows_are_found() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    create(&client).await;
    for (query, expected) in [
        ("SELECT * FROM item WHERE kind = 'a'", "look-up in item by index by_kind (kind), 1 key"),
        ("SELECT v FROM item AS i WHERE 'a' = i.kind ORDER BY v DESC LIMIT 3", "look-up in item by index by_kind (kind), 1 key"),
        ("SELECT id FROM item WHERE kind IN ('a', 'b')", "look-up in item by index by_kind (kind), 2 keys"),
        ("SELECT id FROM item WHERE kind = 'a' AND shelf = 2", "look-up in item by index by_both (shelf, kind), 1 key"),
        ("SELECT id FROM item WHERE kind = 'a' AND shelf IN (1, 2, 3)", "look-up in item by index by_both (shelf, kind), 3 keys"),
        ("SELECT id FROM item WHERE kind = 'a' AND v > 5", "look-up in item by index by_kind (kind), 1 key"),
        ("SELECT count(*) FROM item WHERE kind = 'a'", "look-up in item by index by_kind (kind), 1 key"),
        ("SELECT * FROM item WHERE id = 1", "look-up in item by its key, 1 key"),
        ("SELECT kind FROM stock WHERE n = 7", "look-up in stock by index by_n (n), 1 key"),
        ("SELECT v FROM cheap WHERE kind = 'a'", "look-up in cheap by index of_cheap (kind), 1 key"),
        // All columns of an index must be given, each by what it equals.
        ("SELECT id FROM item WHERE shelf = 2", "scan of item"),
        ("SELECT id FROM item WHERE kind > 'a'", "scan of item"),
        ("SELECT id FROM item WHERE kind = 'a' OR shelf = 2", "scan of item"),
        ("SELECT id FROM item WHERE lower(kind) = 'a'", "scan of item"),
    ] {
        assert_eq!(reads(&client, query).await, [expected], "{query}");
    }
    assert_eq!(reads(&client, "SELECT 1").await, Vec::<String>::new());
    let ran = rows(&client, "EXPLAIN ANALYZE SELECT id FROM item WHERE kind = 'a'").await;
    assert_eq!(ran[1][0].as_deref(), Some("look-up in item by index by_kind (kind), 1 key"));
    let ran = rows(&client, "EXPLAIN ANALYZE SELECT count(*) FROM item WHERE kind = 'a'").await;
    assert_eq!(ran[1][0].as_deref(), Some("look-up in item by index by_kind (kind), 1 key"));
    run(&client, "DROP INDEX by_both").await;
    assert_eq!(
        reads(&client, "SELECT id FROM item WHERE kind = 'a' AND shelf = 2").await,
        ["look-up in item by index by_kind (kind), 1 key"]
    );
    run(&client, "DROP INDEX by_kind").await;
    assert_eq!(reads(&client, "SELECT id FROM item WHERE kind = 'a' AND shelf = 2").await, ["scan of item"]);
}

/// A query by an index, and the same by a condition that no index knows.
fn pairs(random: &mut StdRng) -> Vec<[String; 2]> {
    let (kind, other, shelf) = (random.random_range(0..12), random.random_range(0..12), random.random_range(0..6));
    let pair = |by_index: String, by_scan: String| [by_index, by_scan];
    vec![
        pair(format!("SELECT id, v FROM item WHERE kind = 'k{kind}'"), format!("SELECT id, v FROM item WHERE lower(kind) = 'k{kind}'")),
        pair(
            format!("SELECT id, shelf, v FROM item WHERE kind = 'k{kind}' AND shelf = {shelf}"),
            format!("SELECT id, shelf, v FROM item WHERE lower(kind) = 'k{kind}' AND abs(shelf) = {shelf}"),
        ),
        pair(
            format!("SELECT id FROM item WHERE kind IN ('k{kind}', 'k{other}', 'none', NULL)"),
            format!("SELECT id FROM item WHERE lower(kind) IN ('k{kind}', 'k{other}')"),
        ),
        pair(
            format!("SELECT COUNT(*), SUM(v) FROM item WHERE kind = 'k{kind}' AND v > 10"),
            format!("SELECT COUNT(*), SUM(v) FROM item WHERE lower(kind) = 'k{kind}' AND v > 10"),
        ),
        pair(format!("SELECT kind, shelf FROM stock WHERE n = {other}"), format!("SELECT kind, shelf FROM stock WHERE abs(n) = {other}")),
        pair(format!("SELECT v FROM cheap WHERE kind = 'k{kind}'"), format!("SELECT v FROM cheap WHERE lower(kind) = 'k{kind}'")),
    ]
}

/// Both at one epoch: that of the block that the client is in.
async fn agree(client: &Client, pairs: &[[String; 2]], when: &str) {
    for [by_index, by_scan] in pairs {
        let (mut found, mut expected) = (rows(client, by_index).await, rows(client, by_scan).await);
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{by_index}, {when}");
    }
}

fn change(random: &mut StdRng) -> String {
    let (id, kind, shelf) = (random.random_range(0..ITEMS), random.random_range(0..10), random.random_range(0..5));
    match random.random_range(0..5) {
        0 => format!(
            "INSERT INTO item SELECT {id} + g, 'k' || (g % 10), CAST(g % 5 AS INT), g % 100 FROM generate_series(0, 40) AS s(g) ON CONFLICT (id) DO NOTHING"
        ),
        1 => format!("UPDATE item SET kind = 'k{kind}' WHERE id BETWEEN {id} AND {id} + 30"),
        2 => format!("UPDATE item SET kind = NULL, v = v + 1 WHERE kind = 'k{kind}' AND shelf = {shelf}"),
        3 => format!("UPDATE item SET shelf = {shelf}, kind = 'k{kind}' WHERE kind IS NULL"),
        _ => format!("DELETE FROM item WHERE kind = 'k{kind}' AND shelf = {shelf} AND v % 3 = 0"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_index_finds_is_what_a_scan_finds() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let mut client = server.connect().await;
    create(&client).await;
    let rows_of = "SELECT g, 'k' || (g % 10), CAST(g % 5 AS INT), g % 100";
    run(&client, &format!("INSERT INTO item {rows_of} FROM generate_series(0, {}) AS s(g)", ITEMS - 1)).await;
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..6 {
        if round == 3 {
            // Made over rows that are there, and in the log behind the checkpoint.
            run(&client, "DROP INDEX by_kind; CREATE INDEX by_kind ON item (kind)").await;
        }
        let (old, prepared) = (server.connect().await, client.prepare("SELECT id FROM item WHERE kind = $1").await.expect("a statement"));
        run(&old, "BEGIN").await;
        let kept = pairs(&mut random);
        agree(&old, &kept, "in a new block").await;
        let before = rows(&old, &kept[0][0]).await.len();
        for _ in 0..12 {
            run(&client, &change(&mut random)).await;
            let asked = pairs(&mut random);
            run(&client, "BEGIN").await;
            agree(&client, &asked, &format!("round {round}")).await;
            run(&client, "COMMIT").await;
        }
        agree(&old, &kept, "at an old epoch").await;
        assert_eq!(rows(&old, &kept[0][0]).await.len(), before, "a block reads its first epoch");
        run(&old, "COMMIT").await;
        for kind in 0..10 {
            let found = client.query(&prepared, &[&format!("k{kind}")]).await.expect("rows").len() as i64;
            assert_eq!(found, number(&client, &format!("SELECT COUNT(*) FROM item WHERE lower(kind) = 'k{kind}'")).await);
        }
        if round % 2 == 1 {
            server.kill_and_restart();
            client = server.connect().await;
            let asked = pairs(&mut random);
            run(&client, "BEGIN").await;
            agree(&client, &asked, "after a kill").await;
            run(&client, "COMMIT").await;
        }
    }
    let names = rows(&client, "SHOW INDEXES").await;
    assert_eq!(names.concat(), ["by_both", "by_kind", "by_n", "of_cheap"].map(|name| Some(name.to_string())));
}

/// More rows than a look-up gives in one piece, and more than is found without planning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_many_rows_have_is_found_in_all_of_them() {
    let server = Server::start(ServerOptions::default());
    let client = server.connect().await;
    run(&client, "CREATE TABLE big (id BIGINT PRIMARY KEY, half TEXT)").await;
    run(&client, "INSERT INTO big SELECT g, CASE WHEN g % 2 = 0 THEN 'even' ELSE 'odd' END FROM generate_series(1, 60000) AS s(g)").await;
    run(&client, "CREATE INDEX ON big (half)").await;
    assert_eq!(reads(&client, "SELECT id FROM big WHERE half = 'odd'").await, ["look-up in big by index big_half_idx (half), 1 key"]);
    let found = client.query("SELECT id FROM big WHERE half = $1", &[&"odd"]).await.expect("rows");
    let sum: i64 = found.iter().map(|row| row.get::<_, i64>(0)).sum();
    assert_eq!((found.len(), sum), (30_000, 30_000 * 30_000));
    assert_eq!(number(&client, "SELECT COUNT(*) FROM big WHERE half IN ('odd', 'even')").await, 60_000);
}
