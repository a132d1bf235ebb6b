//! `/health`, `/ready`, `/state` and `/metrics`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::json;

use crate::board::{self, Board};

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Api {
    /// The processor's state.
    pub board: Board,
    /// The metrics.
    pub registry: Arc<Registry>,
}

/// The HTTP API.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/state", get(state))
        .route("/metrics", get(metrics))
        .with_state(api)
}

/// The process is alive; nothing more.
async fn health() -> Json<serde_json::Value> {
    Json(json!({"status": "healthy"}))
}

/// It can do its work.
async fn ready(State(api): State<Api>) -> Response {
    match api.board.ready() {
        Ok(()) => Json(json!({"ready": true})).into_response(),
        Err(message) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"ready": false, "message": message})),
        )
            .into_response(),
    }
}

/// What is asked for beside what is in memory.
#[derive(Deserialize)]
struct Wanted {
    /// How many messages wait in the queues: known a moment after the first question, and as long as it is asked again.
    #[serde(default)]
    queues: bool,
}

async fn state(State(api): State<Api>, Query(wanted): Query<Wanted>) -> Json<board::State> {
    if wanted.queues {
        api.board.want_depths();
    }
    Json(api.board.snapshot())
}

async fn metrics(State(api): State<Api>) -> Response {
    service::metrics::response(&api.registry)
}
