//! The HTTP side's connections: how many there are at a time, how long one may take for what it sends and reads, and an ordered
//! end. Knows no page: a router has those.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// So many at a time; others are answered with 503.
    pub connections: usize,
    /// From a connection's start, or its last answer, to the end of a request's head.
    pub head: Duration,
    /// One that is so old ends with the request that it has.
    pub life: Duration,
    /// What that request may still take, with an answer that is not read.
    pub rest: Duration,
}

/// Orchestrators and Prometheus have a connection or two each, and of senders to webhooks 32 are heard at a time. The rows of these
/// may take 30 seconds.
pub(super) const LIMITS: Limits =
    Limits { connections: 256, head: Duration::from_secs(30), life: Duration::from_secs(300), rest: Duration::from_secs(60) };

/// Connections beyond the limit that are told so at a time; a flood beyond these is closed without a word.
const REFUSED_MAX: usize = 64;

/// How long requests may take to end on shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// After a failed accept (no file descriptors are left) some connections must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is stopped; returns when connections have ended.
pub(super) async fn serve(listener: TcpListener, routes: Router, limits: Limits, stop: CancellationToken) {
    let refusing = Router::new().fallback(busy);
    let rooms = [(limits.connections, routes), (REFUSED_MAX, refusing)].map(|(places, routes)| (Arc::new(Semaphore::new(places)), routes));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            Some(_) = open.join_next(), if !open.is_empty() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let room = rooms.iter().find_map(|(places, routes)| Some((places.clone().try_acquire_owned().ok()?, routes.clone())));
        let Some((place, routes)) = room else { continue };
        let stop = stop.clone();
        open.spawn(async move {
            talk(stream, routes, limits, stop).await;
            drop(place);
        });
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while open.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        open.shutdown().await;
    }
}

async fn busy() -> impl IntoResponse {
    (StatusCode::SERVICE_UNAVAILABLE, [(CONNECTION, "close"), (RETRY_AFTER, "1")], "too many connections\n")
}

/// One connection, until its client leaves or has taken too long.
async fn talk(stream: TcpStream, routes: Router, limits: Limits, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let mut talk = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    tokio::select! {
        ended = talk.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection failed");
            }
            return;
        }
        () = stop.cancelled() => {}
        () = tokio::time::sleep(limits.life) => {}
    }
    talk.as_mut().graceful_shutdown();
    if !matches!(tokio::time::timeout(limits.rest, talk).await, Ok(Ok(()))) {
        tracing::debug!("an HTTP connection was cut off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHost: ";
    const SHORT: Duration = Duration::from_millis(200);

    async fn started(limits: Limits) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let routes = Router::new().route("/", get(|| async { "here" })).route("/never", get(std::future::pending::<String>));
        let served = tokio::spawn(serve(listener, routes, limits, stop.clone()));
        (address, stop, served)
    }

    async fn opened(address: SocketAddr, sent: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        stream
    }

    async fn within<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), what).await.expect("an end")
    }

    /// All that comes until the server ends the connection, which it does.
    async fn answer(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let _ended = within(stream.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn a_head_has_its_time_however_it_comes() {
        let (address, ..) = started(Limits { head: SHORT, ..LIMITS }).await;
        assert_eq!(answer(opened(address, b"").await).await, "");
        let (mut read, mut write) = opened(address, HALF).await.into_split();
        let dripping = tokio::spawn(async move {
            while write.write_all(b"h").await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
        });
        let _ended = within(read.read_to_end(&mut Vec::new())).await;
        within(dripping).await.unwrap();
        assert!(answer(opened(address, WHOLE).await).await.ends_with("\r\n\r\nhere"));
    }

    #[tokio::test]
    async fn a_connection_has_its_time() {
        let (address, ..) = started(Limits { life: SHORT, rest: SHORT, ..LIMITS }).await;
        assert_eq!(answer(opened(address, b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n").await).await, "");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_told_so() {
        let (address, stop, served) = started(Limits { connections: 1, ..LIMITS }).await;
        let held = opened(address, HALF).await;
        let refused = answer(opened(address, WHOLE).await).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
        drop(held);
        let again = async { while !answer(opened(address, WHOLE).await).await.starts_with("HTTP/1.1 200 ") {} };
        within(again).await;
        // One that is in the middle of a request's head does not keep the server.
        let _held = opened(address, HALF).await;
        stop.cancel();
        within(served).await.unwrap();
    }
}
