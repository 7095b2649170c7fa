//! Stores for tests: what those of checkpoints, sources and sinks need to know of any.

use eddyline_connectors::filesystem::{open_store, runtime};
use futures::TryStreamExt;

/// A store that can go away and come back, where it was and with what it had.
pub trait Store: Send {
    /// The place of this path in it.
    fn url(&self, path: &str) -> String;

    /// What a statement says of it beside the URL.
    fn options(&self) -> Vec<(&'static str, String)>;

    /// What the environment of a server says of it, to the same end.
    fn variables(&self) -> Vec<(String, String)>;

    fn stop(&mut self);

    fn restart(&mut self);

    /// The files below a path, hidden ones too, with their lengths. Blocks.
    fn files(&self, path: &str) -> Vec<(String, u64)> {
        let options = self.options().into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let (store, prefix) = open_store(&self.url(path), &options).expect("a store that can be opened");
        let listed = store.list(Some(&prefix)).map_ok(|meta| (meta.location.to_string(), meta.size));
        runtime().expect("threads for stores").block_on(listed.try_collect()).expect("a store that answers")
    }
}
