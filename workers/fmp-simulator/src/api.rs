//! The FMP API: what a client sees.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State as Shared},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use contract::symbol::Symbol;
use futures::{StreamExt as _, stream};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use serde::Deserialize;
use service::clock;
use tracing::debug;

use crate::{
    fault::{DEFAULT_DELAY, Endpoint, Fault, FaultKind},
    market::Answer,
    message,
    state::State,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The query parameters that are read.
#[derive(Debug, Deserialize)]
struct Parameters {
    symbol: Option<String>,
    symbols: Option<String>,
    apikey: Option<String>,
}

/// The routes of the API, and `/health`.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/stable/quote", get(quote))
        .route("/stable/batch-quote", get(batch_quote))
        .route("/api/{*path}", get(legacy))
        .route("/health", get(health))
        .fallback(not_found)
        .with_state(state)
}

/// `GET /health`, on both ports.
pub async fn health() -> Response {
    axum::Json(serde_json::json!({ "status": "healthy" })).into_response()
}

async fn quote(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    handle(&state, Endpoint::Quote, &headers, &parameters).await
}

async fn batch_quote(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    Query(parameters): Query<Parameters>,
) -> Response {
    handle(&state, Endpoint::BatchQuote, &headers, &parameters).await
}

async fn legacy(Shared(state): Shared<Arc<State>>) -> Response {
    error(&state, StatusCode::FORBIDDEN, message::LEGACY)
}

async fn not_found(Shared(state): Shared<Arc<State>>) -> Response {
    error(&state, StatusCode::NOT_FOUND, message::NOT_FOUND)
}

async fn handle(state: &State, endpoint: Endpoint, headers: &HeaderMap, parameters: &Parameters) -> Response {
    let response = respond(state, endpoint, headers, parameters).await;
    state.count(endpoint, response.status().as_u16());
    // Neither headers nor parameters: the key is among them.
    debug!(?endpoint, status = response.status().as_u16(), "Answered");
    response
}

async fn respond(
    state: &State,
    endpoint: Endpoint,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Response {
    let in_header = headers.get("apikey").and_then(|value| value.to_str().ok());
    let key = in_header.or(parameters.apikey.as_deref()).unwrap_or_default();
    if !state.accepts(key) {
        return error(state, StatusCode::UNAUTHORIZED, message::INVALID_KEY);
    }
    let symbols = match symbols(endpoint, parameters) {
        Ok(symbols) => symbols,
        Err(parameter) => {
            let message = format!("{}{parameter}", message::MISSING_PARAMETER);
            return error(state, StatusCode::BAD_REQUEST, &message);
        }
    };
    let fault = state.take_fault(endpoint, &symbols);
    if let Some(fault) = &fault
        && let Some(response) = refuse(state, fault).await
    {
        return response;
    }
    if !state.take_call(clock::now()) {
        let seconds = state.retry_after().map(|delay| delay.as_secs());
        return rate_limit(state, seconds);
    }
    if endpoint == Endpoint::BatchQuote && !state.plan().has_batch() {
        return error(state, StatusCode::PAYMENT_REQUIRED, message::RESTRICTED);
    }
    match fault.map(|fault| fault.kind) {
        Some(FaultKind::CutOff) => cut_off(&state.peek(clock::now(), &symbols)),
        Some(FaultKind::Malformed) => malformed(&state.peek(clock::now(), &symbols)),
        _ => whole(&state.answer(clock::now(), &symbols)),
    }
}

/// The symbols asked for, each once. What is no symbol is unknown, like one that does not exist. `Err` names the parameter
/// that is missing.
fn symbols(endpoint: Endpoint, parameters: &Parameters) -> Result<Vec<Symbol>, &'static str> {
    let (name, texts): (_, Vec<&str>) = match endpoint {
        Endpoint::Quote => ("symbol", parameters.symbol.as_deref().into_iter().collect()),
        Endpoint::BatchQuote => (
            "symbols",
            parameters.symbols.iter().flat_map(|all| all.split(',')).collect(),
        ),
    };
    if texts.iter().all(|text| text.trim().is_empty()) {
        return Err(name);
    }
    let mut symbols: Vec<Symbol> = Vec::with_capacity(texts.len());
    for symbol in texts.iter().filter_map(|text| text.trim().parse().ok()) {
        if !symbols.contains(&symbol) {
            symbols.push(symbol);
        }
    }
    Ok(symbols)
}

/// The answer of a fault that is an answer of its own; those that spoil the right answer come later.
async fn refuse(state: &State, fault: &Fault) -> Option<Response> {
    match fault.kind {
        FaultKind::WrongKey => Some(error(state, StatusCode::UNAUTHORIZED, message::INVALID_KEY)),
        FaultKind::RateLimit => Some(rate_limit(state, fault.retry_after_seconds.map(u64::from))),
        FaultKind::PaymentRequired => Some(error(state, StatusCode::PAYMENT_REQUIRED, message::RESTRICTED)),
        FaultKind::Forbidden => Some(error(state, StatusCode::FORBIDDEN, message::RESTRICTED)),
        FaultKind::ServerError => {
            let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
            let status = status.filter(StatusCode::is_server_error);
            Some(page(state, status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)))
        }
        FaultKind::ErrorOn200 => {
            let message = fault.message.as_deref().unwrap_or(message::LIMIT_REACH);
            Some(error(state, StatusCode::OK, message))
        }
        FaultKind::WrongContentType => Some(page(state, StatusCode::OK)),
        FaultKind::Slow => {
            // Before the answer is made: a client that gives up meanwhile misses nothing.
            tokio::time::sleep(fault.delay.unwrap_or(DEFAULT_DELAY)).await;
            None
        }
        FaultKind::CutOff | FaultKind::Malformed => None,
    }
}

fn whole(answer: &Answer) -> Response {
    respond_with(StatusCode::OK, JSON, answer.date, Body::from(render(answer)))
}

fn malformed(answer: &Answer) -> Response {
    let body = render(answer);
    let half = body.slice(..body.len() / 2);
    respond_with(StatusCode::OK, JSON, answer.date, Body::from(half))
}

fn cut_off(answer: &Answer) -> Response {
    let body = render(answer);
    let half = body.slice(..body.len() / 2);
    let rest = async {
        // A moment, so that the half is on its way before the connection is closed.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))
    };
    let stream = stream::iter([Ok(half)]).chain(stream::once(rest));
    let mut response = respond_with(StatusCode::OK, JSON, answer.date, Body::from_stream(stream));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    response
}

fn rate_limit(state: &State, retry_after_seconds: Option<u64>) -> Response {
    let mut response = error(state, StatusCode::TOO_MANY_REQUESTS, message::LIMIT_REACH);
    if let Some(seconds) = retry_after_seconds {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn error(state: &State, status: StatusCode, message: &str) -> Response {
    let body = message::body(message).to_string();
    respond_with(status, JSON, state.simulated(clock::now()), Body::from(body))
}

fn page(state: &State, status: StatusCode) -> Response {
    respond_with(
        status,
        HTML,
        state.simulated(clock::now()),
        Body::from(message::GATEWAY_PAGE),
    )
}

fn respond_with(status: StatusCode, content_type: HeaderValue, date: Timestamp, body: Body) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    // Set here, the server does not add its own. Its resolution is the second: earlier than the moment itself, so still true.
    if let Some(date) = http_date(date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

fn http_date(date: Timestamp) -> Option<HeaderValue> {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).ok()?;
    HeaderValue::from_maybe_shared(text).ok()
}

fn render(answer: &Answer) -> Bytes {
    // Cannot fail: no map keys, and every number was a decimal.
    serde_json::to_vec(&answer.quotes).unwrap_or_default().into()
}
