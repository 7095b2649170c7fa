//! Numbers for the rows of tables that have a column for them. They are set aside many at a time by altering the table, which is in the log before one of them is
//! given to anybody: none comes twice, whenever the server ends, and those that are left then are never given. It does not know the rows.

use crate::coordinator::{CoordinatorHandle, Ddl, Resolved};
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_planner::RelationKind;
use std::collections::HashMap;
use std::ops::Range;
use tokio::sync::Mutex;

/// So many at least are set aside at once: an insert of single rows waits for the disk once more in a thousand times.
const SET_ASIDE: i64 = 1024;

/// What is set aside and not given yet, by table.
#[derive(Default)]
pub struct Numbers(Mutex<HashMap<RelationId, Range<i64>>>);

impl Numbers {
    /// The first of `count` numbers in a row for a table whose lock the caller has.
    pub async fn take(&self, coordinator: &CoordinatorHandle, table: RelationId, count: usize) -> Result<i64> {
        let count = i64::try_from(count).map_err(SqlError::internal)?;
        let mut all = self.0.lock().await;
        let mut left = all.get(&table).cloned().unwrap_or(0..0);
        if left.end - left.start < count {
            left = set_aside(coordinator, table, left, count).await?;
            let catalog = coordinator.catalog();
            all.retain(|id, _| catalog.get(*id).is_some());
        }
        let first = left.start;
        all.insert(table, first + count..left.end);
        Ok(first)
    }
}

/// What is left, if more follow it, and `count` or many more.
async fn set_aside(coordinator: &CoordinatorHandle, table: RelationId, left: Range<i64>, count: i64) -> Result<Range<i64>> {
    loop {
        let before = coordinator.catalog().get(table).cloned();
        let before = before.ok_or_else(|| SqlError::new(SqlState::UNDEFINED_TABLE, "the table was dropped"))?;
        let mut after = (*before).clone();
        let RelationKind::Table { numbered: Some(numbered), .. } = &mut after.kind else {
            return Err(SqlError::internal("a table without numbers"));
        };
        let next = numbered.next;
        let end = next.checked_add(count.max(SET_ASIDE)).ok_or_else(|| exhausted("bigint"))?;
        numbered.next = end;
        let alter = Ddl::Alter { before: before.clone(), after: Box::new(after) };
        match coordinator.ddl(alter, Resolved::default()).await {
            Ok(_) if left.end == next && !left.is_empty() => return Ok(left.start..end),
            Ok(_) => return Ok(next..end),
            // Altered by somebody else meanwhile.
            Err(_) if coordinator.catalog().get(table).is_some_and(|current| *current != before) => {}
            Err(error) => return Err(error),
        }
    }
}

/// No number is left that a column of the type can have.
pub fn exhausted(ty: &str) -> SqlError {
    SqlError::new(SqlState("2200H"), format!("the rows have more numbers than a column of type {ty} can have"))
        .with_hint("A table with a column of type bigint has more.")
}
