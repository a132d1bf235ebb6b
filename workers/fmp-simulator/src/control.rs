//! The control endpoint: faults on demand, counters, starting over.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State as Shared,
    http::StatusCode,
    routing::{get, post},
};
use service::clock;
use tracing::info;

use crate::{
    api,
    fault::Fault,
    state::{Report, State},
};

/// The routes of the control endpoint, and `/health`.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/control/faults", post(order).delete(clear))
        .route("/control/state", get(report))
        .route("/control/reset", post(reset))
        .route("/health", get(api::health))
        .with_state(state)
}

async fn order(Shared(state): Shared<Arc<State>>, Json(fault): Json<Fault>) -> (StatusCode, Json<Fault>) {
    info!(kind = ?fault.kind, count = ?fault.count, "A fault is ordered");
    state.inject(fault.clone());
    (StatusCode::CREATED, Json(fault))
}

async fn clear(Shared(state): Shared<Arc<State>>) -> StatusCode {
    info!("All faults are cleared");
    state.clear_faults();
    StatusCode::NO_CONTENT
}

async fn report(Shared(state): Shared<Arc<State>>) -> Json<Report> {
    Json(state.report(clock::now()))
}

async fn reset(Shared(state): Shared<Arc<State>>) -> StatusCode {
    info!("Starting over");
    state.reset(clock::now());
    StatusCode::NO_CONTENT
}
