//! What a case is: a query, what it reads, and how its true result is found where its own text does not say it.

use super::tables::TableSpec;
use super::versions::Helper;
use super::windows::Windowing;

#[derive(Clone, Debug)]
pub struct Case {
    /// The view's name, unique within its scenario.
    pub name: String,
    /// The query, with its EMIT clause.
    pub sql: String,
    /// `WITH (...)` of the view.
    pub options: String,
    /// A query that gives the same rows and cannot fail, or that reads rows with their windows.
    pub batch: Option<String>,
    /// A query that counts the rows (or groups) that must have been rejected. Absent: none may be.
    pub rejected: Option<String>,
    /// Numbers are compared with a tolerance.
    pub approximate: bool,
    pub window: Option<Windowing>,
    /// How often its window's table is read: so often is a late row counted.
    pub readers: i64,
    /// Rows without a time are not rejected.
    pub takes_no_time: bool,
    /// Its column `n` counts every row that it takes, each once, but for those that are late or rejected.
    pub counts_rows: bool,
    /// Views of the scenario that it reads.
    pub over: Vec<String>,
    /// PostgreSQL understands it and means the same.
    pub postgres: bool,
    /// A relation that `batch` reads.
    pub helper: Option<Helper>,
}

impl Case {
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Case {
        Case {
            name: name.into(),
            sql: sql.into(),
            options: String::new(),
            batch: None,
            rejected: None,
            approximate: false,
            window: None,
            readers: 1,
            takes_no_time: false,
            counts_rows: false,
            over: Vec::new(),
            postgres: false,
            helper: None,
        }
    }

    pub fn batch(mut self, sql: impl Into<String>) -> Case {
        self.batch = Some(sql.into());
        self
    }

    pub fn rejected(mut self, sql: impl Into<String>) -> Case {
        self.rejected = Some(sql.into());
        self
    }

    pub fn approximate(mut self) -> Case {
        self.approximate = true;
        self
    }

    pub fn over(mut self, views: &[&str]) -> Case {
        self.over = views.iter().map(|v| v.to_string()).collect();
        self
    }

    /// `WITH (...)` of the view.
    pub fn with(mut self, options: &str) -> Case {
        self.options = format!(" WITH ({options})");
        self
    }

    pub fn read_twice(mut self) -> Case {
        self.readers = 2;
        self
    }

    pub fn takes_no_time(mut self) -> Case {
        self.takes_no_time = true;
        self
    }

    pub fn counts_rows(mut self) -> Case {
        self.counts_rows = true;
        self
    }

    pub fn postgres(mut self) -> Case {
        self.postgres = true;
        self
    }

    /// `batch` reads a relation that says when rows arrived, or what they were joined with.
    pub fn helper(mut self, helper: Helper, batch: impl Into<String>) -> Case {
        self.helper = Some(helper);
        self.batch(batch)
    }

    /// `batch` reads the table's rows with their windows.
    pub fn window(mut self, window: Windowing, batch: impl Into<String>) -> Case {
        if window.lateness > 0 {
            self.options = format!(" WITH (allowed_lateness = '{} seconds')", window.lateness / 1_000_000);
        }
        if window.on_close {
            self.sql += " EMIT ON WINDOW CLOSE";
        }
        self.window = Some(window);
        self.batch(batch)
    }

    /// The same case over a view that has the rows of `table`.
    pub fn reading(mut self, table: &str, view: &str) -> Case {
        self.sql = self.sql.replace(&format!("({table},"), &format!("({view},"));
        self.over(&[view])
    }

    pub fn create_sql(&self) -> String {
        format!("CREATE MATERIALIZED VIEW {} AS {}{}", self.name, self.sql, self.options)
    }
}

/// Tables and views that run together on one engine.
pub struct Scenario {
    pub name: &'static str,
    pub tables: Vec<TableSpec>,
    pub cases: Vec<Case>,
    pub epochs: u64,
    /// Changes of one table in one cut, at most.
    pub changes: usize,
    /// Probability of a checkpoint's beginning, and of a kill, at each epoch.
    pub checkpoints: f64,
    pub kills: f64,
    /// Probability that a view is created in mid-run and read its inputs back.
    pub backfills: f64,
}
