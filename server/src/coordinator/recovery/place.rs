//! The place of checkpoints, which is one server's alone: locked if it is a directory, owned by a data directory's id. A store that is away
//! is waited for.

use super::super::{CheckpointLocation, CoordinatorConfig};
use super::given_up_error;
use eddyline_common::{Result, SqlError, SqlState};
use eddyline_storage::checkpoint::{BlockingCheckpointStore, CheckpointStore};
use eddyline_storage::lock::DataDirLock;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a start waits for an object store that is away, and between attempts.
const STORE_PATIENCE: Duration = Duration::from_secs(60);
const STORE_RETRY_MIN: Duration = Duration::from_millis(500);
const STORE_RETRY_MAX: Duration = Duration::from_secs(10);

/// The place of checkpoints, which is this server's alone from now on.
pub(super) fn open_checkpoints(config: &CoordinatorConfig) -> Result<(BlockingCheckpointStore, Option<DataDirLock>)> {
    match &config.checkpoint_store {
        CheckpointLocation::Store { store, prefix, runtime } => {
            let checkpoints = BlockingCheckpointStore::new(CheckpointStore::new(store.clone(), prefix), runtime.clone());
            let id = data_dir_id(&config.data_dir, None)?;
            let where_it_is = |error: SqlError| match error.detail {
                None => error.with_detail(format!("The checkpoint store is {store}, prefix \"{prefix}\".")),
                Some(_) => error,
            };
            patiently(config, || checkpoints.claim(&id)).map_err(where_it_is)?;
            Ok((checkpoints, None))
        }
        CheckpointLocation::Directory(dir) => open_local_checkpoints(config, dir),
    }
}

/// A directory is locked, as the data directory that it may be in, since other servers may be told to use it; and has an owner, which counts while none runs.
fn open_local_checkpoints(config: &CoordinatorConfig, dir: &Path) -> Result<(BlockingCheckpointStore, Option<DataDirLock>)> {
    let resolved = |dir: &Path| dir.canonicalize().ok();
    let data_dir = resolved(&config.data_dir);
    // What is the data directory itself is locked already.
    let lock = match resolved(dir) == data_dir {
        true => None,
        false => Some(DataDirLock::acquire_for(dir, "checkpoint store", "--checkpoint-store")?),
    };
    let store = CheckpointStore::local(dir)?;
    store.remove_staged()?;
    let checkpoints = BlockingCheckpointStore::new(store, config.runtime.clone());
    let is_within = data_dir.zip(resolved(dir)).is_some_and(|(data_dir, dir)| dir.starts_with(data_dir));
    // A copy of log and checkpoints alone goes on as what it was copied from.
    let known = if is_within { checkpoints.owner()? } else { None };
    checkpoints.claim(&data_dir_id(&config.data_dir, known)?)?;
    Ok((checkpoints, lock))
}

/// What tells a data directory from all others, made when it is first needed: `known`, if its own checkpoints have it.
fn data_dir_id(dir: &Path, known: Option<String>) -> Result<String> {
    let path = dir.join("id");
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.is_empty() => return Ok(id),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(SqlError::io(format!("cannot read \"{}\": {error}", path.display()))),
    }
    let id = known.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let unfinished = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&unfinished)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, &path)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| SqlError::io(format!("cannot write \"{}\": {error}", path.display())))?;
    Ok(id)
}

/// A store that is away may come back soon: servers are often started together.
fn patiently<T>(config: &CoordinatorConfig, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let (begun, mut pause) = (Instant::now(), STORE_RETRY_MIN);
    loop {
        match ask() {
            Err(error) if error.state == SqlState::CONNECTION_FAILURE && begun.elapsed() < STORE_PATIENCE => {
                tracing::warn!("the checkpoint store is away, trying again in {pause:?}: {error}");
                let given_up = async { tokio::time::timeout(pause, config.given_up.cancelled()).await.is_ok() };
                if config.runtime.block_on(given_up) {
                    return Err(given_up_error());
                }
                pause = (pause * 2).min(STORE_RETRY_MAX);
            }
            other => return other,
        }
    }
}
