//! A server that speaks S3, over a folder of its own, with one bucket. It can go away and come back.

use crate::stores::Store;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::net::TcpListener;
use std::thread::JoinHandle;
use tempfile::TempDir;
use tokio::sync::oneshot;

pub const BUCKET: &str = "bucket";
pub const ACCESS_KEY: &str = "test-key";
pub const SECRET_KEY: &str = "test-secret";

pub struct S3Server {
    dir: TempDir,
    port: u16,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl S3Server {
    pub fn start() -> S3Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join(BUCKET)).expect("a folder for the bucket");
        let mut server = S3Server { dir, port: 0, running: None };
        server.restart();
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Store for S3Server {
    fn url(&self, path: &str) -> String {
        format!("s3://{BUCKET}/{path}")
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("s3.endpoint", self.endpoint()), ("s3.access-key", ACCESS_KEY.to_string()), ("s3.secret-key", SECRET_KEY.to_string())]
    }

    fn variables(&self) -> Vec<(String, String)> {
        let given = [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_string()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_string()),
        ];
        given.map(|(name, value)| (name.to_string(), value)).to_vec()
    }

    /// Closes the port and every connection.
    fn stop(&mut self) {
        let Some((stop, thread)) = self.running.take() else { return };
        drop(stop);
        thread.join().expect("the server ends");
    }

    /// Begins to listen, on the port it had before.
    fn restart(&mut self) {
        assert!(self.running.is_none(), "one server at a time");
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("a port");
        self.port = listener.local_addr().expect("a bound port").port();
        let files = FileSystem::new(self.dir.path()).expect("a folder to serve");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, service, stopped));
        });
        self.running = Some((stop, thread));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, service: S3Service, mut stopped: oneshot::Receiver<()>) {
    listener.set_nonblocking(true).expect("a listener that does not block");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            // Whoever goes away in the middle is a test that kills.
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
