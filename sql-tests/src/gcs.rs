//! A stand-in for Google Cloud Storage: the emulators that package registries have do not answer the requests of its XML interface that
//! Eddyline makes. To those it is S3 with three differences, which are here; behind them is the server of `s3`, so its answers are S3's.
//!
//! - Who asks is told by a token that the key of a service account has signed. Whose key it was is looked at, not the signature.
//! - What must not replace anything says so by the generation that it is to follow, 0. No others are known, and none are told.
//! - What is not there cannot be deleted.

use crate::bucket::{Answer, BUCKET, BucketServer, refusal};
use crate::stores::Store;
use futures::FutureExt;
use hyper::header::{AUTHORIZATION, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use s3s_fs::FileSystem;
use serde_json::json;
use std::sync::Arc;

pub const KEY_ID: &str = "test-key";
/// Of what `KEY_ID` has signed: `{"typ":"JWT","alg":"RS256","kid":"test-key"}` in base64.
const TOKEN_BEGINS: &str = "Bearer eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiIsImtpZCI6InRlc3Qta2V5In0.";

pub struct GcsServer(BucketServer);

impl GcsServer {
    pub fn start() -> GcsServer {
        GcsServer(BucketServer::start(over))
    }
}

/// What Google gives for a service account's key: its file of credentials. The server lets in `KEY_ID`.
pub fn service_account(key_id: &str) -> String {
    let account = json!({
        "type": "service_account",
        "client_email": "eddyline@tests.iam.gserviceaccount.com",
        "private_key_id": key_id,
        "private_key": include_str!("../gcs/key.pem"),
    });
    account.to_string()
}

fn over(files: FileSystem) -> Answer {
    let s3 = S3ServiceBuilder::new(files).build();
    Arc::new(move |request: HttpRequest| answer(s3.clone(), request).boxed())
}

async fn answer(s3: S3Service, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let token = request.headers_mut().remove(AUTHORIZATION);
    if !token.is_some_and(|token| token.as_bytes().starts_with(TOKEN_BEGINS.as_bytes())) {
        return Ok(refusal(StatusCode::UNAUTHORIZED, "AuthenticationRequired", "Authentication required."));
    }
    if let Some(generation) = request.headers_mut().remove("x-goog-if-generation-match") {
        if generation != "0" {
            return Ok(refusal(StatusCode::NOT_IMPLEMENTED, "NotImplemented", "The stand-in knows no generations."));
        }
        request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    // The parts of an upload are no object.
    if request.method() == Method::DELETE && request.uri().query().is_none() {
        let mut look = HttpRequest::new(Body::empty());
        *look.method_mut() = Method::HEAD;
        *look.uri_mut() = request.uri().clone();
        if s3.call(look).await?.status() == StatusCode::NOT_FOUND {
            return Ok(refusal(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist."));
        }
    }
    s3.call(request).await
}

impl Store for GcsServer {
    fn url(&self, path: &str) -> String {
        format!("gs://{BUCKET}/{path}")
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("gs.endpoint", self.0.endpoint()), ("gs.service-account-key", service_account(KEY_ID))]
    }

    fn variables(&self) -> Vec<(String, String)> {
        let names = ["GOOGLE_BASE_URL", "GOOGLE_SERVICE_ACCOUNT_KEY"];
        names.map(String::from).into_iter().zip(self.options().into_iter().map(|(_, value)| value)).collect()
    }

    fn stop(&mut self) {
        self.0.stop();
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}
