//! What suites of whole queries share: statements from files, and views compared with their queries over the wire.

use eddyline_sql_tests::client::rows;
use std::fmt;
use std::path::Path;
use tokio_postgres::Client;

/// The statements of a file, without comments. A quoted text of more than one line is not for such files.
pub fn statements(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    lines.join("\n").split(";\n").map(|s| s.trim().trim_end_matches(';').to_string()).filter(|s| !s.is_empty()).collect()
}

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
