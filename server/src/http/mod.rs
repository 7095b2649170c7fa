//! The HTTP side: `/healthz` for orchestrators, `/metrics` for Prometheus. Reads counters only; it never asks
//! the coordinator, so that it answers when everything else is stuck.

mod metrics;

use crate::coordinator::Stats;
use crate::metrics::Metrics;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use eddyline_common::Result;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until cancelled.
pub async fn serve(listener: TcpListener, stats: Arc<Stats>, metrics: Arc<Metrics>, stop: CancellationToken) -> Result<()> {
    let routes =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/metrics", get(metrics_page)).with_state((stats, metrics));
    axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await }).await?;
    Ok(())
}

async fn metrics_page(State((stats, metrics)): State<(Arc<Stats>, Arc<Metrics>)>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(&stats, &metrics))
}
