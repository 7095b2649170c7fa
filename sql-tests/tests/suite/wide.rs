//! A table of 500 columns: written, changed, grouped, joined with itself and read, through a kill.

use eddyline_sql_tests::client::{rows, run};
use eddyline_sql_tests::{Server, ServerOptions};

const COLUMNS: usize = 500;

/// One text per column, with commas between.
fn each(text: impl Fn(usize) -> String) -> String {
    (0..COLUMNS).map(text).collect::<Vec<_>>().join(", ")
}

fn row(id: usize) -> String {
    let value = |column: usize| match column % 3 {
        0 => format!("{}", id * column),
        1 => format!("'{id}-{column}'"),
        _ => "NULL".to_string(),
    };
    format!("({id}, {})", each(value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_columns() {
    let mut server = Server::start(ServerOptions { checkpoint_interval: "100ms", ..Default::default() });
    let client = server.connect().await;
    let ty = |column: usize| ["BIGINT", "TEXT", "NUMERIC(10,2)"][column % 3];
    run(&client, &format!("CREATE TABLE wide (id INT PRIMARY KEY, {})", each(|c| format!("c{c} {}", ty(c))))).await;
    let aggregate = |c: usize| if c.is_multiple_of(3) { format!("SUM(c{c}) AS c{c}") } else { format!("COUNT(c{c}) AS c{c}") };
    run(&client, &format!("CREATE MATERIALIZED VIEW narrow AS SELECT id % 2 AS parity, {} FROM wide GROUP BY id % 2", each(aggregate)))
        .await;
    run(&client, "CREATE MATERIALIZED VIEW twice AS SELECT a.*, b.c499 AS other FROM wide AS a JOIN wide AS b ON a.c3 = b.c3").await;
    run(&client, &format!("INSERT INTO wide VALUES {}", (1..=20).map(row).collect::<Vec<_>>().join(", "))).await;
    server.kill_and_restart();
    let client = server.connect().await;
    run(&client, "UPDATE wide SET c3 = c3 + 1, c499 = 'changed' WHERE id = 20").await;
    run(&client, "DELETE FROM wide WHERE id <= 10").await;
    let sums = rows(&client, "SELECT parity, c3, c498, c499 FROM narrow ORDER BY parity").await;
    // 12 + 14 + 16 + 18 + 20 of the even, 11 + 13 + 15 + 17 + 19 of the odd, times the column's number.
    let expected = [["0", "241", "39840", "5"], ["1", "225", "37350", "5"]];
    let expected: Vec<Vec<Option<String>>> = expected.iter().map(|row| row.iter().map(|cell| Some(cell.to_string())).collect()).collect();
    assert_eq!(sums, expected);
    let all = rows(&client, "SELECT * FROM twice ORDER BY id").await;
    assert_eq!((all.len(), all[0].len()), (10, COLUMNS + 2));
    assert_eq!(all[9][COLUMNS + 1].as_deref(), Some("changed"));
    let described = rows(&client, "SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'wide'").await;
    assert_eq!(described[0][0].as_deref(), Some("501"));
}
