//! Tables that CREATE TABLE AS has made and whose rows are not there for good yet: unless they are kept, they are dropped again, whatever ends what fills them
//! (an error, a cancellation, the transaction, the session). Outside a block such a table has a name that nobody knows until it has its rows, in a block the
//! catalog says that it awaits them; after a kill the next start knows it by that. It knows nothing of rows.

use crate::catalog::object_kind;
use crate::coordinator::{CoordinatorHandle, Ddl};
use eddyline_common::{RelationId, Result};
use eddyline_planner::Relation;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

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
                tracing::error!("a table that was not filled was not dropped: {error}");
            }
        }
    }
}

/// Dropped with this, unless it is kept.
pub struct Unfilled {
    table: Option<RelationId>,
    coordinator: CoordinatorHandle,
    drops: Drops,
}

impl Unfilled {
    pub fn new(table: RelationId, coordinator: CoordinatorHandle, drops: Drops) -> Self {
        Unfilled { table: Some(table), coordinator, drops }
    }

    pub fn table(&self) -> Option<RelationId> {
        self.table
    }

    pub fn keep(mut self) {
        self.table = None;
    }
}

impl Drop for Unfilled {
    fn drop(&mut self) {
        // Without a runtime the server has ended.
        let (Some(table), Ok(runtime)) = (self.table.take(), Handle::try_current()) else { return };
        let coordinator = self.coordinator.clone();
        self.drops.0.lock().push(runtime.spawn(async move { drop_table(&coordinator, table).await }));
    }
}

/// Drops what was being filled when the server was killed.
pub async fn drop_left(coordinator: &CoordinatorHandle) {
    let left: Vec<RelationId> = coordinator.catalog().relations().filter(|r| is_hidden(&r.name) || r.awaits_rows()).map(|r| r.id).collect();
    for table in left {
        drop_table(coordinator, table).await;
    }
}

/// It may get another name before the drop comes to its turn; then it is tried again with that.
async fn drop_table(coordinator: &CoordinatorHandle, table: RelationId) {
    loop {
        let Some(relation) = coordinator.catalog().get(table).cloned() else { return };
        if let Err(error) = drop_named(coordinator, &relation).await {
            tracing::warn!(table = %relation.name, "what was to fill it came to nothing, but it cannot be dropped: {error}");
            return;
        }
    }
}

async fn drop_named(coordinator: &CoordinatorHandle, relation: &Relation) -> Result<()> {
    let mut ddl = Ddl::Drop { kind: object_kind(relation), names: vec![relation.name.clone()], if_exists: true, cascade: false };
    let resolved = coordinator.resolve(&mut ddl).await?;
    coordinator.ddl(ddl, resolved).await.map(drop)
}
