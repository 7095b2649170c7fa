//! The server's life: recover, listen, say that it is ready, serve, and stop in order: no more clients, their
//! statements end, a last checkpoint. A start that is stopped before it is ready is given up, and leaves what a kill would leave.

use crate::config::{Backend, CheckpointPlace, Config};
use crate::coordinator::{self, CheckpointLocation, CoordinatorConfig, CoordinatorHandle, PinLimits, Running, WAITING_BYTES_MAX};
use crate::pgwire::listener;
use crate::problems::Problems;
use crate::serving::QueryEngine;
use crate::serving::engine::EngineOptions;
use crate::serving::numbers::Numbers;
use crate::session::write_memory::WriteMemory;
use crate::session::{Services, doomed};
use crate::{demo, http};
use eddyline_common::runtime::{Clock, SystemClock, SystemFs, SystemThreads, Thread};
use eddyline_common::{Result, SqlError};
use eddyline_connectors::filesystem;
use eddyline_executor::StateBackend;
use eddyline_storage::log::SEGMENT_BYTES;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Threads for sockets; statements run elsewhere.
const CLIENT_THREADS: usize = 2;

/// Parsing and planning recurse on these threads.
const CLIENT_STACK_BYTES: usize = 64 << 20;

/// Threads for queries that take long, which share the processor with the views.
const QUERY_THREADS_MAX: usize = 2;

/// How long a start that is given up may take to notice it: it does between two requests, views or records of the log.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(2);

/// What blocking work may still take when all else has ended.
const RUNTIME_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the server until SIGTERM or SIGINT. `problems` keeps what is logged.
pub fn run(config: Config, with_demo: bool, problems: Arc<Problems>) -> Result<()> {
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CLIENT_THREADS)
        .thread_name("clients")
        .thread_stack_size(CLIENT_STACK_BYTES)
        .enable_all()
        .build()?;
    let result = clients.block_on(serve(config, with_demo, problems, clients.handle().clone()));
    clients.shutdown_timeout(RUNTIME_TIMEOUT);
    result
}

async fn serve(config: Config, with_demo: bool, problems: Arc<Problems>, runtime: tokio::runtime::Handle) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Ports first: a server that cannot listen should not recover for minutes to find out.
    let (postgres, http) = (listen(config.listen).await?, listen(config.http).await?);
    let (address, http_address) = (postgres.local_addr()?, http.local_addr()?);
    let (clock, given_up) = (Arc::new(SystemClock), CancellationToken::new());
    let spill_dir = config.data_dir.join("state").join("spill");
    let start = CoordinatorConfig {
        data_dir: config.data_dir.clone(),
        checkpoint_store: location_of(&config.checkpoint_store)?,
        workers: config.workers,
        backend: match config.state_backend {
            Backend::Memory => StateBackend::Memory,
            Backend::Rocksdb => StateBackend::Rocksdb,
        },
        state_cache_bytes: config.state_cache_bytes,
        ring_bytes: config.ring_bytes,
        waiting_bytes: WAITING_BYTES_MAX,
        pin_limits: PinLimits { age: config.snapshot_age, bytes: config.snapshot_bytes },
        checkpoint_interval: config.checkpoint_interval,
        open_source: Arc::new(eddyline_connectors::open),
        clock: clock.clone(),
        fs: Arc::new(SystemFs),
        runtime,
        threads: Arc::new(SystemThreads),
        log_segment_bytes: SEGMENT_BYTES,
        given_up: given_up.clone(),
    };
    let mut starting = tokio::task::spawn_blocking(move || coordinator::start(start));
    let started = tokio::select! {
        started = &mut starting => started,
        _ = terminate.recv() => return give_up(starting, given_up).await,
        _ = interrupt.recv() => return give_up(starting, given_up).await,
    };
    let Running { handle, thread, ended } = started.map_err(|e| SqlError::internal(format!("recovery failed: {e}")))??;
    doomed::drop_left(&handle).await;
    let threads = config.workers.clamp(1, QUERY_THREADS_MAX);
    let (memory_bytes, spill_bytes) = (config.query_memory_bytes, config.query_spill_bytes as u64);
    let engine = QueryEngine::new(EngineOptions { threads, memory_bytes, spill_dir, spill_bytes })?;
    let services = Arc::new(Services {
        coordinator: handle.clone(),
        engine,
        write_memory: WriteMemory::new(config.write_memory_bytes),
        numbers: Numbers::default(),
        metrics: Arc::default(),
        sessions: Arc::default(),
        problems,
        settings: config.listed(),
        started: clock.now(),
        clock,
    });

    let stop = CancellationToken::new();
    let clients = tokio::spawn(listener::serve(postgres, services.clone(), config.max_connections, stop.clone()));
    let pages = tokio::spawn(http::serve(http, services.clone(), stop.clone()));
    ready(address, http_address);
    let shown = with_demo.then(|| tokio::spawn(demo::drive(address, handle.stats())));
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        result = finished(shown) => result,
        _ = ended => Err(SqlError::internal("the coordinator ended by itself")),
    };
    tracing::info!("stopping");
    stop.cancel();
    let clients = clients.await;
    let joined = stop_coordinator(&handle, thread).await;
    let pages = pages.await;
    clients.map_err(|e| SqlError::internal(format!("the listener failed: {e}")))?;
    pages.map_err(|e| SqlError::internal(format!("the HTTP side failed: {e}")))?;
    joined.and(outcome)
}

/// Takes a last checkpoint and ends the coordinator.
async fn stop_coordinator(handle: &CoordinatorHandle, thread: Box<dyn Thread>) -> Result<()> {
    handle.shutdown().await;
    match tokio::task::spawn_blocking(move || thread.join()).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(SqlError::internal("the coordinator failed")),
    }
}

/// Ends a start in the middle. One that does not notice in time ends with the process.
async fn give_up(starting: JoinHandle<Result<Running>>, given_up: CancellationToken) -> Result<()> {
    tracing::info!("stopping before the start is complete");
    given_up.cancel();
    match tokio::time::timeout(GIVEN_UP_WITHIN, starting).await {
        // It had been complete by then.
        Ok(Ok(Ok(Running { handle, thread, .. }))) => stop_coordinator(&handle, thread).await,
        Ok(Ok(Err(error))) => {
            tracing::info!("{error}");
            Ok(())
        }
        Ok(Err(panicked)) => Err(SqlError::internal(format!("recovery failed: {panicked}"))),
        Err(_too_slow) => Ok(()),
    }
}

fn location_of(place: &CheckpointPlace) -> Result<CheckpointLocation> {
    match place {
        CheckpointPlace::Directory(dir) => Ok(CheckpointLocation::Directory(dir.clone())),
        CheckpointPlace::Store { url, options } => {
            let (store, prefix) = filesystem::open_store(url, options)?;
            Ok(CheckpointLocation::Store { store, prefix: prefix.to_string(), runtime: filesystem::runtime()?.clone() })
        }
    }
}

/// The demo ends only by an error.
async fn finished(demo: Option<JoinHandle<Result<()>>>) -> Result<()> {
    match demo {
        None => std::future::pending().await,
        Some(task) => task.await.map_err(|e| SqlError::internal(format!("the demo failed: {e}")))?,
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| SqlError::io(format!("cannot listen on {address}: {e}")))
}

/// The one line on standard output that scripts wait for.
#[allow(clippy::print_stdout)]
fn ready(postgres: SocketAddr, http: SocketAddr) {
    println!("ready: postgres {postgres} http {http}");
}
