//! Retention of a view: a filter on the present time above all that its query says, on a column of the view. So what leaves is decided by the
//! epoch's `now` like everything else, and readers of the view see it go.

use super::Lowering;
use super::node::WindowPart;
use crate::catalog::Retention;
use crate::error::suggest;
use crate::expr::binary_of;
use crate::plan::{BinaryOp, Expr, Literal, LiteralValue, NodeId};
use eddyline_common::{Result, SqlError, SqlState, SqlType, options};

impl Lowering<'_> {
    /// The output, without what is older than the view's retention.
    pub(super) fn retained(&mut self, output: NodeId) -> Result<NodeId> {
        let Some(retention) = self.emission.retention.clone() else { return Ok(output) };
        let column = self.retention_column(output, &retention)?;
        let nanos = retention
            .micros
            .checked_mul(1_000)
            .ok_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{}\" is at most 292 years", options::RETENTION)))?;
        let age = Literal { ty: SqlType::Interval, value: LiteralValue::Interval { months: 0, days: 0, nanos } };
        let oldest = binary_of(BinaryOp::Minus, Expr::CutNow, Expr::Literal(age));
        self.temporal_filter(output, &binary_of(BinaryOp::GtEq, Expr::Column(column), oldest))
    }

    /// The column that was named, or the one that is event time.
    fn retention_column(&self, output: NodeId, retention: &Retention) -> Result<usize> {
        let node = &self.nodes[output];
        let Some(name) = &retention.column else { return self.time_attribute(output) };
        let found = node.columns.iter().position(|c| c.name == *name).ok_or_else(|| {
            let message = format!("column \"{name}\" named in \"{}\" does not exist", options::RETENTION);
            suggest(SqlError::new(SqlState::UNDEFINED_COLUMN, message), name, node.columns.iter().map(|c| c.name.as_str()))
        })?;
        let ty = &node.columns[found].ty;
        if !ty.is_time() && *ty != SqlType::Date {
            let message = format!("column \"{name}\" of type {ty} does not say how old a row is");
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).with_hint("Name a column of type timestamp or date."));
        }
        Ok(found)
    }

    fn time_attribute(&self, output: NodeId) -> Result<usize> {
        let (node, windows) = (&self.nodes[output], &self.facts[output].windows);
        // A window's end stands for its last moment too.
        let ends =
            |window: usize| node.time_columns.iter().any(|c| windows[*c].is_some_and(|w| w.window == window && w.part == WindowPart::End));
        let repeats = |c: &usize| windows[*c].is_some_and(|w| w.part == WindowPart::Time && ends(w.window));
        let candidates: Vec<usize> = node.time_columns.iter().copied().filter(|c| !repeats(c)).collect();
        if let [column] = candidates.as_slice() {
            return Ok(*column);
        }
        let message = format!("option \"{}\" must name a column", options::RETENTION);
        let names = candidates.iter().map(|c| node.columns[*c].name.as_str()).collect::<Vec<_>>().join(", ");
        let detail = match names.as_str() {
            "" => "None of the view's columns is event time with a watermark.".to_string(),
            names => format!("Several of the view's columns are event time: {names}."),
        };
        let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message).with_detail(detail);
        Err(error.with_hint("Write WITH (retention = '7 days' ON column), with a column that says how old a row is."))
    }
}
