//! One writer per location: a directory is locked, an object store cannot be. So the first server there leaves the id of its data
//! directory, which no two servers can hold at a time, and any other is refused.

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
        let path = self.owner_path();
        let read = |error| store_error("read", &path, error);
        let owner = match self.object_store().get(&path).await {
            Ok(found) => Some(found.bytes().await.map_err(read)?),
            Err(Error::NotFound { .. }) => match self.leave(id).await? {
                true => None,
                // Somebody was faster.
                false => Some(self.object_store().get(&path).await.map_err(read)?.bytes().await.map_err(read)?),
            },
            Err(error) => return Err(read(error)),
        };
        match owner {
            Some(owner) if owner != id.as_bytes() => {
                let message = "the checkpoint store belongs to another server's data directory";
                let detail = format!("It is \"{}\" that says so: {}, not {id}.", path, String::from_utf8_lossy(&owner));
                let hint =
                    "Give each server a place of its own with --checkpoint-store. A server that moves takes its data directory along.";
                Err(SqlError::new(SqlState::OBJECT_IN_USE, message).with_detail(detail).with_hint(hint))
            }
            _ => self.remove_unfinished().await,
        }
    }

    /// False if there is one already.
    async fn leave(&self, id: &str) -> Result<bool> {
        let path = self.owner_path();
        let content = || PutPayload::from(Bytes::copy_from_slice(id.as_bytes()));
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
