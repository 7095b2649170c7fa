//! What FOR UPDATE and FOR SHARE ask of a query's run, wherever in the query they stand. It knows no tables: those that the query reads are locked whole.

use crate::statement::RowLocks;
use crate::walk::sql::visit;
use datafusion::sql::sqlparser::ast::{NonBlock, Query, Visitor};
use eddyline_common::{Result, SqlError};
use std::ops::ControlFlow;

impl RowLocks {
    /// `None` if the query locks nothing.
    pub fn of(query: &Query) -> Result<Option<RowLocks>> {
        let mut clauses = Clauses { locks: None };
        match visit(query, &mut clauses) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(clauses.locks),
        }
    }

    /// Refuses a query that locks and is of no transaction that could hold its locks.
    pub fn refuse(query: &Query, place: &str) -> Result<()> {
        match RowLocks::of(query)? {
            Some(_) => {
                let error = SqlError::unsupported(format!("FOR UPDATE and FOR SHARE are not supported in {place}"));
                Err(error.with_hint("Write it in a query that reads it: locks are held until a transaction ends."))
            }
            None => Ok(()),
        }
    }
}

struct Clauses {
    locks: Option<RowLocks>,
}

impl Visitor for Clauses {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        for clause in &query.locks {
            let nowait = match clause.nonblock {
                Some(NonBlock::SkipLocked) => {
                    let error = SqlError::unsupported("SKIP LOCKED is not supported");
                    return ControlFlow::Break(
                        error.with_hint("Tables are locked whole here: leave it out to wait for them, or use NOWAIT."),
                    );
                }
                Some(NonBlock::Nowait) => true,
                None => false,
            };
            let locks = self.locks.get_or_insert_default();
            locks.nowait |= nowait;
            locks.named |= clause.of.is_some();
        }
        ControlFlow::Continue(())
    }
}
