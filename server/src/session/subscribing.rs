//! SUBSCRIBE: what a table or view shows, then what changes in it, read from one epoch to the next out of the view store. The rows changed between two epochs
//! can be read as long as the earlier one is kept, so a subscription pins the epoch that it has come to, and no other. It takes the newest
//! epoch each time: a client that is slow gets fewer and larger changes, until its pin is let go of.

use super::{Outcome, Session, Tag};
use crate::coordinator::{CoordinatorHandle, ReadSnapshot};
use crate::serving::RowStream;
use crate::serving::rows::{AbortOnDrop, BATCHES_AHEAD};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use eddyline_common::types::arrow_schema;
use eddyline_common::{ChangeBatch, Epoch, RelationId, Result, SqlError, SqlState};
use eddyline_planner::Parsed;
use eddyline_planner::statement::{Subscriber, Subscription};
use eddyline_storage::view::View;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Rows per batch: what a client has to take before its next one is made.
const BATCH_ROWS: usize = 8192;

/// Changes up to this number are net: a row that changed and changed back is not among them. More are sent as they are found.
const NET_ROWS_MAX: u64 = 65_536;

/// Without changes, how often the pinned epoch is exchanged for a newer one.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks at a view that changes all the time.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Where a subscription stands, and where its rows go.
struct Feed {
    coordinator: CoordinatorHandle,
    relation: RelationId,
    schema: SchemaRef,
    rows: mpsc::Sender<Result<RecordBatch>>,
}

impl Session {
    pub(super) async fn subscribe(&mut self, subscription: Subscription, parsed: &Parsed) -> Result<Outcome> {
        let Subscription { relation, columns, snapshot, as_of, to } = subscription;
        if let Subscriber::Cursor(name) = &to {
            self.check_cursor(name, false)?;
        }
        let at = self.services.coordinator.snapshot(&[relation], self.seen).await?;
        self.seen = self.seen.max(at.epoch);
        let after = as_of.map(Epoch);
        if let Some(after) = after {
            check_kept(&at, relation, after)?;
        }
        let schema = arrow_schema(&columns);
        let (rows, receiver) = mpsc::channel(BATCHES_AHEAD);
        let feed = Feed { coordinator: self.services.coordinator.clone(), relation, schema: schema.clone(), rows };
        let task = self.services.engine.spawn(async move {
            if let Err(error) = feed.run(at, snapshot, after).await {
                // The client may be gone: then nobody wants to know.
                let _gone = feed.rows.send(Err(error)).await;
            }
        });
        let rows = RowStream::endless(schema.clone(), receiver, AbortOnDrop::new(task));
        match to {
            Subscriber::Client => Ok(Outcome::Rows { rows, tag: Tag::Counted("SUBSCRIBE") }),
            Subscriber::Copy(format) => Ok(Outcome::CopyOut { rows, format }),
            Subscriber::Cursor(name) => Ok(self.put_cursor(&name, schema, rows, false, parsed)),
        }
    }
}

fn check_kept(at: &ReadSnapshot, relation: RelationId, after: Epoch) -> Result<()> {
    if after > at.epoch {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER, format!("epoch {after} has not come yet")).with_hint("Leave out AS OF."));
    }
    if after < at.replayed {
        let error = SqlError::new(SqlState::SNAPSHOT_TOO_OLD, "subscription fell behind");
        return Err(error
            .with_detail(format!(
                "The server has started since epoch {after}, and does not tell the epochs apart that it went through again."
            ))
            .with_hint("SUBSCRIBE again without AS OF: it begins with what there is then."));
    }
    let view = view_of(at, relation)?;
    view.stored_changes(after, at.epoch).map(drop).map_err(|error| fell_behind(error, after))
}

fn view_of(at: &ReadSnapshot, relation: RelationId) -> Result<&Arc<View>> {
    at.views.get(&relation).ok_or_else(|| SqlError::internal("the relation of a subscription is not in its snapshot"))
}

/// The epoch that a subscription has come to is not kept any more.
fn fell_behind(error: SqlError, at: Epoch) -> SqlError {
    if error.state != SqlState::SNAPSHOT_TOO_OLD {
        return error;
    }
    SqlError::new(SqlState::SNAPSHOT_TOO_OLD, "subscription fell behind")
        .with_detail(format!("What changed after epoch {at} is not kept any more."))
        .with_hint("SUBSCRIBE again without AS OF: it begins with what there is then. Read faster, or start the server with a larger --snapshot-age or --snapshot-size.")
}

impl Feed {
    /// Sends until nobody wants more, or the relation is gone.
    async fn run(&self, mut at: ReadSnapshot, snapshot: bool, after: Option<Epoch>) -> Result<()> {
        match after {
            Some(after) => self.send_changes(&at, after).await?,
            None if snapshot => self.send_all(&at).await?,
            None => {}
        }
        loop {
            let began = Instant::now();
            let next = self.next(at.epoch).await?;
            if next.epoch <= at.epoch {
                // Nothing moves; of a view that is paused the answer comes at once.
                tokio::time::sleep(REFRESH_INTERVAL.saturating_sub(began.elapsed())).await;
                at = next;
                continue;
            }
            at.check().map_err(|error| fell_behind(error, at.epoch))?;
            let began = Instant::now();
            self.send_changes(&next, at.epoch).await?;
            at = next;
            tokio::time::sleep(began.elapsed().clamp(PAUSE_MIN, REFRESH_INTERVAL)).await;
        }
    }

    /// A later epoch once there is one, or this one pinned anew.
    async fn next(&self, at: Epoch) -> Result<ReadSnapshot> {
        let relations = [self.relation];
        let later = self.coordinator.snapshot_in_time(&relations, at.next());
        match tokio::time::timeout(REFRESH_INTERVAL, later).await {
            Ok(next) => next,
            Err(_) => self.coordinator.snapshot_in_time(&relations, at).await,
        }
    }

    async fn send_all(&self, at: &ReadSnapshot) -> Result<()> {
        for rows in view_of(at, self.relation)?.snapshot(at.epoch, None)? {
            at.check().map_err(|error| fell_behind(error, at.epoch))?;
            self.send(at.epoch, &rows?, |_| 1).await?;
        }
        Ok(())
    }

    /// What changed since an epoch.
    async fn send_changes(&self, to: &ReadSnapshot, after: Epoch) -> Result<()> {
        let view = view_of(to, self.relation)?;
        let changes = view.stored_changes(after, to.epoch).map_err(|error| fell_behind(error, after))?;
        let count = changes.num_rows();
        if count > NET_ROWS_MAX {
            for change in changes {
                let (weight, rows) = change?;
                self.send(to.epoch, &rows, |_| weight).await?;
            }
        } else if count > 0 {
            let changes = view.changes(after, to.epoch).map_err(|error| fell_behind(error, after))?;
            let all = ChangeBatch::concat(view.schema(), &changes)?;
            self.send(to.epoch, &all.rows, |row| all.weight(row)).await?;
        }
        Ok(())
    }

    async fn send(&self, epoch: Epoch, rows: &RecordBatch, weight: impl Fn(usize) -> i64) -> Result<()> {
        let own = self.schema.fields().len() - 2;
        for from in (0..rows.num_rows()).step_by(BATCH_ROWS) {
            let len = BATCH_ROWS.min(rows.num_rows() - from);
            let epochs: ArrayRef = Arc::new(Int64Array::from_value(epoch.0 as i64, len));
            let weights: ArrayRef = Arc::new(Int64Array::from_iter_values((from..from + len).map(&weight)));
            let values = rows.columns()[..own].iter().map(|column| column.slice(from, len));
            let batch = RecordBatch::try_new(self.schema.clone(), [epochs, weights].into_iter().chain(values).collect())?;
            let gone = |_| SqlError::new(SqlState::QUERY_CANCELED, "the subscription has ended");
            self.rows.send(Ok(batch)).await.map_err(gone)?;
        }
        Ok(())
    }
}
