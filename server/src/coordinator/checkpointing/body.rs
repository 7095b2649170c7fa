//! What a manifest says about the server: the catalog, where every input and job stands, and which files hold the
//! rest. Durable: fields are only added, with defaults.

use super::super::sink::{Back, SinkBody};
use super::super::source::SourceProgress;
use super::super::system::{JobCounters, SystemRows};
use eddyline_common::connector::PartitionStart;
use eddyline_common::{Epoch, RelationId, Result, SqlError, Timestamp};
use eddyline_executor::JobProgress;
use eddyline_planner::catalog::{ErrorPolicy, Index, Relation, SqlFunction};
use eddyline_storage::checkpoint::{FileRef, Manifest};
use eddyline_storage::log::LogPosition;
use eddyline_storage::view::ViewManifest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Jobs that are as an earlier checkpoint had them, and the epoch of that one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub behind: BTreeMap<RelationId, Epoch>,
    /// Those checkpoints, by epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bases: BTreeMap<Epoch, Base>,
    /// What row errors do, of the catalog that was here.
    #[serde(skip)]
    pub policies: BTreeMap<RelationId, ErrorPolicy>,
}

/// What of an earlier checkpoint gives jobs that stand there all that has come since.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Base {
    pub now: Timestamp,
    pub log: LogPosition,
    /// It has the state of these jobs; that of the newer checkpoint is not theirs.
    pub kv: BTreeMap<String, FileRef>,
    /// Of what they read.
    pub sources: BTreeMap<RelationId, SourceProgress>,
    pub tables: BTreeMap<RelationId, Timestamp>,
    /// What row errors did to its jobs. Where that was altered since, the log says.
    #[serde(default)]
    pub policies: BTreeMap<RelationId, ErrorPolicy>,
}

/// From which places of the log on recovery replays it.
#[derive(Debug, Default)]
pub struct Replayed {
    /// What is written to some inputs before the rest, for jobs that are behind.
    inputs: BTreeMap<RelationId, LogPosition>,
    rest: LogPosition,
}

impl Replayed {
    /// Whether what the log has at this place is not in the checkpoint.
    pub fn has(&self, at: LogPosition) -> bool {
        at >= self.rest
    }

    /// The same of an input's rows: whether they are not in its progress.
    pub fn has_input(&self, input: RelationId, at: LogPosition) -> bool {
        at >= self.inputs.get(&input).copied().unwrap_or(self.rest)
    }
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
/// Of one with jobs that are behind: a server that knows no such jobs would take them to be at its epoch.
pub const BEHIND_VERSION: u32 = 2;

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

    /// At which point a restart brings a sink's job back; `None`: it begins anew.
    pub fn sink_back(&self) -> Option<Back> {
        match (&self.progress, self.sink) {
            (Some(_), Some(SinkBody { logged, at_epoch: false, .. })) => Some(Back::Reading { logged }),
            (Some(_), _) => Some(Back::AtEpoch),
            (None, _) => self.failed.as_ref().map(|_| Back::Stopped),
        }
    }

    pub fn manifests(&self) -> Manifests {
        Manifests { rows: self.view.clone(), rejects: self.rejects.clone() }
    }
}

impl Body {
    /// Every file that the checkpoint needs.
    pub fn files(&self) -> Vec<FileRef> {
        let states = std::iter::once(&self.kv).chain(self.bases.values().map(|base| &base.kv)).flat_map(BTreeMap::values);
        let sources = std::iter::once(&self.sources).chain(self.bases.values().map(|base| &base.sources)).flat_map(BTreeMap::values);
        let histories = sources.flat_map(|source| &source.history.chunks);
        let files = states.chain(self.view_files.values()).chain(histories).chain(self.sink_files.iter().map(|s| &s.file));
        let mut seen = BTreeSet::new();
        files.filter(|file| seen.insert(&file.name)).cloned().collect()
    }

    /// Whether it has what a job had come to.
    pub fn has(&self, job: RelationId) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.progress.is_some())
    }

    /// The epoch that a job's part is of.
    pub fn epoch_of(&self, job: RelationId) -> Epoch {
        self.behind.get(&job).copied().unwrap_or(self.epoch)
    }

    /// Where a source goes on: before what the jobs that read it lack, whichever of them is furthest behind.
    pub fn source(&self, id: RelationId) -> Option<(Epoch, &SourceProgress)> {
        let base = self.bases.iter().find_map(|(epoch, base)| Some((*epoch, base.sources.get(&id)?)));
        base.or_else(|| Some((self.epoch, self.sources.get(&id)?)))
    }

    /// The same of a table's writes, with its watermark there.
    pub fn table(&self, id: RelationId) -> Option<(Epoch, Timestamp)> {
        let base = self.bases.iter().find_map(|(epoch, base)| Some((*epoch, *base.tables.get(&id)?)));
        base.or_else(|| Some((self.epoch, *self.tables.get(&id)?)))
    }

    /// How far the sources had been read at an epoch of some job's part.
    pub fn positions(&self, epoch: Epoch) -> Positions {
        let sources = self.bases.get(&epoch).map_or(&self.sources, |base| &base.sources);
        sources.iter().map(|(id, progress)| (*id, progress.ends())).collect()
    }

    /// The first epoch that any part is of, and its `now`.
    pub fn oldest(&self) -> (Epoch, Timestamp) {
        self.bases.first_key_value().map_or((self.epoch, self.now), |(epoch, base)| (*epoch, base.now))
    }

    /// Where the log is needed from.
    pub fn oldest_log(&self) -> LogPosition {
        self.bases.values().map(|base| base.log).fold(self.log, LogPosition::min)
    }

    pub fn replayed(&self) -> Replayed {
        let mut inputs = BTreeMap::new();
        for base in self.bases.values() {
            for id in base.sources.keys().chain(base.tables.keys()) {
                inputs.entry(*id).or_insert(base.log);
            }
        }
        Replayed { inputs, rest: self.log }
    }

    /// What jobs that are at `epoch` in this checkpoint, and what they read, need of it.
    pub fn base(&self, epoch: Epoch, reads: &BTreeSet<RelationId>) -> Option<Base> {
        if epoch != self.epoch {
            return self.bases.get(&epoch).cloned();
        }
        let sources = self.sources.iter().filter(|(id, _)| reads.contains(id)).map(|(id, progress)| (*id, progress.clone()));
        let tables = self.tables.iter().filter(|(id, _)| reads.contains(id)).map(|(id, watermark)| (*id, *watermark));
        let policies = self.policies.iter().filter(|(id, _)| reads.contains(id)).map(|(id, policy)| (*id, *policy)).collect();
        Some(Base { now: self.now, log: self.log, kv: self.kv.clone(), sources: sources.collect(), tables: tables.collect(), policies })
    }

    /// What row errors do to a job that is behind, there.
    pub fn policy(&self, job: RelationId) -> Option<ErrorPolicy> {
        self.bases.get(self.behind.get(&job)?)?.policies.get(&job).copied()
    }

    /// What the next checkpoint may need of this one. Any job may be behind in that: what asks a table outside may only be made meanwhile, and hold up
    /// what it reads.
    pub fn kept(self) -> Body {
        let policies = self.catalog.iter().filter_map(|relation| Some((relation.id, relation.job_options()?.on_error))).collect();
        Body { policies, catalog: Vec::new(), system: SystemRows::default(), ..self }
    }

    /// The same after a start. A sink that begins anew has another log, whose segments have the numbers of the one before.
    pub fn kept_by_start(&self) -> Body {
        let mut kept = self.clone().kept();
        kept.sink_files.retain(|file| self.jobs.get(&file.sink).is_some_and(|job| job.sink_back().is_some()));
        kept
    }
}

/// The manifest's body, if this server knows its version.
pub fn known_body(manifest: Manifest<Body>) -> Result<Body> {
    let (id, body) = (manifest.id, manifest.body);
    if body.version > BEHIND_VERSION {
        // Not damage: what a newer server did is not to be built anew without it.
        let message = format!("manifest {id} has version {}, this server knows {BEHIND_VERSION}", body.version);
        return Err(SqlError::unsupported(message).with_hint("Start the version of the server that wrote it."));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eddyline_common::{Offset, PartitionId};

    const SOURCE: RelationId = RelationId(1);
    const TABLE: RelationId = RelationId(2);
    const VIEW: RelationId = RelationId(3);

    fn at(offset: u64) -> LogPosition {
        LogPosition { segment: 1, offset }
    }

    fn body(epoch: u64) -> Body {
        let start = PartitionStart { partition: PartitionId(0), start: Offset(epoch as i64 * 10) };
        let state = FileRef { name: format!("state-{epoch}"), bytes: 1, crc32: 0 };
        Body {
            version: BODY_VERSION,
            epoch: Epoch(epoch),
            now: Timestamp(epoch as i64),
            next_relation: 4,
            catalog: Vec::new(),
            functions: Vec::new(),
            indexes: Vec::new(),
            comments: Vec::new(),
            sources: BTreeMap::from([(SOURCE, SourceProgress::starting(vec![start]))]),
            tables: BTreeMap::from([(TABLE, Timestamp(epoch as i64))]),
            jobs: BTreeMap::new(),
            system: SystemRows::default(),
            log: at(epoch * 100),
            kv: BTreeMap::from([("1.sst".to_string(), state)]),
            view_files: BTreeMap::new(),
            sink_files: Vec::new(),
            sink_writes: BTreeMap::new(),
            settings: BTreeMap::new(),
            behind: BTreeMap::new(),
            bases: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }

    #[test]
    fn a_sink_that_begins_anew_has_another_log() {
        let file = FileRef { name: "log-1".to_string(), bytes: 1, crc32: 0 };
        let files = [1, 2, 3].map(|id| SinkFile { sink: RelationId(id), segment: 1, durable_bytes: None, file: file.clone() });
        let went_on = JobBody { progress: Some(JobProgress::default()), ..JobBody::without_progress(None) };
        let stopped = JobBody::without_progress(Some("why".to_string()));
        let jobs = [went_on, stopped, JobBody::without_progress(None)];
        let jobs = jobs.into_iter().zip(1..).map(|(job, id)| (RelationId(id), job)).collect();
        let body = Body { jobs, sink_files: files.to_vec(), ..body(3) };
        let sinks = |body: Body| body.sink_files.iter().map(|file| file.sink.0).collect::<Vec<_>>();
        assert_eq!((sinks(body.kept_by_start()), sinks(body.kept())), (vec![1, 2], vec![1, 2, 3]));
    }

    #[test]
    fn jobs_that_are_behind_are_given_what_has_come_since() {
        let reads = BTreeSet::from([TABLE, VIEW]);
        let then = Body { policies: BTreeMap::from([(VIEW, ErrorPolicy::Stop), (RelationId(4), ErrorPolicy::Stop)]), ..body(3) };
        let (behind, base) = (Epoch(3), then.base(Epoch(3), &reads).expect("of its own epoch"));
        let body = Body { behind: BTreeMap::from([(TABLE, behind), (VIEW, behind)]), bases: BTreeMap::from([(behind, base)]), ..body(5) };
        let text = serde_json::to_string(&body).expect("it is written");
        let body: Body = serde_json::from_str(&text).expect("and read");
        assert_eq!([VIEW, RelationId(4)].map(|job| body.epoch_of(job)), [Epoch(3), Epoch(5)]);
        assert_eq!(body.table(TABLE), Some((Epoch(3), Timestamp(3))));
        assert_eq!([VIEW, RelationId(4)].map(|job| body.policy(job)), [Some(ErrorPolicy::Stop), None]);
        assert_eq!(body.source(SOURCE).map(|(epoch, _)| epoch), Some(Epoch(5)), "none of them reads it");
        assert_eq!(body.positions(Epoch(5))[&SOURCE][0].start, Offset(50));
        assert_eq!((body.oldest(), body.oldest_log()), ((Epoch(3), Timestamp(3)), at(300)));
        let replayed = body.replayed();
        let seen = [at(299), at(300), at(499), at(500)];
        let has = seen.map(|at| (replayed.has_input(TABLE, at), replayed.has_input(SOURCE, at), replayed.has(at)));
        assert_eq!(has, [(false, false, false), (true, false, false), (true, false, false), (true, true, true)]);
        let files: Vec<String> = body.files().into_iter().map(|file| file.name).collect();
        assert_eq!(files, ["state-5", "state-3"]);
        let next = body.clone().kept().base(behind, &reads).expect("it is taken over");
        assert_eq!(next.kv["1.sst"].name, "state-3", "the state in later images is not theirs");
        let first = body.kept().base(Epoch(5), &BTreeSet::from([SOURCE])).expect("of its own epoch");
        assert!(first.sources.contains_key(&SOURCE), "a job that reads it may be held up by one that is not in this checkpoint");
    }
}
