//! Connectors that cannot be opened when the server starts: what its environment gave them (an account, an endpoint, a file with credentials) is not
//! there any more. Their source or sink is in trouble until it is, and tries again by itself; nothing else waits for it, the start least of all. A
//! statement is refused instead. Knows nothing of what an environment gives.

use super::OpenSource;
use eddyline_common::Result;
use eddyline_common::connector::{
    BatchSink, PartitionRange, PartitionStart, SinkConnector, SinkMonitor, SinkSpec, SinkWriter, SourceConnector, SourceNote, SourceReader,
    SourceSpec,
};
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between attempts, as of a reader that cannot be started.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A source's connector; of a server that is `starting` also one that is opened later.
pub(super) fn open_source(spec: &SourceSpec, open: &OpenSource, starting: bool) -> Result<Arc<dyn SourceConnector>> {
    match open(spec) {
        Err(error) if starting => {
            tracing::error!(source = %spec.name, "it is not read until it can be opened: {error}");
            Ok(Arc::new(UnopenedSource::new(spec, open)))
        }
        opened => opened.map(Arc::from),
    }
}

/// The same of a sink.
pub(super) fn open_sink(spec: &SinkSpec, starting: bool) -> Result<Box<dyn SinkConnector>> {
    match eddyline_connectors::open_sink(spec) {
        Err(error) if starting => {
            tracing::error!(sink = %spec.name, "it sends nothing until it can be opened: {error}");
            Ok(Box::new(UnopenedSink(spec.clone())))
        }
        opened => opened,
    }
}

/// Opened whenever it is to write, which its sender tries again.
struct UnopenedSink(SinkSpec);

impl SinkConnector for UnopenedSink {
    fn check(&self) -> Result<()> {
        eddyline_connectors::open_sink(&self.0)?.check()
    }

    fn open(&self, after: u64, monitor: Arc<dyn SinkMonitor>) -> Result<Box<dyn SinkWriter>> {
        eddyline_connectors::open_sink(&self.0)?.open(after, monitor)
    }
}

/// Opened once, by whoever asks it first after that is possible.
struct UnopenedSource(Arc<Unopened>);

struct Unopened {
    spec: SourceSpec,
    open: OpenSource,
    connector: OnceLock<Box<dyn SourceConnector>>,
    /// What it is told as soon as it is open.
    notes: Mutex<Vec<SourceNote>>,
}

impl UnopenedSource {
    fn new(spec: &SourceSpec, open: &OpenSource) -> Self {
        let (connector, notes) = (OnceLock::new(), Mutex::default());
        UnopenedSource(Arc::new(Unopened { spec: spec.clone(), open: open.clone(), connector, notes }))
    }

    /// A reader begins, however long it has to wait for the connector: private ones are not asked for a second time.
    fn start(&self, ranges: Vec<PartitionRange>, kept: Option<&[bool]>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        if let Some(connector) = self.0.connector.get() {
            return read(connector.as_ref(), ranges, kept, sink);
        }
        let kept = kept.map(<[bool]>::to_vec);
        let reading = Arc::new(Reading { source: self.0.clone(), ranges, kept, sink, is_over: Mutex::new(false), over: Condvar::new() });
        let at_work = reading.clone();
        let thread = std::thread::Builder::new().name("source-opening".into()).spawn(move || at_work.run())?;
        Ok(Box::new(WaitingReader { reading, thread: Some(thread) }))
    }
}

fn read(
    connector: &dyn SourceConnector,
    ranges: Vec<PartitionRange>,
    kept: Option<&[bool]>,
    sink: Arc<dyn BatchSink>,
) -> Result<Box<dyn SourceReader>> {
    match kept {
        Some(kept) => connector.read_columns(ranges, kept, sink),
        None => connector.read(ranges, sink),
    }
}

impl Unopened {
    fn opened(&self) -> Result<&dyn SourceConnector> {
        let mut notes = self.notes.lock();
        if let Some(connector) = self.connector.get() {
            return Ok(connector.as_ref());
        }
        let connector = (self.open)(&self.spec)?;
        connector.remember(&notes)?;
        notes.clear();
        Ok(self.connector.get_or_init(|| connector).as_ref())
    }
}

impl SourceConnector for UnopenedSource {
    fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
        self.0.opened()?.resolve_start()
    }

    fn empty_start(&self) -> Result<Vec<PartitionStart>> {
        self.0.opened()?.empty_start()
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        self.0.opened()?.present()
    }

    fn remember(&self, notes: &[SourceNote]) -> Result<()> {
        let mut kept = self.0.notes.lock();
        if let Some(connector) = self.0.connector.get() {
            return connector.remember(notes);
        }
        kept.extend_from_slice(notes);
        Ok(())
    }

    fn read(&self, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.start(ranges, None, sink)
    }

    fn read_columns(&self, ranges: Vec<PartitionRange>, kept: &[bool], sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.start(ranges, Some(kept), sink)
    }
}

/// What is to be read once the connector is open.
struct Reading {
    source: Arc<Unopened>,
    ranges: Vec<PartitionRange>,
    kept: Option<Vec<bool>>,
    sink: Arc<dyn BatchSink>,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl Reading {
    fn run(&self) {
        let mut is_over = self.is_over.lock();
        let _reader = loop {
            if *is_over || self.sink.is_closed() {
                return;
            }
            match self.begin() {
                Ok(reader) => break reader,
                Err(error) => self.sink.report(Some(error.to_string())),
            }
            self.over.wait_for(&mut is_over, RETRY_AFTER);
        };
        while !*is_over {
            self.over.wait(&mut is_over);
        }
    }

    fn begin(&self) -> Result<Box<dyn SourceReader>> {
        let connector = self.source.opened()?;
        // What is wrong from here on is the reader's to tell.
        self.sink.report(None);
        read(connector, self.ranges.clone(), self.kept.as_deref(), self.sink.clone())
    }
}

struct WaitingReader {
    reading: Arc<Reading>,
    thread: Option<JoinHandle<()>>,
}

impl SourceReader for WaitingReader {}

impl Drop for WaitingReader {
    fn drop(&mut self) {
        *self.reading.is_over.lock() = true;
        self.reading.over.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(source = %self.reading.source.spec.name, "the thread that waits to read it panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eddyline_common::connector::SourceBatch;
    use eddyline_common::{Offset, PartitionId, SqlError};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    /// What the connector was told and asked, in order.
    #[derive(Clone, Default)]
    struct Asked(Arc<Mutex<Vec<String>>>);

    impl Asked {
        fn add(&self, what: String) {
            self.0.lock().push(what);
        }

        fn waits_for(&self, expected: &[&str]) {
            let begun = Instant::now();
            while *self.0.lock() != expected {
                assert!(begun.elapsed() < Duration::from_secs(30), "{:?}, not {expected:?}", self.0.lock());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    struct Idle;

    impl SourceReader for Idle {}

    impl SourceConnector for Asked {
        fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
            Ok(Vec::new())
        }

        fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
            Ok(None)
        }

        fn remember(&self, notes: &[SourceNote]) -> Result<()> {
            self.add(format!("remember {}", notes.len()));
            Ok(())
        }

        fn read(&self, ranges: Vec<PartitionRange>, _: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
            self.add(format!("read from {}", ranges[0].start.0));
            Ok(Box::new(Idle))
        }
    }

    #[derive(Default)]
    struct Reports(Mutex<Vec<Option<String>>>);

    impl BatchSink for Reports {
        fn push(&self, _: SourceBatch) -> bool {
            true
        }

        fn report(&self, problem: Option<String>) {
            self.0.lock().push(problem);
        }

        fn is_closed(&self) -> bool {
            false
        }
    }

    #[test]
    fn what_cannot_be_opened_at_a_start_is_opened_later() {
        let (asked, is_there) = (Asked::default(), Arc::new(AtomicBool::new(false)));
        let (opens, may_open) = (asked.clone(), is_there.clone());
        let open: OpenSource = Arc::new(move |_: &SourceSpec| -> Result<Box<dyn SourceConnector>> {
            if may_open.load(Ordering::SeqCst) { Ok(Box::new(opens.clone())) } else { Err(SqlError::io("no such account")) }
        });
        let spec = SourceSpec { name: "s".into(), options: Default::default(), columns: Vec::new(), key: Vec::new() };
        assert!(open_source(&spec, &open, false).is_err(), "a statement is refused");
        let source = open_source(&spec, &open, true).unwrap();
        source.remember(&[SourceNote { partition: PartitionId(0), offset: Offset(1), text: "a".into() }]).unwrap();
        let reports = Arc::new(Reports::default());
        let begin = |start: i64| {
            let range = PartitionRange { partition: PartitionId(0), start: Offset(start), end: None };
            source.read_columns(vec![range], &[], reports.clone()).unwrap()
        };
        let given_up = begin(1);
        let waits = begin(2);
        drop(given_up);
        let told = || reports.0.lock().first().cloned().flatten();
        let begun = Instant::now();
        while told().is_none() && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(told().is_some_and(|problem| problem.contains("no such account")));
        asked.waits_for(&[]);
        is_there.store(true, Ordering::SeqCst);
        asked.waits_for(&["remember 1", "read from 2"]);
        assert_eq!(reports.0.lock().last(), Some(&None), "it is well again");
        drop(waits);
        let _reader = begin(3);
        source.remember(&[]).unwrap();
        asked.waits_for(&["remember 1", "read from 2", "read from 3", "remember 0"]);
    }
}
