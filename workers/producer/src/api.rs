//! The HTTP API: what users of the compose project had, what Kubernetes asks for, and the description of it all.
//!
//! ```text
//!                     ┌── /health /ready /metrics / /openapi.json /docs ── open
//!  headers, timeout ──┤
//!                     └── /symbols /quota /fetch-data ── token ──┬── status: read from memory
//!                                                                └── POST: an order to the poll loop
//! ```

mod auth;
mod docs;
mod fetch;
mod fetches;
mod layers;
mod observe;
mod openapi;
mod outcome;
mod problem;
mod schema;

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::Method,
    middleware::{from_fn, from_fn_with_state},
    routing::{get, post},
};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::{
    api::{auth::Gate, fetches::Fetches, problem::Problem},
    metrics::Metrics,
    poll::command::Command,
    status::Status,
};

/// What the API shows and orders.
#[derive(Debug)]
pub struct Api {
    /// What there is to show.
    pub status: Arc<Status>,
    /// Orders to the poll loop.
    pub commands: mpsc::Sender<Command>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where it is registered.
    pub registry: Registry,
    /// The folder with the files `token` and `previous`. `None`: whoever reaches the API may use it.
    pub token_directory: Option<PathBuf>,
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    api: Arc<Api>,
    gate: Option<Gate>,
    fetches: Fetches,
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    let shared = Arc::new(Shared {
        gate: api.token_directory.clone().map(Gate::new),
        fetches: Fetches::default(),
        api,
    });
    let closed = Router::new()
        .route("/symbols", get(observe::symbols))
        .route("/quota", get(observe::quota))
        .route("/fetch-data", post(fetch::order))
        .route("/fetch-data/{id}", get(fetch::state))
        .route_layer(from_fn_with_state(Arc::clone(&shared), auth::require));
    // Kubernetes and Prometheus bring no token, and the others hold no data.
    let open = Router::new()
        .route("/", get(observe::root))
        .route("/health", get(observe::health))
        .route("/ready", get(observe::ready))
        .route("/metrics", get(observe::metrics))
        .route("/openapi.json", get(openapi::serve));
    closed
        .merge(open)
        .with_state(shared)
        .merge(docs::router())
        .method_not_allowed_fallback(async |method: Method| Problem::method_not_allowed(&method))
        .fallback(async || Problem::unknown_path())
        .layer(DefaultBodyLimit::max(problem::MAX_BODY))
        .layer(from_fn(layers::limit_time))
        .layer(from_fn(layers::add_headers))
}

#[cfg(test)]
mod tests;
