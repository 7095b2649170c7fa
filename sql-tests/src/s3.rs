//! A server that speaks S3, over a folder of its own, with one bucket. It can go away and come back, and refuse to remove anything.

use crate::bucket::{Answer, BUCKET, BucketServer};
use crate::stores::Store;
use futures::FutureExt;
use s3s::HttpRequest;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use std::sync::Arc;

pub const ACCESS_KEY: &str = "test-key";
pub const SECRET_KEY: &str = "test-secret";

pub struct S3Server(BucketServer);

impl S3Server {
    pub fn start() -> S3Server {
        S3Server(BucketServer::start(over))
    }

    /// Whether requests to remove something are refused from now on.
    pub fn keep_all(&self, keep: bool) {
        self.0.keep_all(keep);
    }
}

fn over(files: FileSystem) -> Answer {
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    Arc::new(move |request: HttpRequest| {
        let service = service.clone();
        async move { service.call(request).await }.boxed()
    })
}

impl Store for S3Server {
    fn url(&self, path: &str) -> String {
        format!("s3://{BUCKET}/{path}")
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("s3.endpoint", self.0.endpoint()), ("s3.access-key", ACCESS_KEY.to_string()), ("s3.secret-key", SECRET_KEY.to_string())]
    }

    fn variables(&self) -> Vec<(String, String)> {
        let given = [
            ("AWS_ENDPOINT_URL", self.0.endpoint()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_string()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_string()),
        ];
        given.map(|(name, value)| (name.to_string(), value)).to_vec()
    }

    fn stop(&mut self) {
        self.0.stop();
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}
