//! Opening the store that a URL names: a directory, S3, Google Cloud Storage, Azure or HDFS, with the options of `STORES` and what
//! the environment says. Also used for checkpoints. Builds a client and contacts nobody.
//!
//! A connection belongs to the runtime that opened it, and a store's pool of them outlives its readers: so all stores are asked on
//! one runtime (`runtime`), whoever waits for the answer.

mod hdfs;

use eddyline_common::{Result, SqlError, SqlState, options};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use url::Url;

const THREADS: usize = 2;
/// A store that answers nobody is told soon; whoever asks decides whether to ask again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Whoever makes a source or a sink waits for each answer no longer: a store may take a connection and say nothing.
pub const CHECKED_WITHIN: Duration = Duration::from_secs(10);
/// Within a request: what passes by itself, such as a throttled store.
const RETRIES_MAX: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);

static RUNTIME: LazyLock<std::io::Result<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).thread_name("stores").enable_all().build());

/// Where stores are asked. Must not be waited for on a runtime's own threads.
pub fn runtime() -> Result<&'static Handle> {
    RUNTIME.as_ref().map(Runtime::handle).map_err(|e| SqlError::io(format!("no threads for object stores: {e}")))
}

/// Whether a place is in an object store, by its spelling.
pub fn is_remote(place: &str) -> bool {
    place.split_once("://").is_some_and(|(scheme, _)| !scheme.eq_ignore_ascii_case("file"))
}

/// An answer of the store at `place`; an error if it takes longer than `patience`. On the stores' runtime.
pub async fn answered<T>(place: &str, patience: Option<Duration>, answer: impl Future<Output = T>) -> Result<T> {
    let Some(patience) = patience else { return Ok(answer.await) };
    tokio::time::timeout(patience, answer).await.map_err(|_| {
        let message = format!("the store of \"{place}\" did not answer within {} seconds", patience.as_secs());
        SqlError::new(SqlState::CONNECTION_FAILURE, message).with_hint("Check the endpoint and that the store is up.")
    })
}

/// The store that a URL or path names, and the place in it. `options` are canonical; those of other things are passed over. What they leave
/// open comes from the environment (`AWS_REGION`, ...).
pub fn open_store(place: &str, options: &BTreeMap<String, String>) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let invalid = |why: String| SqlError::new(SqlState::INVALID_PARAMETER, format!("\"{place}\" cannot be opened: {why}"));
    let url = if place.contains("://") {
        Url::parse(place).map_err(|e| invalid(e.to_string()))?
    } else {
        let path = std::path::absolute(place).map_err(|e| invalid(e.to_string()))?;
        Url::from_file_path(path).map_err(|()| invalid("not a path".to_string()))?
    };
    if url.scheme() == "hdfs" {
        let path = Path::from_url_path(url.path()).map_err(|e| invalid(e.to_string()))?;
        return Ok((hdfs::open(&url, options)?, path));
    }
    let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|_| unknown_scheme(place, url.scheme()))?;
    let failed = |e: object_store::Error| invalid(e.to_string());
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()),
        ObjectStoreScheme::AmazonS3 => Arc::new(s3(&url, options)?.build().map_err(failed)?),
        ObjectStoreScheme::GoogleCloudStorage => Arc::new(google(&url, options)?.build().map_err(failed)?),
        ObjectStoreScheme::MicrosoftAzure => Arc::new(azure(&url, options)?.build().map_err(failed)?),
        _ => return Err(unknown_scheme(place, url.scheme())),
    };
    Ok((store, path))
}

fn unknown_scheme(place: &str, scheme: &str) -> SqlError {
    SqlError::unsupported(format!("\"{place}\": there is no {scheme}:// store"))
        .with_hint("Give a path, or a URL with file://, s3://, gs://, az:// or hdfs://; any other file system can be mounted.")
}

fn s3(url: &Url, options: &BTreeMap<String, String>) -> Result<AmazonS3Builder> {
    use AmazonS3ConfigKey::*;
    let builder = AmazonS3Builder::new().with_client_options(client()).with_retry(retry()).with_url(url.as_str());
    let mut builder = from_environment(builder, "aws_", AmazonS3Builder::with_config);
    let own = [
        (options::S3_ENDPOINT, Endpoint),
        (options::S3_REGION, Region),
        (options::S3_ACCESS_KEY, AccessKeyId),
        (options::S3_SECRET_KEY, SecretAccessKey),
        (options::S3_SESSION_TOKEN, Token),
    ];
    for (name, key) in own {
        builder = set(builder, options, name, key, AmazonS3Builder::with_config);
    }
    if let Some(path_style) = options.get(options::S3_PATH_STYLE) {
        builder = builder.with_virtual_hosted_style_request(path_style != "true");
    }
    builder = passed_through(builder, options, AmazonS3Builder::with_config)?;
    let endpoints: Vec<String> = [Endpoint, S3Endpoint].iter().filter_map(|key| builder.get_config_value(key)).collect();
    endpoints.iter().try_for_each(|text| check_endpoint(text, options))?;
    Ok(if endpoints.iter().any(|text| is_plain_http(text)) { builder.with_allow_http(true) } else { builder })
}

fn google(url: &Url, options: &BTreeMap<String, String>) -> Result<GoogleCloudStorageBuilder> {
    use GoogleConfigKey::*;
    let builder = GoogleCloudStorageBuilder::new().with_client_options(client()).with_retry(retry()).with_url(url.as_str());
    // The library refuses to be told twice who asks, by a file and by its content.
    let is_told = [options::GS_SERVICE_ACCOUNT, options::GS_SERVICE_ACCOUNT_KEY].iter().any(|name| options.contains_key(*name));
    let mut builder = from_environment(builder, "google_", |builder, key: GoogleConfigKey, value| match key {
        ServiceAccount | ServiceAccountKey if is_told => builder,
        key => builder.with_config(key, value),
    });
    let own = [
        (options::GS_ENDPOINT, BaseUrl),
        (options::GS_SERVICE_ACCOUNT, ServiceAccount),
        (options::GS_SERVICE_ACCOUNT_KEY, ServiceAccountKey),
    ];
    for (name, key) in own {
        builder = set(builder, options, name, key, GoogleCloudStorageBuilder::with_config);
    }
    let builder = passed_through(builder, options, GoogleCloudStorageBuilder::with_config)?;
    let Some(endpoint) = builder.get_config_value(&BaseUrl) else { return Ok(builder) };
    check_endpoint(&endpoint, options)?;
    // The library puts a slash behind it, whatever its end is.
    let builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    Ok(if is_plain_http(&endpoint) { builder.with_config(Client(ClientConfigKey::AllowHttp), "true") } else { builder })
}

fn azure(url: &Url, options: &BTreeMap<String, String>) -> Result<MicrosoftAzureBuilder> {
    use AzureConfigKey::*;
    let builder = MicrosoftAzureBuilder::new().with_client_options(client()).with_retry(retry()).with_url(url.as_str());
    let mut builder = from_environment(builder, "azure_", MicrosoftAzureBuilder::with_config);
    let own = [
        (options::AZURE_ACCOUNT, AccountName),
        (options::AZURE_ACCESS_KEY, AccessKey),
        (options::AZURE_SAS_TOKEN, SasKey),
        (options::AZURE_CLIENT_ID, ClientId),
        (options::AZURE_CLIENT_SECRET, ClientSecret),
        (options::AZURE_TENANT_ID, AuthorityId),
        (options::AZURE_ENDPOINT, Endpoint),
    ];
    for (name, key) in own {
        builder = set(builder, options, name, key, MicrosoftAzureBuilder::with_config);
    }
    let builder = passed_through(builder, options, MicrosoftAzureBuilder::with_config)?;
    let endpoint = builder.get_config_value(&Endpoint);
    endpoint.as_ref().map_or(Ok(()), |text| check_endpoint(text, options))?;
    Ok(if endpoint.is_some_and(|text| is_plain_http(&text)) { builder.with_allow_http(true) } else { builder })
}

/// The library takes any text for an endpoint, and panics when it asks there.
fn check_endpoint(text: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let begins = ["http://", "https://"].iter().any(|scheme| text.get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme)));
    let is_spelled = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    if begins && is_spelled && Url::parse(text).is_ok_and(|url| url.has_host()) {
        return Ok(());
    }
    let is_its_name = |name: &str| name.contains("endpoint") || name.ends_with("url");
    let message = match options.iter().find(|(name, value)| value.as_str() == text && is_its_name(name)) {
        Some((name, _)) => format!("invalid value for option \"{name}\": \"{text}\""),
        None => format!("the server's environment has an invalid endpoint: \"{text}\""),
    };
    Err(SqlError::new(SqlState::INVALID_PARAMETER, message).with_detail("An endpoint is a URL with http:// or https:// and a host."))
}

fn is_plain_http(endpoint: &str) -> bool {
    endpoint.trim_start().to_ascii_lowercase().starts_with("http://")
}

fn client() -> ClientOptions {
    ClientOptions::new().with_connect_timeout(CONNECT_TIMEOUT).with_timeout(REQUEST_TIMEOUT)
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(1), base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT }
}

/// Variables of other tools that begin the same are passed over.
fn from_environment<B, K: FromStr>(builder: B, prefix: &str, with: impl Fn(B, K, String) -> B) -> B {
    let variables = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
    let ours = variables.filter(|(name, value)| name.starts_with(prefix) && !value.is_empty());
    ours.filter_map(|(name, value)| Some((name.parse::<K>().ok()?, value))).fold(builder, |builder, (key, value)| with(builder, key, value))
}

fn set<B, K>(builder: B, options: &BTreeMap<String, String>, name: &str, key: K, with: impl Fn(B, K, String) -> B) -> B {
    match options.get(name) {
        Some(value) => with(builder, key, value.clone()),
        None => builder,
    }
}

/// `store.` and a name as the library has it.
fn passed_through<B, K: FromStr>(builder: B, options: &BTreeMap<String, String>, with: impl Fn(B, K, String) -> B) -> Result<B> {
    let mut builder = builder;
    for (option, value) in options {
        let Some(name) = option.strip_prefix(options::STORE_PREFIX) else { continue };
        let key = name
            .parse::<K>()
            .map_err(|_| SqlError::new(SqlState::INVALID_PARAMETER, format!("option \"{option}\": the store has no setting \"{name}\"")))?;
        builder = with(builder, key, value.clone());
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(place: &str, given: &[(&str, &str)]) -> Result<String> {
        let options = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        open_store(place, &options).map(|(store, path)| format!("{store} {path}"))
    }

    #[test]
    fn stores_by_their_urls() {
        let keys = [("s3.access-key", "a"), ("s3.secret-key", "b"), ("s3.endpoint", "http://127.0.0.1:1"), ("format", "json")];
        assert_eq!(open("s3://bucket/a/b", &keys).unwrap(), "AmazonS3(bucket) a/b");
        assert_eq!(
            open("az://box/a", &[("azure.account", "me"), ("azure.access-key", "a2V5")]).unwrap(),
            "MicrosoftAzure { account: me, container: box } a"
        );
        assert!(open("gs://bucket/a", &[("gs.service-account", "/nowhere.json")]).unwrap_err().message.contains("/nowhere.json"));
        assert!(open("file:///tmp/a", &[]).unwrap().ends_with("tmp/a") && open("/tmp/a", &[]).is_ok());
        assert_eq!(open("hdfs://name:8020/a%20b/c", &[]).unwrap(), "HDFS a b/c");
        let nameservice = [("store.dfs.ha.namenodes.ns", "x"), ("store.dfs.namenode.rpc-address.ns.x", "127.0.0.1:1")];
        assert_eq!(open("hdfs://ns/a", &nameservice).unwrap(), "HDFS a");
        let error = open("hdfs://name/a", &[]).unwrap_err();
        assert!(error.state == SqlState::INVALID_PARAMETER && error.hint.unwrap().contains("hdfs://host:8020/path"), "{}", error.message);
        for place in ["viewfs://name/a", "https://example.com/a", "memory:///a"] {
            let error = open(place, &[]).unwrap_err();
            assert_eq!((error.state, error.hint.is_some()), (SqlState::FEATURE_NOT_SUPPORTED, true), "{place}");
        }
        let account = [("azure.account", "me"), ("azure.access-key", "a2V5")];
        for wrong in ["gaga", "http://", "http:gaga", "ftp://host", "https://a b", "http://host\\x"] {
            for (place, option) in [("s3://b/a", "s3.endpoint"), ("s3://b/a", "store.endpoint_url"), ("az://b/a", "azure.endpoint")] {
                let error = open(place, &[&account[..], &[(option, wrong)]].concat()).unwrap_err();
                let wanted = format!("invalid value for option \"{option}\": \"{wrong}\"");
                assert_eq!((error.state, error.message), (SqlState::INVALID_PARAMETER, wanted));
            }
            assert_eq!(open("gs://b/a", &[("gs.endpoint", wrong)]).unwrap_err().state, SqlState::INVALID_PARAMETER, "{wrong}");
        }
        let error = open("s3://b/a", &[("store.colour", "red")]).unwrap_err();
        assert_eq!(error.message, "option \"store.colour\": the store has no setting \"colour\"");
        assert!(is_remote("s3://a") && !is_remote("FILE:///a") && !is_remote("/a"));
    }
}
