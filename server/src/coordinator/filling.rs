//! A source that nobody has read yet holds records already. The session that makes the first view over it, or that makes a keyed source, which
//! reads from then on, asks where it ends, and until all up to there is in cuts, readers of it and of views over it wait: as they do for a view
//! that is made later, which reads on its own what cuts have taken.
//!
//! Rows come to the view with the cuts all the same; only what is shown first is held back. A source in trouble holds nothing back.

use super::core::Core;
use super::source::Source;
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, RelationId};
use std::sync::atomic::Ordering;

impl Core {
    /// Readers of a source's views wait for all of it up to `ends`.
    pub(super) fn expect(&mut self, present: Vec<(RelationId, Vec<PartitionStart>)>, epoch: Epoch) {
        for (id, ends) in present {
            if let Some(source) = self.sources.get_mut(&id) {
                source.expect(ends, epoch);
                self.filling.insert(id);
            }
        }
    }

    /// From which epoch on readers of relations find what was in their sources at first.
    pub(super) fn filled_from(&self, relations: &[RelationId]) -> Epoch {
        if self.filling.is_empty() {
            return Epoch::ZERO;
        }
        let read = self.with_inputs(relations.to_vec());
        let sources = self.filling.iter().filter(|id| read.contains(id)).filter_map(|id| self.sources.get(id));
        sources.map(Source::filled_from).max().unwrap_or(Epoch::ZERO)
    }

    /// Tells of a job that goes with the cuts how much it has of what was there at first.
    pub(super) fn note_filling(&self, id: RelationId) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.is_live() && !self.filling.is_empty()) else { return };
        let sources = job.inputs.iter().filter(|input| self.filling.contains(input)).filter_map(|input| self.sources.get(input));
        let filled = sources.map(|source| source.filled_permille(&job.source_ends(source.id()), job.stepped)).min();
        if let Some(permille) = filled {
            job.stats.backfill_permille.store(permille, Ordering::Relaxed);
        }
    }

    /// The reader of a source has news: it may have come to the end of what there is.
    pub(super) fn note_all_read(&mut self, id: RelationId) {
        if self.sources.get_mut(&id).is_some_and(Source::note_all_read) {
            let readers: Vec<RelationId> = self.readers(id).map(|job| job.id()).collect();
            readers.into_iter().for_each(|job| self.note_filling(job));
        }
    }

    /// Nobody reads an epoch before `oldest` any more.
    pub(super) fn forget_filled(&mut self, oldest: Epoch) {
        let sources = &mut self.sources;
        self.filling.retain(|id| sources.get_mut(id).is_some_and(|source| !source.forget_filled(oldest)));
    }
}
