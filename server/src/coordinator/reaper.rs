//! The thread on which readers of sources end: their own threads are joined there, which takes as long as the system they were
//! reading from likes. The coordinator hands them over and goes on.

use crossbeam_channel::Sender;
use eddyline_common::Result;
use eddyline_common::connector::SourceReader;
use eddyline_common::runtime::{Thread, Threads, for_each};

pub struct Reaper {
    readers: Option<Sender<Box<dyn SourceReader>>>,
    thread: Option<Box<dyn Thread>>,
}

/// A reader that ends on the reaper's thread when this is dropped.
pub struct Reaped {
    reader: Option<Box<dyn SourceReader>>,
    reaper: Sender<Box<dyn SourceReader>>,
}

impl Reaper {
    pub fn start(threads: &dyn Threads) -> Result<Reaper> {
        let (readers, gone) = crossbeam_channel::unbounded::<Box<dyn SourceReader>>();
        let thread = threads.spawn("readers", for_each(gone, drop))?;
        Ok(Reaper { readers: Some(readers), thread: Some(thread) })
    }

    pub fn watch(&self, reader: Box<dyn SourceReader>) -> Option<Reaped> {
        Some(Reaped { reader: Some(reader), reaper: self.readers.clone()? })
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            // Without the thread it ends here, with the error that carries it.
            let _ended = self.reaper.send(reader);
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.readers = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a reader panicked at its end");
        }
    }
}
