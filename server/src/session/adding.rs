//! ALTER TABLE ... ADD COLUMN: a table with the columns is made and filled under a name that nobody knows, as that of CREATE TABLE AS, and then takes the place of
//! the other one, to which nobody writes meanwhile. What fails before that leaves nothing behind. As all definitions it takes effect at once, in a block too.

use super::doomed::hidden_name;
use super::table_as::unplaced;
use super::{Outcome, Session};
use crate::coordinator::Ddl;
use crate::serving::dml;
use arrow::array::RecordBatch;
use eddyline_common::types::arrow_schema;
use eddyline_common::{RelationId, Result, SqlError, SqlState, failpoint};
use eddyline_planner::Relation;
use eddyline_planner::statement::{AddColumns, Planned, Query};

/// Rows that are written at a time.
const PIECE_BYTES: usize = 16 << 20;

impl Session {
    pub(super) async fn add_columns(&mut self, add: AddColumns) -> Result<Outcome> {
        let AddColumns { table, definition, rows, notices } = add;
        if self.transaction.overlay(table.id).is_some() {
            let message = format!("cannot add a column to table \"{}\", to which the transaction has written", table.name);
            return Err(SqlError::new(SqlState("55006"), message).with_hint("Commit first, or add the column before."));
        }
        self.lock(table.id, false).await?;
        if !self.services.coordinator.catalog().contains(table.id) {
            return Err(SqlError::new(SqlState::UNDEFINED_TABLE, "the table was dropped"));
        }
        self.notices.extend(notices);
        let mut statement = self.plan(&definition, &[]).map_err(unplaced)?;
        let Planned::Create { relation, .. } = &mut statement.planned else { return Err(SqlError::internal("the definition of no table")) };
        check_places(&table, relation)?;
        relation.name = hidden_name();
        self.created = None;
        self.execute(statement, &definition).await.map_err(unplaced)?;
        let (wider, doomed) = self.made()?;
        let doomed = doomed.while_hidden();
        self.copy_wider(table.id, wider, rows).await.map_err(|error| of_rows(error, &table))?;
        failpoint::hit("add_column.filled")?;
        let outcome = self.change_catalog(Ddl::Replace { old: table, new: wider }, "ALTER TABLE".into()).await?;
        doomed.keep();
        Ok(outcome)
    }

    /// Puts the rows of a table into the wider one, for good.
    async fn copy_wider(&mut self, table: RelationId, wider: RelationId, rows: Query) -> Result<()> {
        let (_, bindings, _) = self.open_table(table, &rows.relations, None).await?;
        let relation = self.services.coordinator.catalog().get(wider).cloned();
        let schema = arrow_schema(&relation.ok_or_else(|| SqlError::internal("a table that was just made is gone"))?.columns);
        let mut coming = self.services.engine.run(rows.plan, bindings).await?;
        let (mut piece, mut bytes): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
        while let Some(batch) = coming.next().await? {
            let batch = dml::conform(batch.columns(), batch.num_rows(), &schema)?;
            bytes += batch.get_array_memory_size();
            piece.push(batch);
            if bytes >= PIECE_BYTES {
                self.write_rows(wider, arrow::compute::concat_batches(&dml::loose(&schema), &piece)?).await?;
                (piece, bytes) = (Vec::new(), 0);
            }
        }
        if !piece.is_empty() {
            self.write_rows(wider, arrow::compute::concat_batches(&dml::loose(&schema), &piece)?).await?;
        }
        Ok(())
    }
}

/// An error of a row that there is: of the table it is in, and not of the one that nobody knows.
fn of_rows(error: SqlError, table: &Relation) -> SqlError {
    match error.about.as_ref().and_then(|about| about.column.as_deref()) {
        Some(column) if error.state == SqlState::NOT_NULL_VIOLATION => {
            let message = format!("column \"{column}\" of relation \"{}\" contains null values", table.name);
            SqlError::new(SqlState::NOT_NULL_VIOLATION, message)
                .with_column(&table.name, column)
                .with_hint("Give the column a DEFAULT, which the rows that there are get.")
        }
        _ => error,
    }
}

/// What is stored stays where it is, and the new columns follow.
fn check_places(table: &Relation, wider: &Relation) -> Result<()> {
    let same = |(old, new): (&eddyline_common::Column, &eddyline_common::Column)| old.name == new.name && old.ty == new.ty;
    match table.columns.len() < wider.columns.len() && table.columns.iter().zip(&wider.columns).all(same) {
        true => Ok(()),
        false => Err(SqlError::internal(format!("the columns of table \"{}\" are not those of its definition", table.name))),
    }
}
