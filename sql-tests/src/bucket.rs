//! One bucket in a folder of its own, served over HTTP from a thread of the test's process. It can go away and come back, and refuse to
//! remove anything. What it is asked and answers is that of the store whose bucket it is; it knows none.

use futures::FutureExt;
use futures::future::{self, BoxFuture};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use s3s_fs::FileSystem;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub const BUCKET: &str = "bucket";

/// What answers a request.
pub type Answer = Arc<dyn Fn(HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> + Send + Sync>;

pub struct BucketServer {
    dir: TempDir,
    port: u16,
    answer: fn(FileSystem) -> Answer,
    keeps_all: Arc<AtomicBool>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl BucketServer {
    pub fn start(answer: fn(FileSystem) -> Answer) -> BucketServer {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join(BUCKET)).expect("a folder for the bucket");
        let mut server = BucketServer { dir, port: 0, answer, keeps_all: Arc::default(), running: None };
        server.restart();
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Whether requests to remove something are refused from now on.
    pub fn keep_all(&self, keep: bool) {
        self.keeps_all.store(keep, Ordering::SeqCst);
    }

    /// Closes the port and every connection.
    pub fn stop(&mut self) {
        let Some((stop, thread)) = self.running.take() else { return };
        drop(stop);
        thread.join().expect("the server ends");
    }

    /// Begins to listen, on the port it had before.
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "one server at a time");
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("a port");
        self.port = listener.local_addr().expect("a bound port").port();
        let answer = (self.answer)(FileSystem::new(self.dir.path()).expect("a folder to serve"));
        let answer = unless_it_removes(answer, self.keeps_all.clone());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, answer, stopped));
        });
        self.running = Some((stop, thread));
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Refuses what removes something as long as all is kept.
fn unless_it_removes(answer: Answer, keeps_all: Arc<AtomicBool>) -> Answer {
    Arc::new(move |request: HttpRequest| {
        // Many at a time, as S3 has it, or one.
        let removes = request.method() == Method::DELETE || request.uri().query().is_some_and(|query| query.starts_with("delete"));
        if removes && keeps_all.load(Ordering::SeqCst) {
            return future::ready(Ok(refusal(StatusCode::FORBIDDEN, "AccessDenied", "Nothing is removed here."))).boxed();
        }
        answer(request)
    })
}

pub fn refusal(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    let body = format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let mut response = HttpResponse::new(Body::from(body));
    *response.status_mut() = status;
    response
}

async fn serve(listener: TcpListener, answer: Answer, mut stopped: oneshot::Receiver<()>) {
    listener.set_nonblocking(true).expect("a listener that does not block");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: HttpRequest<hyper::body::Incoming>| answer(request.map(Body::from)));
            // Whoever goes away in the middle is a test that kills.
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
