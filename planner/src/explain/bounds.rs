//! What bounds the state of an operator: a window, an interval, a moment, a number of rows, a time to live, or what its inputs have; or
//! a warning that nothing does.

use super::duration;
use crate::plan::{ChangelogMode, MatchPattern, MatchValueOf, Node, NodeId, Op, StreamPlan, TimeBound};

/// As EXPLAIN has it; `None` for an operator without state.
pub(super) fn bound(plan: &StreamPlan, id: NodeId) -> Option<String> {
    let node = &plan.nodes[id];
    let grows = |port: usize| node.inputs.get(port).is_some_and(|input| plan.nodes[*input].mode == ChangelogMode::Append);
    let of_one = |windowed: bool, keys: &[usize], what: &str| match plan.ttl_of(id)[0] {
        _ if windowed => Some("open windows".to_string()),
        Some(ttl) if !keys.is_empty() => Some(format!("{what} touched within {}", duration(ttl))),
        _ => None,
    };
    Some(match &node.op {
        Op::TemporalFilter { until, .. } => temporal(until).to_string(),
        Op::SessionAssign { .. } => "open sessions".to_string(),
        Op::LookupJoin { .. } => with_warning("rows of the right input", grows(1), "the right input only grows"),
        Op::ExternalLookup { state: Some(_), .. } => "rows of the left input, with what they were joined with".to_string(),
        Op::TemporalJoin { .. } => "versions still needed".to_string(),
        Op::AsofJoin { bounded: true, .. } => "rows ahead of the watermark, and the last right row of each key before it".to_string(),
        Op::AsofJoin { .. } => join(plan, id, node),
        Op::MatchRecognize { pattern, within, before, values, .. } => {
            let numbered = values.iter().any(|value| value.of == MatchValueOf::Number);
            rows_of_matches(pattern, within.is_some(), *before) + if numbered { ", and a number for each partition" } else { "" }
        }
        Op::Aggregate { group, window, .. } => of_one(window.is_some(), group, "groups").unwrap_or_else(|| match group.is_empty() {
            true => "one group".to_string(),
            false => with_warning("groups", grows(0), "the input only grows, and no group ends"),
        }),
        Op::TopN { partition, limit, window, .. } => {
            let endless = !partition.is_empty() && grows(0);
            of_one(window.is_some(), partition, "partitions").unwrap_or_else(|| match (limit, grows(0)) {
                (Some(_), true) => with_warning("the first rows of each partition", endless, "the input only grows, and no partition ends"),
                _ => with_warning("rows", grows(0), "the input only grows"),
            })
        }
        Op::Over { partition, window, .. } => {
            of_one(window.is_some(), partition, "partitions").unwrap_or_else(|| with_warning("rows", grows(0), "the input only grows"))
        }
        Op::Join { window, interval, .. } => match (interval, window) {
            (Some(_), _) => "interval".to_string(),
            (None, Some(_)) => "open windows".to_string(),
            (None, None) => join(plan, id, node),
        },
        _ => return None,
    })
}

fn with_warning(bound: &str, warns: bool, warning: &str) -> String {
    if warns { format!("{bound} (warning: {warning})") } else { bound.to_string() }
}

fn temporal(until: &[TimeBound]) -> &'static str {
    if until.is_empty() { "rows to come" } else { "rows until they leave" }
}

fn rows_of_matches(pattern: &MatchPattern, within: bool, before: usize) -> String {
    let endless = crate::bind::match_recognize::pattern::length(pattern).1.is_none();
    let mut bound = match within {
        true => "rows ahead of the watermark, and back to WITHIN".to_string(),
        false => with_warning(
            "rows ahead of the watermark, and of matches that may still be found",
            endless,
            "without WITHIN a match may go on for ever",
        ),
    };
    if before > 0 {
        bound += &format!(", and the last {before} of each partition");
    }
    bound
}

fn join(plan: &StreamPlan, id: NodeId, node: &Node) -> String {
    let grows = [0, 1].map(|port: usize| plan.nodes[node.inputs[port]].mode == ChangelogMode::Append);
    let ttl = plan.ttl_of(id);
    match (ttl, grows) {
        ([Some(left), Some(right)], _) if left == right => format!("rows touched within {}", duration(left)),
        ([None, None], [false, false]) => "rows of both inputs".to_string(),
        ([None, None], [true, false]) => "none (warning: the left input only grows)".to_string(),
        ([None, None], [false, true]) => "none (warning: the right input only grows)".to_string(),
        ([None, None], [true, true]) => "none (warning: both inputs only grow)".to_string(),
        (ttl, grows) => {
            let side = |port: usize, name: &str| match ttl[port] {
                Some(micros) => format!("{name} rows touched within {}", duration(micros)),
                None => with_warning(&format!("all {name} rows"), grows[port], &format!("the {name} input only grows")),
            };
            format!("{}, {}", side(0, "left"), side(1, "right"))
        }
    }
}
