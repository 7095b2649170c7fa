//! Checkpoints in an object store: immutable files named by UUID, and manifests that name the files of a checkpoint.
//! A checkpoint exists when its manifest does, and the manifest is put atomically. This part knows nothing of what
//! the files hold.
//!
//! - `manifest`: [`Manifest`], [`FileRef`], their encoding
//! - `store`: [`CheckpointStore`]: putting and getting files with verification, committing, listing, loading
//! - `transfer`: whole directories, by hard links where the store is local; `local`: those links
//! - `prune`: removing old manifests and files nobody names
//! - `owner`: whose checkpoints these are
//! - `blocking`: the same for threads outside of the runtime, and the fall-back to an older checkpoint
//!
//! ```text
//! <prefix>/owner                               the id of a data directory
//! <prefix>/files/<uuid>                        never changed, removed when no manifest names it
//! <prefix>/manifests/<id, 20 digits>.json      JSON, then a line "crc32 <8 hex digits>" over it
//! ```

mod blocking;
mod local;
mod manifest;
mod owner;
mod prune;
mod store;
mod transfer;

#[cfg(test)]
mod tests;

pub use blocking::BlockingCheckpointStore;
pub use manifest::{FileRef, Manifest};
pub use prune::Pruned;
pub use store::CheckpointStore;
