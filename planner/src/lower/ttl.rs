//! `state_ttl` of a view or sink, and the hint `STATE_TTL`: which operators forget what is not touched. Those whose state a window, an interval or a
//! moment bounds, and those that keep one group or partition for all rows, keep what they have; where a time to live is asked for and
//! cannot be kept, the statement is refused.

use super::Lowering;
use crate::bind::match_recognize::pattern;
use crate::plan::{ChangelogMode, NodeId, Op, StateTtl, StreamPlan};
use eddyline_common::{Result, SqlError, SqlState};

/// How long state is kept, as the statement says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateTtls {
    /// Of every operator: microseconds.
    pub all: Option<i64>,
    pub hints: Vec<TtlHint>,
}

/// `STATE_TTL('name' = '1 h')`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtlHint {
    /// A table's name or its alias, folded.
    pub name: String,
    /// Microseconds; 0: for ever.
    pub micros: i64,
}

impl StateTtls {
    pub fn of(all: i64, hints: &[TtlHint]) -> Self {
        StateTtls { all: (all > 0).then_some(all), hints: hints.to_vec() }
    }

    pub(super) fn is_none(&self) -> bool {
        self.all.is_none() && self.hints.is_empty()
    }
}

/// What bounds an operator's state if no time to live does.
enum Kept {
    /// Nothing, so a time to live may.
    Endless,
    /// A window, a moment, the number of rows.
    Bounded,
    /// Nothing, and no time to live can.
    Never(SqlError),
}

impl Lowering<'_> {
    /// Notes what an input is called in the statement.
    pub(super) fn name(&mut self, node: NodeId, name: &str) {
        if !self.emission.ttl.hints.is_empty() {
            self.names.push((node, name.to_lowercase()));
        }
    }

    /// What the statement's hints say of one of a node's inputs: the number of the hint.
    fn hint_of(&self, mut node: NodeId) -> Option<usize> {
        loop {
            let mut names = self.names.iter().filter(|(named, _)| *named == node).map(|(_, name)| name);
            if let Some(found) = names.find_map(|name| self.emission.ttl.hints.iter().position(|hint| hint.name == *name)) {
                return Some(found);
            }
            node = match &self.nodes[node].op {
                Op::Filter { .. } | Op::Project { .. } | Op::ProcessingTime { .. } | Op::WindowAssign { .. } => self.nodes[node].inputs[0],
                Op::Unnest { .. } | Op::Exchange { .. } | Op::JoinExchange { .. } => self.nodes[node].inputs[0],
                _ => return None,
            };
        }
    }

    /// The operators that forget, and what they keep for how long.
    pub(super) fn state_ttl(&self) -> Result<Vec<StateTtl>> {
        let ttl = &self.emission.ttl;
        if ttl.is_none() {
            return Ok(vec![]);
        }
        let mut used = vec![false; ttl.hints.len()];
        let mut found = Vec::new();
        for (id, node) in self.nodes.iter().enumerate().filter(|(_, node)| !node.op.state_tables().is_empty()) {
            let mut of = StateTtl { node: id, micros: [None; 2] };
            let hints: Vec<Option<usize>> = node.inputs.iter().map(|input| self.hint_of(*input)).collect();
            match kept(&node.op) {
                Kept::Bounded => continue,
                Kept::Never(error) if ttl.all.is_some() || hints.iter().any(Option::is_some) => return Err(error),
                Kept::Never(_) => continue,
                Kept::Endless => {}
            }
            for (micros, hint) in of.micros.iter_mut().zip(hints) {
                *micros = match hint {
                    None => ttl.all,
                    Some(hint) => {
                        used[hint] = true;
                        Some(ttl.hints[hint].micros).filter(|micros| *micros > 0)
                    }
                };
            }
            if of.micros.iter().any(Option::is_some) {
                found.push(of);
            }
        }
        if let Some(unused) = used.iter().position(|used| !used) {
            return Err(self.unused(&ttl.hints[unused].name));
        }
        self.check_above(&found)?;
        Ok(found)
    }

    fn unused(&self, name: &str) -> SqlError {
        let message = format!("the hint STATE_TTL names \"{name}\", which is no input of an operator that keeps state without end");
        let mut names: Vec<&str> = self.names.iter().map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let error = SqlError::new(SqlState::INVALID_PARAMETER, message);
        error.with_hint(format!("Name the table, or its alias, that is joined, grouped or ranked; the query has {}.", names.join(", ")))
    }

    /// What forgets may not take back all it gave; most operators can take that.
    fn check_above(&self, found: &[StateTtl]) -> Result<()> {
        let mut forgets = vec![false; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            let refused = match &node.op {
                Op::SessionAssign { .. } if self.nodes[node.inputs[0]].mode == ChangelogMode::Retract => forgets[node.inputs[0]],
                Op::LookupJoin { .. } | Op::TemporalJoin { .. } => forgets[node.inputs[1]],
                _ => false,
            };
            if refused {
                let what = if matches!(node.op, Op::SessionAssign { .. }) { "sessions over" } else { "a join AS OF with" };
                return Err(SqlError::unsupported(format!("{what} rows whose state is forgotten is not supported"))
                    .with_hint("Make a view of the part below, with its own state_ttl, and read that."));
            }
            forgets[id] = found.iter().any(|ttl| ttl.node == id) || node.inputs.iter().any(|input| forgets[*input]);
        }
        Ok(())
    }
}

fn kept(op: &Op) -> Kept {
    let endless = |windowed: bool, keys: &[usize]| if windowed || keys.is_empty() { Kept::Bounded } else { Kept::Endless };
    match op {
        Op::Aggregate { group, window, .. } => endless(window.is_some(), group),
        Op::TopN { partition, window, .. } | Op::Over { partition, window, .. } => endless(window.is_some(), partition),
        Op::Join { window, interval, .. } if window.is_some() || interval.is_some() => Kept::Bounded,
        Op::Join { keys, .. } if keys[0].is_empty() => Kept::Never(
            SqlError::unsupported("state_ttl of a join without an equality between its two sides is not supported")
                .with_detail("Rows of the smaller side would be forgotten while rows of the other side still come.")
                .with_hint("Leave state_ttl out, or name the other inputs in the hint STATE_TTL."),
        ),
        Op::Join { .. } => Kept::Endless,
        Op::AsofJoin { bounded: false, .. } => Kept::Never(
            SqlError::unsupported("state_ttl of an ASOF join that no watermark bounds is not supported")
                .with_detail("A left row would be shown without the right row that was forgotten.")
                .with_hint("Declare WATERMARK FOR what MATCH_CONDITION (a.ts >= b.ts) compares, on both sides."),
        ),
        Op::MatchRecognize { pattern, within: None, .. } if pattern::length(pattern).1.is_none() => {
            Kept::Never(SqlError::unsupported("state_ttl of a row pattern is not supported").with_hint("Write WITHIN into the pattern."))
        }
        _ => Kept::Bounded,
    }
}

/// A view's last node when its plan forgets: a key's row may be overwritten.
pub(super) fn overwrites(plan: &mut StreamPlan) {
    let forgets = plan.forgets();
    if let Some(last) = plan.nodes.last_mut()
        && forgets
        && matches!(&last.op, Op::Materialize { key } if !key.is_empty())
    {
        last.mode = ChangelogMode::Retract;
    }
}
