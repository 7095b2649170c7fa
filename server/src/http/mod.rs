//! The HTTP side: `/healthz` for orchestrators, `/metrics` for Prometheus, `/source/NAME` for rows from outside. The first two
//! read counters only and never ask the coordinator, so that they answer when everything else is stuck.

mod connections;
mod metrics;
mod webhook;

use crate::session::Services;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until cancelled.
pub async fn serve(listener: TcpListener, services: Arc<Services>, stop: CancellationToken) {
    let pages = Router::new().route("/healthz", get(health)).route("/metrics", get(metrics_page)).with_state(services.clone());
    let webhooks = Router::new().route("/source/{name}", post(webhook::post)).with_state(webhook::Webhooks::new(services));
    connections::serve(listener, pages.merge(webhooks), connections::LIMITS, stop).await;
}

/// An orchestrator must not end a server for its full disk, so that it lives is one word, and what it lacks another line.
async fn health(State(services): State<Arc<Services>>) -> String {
    match &*services.coordinator.stats().log.problem.lock() {
        None => "ok\n".to_string(),
        Some(problem) => format!("ok\nwrites are refused: {problem}\n"),
    }
}

async fn metrics_page(State(services): State<Arc<Services>>) -> ([(HeaderName, &'static str); 1], String) {
    let Services { coordinator, metrics, problems, write_memory, clock, .. } = &*services;
    let stats = coordinator.stats();
    let told = metrics::Told { errors: problems.counts(), settings: services.present_settings() };
    let page = metrics::render(&stats, metrics, &told, write_memory.taken_bytes(), clock.now());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page)
}
