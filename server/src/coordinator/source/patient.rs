//! Private readers that cannot be started yet, as a file of credentials is not there or the system has no room for a client: they are in trouble, and
//! started once that is possible, as a source's live reader is. The job would stop for good. Knows nothing of what is read.

use super::reading::RETRY_AFTER;
use eddyline_common::Result;
use eddyline_common::connector::{BatchSink, PartitionRange, SourceConnector, SourceReader};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A reader, at work or to come.
pub(super) fn read(
    connector: &Arc<dyn SourceConnector>,
    ranges: Vec<PartitionRange>,
    kept: Vec<bool>,
    sink: Arc<dyn BatchSink>,
) -> Result<Box<dyn SourceReader>> {
    let error = match connector.read_columns(ranges.clone(), &kept, sink.clone()) {
        Ok(reader) => return Ok(reader),
        Err(error) => error,
    };
    sink.report(Some(error.to_string()));
    let (connector, is_over, over) = (connector.clone(), Mutex::new(false), Condvar::new());
    let waiting = Arc::new(Waiting { connector, ranges, kept, sink, is_over, over });
    let at_work = waiting.clone();
    let thread = std::thread::Builder::new().name("source-waiting".into()).spawn(move || at_work.run())?;
    Ok(Box::new(WaitingReader { waiting, thread: Some(thread) }))
}

/// What is to be read once that can be begun.
struct Waiting {
    connector: Arc<dyn SourceConnector>,
    ranges: Vec<PartitionRange>,
    kept: Vec<bool>,
    sink: Arc<dyn BatchSink>,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl Waiting {
    fn run(&self) {
        let mut is_over = self.is_over.lock();
        let _reader = loop {
            if !*is_over {
                self.over.wait_for(&mut is_over, RETRY_AFTER);
            }
            if *is_over || self.sink.is_closed() {
                return;
            }
            match self.connector.read_columns(self.ranges.clone(), &self.kept, self.sink.clone()) {
                Ok(reader) => break reader,
                Err(error) => self.sink.report(Some(error.to_string())),
            }
        };
        self.sink.report(None);
        while !*is_over {
            self.over.wait(&mut is_over);
        }
    }
}

struct WaitingReader {
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<()>>,
}

impl SourceReader for WaitingReader {}

impl Drop for WaitingReader {
    fn drop(&mut self) {
        *self.waiting.is_over.lock() = true;
        self.waiting.over.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that waits to read a source panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Failing;
    use super::*;
    use eddyline_common::connector::SourceBatch;
    use eddyline_common::{Offset, PartitionId};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    #[derive(Default)]
    struct Reports(Mutex<Vec<bool>>);

    impl BatchSink for Reports {
        fn push(&self, _: SourceBatch) -> bool {
            true
        }

        fn report(&self, problem: Option<String>) {
            self.0.lock().push(problem.is_some());
        }

        fn is_closed(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_private_reader_is_started_once_it_can_be() {
        let failing = Arc::new(Failing { attempts: AtomicUsize::new(0), fails: 2 });
        let connector: Arc<dyn SourceConnector> = failing.clone();
        let reports = Arc::new(Reports::default());
        let begin = || {
            let range = PartitionRange { partition: PartitionId(0), start: Offset(1), end: Some(Offset(2)) };
            read(&connector, vec![range], Vec::new(), reports.clone()).unwrap()
        };
        drop(begin());
        assert_eq!(failing.attempts.load(Ordering::Relaxed), 1, "nobody wants it any more");
        let reader = begin();
        let begun = Instant::now();
        while *reports.0.lock() != [true, true, false] {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", reports.0.lock());
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(reader);
        assert_eq!(failing.attempts.load(Ordering::Relaxed), 3);
    }
}
