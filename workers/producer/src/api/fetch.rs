//! Fetching now: `POST /fetch-data`, and what became of it, `GET /fetch-data/{id}`.
//!
//! The poll loop does it, so it never overlaps with a poll. Who orders it waits for a moment, and asks again later when that
//! was not enough: no request stays open for as long as a slow source takes.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::symbol::Symbol;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service::clock;
use tokio::sync::{mpsc::error::TrySendError, oneshot};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    api::{
        Shared,
        fetches::FetchState,
        outcome::{self, FetchAnswer},
        problem::Problem,
        schema::SymbolText,
    },
    poll::command::{Command, Refusal, Report},
};

/// How long `POST /fetch-data` waits for its outcome.
pub const WAIT: Duration = Duration::from_secs(5);

/// What the poll loop replies; an error when it ends without a reply.
type Reply = Result<Result<Report, Refusal>, oneshot::error::RecvError>;

/// The query of `POST /fetch-data`.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct FetchQuery {
    /// Whether to wait up to 5 seconds for the outcome. With `false` the answer comes at once, and says where the outcome will
    /// be.
    #[serde(default = "yes")]
    #[param(required = false, default = true)]
    wait: bool,
}

const fn yes() -> bool {
    true
}

/// What to fetch. No body, an empty one and `null` mean every symbol of the feed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchOrder {
    /// Symbols of the feed. All of them when there is no list; one that is named twice is fetched once.
    #[serde(default)]
    #[schema(value_type = Option<Vec<SymbolText>>, min_items = 1, max_items = 500, example = json!(["AAPL"]))]
    symbols: Option<Vec<Symbol>>,
}

/// Where the outcome of a fetch will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FetchAccepted {
    /// The name of the fetch.
    id: Uuid,
    /// Where to ask: a path of this API.
    #[schema(example = "/fetch-data/019aba6c-1b2f-7c3a-8d4e-5f6071829304")]
    status_url: String,
}

/// Fetch quotes now
///
/// Asks the source for all symbols of the feed, or for some, and publishes what is new. It counts against the quota as a
/// poll does. When it takes longer than 5 seconds the answer is 202 and says where the outcome will be for 10 minutes.
#[utoipa::path(
    post,
    path = "/fetch-data",
    tag = "fetching",
    operation_id = "fetchData",
    params(FetchQuery),
    request_body(content = Option<FetchOrder>, description = "What to fetch; without a body, everything"),
    responses(
        (
            status = 200,
            description = "The source answered, at least for some symbols",
            body = FetchAnswer,
            example = json!({
                "message": "Fetched 1 of 2 symbols",
                "symbols": ["AAPL", "WRONG"],
                "published": 1,
                "unchanged": 0,
                "absent": ["WRONG"],
                "errors": [],
                "timestamp": "2026-11-24T14:30:00.5Z",
                "results": {
                    "AAPL": { "outcome": "published", "price": "189.84", "event_time": "2026-11-24T14:29:59Z" },
                    "WRONG": {
                        "outcome": "absent",
                        "reason": "UnknownSymbol",
                        "message": "the source knows no such symbol"
                    },
                },
                "calls": 1,
                "quota_left": 249,
            }),
        ),
        (
            status = 202,
            description = "Under way; ask for the outcome later",
            body = FetchAccepted,
            headers(("Location" = String, description = "Where the outcome will be: the same as `status_url`")),
            example = json!({
                "id": "019aba6c-1b2f-7c3a-8d4e-5f6071829304",
                "status_url": "/fetch-data/019aba6c-1b2f-7c3a-8d4e-5f6071829304",
            }),
        ),
    ),
    security(("bearer" = [])),
)]
pub async fn order(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<FetchQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let Query(FetchQuery { wait }) =
        query.map_err(|rejection| Problem::invalid_query(rejection.body_text()))?;
    let FetchOrder { symbols } = read(&headers, body)?;
    let symbols = choose(symbols, shared.api.status.symbols())?;
    let mut reply = shared.send(symbols.clone())?;
    if wait && let Ok(reply) = tokio::time::timeout(WAIT, &mut reply).await {
        return Ok(Json(shared.outcome(symbols, reply)?).into_response());
    }
    let id = shared.fetches.begin(clock::now());
    tokio::spawn(async move {
        let reply = reply.await;
        let outcome = shared.outcome(symbols, reply);
        shared.fetches.finish(id, outcome, clock::now());
    });
    let status_url = format!("/fetch-data/{id}");
    let location = [(header::LOCATION, status_url.clone())];
    let body = Json(FetchAccepted { id, status_url });
    Ok((StatusCode::ACCEPTED, location, body).into_response())
}

/// Ask what became of a fetch
///
/// For 10 minutes after it was ordered, and for the last 100 that were not finished when they were answered.
#[utoipa::path(
    get,
    path = "/fetch-data/{id}",
    tag = "fetching",
    operation_id = "getFetch",
    params(("id" = Uuid, Path, description = "As `POST /fetch-data` said")),
    responses((
        status = 200,
        description = "How far it is, and its outcome",
        body = FetchState,
        examples(
            ("running" = (value = json!({
                "id": "019aba6c-1b2f-7c3a-8d4e-5f6071829304",
                "state": "running",
                "started_at": "2026-11-24T14:30:00Z",
            }))),
            ("finished" = (value = json!({
                "id": "019aba6c-1b2f-7c3a-8d4e-5f6071829304",
                "state": "finished",
                "started_at": "2026-11-24T14:30:00Z",
                "finished_at": "2026-11-24T14:30:07Z",
                "result": {
                    "message": "Fetched 1 of 1 symbols",
                    "symbols": ["AAPL"],
                    "published": 1,
                    "unchanged": 0,
                    "absent": [],
                    "errors": [],
                    "timestamp": "2026-11-24T14:30:07Z",
                    "results": {
                        "AAPL": { "outcome": "published", "price": "189.84", "event_time": "2026-11-24T14:29:59Z" },
                    },
                    "calls": 1,
                    "quota_left": null,
                },
            }))),
            ("failed" = (value = json!({
                "id": "019aba6c-1b2f-7c3a-8d4e-5f6071829304",
                "state": "finished",
                "started_at": "2026-11-24T14:30:00Z",
                "finished_at": "2026-11-24T14:30:07Z",
                "problem": {
                    "type": "about:blank",
                    "title": "Service Unavailable",
                    "status": 503,
                    "detail": "the producer is shutting down",
                    "reason": "ShuttingDown",
                },
            }))),
        ),
    )),
    security(("bearer" = [])),
)]
pub async fn state(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<FetchState>, Problem> {
    // What is no UUID names no fetch either.
    let state = id.ok().and_then(|Path(id)| shared.fetches.get(id, clock::now()));
    state.map(Json).ok_or_else(unknown_fetch)
}

/// Reads the order that a body holds.
fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<FetchOrder, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(),
        _ => Problem::unreadable_body(),
    })?;
    if body.is_empty() {
        return Ok(FetchOrder::default());
    }
    if !is_json(headers) {
        return Err(Problem::not_json());
    }
    let body: Value = serde_json::from_slice(&body).map_err(|error| Problem::malformed_json(&error))?;
    // An object first: a list of its fields would do for serde.
    serde_json::from_value::<Option<Map<String, Value>>>(body)
        .and_then(|fields| match fields {
            Some(fields) => serde_json::from_value(Value::Object(fields)),
            None => Ok(FetchOrder::default()),
        })
        .map_err(|error| Problem::invalid_body(&error))
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = text.and_then(|text| text.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// The symbols that are wanted, each once: all of the feed's, or some of them.
fn choose(wanted: Option<Vec<Symbol>>, of_feed: Vec<Symbol>) -> Result<Vec<Symbol>, Problem> {
    let Some(wanted) = wanted else {
        return Ok(of_feed);
    };
    let mut chosen: Vec<Symbol> = Vec::with_capacity(wanted.len());
    for symbol in wanted {
        if !chosen.contains(&symbol) {
            chosen.push(symbol);
        }
    }
    if chosen.is_empty() {
        return Err(no_symbols());
    }
    let unknown: Vec<Symbol> = chosen
        .iter()
        .filter(|symbol| !of_feed.contains(symbol))
        .cloned()
        .collect();
    if unknown.is_empty() {
        Ok(chosen)
    } else {
        Err(unknown_symbols(unknown))
    }
}

impl Shared {
    /// Gives the order to the poll loop.
    fn send(&self, symbols: Vec<Symbol>) -> Result<oneshot::Receiver<Result<Report, Refusal>>, Problem> {
        if self.api.status.shutting_down() {
            return Err(outcome::shutting_down());
        }
        let (reply, receiver) = oneshot::channel();
        match self.api.commands.try_send(Command { symbols, reply }) {
            Ok(()) => Ok(receiver),
            Err(TrySendError::Full(_)) => Err(outcome::busy()),
            Err(TrySendError::Closed(_)) => Err(outcome::shutting_down()),
        }
    }

    /// What is answered to what the poll loop replied.
    fn outcome(&self, symbols: Vec<Symbol>, reply: Reply) -> Result<FetchAnswer, Problem> {
        let now = clock::now();
        let report = reply
            .map_err(|_| outcome::shutting_down())?
            .map_err(|refusal| outcome::refused(&refusal, now))?;
        outcome::answer(symbols, report, self.api.status.quota().left_today, now)
    }
}

/// 404: no such fetch.
pub fn unknown_fetch() -> Problem {
    let detail = "there is no fetch of this id, or it is forgotten: ids are kept for 10 minutes";
    Problem::new(StatusCode::NOT_FOUND, "UnknownFetch", detail)
}

/// 422: a list without symbols.
pub fn no_symbols() -> Problem {
    let detail = "symbols is empty: name at least one, or leave it out for all";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "NoSymbols", detail)
}

/// 422: the feed does not have these symbols.
pub fn unknown_symbols(symbols: Vec<Symbol>) -> Problem {
    let names = symbols.iter().map(Symbol::as_str).collect::<Vec<_>>().join(", ");
    let detail = format!("the feed does not have {names}: GET /symbols lists what it has");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "UnknownSymbols", detail).of_symbols(symbols)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::tests::{Harness, all_published};

    #[tokio::test]
    async fn no_body_an_empty_one_and_null_mean_all_symbols() {
        let harness = Harness::new(None, all_published);
        for body in ["", "null", "{}", r#"{ "symbols": null }"#] {
            let answer = harness.post("/fetch-data", body).await;
            assert_eq!(answer.status, 200, "{body}");
            let body = answer.json();
            assert_eq!(body["message"], "Fetched 2 of 2 symbols");
            assert_eq!(body["symbols"], json!(["AAPL", "MSFT"]));
            assert_eq!(body["quota_left"], json!(null), "no limit");
        }
    }

    #[tokio::test]
    async fn an_empty_body_may_have_any_type() {
        let harness = Harness::new(None, all_published);
        let request = axum::http::Request::post("/fetch-data")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(axum::body::Body::empty())
            .unwrap();
        assert_eq!(harness.send(request).await.status, 200);
    }

    #[tokio::test]
    async fn some_symbols_are_fetched_once_each() {
        let harness = Harness::new(None, all_published);
        let answer = harness
            .post("/fetch-data", r#"{ "symbols": ["MSFT", "MSFT"] }"#)
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["symbols"], json!(["MSFT"]));
        assert_eq!(
            answer.json()["results"],
            json!({ "MSFT": { "outcome": "published" } })
        );
        let refused = harness
            .post("/fetch-data", r#"{ "symbols": ["IBM", "MSFT", "^GSPC"] }"#)
            .await;
        assert_eq!(refused.problem(), (422, "UnknownSymbols".to_owned()));
        assert_eq!(refused.json()["symbols"], json!(["IBM", "^GSPC"]));
        assert!(refused.json()["detail"].as_str().unwrap().contains("IBM, ^GSPC"));
    }
}
