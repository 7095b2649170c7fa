//! Connectors that cannot be opened when the server starts: what its environment gave them (an account, an endpoint, a file with credentials) is not
//! there any more. Their source or sink is in trouble until it is, and tries again by itself; nothing else waits for it, the start least of all. A
//! statement is refused instead. Knows nothing of what an environment gives.

use super::OpenSource;
use eddyline_common::Result;
use eddyline_common::connector::{
    BatchSink, PartitionRange, PartitionStart, SinkConnector, SinkMonitor, SinkSpec, SinkWriter, SourceConnector, SourceNote, SourceReader,
    SourceSpec,
};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

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

/// Opened once, by whoever asks it first after that is possible. Its readers cannot be started before, and are tried again.
struct UnopenedSource {
    spec: SourceSpec,
    open: OpenSource,
    connector: OnceLock<Box<dyn SourceConnector>>,
    /// What it is told as soon as it is open.
    notes: Mutex<Vec<SourceNote>>,
}

impl UnopenedSource {
    fn new(spec: &SourceSpec, open: &OpenSource) -> Self {
        UnopenedSource { spec: spec.clone(), open: open.clone(), connector: OnceLock::new(), notes: Mutex::default() }
    }

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
        self.opened()?.resolve_start()
    }

    fn empty_start(&self) -> Result<Vec<PartitionStart>> {
        self.opened()?.empty_start()
    }

    fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
        self.opened()?.present()
    }

    fn remember(&self, notes: &[SourceNote]) -> Result<()> {
        let mut kept = self.notes.lock();
        if let Some(connector) = self.connector.get() {
            return connector.remember(notes);
        }
        kept.extend_from_slice(notes);
        Ok(())
    }

    fn read(&self, ranges: Vec<PartitionRange>, sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.opened()?.read(ranges, sink)
    }

    fn read_columns(&self, ranges: Vec<PartitionRange>, kept: &[bool], sink: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
        self.opened()?.read_columns(ranges, kept, sink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eddyline_common::{Offset, PartitionId, SqlError};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// What the connector was told, in order.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<usize>>>);

    impl SourceConnector for Told {
        fn resolve_start(&self) -> Result<Vec<PartitionStart>> {
            Ok(Vec::new())
        }

        fn present(&self) -> Result<Option<Vec<PartitionRange>>> {
            Ok(None)
        }

        fn remember(&self, notes: &[SourceNote]) -> Result<()> {
            self.0.lock().push(notes.len());
            Ok(())
        }

        fn read(&self, _: Vec<PartitionRange>, _: Arc<dyn BatchSink>) -> Result<Box<dyn SourceReader>> {
            Err(SqlError::internal("nobody reads it"))
        }
    }

    #[test]
    fn what_cannot_be_opened_at_a_start_is_opened_later() {
        let (told, is_there) = (Told::default(), Arc::new(AtomicBool::new(false)));
        let (opens, may_open) = (told.clone(), is_there.clone());
        let open: OpenSource = Arc::new(move |_: &SourceSpec| -> Result<Box<dyn SourceConnector>> {
            if may_open.load(Ordering::SeqCst) { Ok(Box::new(opens.clone())) } else { Err(SqlError::io("no such account")) }
        });
        let spec = SourceSpec { name: "s".into(), options: Default::default(), columns: Vec::new(), key: Vec::new() };
        assert!(open_source(&spec, &open, false).is_err(), "a statement is refused");
        let source = open_source(&spec, &open, true).unwrap();
        let note = SourceNote { partition: PartitionId(0), offset: Offset(1), text: "a".into() };
        source.remember(std::slice::from_ref(&note)).unwrap();
        source.remember(&[note.clone(), note.clone()]).unwrap();
        assert_eq!(source.present().unwrap_err().message, "no such account");
        is_there.store(true, Ordering::SeqCst);
        assert!(source.present().unwrap().is_none() && source.resolve_start().unwrap().is_empty());
        source.remember(&[note]).unwrap();
        assert_eq!(*told.0.lock(), [3, 1]);
    }
}
