//! Tables that go again: temporary ones, with their session, and those that CREATE TABLE AS has made and whose rows are not there for good yet. Unless they are
//! kept, they are dropped, whatever ends what needs them (an error, a cancellation, the transaction, the session). What is being filled has, outside a block, a
//! name that nobody knows until it has its rows; in a block the catalog says that it awaits them, as it says of a temporary table that it is one. After a kill
//! the next start knows them by that. What took the place of another table is never dropped: that table's rows are its own by then. It knows nothing of rows.

use crate::catalog::object_kind;
use crate::coordinator::{CoordinatorHandle, Ddl, DdlOutcome, Resolved};
use eddyline_common::{RelationId, Result, SqlError};
use eddyline_planner::Relation;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

const PREFIX: &str = "__eddyline_filling_";

/// What follows the prefix: a random number, so that nobody has the name by chance.
const DIGITS: usize = 32;

pub fn hidden_name() -> String {
    format!("{PREFIX}{}", uuid::Uuid::new_v4().simple())
}

fn is_hidden(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == DIGITS && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The drops of a session that are under way.
#[derive(Clone, Default)]
pub struct Drops(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Drops {
    pub async fn done(&self) {
        let tasks = std::mem::take(&mut *self.0.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!("a table that had to go was not dropped: {error}");
            }
        }
    }
}

/// Dropped with this, unless it is kept.
pub struct Doomed {
    table: Option<RelationId>,
    /// Once it has another name it stays.
    while_hidden: bool,
    coordinator: CoordinatorHandle,
    drops: Drops,
}

impl Doomed {
    pub fn new(table: RelationId, coordinator: CoordinatorHandle, drops: Drops) -> Self {
        Doomed { table: Some(table), while_hidden: false, coordinator, drops }
    }

    /// What gives it a name may be on its way to the log when this is dropped, and is not undone: the table has then taken the place of another one,
    /// whose rows are nowhere else.
    pub fn while_hidden(mut self) -> Self {
        self.while_hidden = true;
        self
    }

    pub fn table(&self) -> Option<RelationId> {
        self.table
    }

    pub fn keep(mut self) {
        self.table = None;
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // Without a runtime the server has ended.
        let (Some(table), Ok(runtime)) = (self.table.take(), Handle::try_current()) else { return };
        let (coordinator, while_hidden) = (self.coordinator.clone(), self.while_hidden);
        self.drops.0.lock().push(runtime.spawn(async move { drop_table(&coordinator, table, while_hidden).await }));
    }
}

fn goes(relation: &Relation) -> bool {
    is_hidden(&relation.name) || relation.awaits_rows() || relation.is_temporary_table()
}

/// A definition's outcome. What goes again, and is made when nobody waits for it any more, goes at once.
pub async fn defined(coordinator: &CoordinatorHandle, drops: &Drops, ddl: Ddl, resolved: Resolved) -> Result<DdlOutcome> {
    if !matches!(&ddl, Ddl::Create { relation, .. } if goes(relation)) {
        return coordinator.ddl(ddl, resolved).await;
    }
    let (coordinator, drops) = (coordinator.clone(), drops.clone());
    let task = tokio::spawn(async move {
        let outcome = coordinator.ddl(ddl, resolved).await;
        let made = outcome.as_ref().ok().and_then(|outcome| outcome.created);
        (outcome, made.map(|table| Doomed::new(table, coordinator, drops)))
    });
    let ended = |error: JoinError| SqlError::internal(format!("a definition has ended without a result: {error}"));
    let (outcome, doomed) = task.await.map_err(ended)?;
    // From here on that is up to who has had it made.
    doomed.into_iter().for_each(Doomed::keep);
    outcome
}

/// Drops what was temporary, or being filled, when the server was killed.
pub async fn drop_left(coordinator: &CoordinatorHandle) {
    let left: Vec<RelationId> = coordinator.catalog().relations().filter(|r| goes(r)).map(|r| r.id).collect();
    for table in left {
        drop_table(coordinator, table, false).await;
    }
}

/// It may get another name before the drop comes to its turn; then it is tried again with that, unless it goes `while_hidden` only.
async fn drop_table(coordinator: &CoordinatorHandle, table: RelationId, while_hidden: bool) {
    loop {
        let relation = coordinator.catalog().get(table).filter(|relation| is_doomed(relation, while_hidden)).cloned();
        let Some(relation) = relation else { return };
        if let Err(error) = drop_named(coordinator, &relation).await {
            tracing::warn!(table = %relation.name, "it had to go, but it cannot be dropped: {error}");
            return;
        }
    }
}

fn is_doomed(relation: &Relation, while_hidden: bool) -> bool {
    !while_hidden || is_hidden(&relation.name)
}

/// With a temporary table goes what writes into it.
async fn drop_named(coordinator: &CoordinatorHandle, relation: &Relation) -> Result<()> {
    let (kind, cascade) = (object_kind(relation), relation.is_temporary_table());
    let mut ddl = Ddl::Drop { kind, names: vec![relation.name.clone()], if_exists: true, cascade };
    let resolved = coordinator.resolve(&mut ddl).await?;
    coordinator.ddl(ddl, resolved).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgcatalog::tests::catalog_of;

    #[test]
    fn what_has_taken_the_place_of_a_table_stays() {
        let wider = hidden_name();
        let catalog = catalog_of(&format!("CREATE TABLE t (k INT); CREATE TABLE {wider} (k INT, v INT)"));
        let [old, new] = ["t", wider.as_str()].map(|name| catalog.by_name(name).unwrap().clone());
        assert!(is_doomed(&new, true) && is_doomed(&new, false));
        let replaced = catalog.in_place_of(old.id, new.id);
        let named = replaced.get(new.id).unwrap();
        assert_eq!(named.name, "t");
        assert!(!is_doomed(named, true) && is_doomed(named, false));
    }
}
