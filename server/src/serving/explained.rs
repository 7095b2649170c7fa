//! What EXPLAIN tells of a query: its plan, how it finds its rows, and how it ran if it did. As lines of text, and as PostgreSQL's JSON, in which a
//! node's inputs are its `Plans`. Both are of the same lines; it does not know what the nodes do, and there are no estimates of costs and rows.

use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// A query, explained.
pub struct Explained {
    /// A line per node, its inputs indented below it.
    pub plan: Vec<String>,
    /// How the rows of tables and views are found.
    pub reads: Vec<String>,
    /// `None`: it was not run.
    pub ran: Option<Ran>,
}

/// How a query ran.
pub struct Ran {
    pub rows: usize,
    pub time: Duration,
}

impl Ran {
    fn millis(&self) -> f64 {
        self.time.as_secs_f64() * 1000.0
    }
}

impl Explained {
    /// As text.
    pub fn lines(self) -> Vec<String> {
        let Some(ran) = self.ran else {
            let mut lines = section("Logical plan:", self.plan);
            if !self.reads.is_empty() {
                lines.extend(section("Reads:", self.reads));
            }
            return lines;
        };
        let head = format!("rows: {}, time: {:.3} ms", ran.rows, ran.millis());
        std::iter::once(head).chain(self.reads).chain(self.plan).collect()
    }

    /// As JSON: a list of one object, as PostgreSQL has it.
    pub fn json(&self) -> String {
        let mut out = "[{\"Plan\": ".to_string();
        self.nodes(&mut out);
        if !self.reads.is_empty() {
            put(&mut out, "Reads", &Value::from(self.reads.clone()));
        }
        if let Some(ran) = &self.ran {
            put(&mut out, "Execution Time", &Value::from((ran.millis() * 1000.0).round() / 1000.0));
        }
        out.push_str("}]");
        out
    }

    /// Without recursion: a plan may be deeper than a stack.
    fn nodes(&self, out: &mut String) {
        // How far the nodes that are not ended yet are indented, and whether they have inputs.
        let mut open: Vec<(usize, bool)> = Vec::new();
        for line in &self.plan {
            let node = line.trim_start();
            let indent = line.len() - node.len();
            // There is one root, also if a line break in a literal looks like another.
            while open.len() > 1 && open.last().is_some_and(|(above, _)| *above >= indent) {
                end(out, open.pop());
            }
            if let Some((_, has_inputs)) = open.last_mut() {
                out.push_str(if std::mem::replace(has_inputs, true) { ", " } else { ", \"Plans\": [" });
            }
            let (kind, details) = node.split_once(": ").unwrap_or((node.trim_end_matches(':'), ""));
            let _ = write!(out, "{{\"Node Type\": {}", Value::from(kind));
            if !details.is_empty() {
                put(out, "Details", &Value::from(details));
            }
            if open.is_empty()
                && let Some(ran) = &self.ran
            {
                put(out, "Actual Rows", &Value::from(ran.rows));
            }
            open.push((indent, false));
        }
        while let Some(node) = open.pop() {
            end(out, Some(node));
        }
    }
}

fn section(title: &str, lines: Vec<String>) -> Vec<String> {
    std::iter::once(title.to_string()).chain(lines.into_iter().map(|line| format!("  {line}"))).collect()
}

fn put(out: &mut String, key: &str, value: &Value) {
    let _ = write!(out, ", \"{key}\": {value}");
}

fn end(out: &mut String, node: Option<(usize, bool)>) {
    out.push_str(if node.is_some_and(|(_, has_inputs)| has_inputs) { "]}" } else { "}" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn explained(plan: &[&str]) -> Explained {
        Explained { plan: plan.iter().map(|line| line.to_string()).collect(), reads: Vec::new(), ran: None }
    }

    #[test]
    fn inputs_are_plans_of_their_node() {
        let mut query = explained(&["Union", "  Filter: a = 'x: \"y\"'", "    TableScan: t", "  EmptyRelation: rows=1"]);
        query.reads = vec!["scan of t".to_string()];
        query.ran = Some(Ran { rows: 2, time: Duration::from_micros(1500) });
        let scan = json!({"Node Type": "TableScan", "Details": "t"});
        let filter = json!({"Node Type": "Filter", "Details": "a = 'x: \"y\"'", "Plans": [scan]});
        let empty = json!({"Node Type": "EmptyRelation", "Details": "rows=1"});
        let plan = json!({"Node Type": "Union", "Actual Rows": 2, "Plans": [filter, empty]});
        let wanted = json!([{"Plan": plan, "Reads": ["scan of t"], "Execution Time": 1.5}]);
        assert_eq!(serde_json::from_str::<Value>(&query.json()).unwrap(), wanted);
        assert_eq!(query.lines()[..2], ["rows: 2, time: 1.500 ms", "scan of t"]);
    }

    #[test]
    fn a_broken_literal_is_valid_still() {
        let query = explained(&["Projection: 'a", "b'", "  EmptyRelation: rows=1"]);
        assert_eq!(serde_json::from_str::<Value>(&query.json()).unwrap()[0]["Plan"]["Plans"][0]["Node Type"], "b'");
        assert_eq!(query.lines()[..2], ["Logical plan:", "  Projection: 'a"]);
    }
}
