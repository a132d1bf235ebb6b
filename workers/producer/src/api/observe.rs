//! What the API shows: all of it is in memory, so every answer is immediate.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::symbol::Symbol;
use jiff::Timestamp;
use serde::Serialize;
use service::clock;
use utoipa::ToSchema;

use crate::{
    api::{Shared, docs, openapi, schema::SymbolText},
    quota::QuotaState,
    spool::SpoolState,
    status::{BrokerState, QuoteState, SourceState},
};

/// What this is, and where it is described.
#[derive(Debug, Serialize, ToSchema)]
pub struct Root {
    /// What this is.
    #[schema(example = "StockFeed producer")]
    name: &'static str,
    /// The same, for who knew the API before it had a name.
    #[schema(example = "StockFeed producer")]
    message: &'static str,
    /// The program's version.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// Where the API is described.
    links: Links,
}

/// Paths of this API.
#[derive(Debug, Serialize, ToSchema)]
struct Links {
    /// Its description, for people.
    #[schema(example = "/docs")]
    docs: &'static str,
    /// Its description, for programs.
    #[schema(example = "/openapi.json")]
    openapi: &'static str,
}

/// Whether the process lives, and how it does.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `degraded` when the broker or the source has a problem.
    status: HealthStatus,
    /// Whether the connection to the broker stands.
    rabbitmq_connected: bool,
    /// The feed's symbols.
    #[schema(value_type = Vec<SymbolText>)]
    symbols: Vec<Symbol>,
    /// Now.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The broker's state.
    broker: BrokerState,
    /// The source's state.
    source: SourceState,
}

/// How the producer does.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum HealthStatus {
    /// All is well.
    Healthy,
    /// The broker or the source has a problem.
    Degraded,
}

/// Whether the producer can do its work, and why not.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// It can: there is somewhere to put quotes, the source answers, and it is not shutting down.
    ready: bool,
    /// It ends.
    shutting_down: bool,
    /// The broker's state.
    broker: BrokerState,
    /// The source's state.
    source: SourceState,
    /// The quota's state. An exhausted quota or a closed exchange does not make the producer unready.
    quota: QuotaState,
    /// What waits for the broker.
    spool: SpoolState,
}

/// The feed's symbols and their last quotes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Symbols {
    /// The feed's symbols.
    #[schema(value_type = Vec<SymbolText>)]
    symbols: Vec<Symbol>,
    /// The last quote of each.
    #[schema(value_type = BTreeMap<String, QuoteState>)]
    quotes: BTreeMap<Symbol, QuoteState>,
}

/// What this is
#[utoipa::path(
    get,
    path = "/",
    tag = "description",
    operation_id = "getRoot",
    responses((
        status = 200,
        description = "Name, version, and where the API is described",
        body = Root,
        example = json!({
            "name": "StockFeed producer",
            "message": "StockFeed producer",
            "version": "0.1.0",
            "links": { "docs": "/docs", "openapi": "/openapi.json" },
        }),
    )),
)]
pub async fn root() -> Json<Root> {
    let name = "StockFeed producer";
    Json(Root {
        name,
        message: name,
        version: env!("CARGO_PKG_VERSION"),
        links: Links {
            docs: docs::PATH,
            openapi: openapi::PATH,
        },
    })
}

/// Whether the process lives
///
/// Answers 200 for as long as it does, whatever the state of broker and source; the body tells the truth about them.
#[utoipa::path(
    get,
    path = "/health",
    tag = "health",
    operation_id = "getHealth",
    responses((
        status = 200,
        description = "The process lives",
        body = Health,
        example = json!({
            "status": "healthy",
            "rabbitmq_connected": true,
            "symbols": ["AAPL", "MSFT"],
            "timestamp": "2026-11-24T14:30:00.5Z",
            "broker": openapi::broker_example(),
            "source": openapi::source_example(),
        }),
    )),
)]
pub async fn health(State(shared): State<Arc<Shared>>) -> Json<Health> {
    let status = &shared.api.status;
    let (broker, source) = (status.broker(), status.source());
    let works = broker.connected && broker.message.is_none() && source.ready && source.problem.is_none();
    Json(Health {
        status: if works {
            HealthStatus::Healthy
        } else {
            HealthStatus::Degraded
        },
        rabbitmq_connected: broker.connected,
        symbols: status.symbols(),
        timestamp: clock::now(),
        broker,
        source,
    })
}

/// Whether the producer can do its work
#[utoipa::path(
    get,
    path = "/ready",
    tag = "health",
    operation_id = "getReadiness",
    responses(
        (
            status = 200,
            description = "It can",
            body = Readiness,
            example = json!({
                "ready": true,
                "shutting_down": false,
                "broker": openapi::broker_example(),
                "source": openapi::source_example(),
                "quota": openapi::quota_example(),
                "spool": openapi::spool_example(),
            }),
        ),
        (
            status = 503,
            description = "It cannot; the parts say why",
            body = Readiness,
            example = json!({
                "ready": false,
                "shutting_down": true,
                "broker": openapi::broker_example(),
                "source": openapi::source_example(),
                "quota": openapi::quota_example(),
                "spool": openapi::spool_example(),
            }),
        ),
    ),
)]
pub async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let status = &shared.api.status;
    let readiness = Readiness::new(
        status.shutting_down(),
        status.broker(),
        status.source(),
        status.quota(),
        status.spool(),
    );
    let code = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(readiness)).into_response()
}

impl Readiness {
    fn new(
        shutting_down: bool,
        broker: BrokerState,
        source: SourceState,
        quota: QuotaState,
        spool: SpoolState,
    ) -> Self {
        let somewhere = broker.connected || !spool.full;
        Self {
            ready: somewhere && source.ready && !shutting_down,
            shutting_down,
            broker,
            source,
            quota,
            spool,
        }
    }
}

/// The feed's symbols and their last quotes
#[utoipa::path(
    get,
    path = "/symbols",
    tag = "state",
    operation_id = "getSymbols",
    responses((
        status = 200,
        description = "The symbols, and of each the last price, its time and volume, and what is wrong with it",
        body = Symbols,
        example = json!({
            "symbols": ["AAPL", "MSFT"],
            "quotes": {
                "AAPL": {
                    "price": "189.84",
                    "event_time": "2026-11-24T14:29:59Z",
                    "volume": 2_698_400,
                    "error": null
                },
                "MSFT": {
                    "price": null,
                    "event_time": null,
                    "volume": null,
                    "error": { "reason": "UnknownSymbol", "message": "the source knows no such symbol" },
                },
            },
        }),
    )),
    security(("bearer" = [])),
)]
pub async fn symbols(State(shared): State<Arc<Shared>>) -> Json<Symbols> {
    let status = &shared.api.status;
    Json(Symbols {
        symbols: status.symbols(),
        quotes: status.quotes(),
    })
}

/// How many calls to the source are left
#[utoipa::path(
    get,
    path = "/quota",
    tag = "state",
    operation_id = "getQuota",
    responses((
        status = 200,
        description = "The limits, what is used of them, and what follows for the interval",
        body = QuotaState,
        example = json!(openapi::quota_example()),
    )),
    security(("bearer" = [])),
)]
pub async fn quota(State(shared): State<Arc<Shared>>) -> Json<QuotaState> {
    Json(shared.api.status.quota())
}

/// Metrics for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    operation_id = "getMetrics",
    responses((
        status = 200,
        description = "All metrics in the OpenMetrics text format",
        body = String,
        content_type = "application/openmetrics-text",
        example = json!(
            "# HELP stockfeed_producer_broker_connected 1 when connected to the broker.\n\
             # TYPE stockfeed_producer_broker_connected gauge\n\
             stockfeed_producer_broker_connected 1\n\
             # EOF\n"
        ),
    )),
)]
pub async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let api = &shared.api;
    api.metrics.set_connected(api.status.broker().connected);
    service::metrics::response(&api.registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(shutting_down: bool, connected: bool, full: bool, source_ready: bool) -> bool {
        let broker = BrokerState {
            connected,
            reason: "Ok".to_owned(),
            message: None,
            held_messages: 0,
        };
        let source = SourceState {
            ready: source_ready,
            ..SourceState::default()
        };
        let spool = SpoolState {
            messages: 0,
            bytes: 0,
            max_bytes: None,
            full,
        };
        Readiness::new(shutting_down, broker, source, QuotaState::default(), spool).ready
    }

    #[test]
    fn ready_is_who_has_quotes_and_somewhere_to_put_them() {
        assert!(readiness(false, true, false, true));
        assert!(readiness(false, false, false, true), "the spool has room");
        assert!(
            readiness(false, true, true, true),
            "a spool that drains may be full"
        );
        assert!(!readiness(false, false, true, true), "nowhere to put quotes");
        assert!(!readiness(false, true, false, false), "no quotes");
        assert!(!readiness(true, true, false, true), "it ends");
    }
}
