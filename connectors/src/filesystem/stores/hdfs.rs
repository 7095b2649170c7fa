//! HDFS as an object store: the client of `hdfs-native-object-store`, with what it lacks: an end to waiting, and errors that say in the
//! store's terms what Hadoop says in those of Java. Knows nothing of what is kept there.
//!
//! A file is written under a hidden name (`.NAME.tmp.1`), then renamed; so it is there whole or not at all, and `PutMode::Create` holds.
//! A process that is killed leaves the hidden one; whoever owns the place removes it.
//!
//! A client that has written once renews its leases for as long as the process runs, so there is one per cluster and settings.

use super::{REQUEST_TIMEOUT, runtime};
use async_trait::async_trait;
use eddyline_common::{Result as SqlResult, SqlError, SqlState, options};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use hdfs_native::HdfsError;
use hdfs_native_object_store::{HdfsObjectStore, HdfsObjectStoreBuilder};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::timeout;
use url::Url;

const STORE: &str = "HDFS";

/// What tells clients apart: the cluster of the URL, and the settings that options give.
type Cluster = (String, BTreeMap<String, String>);

static CLIENTS: Mutex<BTreeMap<Cluster, Arc<Hdfs>>> = Mutex::new(BTreeMap::new());

/// The store of a URL. `store.` and a name is a setting of Hadoop's; the others come from the files in `HADOOP_CONF_DIR`.
pub(super) fn open(url: &Url, options: &BTreeMap<String, String>) -> SqlResult<Arc<dyn ObjectStore>> {
    let settings: BTreeMap<String, String> =
        options.iter().filter_map(|(name, value)| Some((name.strip_prefix(options::STORE_PREFIX)?.to_string(), value.clone()))).collect();
    let cluster = url[..url::Position::BeforePath].to_string();
    let mut clients = CLIENTS.lock();
    if let Some(client) = clients.get(&(cluster.clone(), settings.clone())) {
        return Ok(client.clone());
    }
    let builder = HdfsObjectStoreBuilder::new().with_url(&cluster).with_config(settings.clone()).with_io_runtime(runtime()?.clone());
    let failed = |error: Error| {
        let hint = "Name the NameNode's host and port (hdfs://host:8020/path), or a nameservice of the files in HADOOP_CONF_DIR.";
        SqlError::new(SqlState::INVALID_PARAMETER, format!("\"{url}\" cannot be opened: {error}")).with_hint(hint)
    };
    let client = Arc::new(Hdfs { inner: builder.build().map_err(translated).map_err(failed)? });
    clients.insert((cluster, settings), client.clone());
    Ok(client)
}

#[derive(Debug)]
struct Hdfs {
    inner: HdfsObjectStore,
}

impl fmt::Display for Hdfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for Hdfs {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        answer(self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = answer(self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(Upload { inner }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = answer(self.inner.get_opts(location, options)).await?;
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        Ok(GetResult { payload: GetResultPayload::Stream(answers(found.into_stream())), meta, range, attributes })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        answers(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        answers(self.inner.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        answer(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        answer(self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        answer(self.inner.rename_opts(from, to, options)).await
    }
}

/// A file on its way in.
#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        answer(self.inner.put_part(data)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        answer(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        answer(self.inner.abort()).await
    }
}

/// A request's answer, in time. The client waits for ever for a machine that is gone, and panics at a file that was replaced by a shorter
/// one between two of its requests.
async fn answer<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(REQUEST_TIMEOUT, AssertUnwindSafe(request).catch_unwind()).await {
        Ok(Ok(answered)) => answered.map_err(translated),
        Ok(Err(_panic)) => Err(failure(ErrorKind::InvalidData, "the file changed while it was asked for".to_string())),
        Err(_late) => Err(failure(ErrorKind::TimedOut, format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    }
}

/// Of a stream each piece in time; an error ends it.
fn answers<T: Send + 'static>(pieces: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
    let next = |pieces: Option<BoxStream<'static, Result<T>>>| async move {
        let mut pieces = pieces?;
        match answer(pieces.next().map(Option::transpose)).await.transpose()? {
            Ok(piece) => Some((Ok(piece), Some(pieces))),
            Err(error) => Some((Err(error), None)),
        }
    };
    stream::unfold(Some(pieces), next).fuse().boxed()
}

fn failure(kind: ErrorKind, message: String) -> Error {
    Error::Generic { store: STORE, source: Box::new(io::Error::new(kind, message)) }
}

/// What Hadoop says as the kinds of errors that stores have.
fn translated(error: Error) -> Error {
    let Error::Generic { source, .. } = &error else { return error };
    match source.downcast_ref::<HdfsError>() {
        None => error,
        Some(HdfsError::RPCError(class, text) | HdfsError::FatalRPCError(class, text)) => of_exception(class, text),
        Some(cause @ (HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism)) => {
            Error::Unauthenticated { path: String::new(), source: cause.to_string().into() }
        }
        Some(HdfsError::IOError(cause)) => failure(cause.kind(), cause.to_string()),
        // No DataNode takes or gives a block.
        Some(cause @ (HdfsError::DataTransferError(_) | HdfsError::BlocksNotFound(_) | HdfsError::OperationFailed(_))) => {
            failure(ErrorKind::NotConnected, cause.to_string())
        }
        Some(cause) => failure(ErrorKind::Other, cause.to_string()),
    }
}

/// The text goes on with a trace of Java's stack, which tells nobody anything.
fn of_exception(class: &str, text: &str) -> Error {
    let name = class.rsplit('.').next().unwrap_or(class);
    let first_line = text.lines().next().unwrap_or_default();
    let message = format!("{name}: {first_line}");
    match name {
        "FileNotFoundException" => Error::NotFound { path: first_line.to_string(), source: message.into() },
        "AccessControlException" | "AuthorizationException" => {
            let inode = first_line.split("inode=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            Error::PermissionDenied { path: inode.to_string(), source: message.into() }
        }
        "NSQuotaExceededException" | "DSQuotaExceededException" | "QuotaByStorageTypeExceededException" => {
            failure(ErrorKind::StorageFull, message)
        }
        // It is starting, it is not the active one, or there are too few DataNodes to write to.
        "SafeModeException" | "StandbyException" | "RetriableException" => failure(ErrorKind::NotConnected, message),
        "IOException" if first_line.contains("could only be written to") => failure(ErrorKind::NotConnected, message),
        _ => failure(ErrorKind::Other, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eddyline_common::object_store::store_failure;

    #[test]
    fn exceptions_say_what_to_do() {
        let said = |class: &str, text: &str| {
            let error = Error::Generic { store: "x", source: Box::new(HdfsError::RPCError(class.to_string(), text.to_string())) };
            store_failure("write", "a", &translated(error))
        };
        let denied =
            "Permission denied: user=bob, access=WRITE, inode=\"/\":root:supergroup:drwxr-xr-x\n\tat org.apache.hadoop.X(X.java:1)";
        let error = said("org.apache.hadoop.security.AccessControlException", denied);
        assert_eq!(error.state, SqlState::INSUFFICIENT_PRIVILEGE);
        assert!(error.message.contains("user=bob") && !error.message.contains("X.java"), "{}", error.message);
        for (class, state) in [
            ("org.apache.hadoop.hdfs.server.namenode.SafeModeException", SqlState::CONNECTION_FAILURE),
            ("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", SqlState::DISK_FULL),
            ("java.io.FileNotFoundException", SqlState::UNDEFINED_OBJECT),
            ("java.lang.NullPointerException", SqlState::IO_ERROR),
        ] {
            assert_eq!(said(class, "text").state, state, "{class}");
        }
    }
}
