//! The HTTP API: what users of the compose project had, and what Kubernetes asks for.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State as Shared,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use contract::symbol::Symbol;
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde_json::json;
use service::clock;
use tokio::sync::{mpsc, oneshot};

use crate::{
    metrics::Metrics,
    poll::{Command, Paused, Summary},
    status::{BrokerState, Status},
};

/// How long `POST /fetch-data` waits for its outcome.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// What the API shows and orders.
#[derive(Debug)]
pub struct Api {
    /// The feed's symbols.
    pub symbols: Vec<Symbol>,
    /// What there is to show.
    pub status: Arc<Status>,
    /// Orders to the poll loop.
    pub commands: mpsc::Sender<Command>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where it is registered.
    pub registry: Registry,
}

/// The body of an error.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    message: &'a str,
    reason: &'a str,
    symbols: &'a [Symbol],
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a Summary>,
}

/// The routes.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/fetch-data", post(fetch_data))
        .route("/symbols", get(symbols))
        .route("/metrics", get(metrics))
        .with_state(api)
}

async fn root() -> Response {
    let body = json!({ "message": "StockFeed producer", "version": env!("CARGO_PKG_VERSION") });
    Json(body).into_response()
}

/// Liveness: answers 200 as long as the process does. What it says of the rest is true nevertheless.
async fn health(Shared(api): Shared<Arc<Api>>) -> Response {
    let (broker, source) = (api.status.broker(), api.status.source());
    let works = broker.connected && broker.message.is_none() && source.ready && source.problem.is_none();
    Json(json!({
        "status": if works { "healthy" } else { "degraded" },
        "rabbitmq_connected": broker.connected,
        "symbols": api.symbols,
        "timestamp": clock::now(),
        "broker": broker,
        "source": source,
    }))
    .into_response()
}

/// Readiness: the broker is connected and the last fetch that was due succeeded.
async fn ready(Shared(api): Shared<Arc<Api>>) -> Response {
    let (broker, source) = (api.status.broker(), api.status.source());
    let shutting_down = api.status.shutting_down();
    let ready = broker.connected && source.ready && !shutting_down;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({ "ready": ready, "shutting_down": shutting_down, "broker": broker, "source": source });
    (status, Json(body)).into_response()
}

async fn symbols(Shared(api): Shared<Arc<Api>>) -> Response {
    Json(json!({ "symbols": api.symbols, "quotes": api.status.quotes() })).into_response()
}

async fn metrics(Shared(api): Shared<Arc<Api>>) -> Response {
    api.metrics.set_connected(api.status.broker().connected);
    service::metrics::response(&api.registry)
}

/// Fetches now. The poll loop does it, so it never overlaps with a poll.
async fn fetch_data(Shared(api): Shared<Arc<Api>>) -> Response {
    let broker = api.status.broker();
    if !broker.connected || broker.message.is_some() {
        return api.broker_problem(&broker);
    }
    let (sender, receiver) = oneshot::channel();
    if api.commands.try_send(sender).is_err() {
        let message = "too many fetches are waiting, or the producer is shutting down";
        return api.problem(StatusCode::SERVICE_UNAVAILABLE, "Busy", message, None);
    }
    match tokio::time::timeout(FETCH_TIMEOUT, receiver).await {
        Err(_) => api.timed_out(),
        Ok(Err(_)) => {
            let message = "the producer is shutting down";
            api.problem(StatusCode::SERVICE_UNAVAILABLE, "ShuttingDown", message, None)
        }
        Ok(Ok(Err(Paused { left }))) => {
            let seconds = left.as_secs() + 1;
            let message = format!("the source asked for a pause: try again in {seconds} s");
            let response = api.problem(StatusCode::SERVICE_UNAVAILABLE, "RateLimited", &message, None);
            ([(RETRY_AFTER, seconds.to_string())], response).into_response()
        }
        Ok(Ok(Ok(summary))) if !summary.succeeded => {
            let first = summary.errors.first();
            let (reason, message) = first.map_or(("Unknown", "nothing was fetched"), |error| {
                (error.reason.as_str(), error.message.as_str())
            });
            api.problem(StatusCode::SERVICE_UNAVAILABLE, reason, message, Some(&summary))
        }
        Ok(Ok(Ok(summary))) => {
            let quotes = summary.published + summary.unchanged;
            Json(json!({
                "message": format!("Fetched {quotes} of {} symbols", api.symbols.len()),
                "symbols": api.symbols,
                "published": summary.published,
                "unchanged": summary.unchanged,
                "absent": summary.absent,
                "errors": summary.errors,
                "timestamp": clock::now(),
            }))
            .into_response()
        }
    }
}

impl Api {
    fn problem(&self, status: StatusCode, reason: &str, message: &str, errors: Option<&Summary>) -> Response {
        let body = Problem {
            message,
            reason,
            symbols: &self.symbols,
            errors,
        };
        (status, Json(body)).into_response()
    }

    fn broker_problem(&self, broker: &BrokerState) -> Response {
        let message = broker.message.as_deref().unwrap_or("the broker is not connected");
        self.problem(StatusCode::SERVICE_UNAVAILABLE, &broker.reason, message, None)
    }

    fn timed_out(&self) -> Response {
        let seconds = FETCH_TIMEOUT.as_secs();
        let message =
            format!("not fetched, or not confirmed by the broker, within {seconds} s; it may still be");
        self.problem(StatusCode::GATEWAY_TIMEOUT, "Timeout", &message, None)
    }
}
