//! CREATE TABLE AS. The rows of a query that ends are there before the table is made, so that what is wrong with them leaves nothing behind. Outside a block
//! the table is made under a hidden name, gets its rows, and then its own name: nobody sees it without them, a start after a kill neither. In a block, and
//! after other writes of the same message, whose rows may be among them, they are part of the transaction, as those of an INSERT; until its write is in the log
//! the table awaits them, and a start drops it. The INSERT that keeps running, or writes to a connector, needs the table. What comes to nothing drops the
//! table again (`doomed`).

use super::doomed::{Doomed, hidden_name};
use super::transaction::TRANSACTION_BYTES_MAX;
use super::{Outcome, Services, Session};
use crate::coordinator::Ddl;
use crate::serving::dml;
use arrow::array::RecordBatch;
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, Result, SqlError, SqlState, failpoint};
use eddyline_planner::statement::{Planned, Query, TableAs, TableRows};
use eddyline_planner::{Parsed, Relation};

impl Session {
    pub(super) async fn create_table_as(&mut self, create: TableAs) -> Result<Outcome> {
        let TableAs { name, definition, rows } = create;
        self.created = None;
        let count = match rows {
            TableRows::Of(query) => self.create_with_rows(&name, &definition, *query).await?,
            TableRows::Insert(insert) => {
                self.run(&definition).await.map_err(unplaced)?;
                let (_, doomed) = self.made()?;
                let Outcome::Done(tag) = self.run(&insert).await? else { return Err(SqlError::internal("an INSERT that gives rows")) };
                doomed.keep();
                tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
            }
            TableRows::None => {
                self.run(&definition).await.map_err(unplaced)?;
                0
            }
        };
        Ok(Outcome::Done(format!("SELECT {count}")))
    }

    async fn create_with_rows(&mut self, name: &str, definition: &Parsed, query: Query) -> Result<u64> {
        let mut statement = self.plan(definition, &[]).map_err(unplaced)?;
        let Planned::Create { relation, .. } = &mut statement.planned else { return Err(SqlError::internal("the definition of no table")) };
        let schema = arrow_schema(&relation.columns);
        // Nobody else knows a temporary table.
        let hides = !relation.is_temporary() && !self.transaction.is_explicit() && !self.transaction.has_writes();
        match hides {
            true => relation.name = hidden_name(),
            false => relation.set_awaits_rows(true),
        }
        let bindings = self.bindings_of(&query).await?;
        let Services { engine, write_memory, .. } = &*self.services;
        let mut share = write_memory.share();
        let batches = engine.collect_counted(query.plan, bindings, TRANSACTION_BYTES_MAX, |bytes| share.grow(bytes)).await?;
        let batches = batches.iter().map(|b| dml::conform(b.columns(), b.num_rows(), &schema)).collect::<Result<Vec<_>>>()?;
        let rows = arrow::compute::concat_batches(&dml::loose(&schema), &batches)?;
        // They are the transaction's from here on.
        drop(share);
        self.execute(statement, definition).await.map_err(unplaced)?;
        let (table, doomed) = self.made()?;
        let count = if hides { self.fill_hidden(table, rows, name).await? } else { self.copy_rows(table, rows).await? };
        // What comes after it in the transaction may fail yet.
        self.transaction.made(doomed);
        self.services.metrics.rows_written.add(count);
        Ok(count)
    }

    /// Puts the rows there for good, and then the name.
    async fn fill_hidden(&mut self, table: RelationId, rows: RecordBatch, name: &str) -> Result<u64> {
        let count = self.write_rows(table, rows).await?;
        failpoint::hit("table_as.filled")?;
        let missing = || SqlError::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" was dropped meanwhile"));
        let before = self.services.coordinator.catalog().get(table).cloned().ok_or_else(missing)?;
        let mut after = Box::new(Relation::clone(&before));
        after.name = name.to_string();
        self.change_catalog(Ddl::Alter { before, after }, "ALTER TABLE".into()).await?;
        Ok(count)
    }

    /// The table that the definition has just made.
    pub(super) fn made(&mut self) -> Result<(RelationId, Doomed)> {
        let table = self.created.take().ok_or_else(|| SqlError::internal("a CREATE TABLE that has made nothing"))?;
        Ok((table, Doomed::new(table, self.services.coordinator.clone(), self.drops.clone())))
    }
}

/// The definition is no text of the client's, so a place in it is none in what the client wrote.
pub(super) fn unplaced(error: SqlError) -> SqlError {
    SqlError { position: None, ..error }
}
