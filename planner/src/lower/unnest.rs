//! Lists unnested: a stateless node, as its rows come and go with the row they are of.

use super::{Lowering, columns_of};
use crate::plan::{Expr, Node, NodeId, Op};
use datafusion::logical_expr::Unnest;
use eddyline_common::{Result, SqlError, SqlType};

impl Lowering<'_> {
    pub(super) fn unnest(&mut self, unnest: &Unnest) -> Result<NodeId> {
        let input = self.node(&unnest.input)?;
        let columns = columns_of(&unnest.schema)?;
        let source = self.nodes[input].clone();
        let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(at, _)| *at).collect();
        let plain = unnest.struct_type_columns.is_empty()
            && unnest.list_type_columns.iter().all(|(_, list)| list.depth == 1)
            && columns.len() == source.columns.len()
            && lists.iter().all(|at| matches!(source.columns[*at].ty, SqlType::Array(_)));
        if !plain {
            return Err(SqlError::unsupported("UNNEST of what is no array is not supported in a materialized view")
                .with_hint("Unnest arrays, one level at a time; map_entries(m) gives a map's entries as an array."));
        }
        let stays = |c: usize| (!lists.contains(&c)).then_some(c);
        let mut facts = self.facts[input].clone();
        for at in &lists {
            facts.windows[*at] = None;
            facts.constants[*at] = None;
        }
        facts.distribution = facts.distribution.project(&stays);
        facts.event_time = facts.event_time.as_ref().and_then(|e| crate::expr::map_columns(e, &|c| stays(c).map(Expr::Column)));
        let node = Node {
            time_columns: source.time_columns.iter().copied().filter(|c| !lists.contains(c)).collect(),
            op: Op::Unnest { lists },
            inputs: vec![input],
            columns,
            mode: source.mode,
            unique_keys: vec![],
        };
        Ok(self.push(node, facts))
    }
}
