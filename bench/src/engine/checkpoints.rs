//! Checkpoints of one job, with the same parts and in the same order as the server's: frozen runs are ingested, an image of
//! the store and the view's new files are put into a local object store, a manifest is committed, old ones are pruned. One
//! thread does all of it and vacuums the view too, so that the two never meet.

use crate::Result;
use eddyline_common::kv::{KeyValueStore, SortedRun};
use eddyline_common::{Epoch, StateTableId};
use eddyline_storage::checkpoint::{BlockingCheckpointStore, CheckpointStore, FileRef, Manifest};
use eddyline_storage::state::SpillGate;
use eddyline_storage::view::{View, ViewManifest};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// The server's.
const VACUUM_INTERVAL: Duration = Duration::from_secs(2);
const KEPT: usize = 3;

type Runs = Vec<(StateTableId, SortedRun)>;

enum Task {
    Write { id: u64, epoch: Epoch, runs: Runs },
    Vacuum(Epoch),
}

/// The side of the driving loop. Answers are `true` for a checkpoint, `false` for an abandoned one.
pub struct Checkpoints {
    tasks: Option<mpsc::Sender<Task>>,
    answers: mpsc::Receiver<Result<bool>>,
    thread: Option<JoinHandle<()>>,
    /// Begun and not yet answered.
    pending: Option<(u64, Epoch)>,
    written: bool,
    last_id: u64,
    last: Instant,
    vacuumed: Instant,
    done: usize,
}

impl Checkpoints {
    pub fn start(kv: Arc<dyn KeyValueStore>, gate: Arc<SpillGate>, view: Option<Arc<View>>, dir: &Path, runtime: Handle) -> Result<Self> {
        let store = BlockingCheckpointStore::new(CheckpointStore::local(&dir.join("checkpoints"))?, runtime);
        let writer = Writer { kv, gate, view, store, images: dir.join("images"), known: Known::default() };
        std::fs::create_dir_all(&writer.images)?;
        let (tasks, queue) = mpsc::channel();
        let (reply, answers) = mpsc::channel();
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(move || writer.run(&queue, &reply))?;
        let now = Instant::now();
        Ok(Checkpoints {
            tasks: Some(tasks),
            answers,
            thread: Some(thread),
            pending: None,
            written: false,
            last_id: 0,
            last: now,
            vacuumed: now,
            done: 0,
        })
    }

    /// The id under which the job is to be frozen now, right after its step to `epoch`.
    pub fn begin_if_due(&mut self, epoch: Epoch) -> Result<Option<u64>> {
        if let Ok(answer) = self.answers.try_recv() {
            self.answered(answer)?;
        }
        if self.pending.is_some() || self.last.elapsed() < CHECKPOINT_INTERVAL {
            return Ok(None);
        }
        self.last_id += 1;
        self.pending = Some((self.last_id, epoch));
        self.written = false;
        Ok(Some(self.last_id))
    }

    pub fn write(&mut self, id: u64, runs: Runs) -> Result<()> {
        let (pending, epoch) = self.pending.ok_or("a freeze that nobody asked for")?;
        assert_eq!(id, pending, "one checkpoint at a time");
        self.written = true;
        self.send(Task::Write { id, epoch, runs });
        Ok(())
    }

    /// Cleans the view up to `epoch`, unless a checkpoint still has to read it further back.
    pub fn vacuum_if_due(&mut self, epoch: Epoch) {
        if self.vacuumed.elapsed() >= VACUUM_INTERVAL && (self.pending.is_none() || self.written) {
            self.vacuumed = Instant::now();
            self.send(Task::Vacuum(epoch));
        }
    }

    /// Waits for what is under way; how many checkpoints there were.
    pub fn finish(&mut self) -> Result<usize> {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| "the checkpoint thread panicked")?;
        }
        while let Ok(answer) = self.answers.try_recv() {
            self.answered(answer)?;
        }
        Ok(self.done)
    }

    fn answered(&mut self, answer: Result<bool>) -> Result<()> {
        self.pending = None;
        self.last = Instant::now();
        self.done += usize::from(answer?);
        Ok(())
    }

    fn send(&self, task: Task) {
        // A thread that is gone has sent its error, which `answered` reports.
        let _gone = self.tasks.as_ref().map(|tasks| tasks.send(task));
    }
}

/// What the last checkpoint consists of.
#[derive(Default)]
struct Known {
    kv: BTreeMap<String, FileRef>,
    view: ViewManifest,
    view_files: BTreeMap<String, FileRef>,
}

struct Writer {
    kv: Arc<dyn KeyValueStore>,
    gate: Arc<SpillGate>,
    view: Option<Arc<View>>,
    store: BlockingCheckpointStore,
    images: PathBuf,
    known: Known,
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Task>, reply: &mpsc::Sender<Result<bool>>) {
        for task in queue {
            let answer = match task {
                Task::Write { id, epoch, runs } => Some(self.write(id, epoch, runs)),
                Task::Vacuum(epoch) => self.view.as_ref().and_then(|view| view.vacuum(epoch).err()).map(|e| Err(e.into())),
            };
            if answer.is_some_and(|answer| reply.send(answer).is_err()) {
                return;
            }
        }
    }

    fn write(&mut self, id: u64, epoch: Epoch, runs: Runs) -> Result<bool> {
        let runs = SortedRun::merge(runs);
        if !self.gate.ingest(id, || self.kv.ingest(runs))? {
            return Ok(false);
        }
        let image = self.images.join(id.to_string());
        if !self.gate.image(id, || self.kv.checkpoint(&image))? {
            return Ok(false);
        }
        self.known.kv = self.store.upload_dir(&image, &self.known.kv)?;
        std::fs::remove_dir_all(&image)?;
        self.write_view(epoch)?;
        let files = self.known.kv.values().chain(self.known.view_files.values()).cloned().collect();
        self.store.commit(&Manifest::new(id, epoch, files, &self.known.view))?;
        self.store.prune(KEPT)?;
        Ok(true)
    }

    fn write_view(&mut self, epoch: Epoch) -> Result<()> {
        let Some(view) = &self.view else { return Ok(()) };
        let checkpoint = view.checkpoint(epoch, &self.known.view)?;
        let mut files = BTreeMap::new();
        for file in checkpoint.files {
            let stored = match file.path {
                Some(path) => self.store.put_file(&path)?,
                None => self.store.put_bytes(file.bytes)?,
            };
            files.insert(file.name, stored);
        }
        for name in checkpoint.manifest.file_names() {
            if let Some(file) = self.known.view_files.get(name) {
                files.insert(name.to_string(), file.clone());
            }
        }
        self.known.view_files = files;
        self.known.view = checkpoint.manifest;
        Ok(())
    }
}
