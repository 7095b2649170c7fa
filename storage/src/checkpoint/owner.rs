//! One server per location, also where nobody holds a lock: the first one there leaves the id of its data directory, which no two servers
//! can hold at a time, and any other is refused. Without it a server would take another's checkpoints for its own, and remove their files.

use super::CheckpointStore;
use super::store::store_error;
use bytes::Bytes;
use eddyline_common::{Result, SqlError, SqlState};
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};

impl CheckpointStore {
    /// Takes the location for the data directory of this id. Fails with 55006 if it is another's.
    pub async fn claim(&self, id: &str) -> Result<()> {
        // That it can be listed, too: a store may say only then that there is no such bucket.
        self.list_objects("manifests").await?;
        let mut owner = self.owner().await?;
        if owner.is_none() && !self.leave(id).await? {
            // Somebody was faster.
            owner = self.owner().await?;
        }
        match owner {
            Some(owner) if owner != id => Err(self.of_another(&owner, id)),
            // A local one has been cleaned by `remove_staged`.
            _ if self.is_local() => Ok(()),
            _ => self.remove_unfinished().await,
        }
    }

    /// The id of the data directory whose checkpoints these are. None in a store that earlier servers wrote into a directory.
    pub async fn owner(&self) -> Result<Option<String>> {
        let path = self.owner_path();
        let read = |error| store_error("read", &path, error);
        match self.object_store().get(&path).await {
            Ok(found) => {
                let owner = String::from_utf8_lossy(&found.bytes().await.map_err(read)?).into_owned();
                // Empty: the power failed before it was on the disk.
                Ok(Some(owner).filter(|owner| !owner.is_empty()))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(read(error)),
        }
    }

    fn of_another(&self, owner: &str, id: &str) -> SqlError {
        let place = self.local_path("owner").map_or_else(|| self.owner_path().to_string(), |path| path.display().to_string());
        SqlError::new(SqlState::OBJECT_IN_USE, "the checkpoint store belongs to another server's data directory")
            .with_detail(format!("It is \"{place}\" that says so: {owner}, not {id}."))
            .with_hint("Give each server a place of its own with --checkpoint-store. A server that moves takes its data directory along.")
    }

    /// False if there is one already.
    async fn leave(&self, id: &str) -> Result<bool> {
        let path = self.owner_path();
        let content = || PutPayload::from(Bytes::copy_from_slice(id.as_bytes()));
        if self.is_local() {
            // Its directory is locked: nobody else does so at the same time.
            self.object_store().put(&path, content()).await.map_err(|error| store_error("write", &path, error))?;
            self.sync_local_owner().await?;
            return Ok(true);
        }
        match self.object_store().put_opts(&path, content(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            // A store that cannot tell.
            Err(Error::NotImplemented { .. }) => {
                self.object_store().put(&path, content()).await.map_err(|error| store_error("write", &path, error))?;
                Ok(true)
            }
            Err(error) => Err(store_error("write", &path, error)),
        }
    }
}
