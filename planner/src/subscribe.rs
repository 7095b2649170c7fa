//! SUBSCRIBE: which rows, under which columns.

use crate::plan::Expr;
use crate::query::Context;
use crate::statement::{Subscriber, Subscription};
use datafusion::sql::sqlparser::ast::ObjectName;
use eddyline_common::types::Column;
use eddyline_common::{Result, SqlError, SqlState, SqlType};

/// What precedes the relation's own columns.
const EPOCH: &str = "eddyline_epoch";
const WEIGHT: &str = "eddyline_weight";

impl Context<'_> {
    pub fn subscribe(&self, name: &ObjectName, snapshot: bool, as_of: Option<u64>, to: Subscriber) -> Result<Subscription> {
        let relation = self.relation(name)?;
        if !relation.has_rows() {
            let message = format!("cannot subscribe to \"{}\": it keeps no rows", relation.name);
            return Err(
                SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).with_hint("Create a materialized view over it, and subscribe to that.")
            );
        }
        let as_stored = relation.visible.len() == relation.columns.len()
            && relation.visible.iter().enumerate().all(|(i, visible)| visible.value == Expr::Column(i));
        if !as_stored {
            let error = SqlError::unsupported(format!("SUBSCRIBE TO \"{}\", which has computed columns, is not supported", relation.name));
            return Err(error.with_hint("Create a materialized view over it, and subscribe to that."));
        }
        let own = [EPOCH, WEIGHT].map(|name| Column::new(name, SqlType::BigInt, false));
        let columns = own.into_iter().chain(relation.columns.iter().cloned()).collect();
        Ok(Subscription { relation: relation.id, columns, snapshot, as_of, to })
    }
}
