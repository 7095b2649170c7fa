//! What suites of whole queries share: statements from files, and views compared with their queries over the wire.

use eddyline_sql_tests::client::rows;
pub use eddyline_sql_tests::script::statements;
use std::fmt;
use tokio_postgres::Client;

/// Rows that should not be.
pub struct Differences(Vec<Vec<Option<String>>>);

impl Differences {
    /// Between a view and its query.
    pub async fn of_view(client: &Client, view: &str) -> Differences {
        Differences(rows(client, &format!("CHECK MATERIALIZED VIEW {view}")).await)
    }

    /// Between two queries, at one epoch.
    pub async fn between(client: &Client, left: &str, right: &str) -> Differences {
        let query = format!(
            "SELECT 'only left', l.* FROM ({left} EXCEPT ALL {right}) AS l UNION ALL SELECT 'only right', r.* FROM ({right} EXCEPT ALL {left}) AS r"
        );
        Differences(rows(client, &query).await)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} differences", self.0.len())?;
        for row in self.0.iter().take(20) {
            let cells: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect();
            writeln!(f, "  {}", cells.join(" | "))?;
        }
        Ok(())
    }
}
