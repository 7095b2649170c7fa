//! The threads in the background, and how their work is told to them. A panic in it is an error of that work. Knows nothing of what the work is.

use super::super::stats::Stats;
use super::maintenance::{Maintenance, MaintenanceTask};
use super::writer::{Means, Writer, WriterTask};
use crossbeam_channel::Sender;
use eddyline_common::runtime::{Thread, Threads};
use eddyline_common::{Result, SqlError, panic_text};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The threads in the background. Dropped, it waits for what they were told to do.
pub struct Background {
    writer: Option<Sender<WriterTask>>,
    maintenance: Option<Sender<MaintenanceTask>>,
    threads: Vec<Box<dyn Thread>>,
}

impl Background {
    pub fn start(threads: &Arc<dyn Threads>, means: Means, stats: Arc<Stats>) -> Result<Background> {
        let (to_maintenance, tasks) = crossbeam_channel::unbounded();
        let (store, events) = (means.store.clone(), means.events.clone());
        let maintenance =
            Maintenance { tasks, store, events, stats: stats.clone(), vacuuming: Default::default(), told: Default::default() };
        let (to_writer, tasks) = crossbeam_channel::unbounded();
        let writer = Writer { tasks, threads: threads.clone(), means, stats, positions: BTreeMap::new() };
        let threads = vec![threads.spawn("checkpoints", Box::new(writer))?, threads.spawn("maintenance", Box::new(maintenance))?];
        Ok(Background { writer: Some(to_writer), maintenance: Some(to_maintenance), threads })
    }

    pub(super) fn maintain(&self, task: MaintenanceTask) {
        send(self.maintenance.as_ref(), task);
    }

    pub(super) fn write(&self, task: WriterTask) {
        send(self.writer.as_ref(), task);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        (self.writer, self.maintenance) = (None, None);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread in the background panicked");
            }
        }
    }
}

fn send<T>(thread: Option<&Sender<T>>, task: T) {
    if thread.is_some_and(|tasks| tasks.send(task).is_err()) {
        tracing::error!("a thread in the background is gone; checkpoints have stopped");
    }
}

/// Work of a thread in the background. A panic ends the work it happened in, as an error does, and nothing else.
pub(super) fn guarded<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let error = |panic: Box<dyn Any + Send>| SqlError::internal(format!("{what} panicked: {}", panic_text(panic.as_ref())));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(error(panic)))
}
