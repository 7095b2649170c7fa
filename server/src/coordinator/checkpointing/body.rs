//! What a manifest says about the server: the catalog, where every input and job stands, and which files hold the
//! rest. Durable: fields are only added, with defaults.

use super::super::sink::SinkBody;
use super::super::source::SourceProgress;
use super::super::system::{JobCounters, SystemRows};
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, RelationId, Result, SqlError, Timestamp};
use eddyline_executor::JobProgress;
use eddyline_planner::catalog::{Index, Relation, SqlFunction};
use eddyline_storage::checkpoint::{FileRef, Manifest};
use eddyline_storage::log::LogPosition;
use eddyline_storage::view::ViewManifest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Body {
    pub version: u32,
    pub epoch: Epoch,
    pub now: Timestamp,
    pub next_relation: u32,
    pub catalog: Vec<Relation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<SqlFunction>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Index>,
    /// Of relations, and of their columns by number.
    #[serde(default)]
    pub comments: Vec<(RelationId, Option<usize>, String)>,
    pub sources: BTreeMap<RelationId, SourceProgress>,
    pub tables: BTreeMap<RelationId, Timestamp>,
    pub jobs: BTreeMap<RelationId, JobBody>,
    pub system: SystemRows,
    /// Recovery replays the log from here.
    pub log: LogPosition,
    pub kv: BTreeMap<String, FileRef>,
    pub view_files: BTreeMap<String, FileRef>,
    /// Logs of sinks, by segment.
    #[serde(default)]
    pub sink_files: Vec<SinkFile>,
    /// Of sinks into tables: up to which of their steps the tables have what they wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sink_writes: BTreeMap<RelationId, u64>,
    /// ALTER SYSTEM.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// A segment of a sink's log, or as much of it as was there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkFile {
    pub sink: RelationId,
    pub segment: u64,
    /// `None` if it is whole.
    pub durable_bytes: Option<u64>,
    pub file: FileRef,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobBody {
    /// `None`: it has stopped, or was still reading a table or view for the first time and starts over.
    pub progress: Option<JobProgress>,
    /// It was reading its sources on its own and goes on from here, to the checkpoint's epoch.
    #[serde(default)]
    pub positions: Option<Positions>,
    /// It stood still at its own epoch, and was not in the middle of a reading.
    #[serde(default)]
    pub stands: bool,
    pub output_watermark: Timestamp,
    pub counters: JobCounters,
    pub view: ViewManifest,
    #[serde(default)]
    pub rejects: ViewManifest,
    pub failed: Option<String>,
    /// Of a job whose rows go outside.
    #[serde(default)]
    pub sink: Option<SinkBody>,
}

/// Of a job's rows and of those it rejected.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    pub rows: ViewManifest,
    pub rejects: ViewManifest,
}

/// How far each source has been read.
pub type Positions = BTreeMap<RelationId, Vec<PartitionStart>>;

pub const BODY_VERSION: u32 = 1;

impl JobBody {
    /// Of a job that does not go on from where it was.
    pub fn without_progress(failed: Option<String>) -> Self {
        JobBody {
            progress: None,
            positions: None,
            stands: false,
            output_watermark: Timestamp::MIN,
            counters: JobCounters::default(),
            view: ViewManifest::default(),
            rejects: ViewManifest::default(),
            failed,
            sink: None,
        }
    }

    pub fn manifests(&self) -> Manifests {
        Manifests { rows: self.view.clone(), rejects: self.rejects.clone() }
    }
}

impl Body {
    /// Every file that the checkpoint needs.
    pub fn files(&self) -> Vec<FileRef> {
        let histories = self.sources.values().flat_map(|s| &s.history.chunks);
        self.kv.values().chain(self.view_files.values()).chain(histories).chain(self.sink_files.iter().map(|s| &s.file)).cloned().collect()
    }
}

/// The manifest's body, if this server knows its version.
pub fn known_body(manifest: Manifest<Body>) -> Result<Body> {
    let (id, body) = (manifest.id, manifest.body);
    if body.version > BODY_VERSION {
        // Not damage: what a newer server did is not to be built anew without it.
        let message = format!("manifest {id} has version {}, this server knows {BODY_VERSION}", body.version);
        return Err(SqlError::unsupported(message).with_hint("Start the version of the server that wrote it."));
    }
    Ok(body)
}
