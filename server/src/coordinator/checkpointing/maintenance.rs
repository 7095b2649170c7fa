//! The maintenance thread: vacuums views and freezes them for checkpoints (so that the two never meet), and removes what a
//! dropped view leaves. It waits for the local disk only, never for an object store, so that rows always get out of memory.
//! A view at a time; what a checkpoint waits for goes before the rest of a vacuum. What is long and holds no lock runs at a
//! lower priority.

use super::super::Event;
use super::super::stats::Stats;
use super::background::guarded;
use super::body::Manifests;
use crossbeam_channel::{Receiver, Sender};
use eddyline_common::runtime::{Process, Turn, next_of};
use eddyline_common::telling::Told;
use eddyline_common::{Epoch, RelationId, Result, failpoint};
use eddyline_storage::checkpoint::{BlockingCheckpointStore, FileRef};
use eddyline_storage::priority;
use eddyline_storage::view::{View, ViewFile, ViewManifest};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub enum MaintenanceTask {
    /// Each with the oldest epoch that is read of it. Answered by `Event::Vacuumed`.
    Vacuum(Vec<(Arc<View>, Epoch)>),
    Freeze(FreezeTask),
    /// The job is gone from the engine, and no later task names its view.
    Discard(Arc<View>),
}

/// The views of a checkpoint.
pub struct FreezeTask {
    pub checkpoint: u64,
    pub epoch: Epoch,
    pub views: Vec<FreezeView>,
    /// To the thread that writes the checkpoint.
    pub frozen: Sender<Result<Vec<FrozenView>>>,
}

pub struct FreezeView {
    pub id: RelationId,
    pub view: Arc<View>,
    pub rejects: Option<Arc<View>>,
    pub known: Manifests,
    /// Its job waits for the view to be in files.
    pub is_held: bool,
}

/// A view as of a checkpoint, with the files that no earlier one has.
pub struct FrozenView {
    pub id: RelationId,
    pub manifests: Manifests,
    pub files: Vec<(String, Content)>,
}

pub enum Content {
    /// In the store already, by a link.
    Stored(FileRef),
    /// Mapped or in memory; to be uploaded.
    Here(ViewFile),
}

pub struct Maintenance {
    pub tasks: Receiver<MaintenanceTask>,
    pub store: BlockingCheckpointStore,
    pub events: Sender<Event>,
    pub stats: Arc<Stats>,
    pub vacuuming: Vacuuming,
    /// Of vacuums that failed: each view is cleaned again soon.
    pub told: Told,
}

/// What is left of a vacuum.
#[derive(Default)]
pub struct Vacuuming {
    views: VecDeque<(Arc<View>, Epoch)>,
    /// Some view has more to clean than one vacuum does.
    more: bool,
}

impl Process for Maintenance {
    fn turn(&mut self, may_wait: bool) -> Turn {
        let is_vacuuming = !self.vacuuming.views.is_empty();
        match next_of(&self.tasks, may_wait && !is_vacuuming) {
            Ok(Some(MaintenanceTask::Vacuum(views))) => {
                self.note_bytes(views.iter().map(|(view, _)| view.bytes()).sum());
                self.vacuuming = Vacuuming { views: views.into(), more: false };
                self.report_if_done();
            }
            Ok(Some(MaintenanceTask::Freeze(task))) => self.freeze(task),
            Ok(Some(MaintenanceTask::Discard(view))) => self.discard(&view),
            Ok(None) if is_vacuuming => {
                self.vacuum_next();
                self.report_if_done();
            }
            Ok(None) => return Turn::Idle,
            Err(_) => return Turn::Ended,
        }
        Turn::Worked
    }
}

impl Maintenance {
    fn discard(&mut self, view: &Arc<View>) {
        let was_due = !self.vacuuming.views.is_empty();
        self.vacuuming.views.retain(|(waiting, _)| !Arc::ptr_eq(waiting, view));
        let discarded = guarded("removing a view's files", || {
            view.discard();
            Ok(())
        });
        if let Err(error) = discarded {
            tracing::warn!("files of a dropped view stay until the next start: {error}");
        }
        if was_due {
            self.report_if_done();
        }
    }

    fn vacuum_next(&mut self) {
        let Some((view, oldest)) = self.vacuuming.views.pop_front() else { return };
        let done = guarded("cleaning a view", || {
            failpoint::hit("view.vacuum")?;
            view.vacuum(oldest)
        });
        match done {
            Ok(more) => self.vacuuming.more |= more,
            Err(error) if self.told.is_due(error.state, Instant::now()) => tracing::warn!("old row versions stay: {error}"),
            Err(_) => {}
        }
    }

    fn report_if_done(&self) {
        if self.vacuuming.views.is_empty() {
            // A coordinator that is gone needs no news.
            let _gone = self.events.send(Event::Vacuumed { more: self.vacuuming.more });
        }
    }

    fn note_bytes(&self, bytes: usize) {
        self.stats.view_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    fn freeze(&self, task: FreezeTask) {
        let FreezeTask { checkpoint, epoch, mut views, frozen } = task;
        self.note_bytes(views.iter().map(|view| view.view.bytes()).sum());
        views.sort_by_key(|view| !view.is_held);
        let held = views.partition_point(|view| view.is_held);
        let mut made = Ok(Vec::with_capacity(views.len()));
        for (index, view) in views.into_iter().enumerate() {
            let Ok(done) = &mut made else { break };
            match guarded("freezing a view", || priority::lowered(|| self.freeze_view(view, epoch))) {
                Ok(view) => done.push(view),
                Err(error) => made = Err(error),
            }
            if index + 1 == held && made.is_ok() {
                let _gone = self.events.send(Event::HeldAreWritten(checkpoint));
            }
        }
        // The writer may have given the checkpoint up.
        let _gone = frozen.send(made);
        let _gone = self.events.send(Event::ViewsAreFrozen(checkpoint));
    }

    /// Links, where the store can, are made here: vacuum may unlink a file as soon as this thread goes on.
    fn freeze_view(&self, view: FreezeView, epoch: Epoch) -> Result<FrozenView> {
        let FreezeView { id, view, rejects, known, .. } = view;
        let checkpoint = view.checkpoint(epoch, &known.rows)?;
        let mut manifests = Manifests { rows: checkpoint.manifest, rejects: ViewManifest::default() };
        let mut made = checkpoint.files;
        if let Some(rejects) = rejects {
            let checkpoint = rejects.checkpoint(epoch, &known.rejects)?;
            manifests.rejects = checkpoint.manifest;
            made.extend(checkpoint.files);
        }
        let mut files = Vec::with_capacity(made.len());
        for file in made {
            let content = match &file.path {
                Some(path) if self.store.is_local() => Content::Stored(self.store.link_file(path, file.bytes.len() as u64, file.crc32)?),
                _ => Content::Here(file.clone()),
            };
            files.push((file.name, content));
        }
        Ok(FrozenView { id, manifests, files })
    }
}
