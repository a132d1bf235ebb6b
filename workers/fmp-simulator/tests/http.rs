//! The simulator as a client sees it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::{Duration, Instant};

use clap::Parser as _;
use fmp_simulator::{
    Simulator,
    fault::{Endpoint, Fault, FaultKind},
    message,
    options::Options,
};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const STEP: [&str; 4] = [
    "--source=history",
    "--replay=step",
    "--from=2012-01-03",
    "--to=2012-01-04",
];

async fn start(flags: &[&str]) -> Simulator {
    let common = [
        "fmp-simulator",
        "--listen=127.0.0.1:0",
        "--control-listen=127.0.0.1:0",
    ];
    let options = Options::parse_from(common.iter().chain(flags));
    fmp_simulator::start(options, CancellationToken::new())
        .await
        .unwrap()
}

async fn get(simulator: &Simulator, path: &str) -> Response {
    request(simulator, path).send().await.unwrap()
}

fn request(simulator: &Simulator, path: &str) -> reqwest::RequestBuilder {
    // Plain HTTP, but reqwest asks for a TLS provider all the same. A second installation is refused: good.
    drop(service::tls::install_provider());
    let url = format!("{}{path}", simulator.base_url());
    Client::new().get(url).header("apikey", "any")
}

async fn text(simulator: &Simulator, path: &str) -> String {
    let response = get(simulator, path).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.text().await.unwrap()
}

fn date(response: &Response) -> String {
    response.headers()["date"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn steps_through_a_history_with_exact_digits() {
    let simulator = start(&STEP).await;
    let first = get(&simulator, "/batch-quote?symbols=IBM,AAPL,NONE,AAPL").await;
    assert_eq!(date(&first), "Tue, 03 Jan 2012 14:30:00 GMT");
    assert_eq!(first.headers()["content-type"], "application/json; charset=utf-8");
    let first: Vec<Value> = first.json().await.unwrap();
    let symbols: Vec<_> = first
        .iter()
        .map(|quote| quote["symbol"].as_str().unwrap())
        .collect();
    assert_eq!(
        symbols,
        ["IBM", "AAPL"],
        "in the order asked for, each once, without the unknown one"
    );
    assert_eq!(first[1]["timestamp"], 1_325_601_000);
    let second = text(&simulator, "/quote?symbol=AAPL").await;
    assert!(
        second.contains(r#""price":409.0,"#) && second.contains(r#""open":409.4,"#),
        "{second}"
    );
    assert_eq!(text(&simulator, "/quote?symbol=NONE").await, "[]");
    let report = simulator.report();
    let progress: Vec<_> = report
        .progress
        .values()
        .map(|progress| (progress.served, progress.total))
        .collect();
    assert_eq!(progress, [(2, 8), (1, 8)]);
    assert!(!report.exhausted);
}

#[tokio::test]
async fn at_the_end_the_last_quote_is_repeated_and_time_has_passed() {
    let simulator = start(&STEP).await;
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.push(text(&simulator, "/quote?symbol=MSFT").await);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 8);
    let again = get(&simulator, "/quote?symbol=MSFT").await;
    assert_eq!(date(&again), "Fri, 06 Jan 2012 12:00:00 GMT");
    assert_eq!(again.text().await.unwrap(), bodies[7]);
    assert!(simulator.report().exhausted);
    let url = format!("{}/reset", simulator.control_url());
    let status = Client::new().post(url).send().await.unwrap().status();
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(text(&simulator, "/quote?symbol=MSFT").await, bodies[0]);
}

#[tokio::test]
async fn the_key_travels_in_a_header_or_in_the_query() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "first\nsecond\n").unwrap();
    let simulator = start(&[&format!("--api-key-file={}", file.display())]).await;
    let url = format!("{}/quote?symbol=AAPL", simulator.base_url());
    drop(service::tls::install_provider());
    let client = Client::new();
    let status = async |header: Option<&str>, query: &str| {
        let mut request = client.get(format!("{url}{query}"));
        if let Some(key) = header {
            request = request.header("apikey", key);
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(Some("first"), "").await, 200);
    assert_eq!(status(None, "&apikey=second").await, 200);
    assert_eq!(status(Some("wrong"), "").await, 401);
    assert_eq!(status(None, "").await, 401);
    assert_eq!(status(Some(""), "").await, 401);
    std::fs::write(&file, "third").unwrap();
    assert_eq!(
        status(Some("first"), "").await,
        401,
        "a rotated key counts at once"
    );
    let response = client.get(&url).send().await.unwrap();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body, json!({ "Error Message": message::INVALID_KEY }));
}

#[tokio::test]
async fn the_plan_and_the_quota_are_kept() {
    let simulator = start(&["--plan=basic", "--calls-per-day=2", "--retry-after=7s"]).await;
    let batch = get(&simulator, "/batch-quote?symbols=AAPL").await;
    assert_eq!(batch.status(), StatusCode::PAYMENT_REQUIRED);
    let body: Value = batch.json().await.unwrap();
    assert!(
        body["Error Message"]
            .as_str()
            .unwrap()
            .contains("current subscription")
    );
    assert_eq!(
        get(&simulator, "/quote?symbol=AAPL").await.status(),
        StatusCode::OK
    );
    let over = get(&simulator, "/quote?symbol=AAPL").await;
    assert_eq!(over.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(over.headers()["retry-after"], "7");
    let body: Value = over.json().await.unwrap();
    assert!(body["Error Message"].as_str().unwrap().starts_with("Limit Reach"));
    let report = simulator.report();
    assert_eq!(report.quota.calls_today, 2);
    assert_eq!(report.requests[&Endpoint::Quote][&429], 1);
}

#[tokio::test]
async fn what_is_not_there_is_refused_as_fmp_does() {
    let simulator = start(&[]).await;
    for (path, status, part) in [
        ("/quotes?symbol=AAPL", 404, "Not Found"),
        ("/../api/v3/quote/AAPL", 403, "Legacy Endpoint"),
        ("/quote", 400, "parameter - symbol"),
        ("/batch-quote?symbols=", 400, "parameter - symbols"),
    ] {
        let response = get(&simulator, path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let body: Value = response.json().await.unwrap();
        assert!(
            body["Error Message"].as_str().unwrap().contains(part),
            "{path}: {body}"
        );
    }
    let health = reqwest::get(simulator.base_url().replace("/stable", "/health"))
        .await
        .unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let control = reqwest::get(simulator.base_url().replace("/stable", "/control/state"))
        .await
        .unwrap();
    assert_eq!(
        control.status(),
        StatusCode::NOT_FOUND,
        "control is not reachable through the API's port"
    );
}

#[tokio::test]
async fn a_faulty_answer_is_not_one_of_the_replay() {
    use FaultKind::{
        CutOff, ErrorOn200, Forbidden, Malformed, PaymentRequired, RateLimit, ServerError, WrongContentType,
        WrongKey,
    };
    let simulator = start(&STEP).await;
    let kinds = [
        (WrongKey, 401),
        (RateLimit, 429),
        (PaymentRequired, 402),
        (Forbidden, 403),
        (ServerError, 500),
        (CutOff, 200),
        (Malformed, 200),
        (ErrorOn200, 200),
        (WrongContentType, 200),
    ];
    for (kind, status) in kinds {
        simulator.inject(Fault::new(kind, Some(1)));
        let response = get(&simulator, "/quote?symbol=AAPL").await;
        assert_eq!(response.status().as_u16(), status, "{kind:?}");
        let is_json = response.headers()["content-type"]
            .to_str()
            .unwrap()
            .contains("json");
        assert_eq!(
            is_json,
            !matches!(kind, ServerError | WrongContentType),
            "{kind:?}"
        );
        match (kind, response.bytes().await) {
            (CutOff, result) => assert!(result.is_err()),
            (Malformed | ServerError | WrongContentType, body) => {
                assert!(
                    serde_json::from_slice::<Value>(&body.unwrap()).is_err(),
                    "{kind:?}"
                );
            }
            (_, body) => {
                let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
                assert!(body["Error Message"].is_string(), "{kind:?}");
            }
        }
    }
    assert!(simulator.report().progress.is_empty(), "nothing went on");
    let first: Vec<Value> = get(&simulator, "/quote?symbol=AAPL").await.json().await.unwrap();
    assert_eq!(first[0]["timestamp"], 1_325_601_000);
    assert_eq!(simulator.report().faults_met.len(), kinds.len());
}

#[tokio::test]
async fn who_gives_up_on_a_slow_answer_misses_no_quote() {
    let simulator = start(&STEP).await;
    let slow = |delay| Fault {
        delay: Some(delay),
        ..Fault::new(FaultKind::Slow, Some(1))
    };
    simulator.inject(slow(Duration::from_millis(600)));
    let impatient = request(&simulator, "/quote?symbol=AAPL").timeout(Duration::from_millis(100));
    assert!(impatient.send().await.unwrap_err().is_timeout());
    simulator.inject(slow(Duration::from_millis(800)));
    let started = Instant::now();
    let first: Vec<Value> = get(&simulator, "/quote?symbol=AAPL").await.json().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(800));
    assert_eq!(
        first[0]["timestamp"], 1_325_601_000,
        "the request that was given up did not go on later either"
    );
}

#[tokio::test]
async fn faults_are_ordered_and_counted_through_the_control_port() {
    let simulator = start(&[]).await;
    let client = Client::new();
    let faults = format!("{}/faults", simulator.control_url());
    let order = json!({ "kind": "rate-limit", "retry_after_seconds": 3, "endpoint": "quote" });
    let ordered = client.post(&faults).json(&order).send().await.unwrap();
    assert_eq!(ordered.status(), StatusCode::CREATED);
    assert_eq!(
        client
            .post(&faults)
            .json(&json!({ "kind": "fire" }))
            .send()
            .await
            .unwrap()
            .status(),
        422
    );
    let limited = get(&simulator, "/quote?symbol=AAPL").await;
    assert_eq!(limited.headers()["retry-after"], "3");
    assert_eq!(
        get(&simulator, "/batch-quote?symbols=AAPL").await.status(),
        StatusCode::OK
    );
    assert_eq!(
        client.delete(&faults).send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        get(&simulator, "/quote?symbol=AAPL").await.status(),
        StatusCode::OK
    );
    let url = format!("{}/state", simulator.control_url());
    let state: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        state["requests"],
        json!({ "quote": { "200": 1, "429": 1 }, "batch-quote": { "200": 1 } })
    );
    assert_eq!(state["faults_met"], json!({ "rate-limit": 1 }));
    assert_eq!(state["quotes_served"], json!({ "AAPL": 2 }));
    assert_eq!(state["exhausted"], false);
    assert!(state["simulated_time"].is_string());
}

#[tokio::test]
async fn the_random_walk_is_of_now() {
    let simulator = start(&["--seed=5"]).await;
    let response = get(&simulator, "/batch-quote?symbols=AAPL,BRK.B,%5EGSPC").await;
    let date = jiff::fmt::rfc2822::parse(&date(&response))
        .unwrap()
        .timestamp()
        .as_second();
    let quotes: Vec<Value> = response.json().await.unwrap();
    assert_eq!(quotes.len(), 3);
    for quote in &quotes {
        assert_eq!(quote["timestamp"], date);
        assert!(quote["price"].as_f64().unwrap() > 0.0);
    }
    let age = service::clock::now().as_second() - date;
    assert!((0..5).contains(&age));
}

#[tokio::test]
async fn ends_when_told_to() {
    let token = CancellationToken::new();
    let flags = [
        "fmp-simulator",
        "--listen=127.0.0.1:0",
        "--control-listen=127.0.0.1:0",
    ];
    let simulator = fmp_simulator::start(Options::parse_from(flags), token.clone())
        .await
        .unwrap();
    let ended = tokio::spawn(simulator.wait());
    token.cancel();
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_wrong_start_says_what_is_wrong() {
    for (flags, expected) in [
        (vec!["--source=history", "--history=missing.csv"], "missing.csv"),
        (
            vec!["--source=history", "--from=2050-01-01"],
            "no bars from 2050-01-01",
        ),
        (vec!["--api-key-file=missing-key"], "missing-key"),
    ] {
        let common = [
            "fmp-simulator",
            "--listen=127.0.0.1:0",
            "--control-listen=127.0.0.1:0",
        ];
        let options = Options::parse_from(common.iter().chain(&flags));
        let error = fmp_simulator::start(options, CancellationToken::new())
            .await
            .unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}
