//! What a checkpoint gives back: views, operator state and sinks' logs as files, then the catalog and where sources, tables and jobs stood.
//! Nothing here reads the log.

use super::super::CoordinatorConfig;
use super::super::backfill::Backfill;
use super::super::building::{StoredViews, view_key, view_schema};
use super::super::checkpointing::{Body, has_job, restore_state, stored_bytes};
use super::super::core::Core;
use super::super::history::History;
use super::super::job::{Exact, Mode};
use super::super::pausing::paused_at;
use super::super::sink::{sink_dir, sinks_dir};
use super::super::table::Table;
use super::{check_wanted, clear_dir, open_kv};
use crate::catalog::CatalogSnapshot;
use eddyline_common::{RelationId, Result, SqlError, SqlState};
use eddyline_executor::rejects;
use eddyline_planner::catalog::{Relation, RelationKind};
use eddyline_storage::checkpoint::BlockingCheckpointStore;
use eddyline_storage::kv::RocksKv;
use eddyline_storage::log::segment_path;
use eddyline_storage::view::{SegmentDir, View};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a checkpoint gave back.
pub(super) struct Restored {
    pub body: Body,
    pub views: BTreeMap<RelationId, StoredViews>,
    pub histories: BTreeMap<RelationId, History>,
    pub kv: RocksKv,
}

/// Views and operator state of one checkpoint; an error of state `DATA_CORRUPTED` means that an older one must do.
pub(super) fn restore(
    config: &CoordinatorConfig,
    store: &BlockingCheckpointStore,
    segments: &Arc<SegmentDir>,
    body: Body,
) -> Result<Restored> {
    let rows = segment_files(&body);
    let mut views = BTreeMap::new();
    for relation in body.catalog.iter().filter(|r| has_job(r)) {
        let Some(job) = body.jobs.get(&relation.id).filter(|j| j.progress.is_some()) else { continue };
        check_wanted(config)?;
        let mut fetch = |name: &str| {
            let file = body.view_files.get(name).ok_or_else(|| SqlError::corrupt(format!("the manifest lacks view file {name}")))?;
            if !rows.contains(name) {
                return store.get_bytes(file);
            }
            store.place_file(file, &segments.path_of(name))?;
            segments.map(name)
        };
        let dir = || Some(segments.clone());
        let rows = View::restore(view_schema(relation), view_key(relation), config.workers, dir(), &job.view, &mut fetch)?;
        for index in body.indexes.iter().filter(|index| index.relation == relation.id) {
            rows.add_index(&index.name, &index.stored_columns(relation))?;
        }
        rows.build_indexes();
        let rejects = View::restore(rejects::schema(), rejects::key(), rejects::SHARDS, dir(), &job.rejects, &mut fetch)?;
        views.insert(relation.id, StoredViews { rows, rejects });
    }
    drop(rows);
    let mut histories = BTreeMap::new();
    for (id, (_, source)) in body.sources.keys().filter_map(|id| Some((*id, body.source(*id)?))) {
        histories.insert(id, History::load(&source.history, &mut |file| store.get_bytes(file))?);
    }
    restore_sinks(config, store, &body)?;
    let image = config.data_dir.join("state").join("restored");
    clear_dir(&image)?;
    store.download_dir(&body.kv, &image)?;
    let kv = open_kv(config, Some(&image))?;
    // The store has what it needs of it; the rest would take room for as long as the server runs.
    clear_dir(&image)?;
    restore_state(&config.data_dir.join("state"), store, &body, &kv)?;
    Ok(Restored { body, views, histories, kv })
}

/// Logs of sinks that this data directory does not have: what waits in them to be sent goes with the checkpoint. A log that is
/// here knows more than the checkpoint's.
fn restore_sinks(config: &CoordinatorConfig, store: &BlockingCheckpointStore, body: &Body) -> Result<()> {
    let ids: BTreeSet<RelationId> = body.sink_files.iter().map(|f| f.sink).collect();
    for id in ids {
        let dir = sink_dir(&config.data_dir, id);
        if config.fs.exists(&dir) {
            continue;
        }
        // Under another name until it is whole.
        let partial = dir.with_extension("partial");
        if config.fs.exists(&partial) {
            config.fs.remove_dir_all(&partial)?;
        }
        config.fs.create_dir_all(&partial)?;
        for file in body.sink_files.iter().filter(|f| f.sink == id) {
            let mut copy = config.fs.open(&segment_path(&partial, file.segment))?;
            copy.write_at(0, &store.get_bytes(&file.file)?)?;
            copy.sync()?;
        }
        config.fs.sync_dir(&partial)?;
        config.fs.rename(&partial, &dir)?;
        config.fs.sync_dir(&sinks_dir(&config.data_dir))?;
    }
    Ok(())
}

/// The files of rows that a checkpoint's views are mapped from.
pub(super) fn segment_files(body: &Body) -> HashSet<&str> {
    body.jobs.values().flat_map(|job| job.view.segments.iter().chain(&job.rejects.segments)).map(|file| file.name.as_str()).collect()
}

fn missing(id: RelationId) -> SqlError {
    SqlError::corrupt(format!("the manifest lacks relation {id}"))
}

impl Core {
    pub(super) fn restore_body(
        &mut self,
        body: &Body,
        mut views: BTreeMap<RelationId, StoredViews>,
        mut histories: BTreeMap<RelationId, History>,
    ) -> Result<()> {
        self.last_cut = body.epoch;
        self.durable = body.epoch;
        self.stats.epoch.store(body.epoch.0, Ordering::Relaxed);
        self.now = body.now;
        let (oldest, now) = body.oldest();
        self.replayed = Some(oldest);
        self.nows.push(oldest, now, &self.marks);
        self.stats.cut_times.push(oldest, now);
        self.next_relation = body.next_relation;
        self.system = body.system.clone();
        self.sink_writes = body.sink_writes.clone();
        self.altered = body.settings.clone();
        self.apply_settings();
        body.bases.keys().chain([&body.epoch]).for_each(|epoch| self.mark(*epoch));
        let relations = CatalogSnapshot::new(body.catalog.iter().cloned());
        let catalog = body.functions.iter().fold(relations, |catalog, function| catalog.with_function(function.clone()));
        let commented = |catalog: CatalogSnapshot, (relation, column, text): &(RelationId, Option<usize>, String)| {
            catalog.with_comment(*relation, *column, Some(text.clone()))
        };
        let catalog = body.indexes.iter().fold(catalog, |catalog, index| catalog.with_index(index.clone()));
        self.catalog = Arc::new(body.comments.iter().fold(catalog, commented));
        *self.handle.catalog.write() = self.catalog.clone();
        for relation in &body.catalog {
            match &relation.kind {
                RelationKind::Source(_) => {
                    let (epoch, progress) = body.source(relation.id).ok_or_else(|| missing(relation.id))?;
                    let history = histories.remove(&relation.id).unwrap_or_default();
                    self.add_source(Arc::new(relation.clone()), progress.clone(), history, epoch)?;
                }
                RelationKind::KeyedSource { feed, .. } => {
                    self.restore_feed(relation, body, histories.remove(feed))?;
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
                RelationKind::View { .. } => {}
                RelationKind::Table { .. } => {
                    let (epoch, watermark) = body.table(relation.id).ok_or_else(|| missing(relation.id))?;
                    self.tables.insert(relation.id, Table::new(Arc::new(relation.clone()), epoch, watermark)?);
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
                RelationKind::MaterializedView { .. } => {
                    self.restore_own_sources(relation, body, &mut histories)?;
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
                RelationKind::Sink(_) => {
                    self.restore_own_sources(relation, body, &mut histories)?;
                    self.restore_sink(relation, body.jobs.get(&relation.id))?;
                    self.restore_job(relation, body, views.remove(&relation.id))?;
                }
            }
        }
        Ok(())
    }

    fn restore_job(&mut self, relation: &Relation, body: &Body, views: Option<StoredViews>) -> Result<()> {
        let id = relation.id;
        let relation = Arc::new(relation.clone());
        let epoch = body.epoch_of(id);
        let backfilling = |from| Mode::Backfilling(Backfill::new(from, epoch));
        // A relation that was dropped while the checkpoint was taken has no job in it; the log drops it again.
        let Some(job) = body.jobs.get(&id) else { return self.add_job(relation, None, backfilling(None), epoch) };
        match (&job.progress, views) {
            (Some(progress), Some(views)) => {
                let stays = job.stands && paused_at(&relation).is_some();
                let mode = if job.positions.is_some() && !stays { backfilling(Some(progress.epoch)) } else { Mode::Live };
                self.add_job(relation, Some((progress.clone(), views)), mode, epoch)?;
            }
            _ => {
                self.drop_state(&relation);
                self.system.forget(id);
                self.add_job(relation, None, backfilling(None), epoch)?;
            }
        }
        if let Some(policy) = body.policy(id) {
            self.engine.set_on_error(id, policy);
        }
        let positions = job.positions.clone().unwrap_or_else(|| body.positions(epoch));
        let Some(restored) = self.jobs.get_mut(&id) else { return Ok(()) };
        if let Some(progress) = job.progress.as_ref().filter(|_| job.stands && paused_at(&restored.relation).is_some()) {
            // It stays where it was, and not at the checkpoint's epoch.
            restored.stepped = progress.epoch;
            restored.exact = Exact::default();
            restored.exact.step(progress.epoch);
            restored.stats.epoch.store(progress.epoch.0, Ordering::Relaxed);
        }
        restored.source_ends = positions.into_iter().map(|(source, ends)| (source, Arc::new(ends))).collect();
        restored.output_watermark = job.output_watermark;
        restored.output.set_watermark(job.output_watermark);
        let stats = restored.stats.clone();
        stats.rows_in.store(job.counters.rows_in, Ordering::Relaxed);
        stats.rows_out.store(job.counters.rows_out, Ordering::Relaxed);
        stats.late.store(job.counters.late, Ordering::Relaxed);
        stats.rejected.store(job.counters.rejected, Ordering::Relaxed);
        stats.stored_bytes.store(stored_bytes(&*self.kv, &restored.relation), Ordering::Relaxed);
        if let Some(reason) = &job.failed {
            self.on_job_failed(id, epoch, SqlError::from_shown(reason, SqlState::OBJECT_NOT_READY));
        } else {
            self.fail_with_inputs(id, epoch);
        }
        Ok(())
    }

    /// A job that starts over must not find what an earlier attempt left.
    fn drop_state(&self, relation: &Relation) {
        if let Some(plan) = relation.plan() {
            for state in plan.state_tables() {
                if let Err(error) = self.kv.drop_table(state) {
                    tracing::warn!("state table {state} could not be cleared: {error}");
                }
            }
        }
    }
}
