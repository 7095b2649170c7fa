//! Keyed sources: a feed among the sources and a job that keeps the rows, made, restored and dropped together. To
//! everything else the feed is a source and the relation a job like a view's.

use super::checkpointing::Body;
use super::core::Core;
use super::history::History;
use super::job::Mode;
use super::source::SourceProgress;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, RelationId, Result, SqlError};
use eddyline_planner::catalog::{Relation, RelationKind};
use std::sync::Arc;

impl Core {
    /// Gives a new keyed source's feed the id before its own.
    pub(super) fn assign_feed(&self, relation: &mut Relation) {
        if let RelationKind::KeyedSource { feed, .. } = &mut relation.kind {
            *feed = RelationId(self.next_relation);
            relation.id = RelationId(self.next_relation + 1);
        }
    }

    pub(super) fn create_keyed(&mut self, relation: &Arc<Relation>, epoch: Epoch, starts: Vec<PartitionStart>) -> Result<()> {
        let feed = self.add_feed(relation, SourceProgress::starting(starts), History::default(), epoch)?;
        self.mark(epoch);
        self.add_job(relation.clone(), None, Mode::Live, epoch).inspect_err(|_| self.drop_source(feed))
    }

    pub(super) fn restore_feed(&mut self, relation: &Relation, body: &Body, history: Option<History>) -> Result<()> {
        let progress = relation.feed_id().and_then(|feed| body.source(feed));
        let lacks = || SqlError::corrupt(format!("the manifest lacks the feed of source {}", relation.id));
        let (epoch, progress) = progress.ok_or_else(lacks)?;
        self.add_feed(relation, progress.clone(), history.unwrap_or_default(), epoch).map(drop)
    }

    fn add_feed(&mut self, relation: &Relation, progress: SourceProgress, history: History, epoch: Epoch) -> Result<RelationId> {
        let feed = relation.feed().ok_or_else(|| SqlError::internal("not a keyed source"))?;
        let id = feed.id;
        self.add_source(Arc::new(feed), progress, history, epoch)?;
        Ok(id)
    }

    pub(super) fn drop_source(&mut self, id: RelationId) {
        if let Some(mut source) = self.sources.remove(&id) {
            source.stop();
        }
        self.stats.remove(id);
        self.handle.starts.write().remove(&id);
    }

    /// The source that brings a relation its records: itself, or its feed.
    pub(super) fn source_of(&self, relation: RelationId) -> RelationId {
        let feed = self.jobs.get(&relation).and_then(|j| j.relation.feed_id());
        feed.or_else(|| self.catalog.get(relation)?.feed_id()).unwrap_or(relation)
    }

    /// Under which relation of the catalog a source is known.
    pub(super) fn name_of_source(&self, source: RelationId) -> Option<String> {
        let known = self.catalog.get(source).map(|r| r.name.clone());
        known.or_else(|| self.sources.get(&source).map(|s| s.relation.name.clone()))
    }
}
