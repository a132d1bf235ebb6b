//! `/openapi.json`: the API's description. Successful answers are described where they are made; errors here, in one table, with
//! examples that are made as the real ones are.

use std::{collections::BTreeMap, time::Duration};

use axum::Json;
use contract::symbol::Symbol;
use jiff::Timestamp;
use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, ResponseBuilder,
        example::ExampleBuilder,
        header::HeaderBuilder,
        path::Operation,
        response::Response,
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    api::{
        auth, fetch, layers, observe, outcome,
        problem::{self, Problem, ProblemDocument},
    },
    poll::command::{Outcome, Refusal, SymbolReport},
};

/// Where the description is.
pub const PATH: &str = "/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "StockFeed producer",
        description = "Polls a source of quotes and publishes them to a feed's partitions. All times are UTC, all errors are \
                       `application/problem+json` (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        observe::root, observe::health, observe::ready, observe::symbols, observe::quota, observe::metrics,
        fetch::order, fetch::state, serve,
    ),
    components(schemas(ProblemDocument)),
    tags(
        (name = "fetching", description = "Fetching now"),
        (name = "state", description = "What the producer knows"),
        (name = "health", description = "For Kubernetes and Prometheus; without a token"),
        (name = "description", description = "What this is; without a token"),
    ),
    modifiers(&Additions),
)]
struct Description;

/// What the macros cannot say.
struct Additions;

impl Modify for Additions {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        openapi.info.contact = None;
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token in the key `token` of the feed's Secret."))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        for item in openapi.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                add_problems(operation);
            }
        }
    }
}

/// Describes an operation's errors.
fn add_problems(operation: &mut Operation) {
    let mut problems = Vec::new();
    if operation
        .security
        .as_ref()
        .is_some_and(|needed| !needed.is_empty())
    {
        problems.extend(of_gate());
    }
    match operation.operation_id.as_deref() {
        Some("fetchData") => problems.extend(of_order()),
        Some("getFetch") => problems.push(fetch::unknown_fetch()),
        _ => {}
    }
    let mut by_status: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for problem in problems {
        by_status
            .entry(problem.status().as_u16())
            .or_default()
            .push(problem);
    }
    for (status, problems) in by_status {
        let response = describe(status, &problems);
        operation
            .responses
            .responses
            .insert(status.to_string(), response.into());
    }
}

/// What any operation answers that needs a token.
fn of_gate() -> [Problem; 2] {
    [
        Problem::unauthorized("this is not the API's token", auth::CHALLENGE_AGAIN),
        Problem::token_unreadable(),
    ]
}

/// What `POST /fetch-data` answers instead of an outcome.
fn of_order() -> Vec<Problem> {
    let malformed = serde_json::from_str::<Value>("{").err();
    let invalid = serde_json::from_value::<Vec<Symbol>>(json!(["aapl"])).err();
    let symbol: Option<Symbol> = "AAPL".parse().ok();
    // Half past nine in New York, and the midnight after it.
    let (now, resets) = (
        Timestamp::constant(1_795_530_600, 0),
        Timestamp::constant(1_795_582_800, 0),
    );
    let failed = SymbolReport {
        outcome: Outcome::Failed,
        price: None,
        event_time: None,
        reason: Some("Timeout".to_owned()),
        message: Some("the source did not answer within 10000 ms".to_owned()),
    };
    let refusals = [
        Refusal::Paused {
            left: Duration::from_secs(30),
        },
        Refusal::QuotaExhausted {
            needed: 4,
            left: 1,
            resets,
        },
        Refusal::QuotaUnknown {
            message: "the database does not answer".to_owned(),
        },
        Refusal::SpoolFull { bytes: 268_435_456 },
    ];
    let mut problems = vec![
        Problem::invalid_query("wait must be true or false".to_owned()),
        Problem::unreadable_body(),
        Problem::timed_out(layers::TIMEOUT.as_secs()),
        Problem::body_too_large(),
        Problem::not_json(),
        fetch::unknown_symbols(symbol.iter().cloned().collect()),
        fetch::no_symbols(),
        outcome::all_failed(symbol.map(|symbol| (symbol, failed)).into_iter().collect()),
        outcome::busy(),
        outcome::shutting_down(),
    ];
    problems.extend(malformed.as_ref().map(Problem::malformed_json));
    problems.extend(invalid.as_ref().map(Problem::invalid_body));
    problems.extend(refusals.iter().map(|refusal| outcome::refused(refusal, now)));
    problems
}

/// Describes the errors of one status, each by an example.
fn describe(status: u16, problems: &[Problem]) -> Response {
    let examples = problems.iter().map(|problem| {
        let value = serde_json::to_value(problem.document()).unwrap_or_default();
        (
            problem.reason().to_owned(),
            ExampleBuilder::new().value(Some(value)).build(),
        )
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(examples)
        .build();
    let description = match status {
        400 => "The request cannot be read",
        401 => "No token, or not the right one",
        404 => "There is no such fetch, or it is forgotten",
        408 => "The request did not become complete",
        413 => "The body is too large",
        415 => "The body is not JSON",
        422 => "The body does not have the right form, or names symbols that the feed does not have",
        429 => "Not now: the source asked for a pause, or the quota is used up",
        502 => "Every request to the source failed",
        _ => "Not now",
    };
    let mut response = ResponseBuilder::new()
        .description(description)
        .content(problem::MEDIA_TYPE, content);
    if status == 401 {
        let text = HeaderBuilder::new()
            .schema(ObjectBuilder::new().schema_type(Type::String))
            .description(Some("`Bearer`"));
        response = response.header("WWW-Authenticate", text.build());
    }
    if status == 429 {
        let seconds = HeaderBuilder::new()
            .schema(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)))
            .description(Some("Seconds after which to try again"));
        response = response.header("Retry-After", seconds.build());
    }
    response.build()
}

/// This description
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "description",
    operation_id = "getDescription",
    responses((
        status = 200,
        description = "The API as OpenAPI 3.1",
        body = Object,
        example = json!({ "openapi": "3.1.0", "info": { "title": "StockFeed producer", "version": "0.1.0" }, "paths": {} }),
    )),
)]
pub async fn serve() -> Json<Value> {
    Json(description())
}

fn description() -> Value {
    // Cannot fail: it is a value that was read from source code.
    let mut description = serde_json::to_value(Description::openapi()).unwrap_or_default();
    // utoipa can make links, but names their fields as OpenAPI does not.
    if let Some(Value::Object(accepted)) = description.pointer_mut("/paths/~1fetch-data/post/responses/202") {
        let link = json!({
            "operationId": "getFetch",
            "parameters": { "id": "$response.body#/id" },
            "description": "What became of it",
        });
        accepted.insert("links".to_owned(), json!({ "outcome": link }));
    }
    description
}

/// A broker that works.
pub fn broker_example() -> Value {
    json!({ "connected": true, "reason": "Ok", "message": null, "held_messages": 0 })
}

/// A source that works.
pub fn source_example() -> Value {
    json!({
        "ready": true,
        "problem": null,
        "last_attempt": "2026-11-24T14:30:00Z",
        "last_success": "2026-11-24T14:30:00Z",
        "consecutive_failures": 0,
        "paused_until": null,
        "bound": "2026-11-24T14:29:58Z",
        "batches": true,
    })
}

/// A quota that suffices because the interval grew.
pub fn quota_example() -> Value {
    json!({
        "policy": "Stretch",
        "calls_per_day": 250,
        "share_per_day": 250,
        "used_today": 1,
        "left_today": 249,
        "calls_per_minute": null,
        "resets_at": "2026-11-25T05:00:00Z",
        "projected_calls_per_day": 390,
        "interval_seconds": 60.0,
        "effective_interval_seconds": 93.6,
        "minimum_interval_seconds": 93.6,
        "exhausted_at": null,
        "market": { "hours": "Regular", "open": true, "next_open": null },
        "message": "polling every 93.6 s instead of every 60 s, so that 250 calls last until the day ends",
        "problem": null,
    })
}

/// A spool with room.
pub fn spool_example() -> Value {
    json!({ "messages": 0, "bytes": 0, "max_bytes": 268_435_456, "full": false })
}

#[cfg(test)]
mod tests;
