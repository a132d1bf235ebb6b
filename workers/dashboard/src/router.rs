//! All routes: our own API, Flink's, the page, and what the kubelet asks.

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
    routing::get,
};

use crate::{
    api::{self, App},
    flink, page,
    security::{self, Hosts},
};

/// The largest body of a request.
const MAX_BODY: usize = 64 * 1024;

/// The routes, behind the checks that every request passes.
pub fn router(app: App, hosts: Hosts) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .nest("/api/v1", api::router())
        .merge(flink::router())
        .nest("/v1", flink::router())
        .fallback(page::serve)
        .with_state(app)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(hosts, security::check_host))
        .layer(from_fn(security::add_headers))
}

async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.feeds.ready() {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the feeds are not listed yet\n"),
    }
}

#[cfg(test)]
mod tests;
