//! The routes with a poll loop that answers what a test wants.

use std::{path::Path, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use contract::symbol::Symbol;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::{
    poll::command::{Outcome, Refusal, Report, SymbolReport},
    spool::Spool,
};

/// A producer without a source and a broker.
pub struct Harness {
    router: Router,
    pub status: Arc<Status>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Its status and reason, when it is a problem of the right form.
    #[track_caller]
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let body = self.json();
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["status"], self.status);
        let title = StatusCode::from_u16(self.status).unwrap();
        assert_eq!(body["title"], title.canonical_reason().unwrap());
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        (self.status, body["reason"].as_str().unwrap().to_owned())
    }
}

/// What the fake poll loop does with an order; `None` drops it.
type Reply = Option<Result<Report, Refusal>>;

impl Harness {
    /// A poll loop that answers at once.
    pub fn new(token_directory: Option<&Path>, reply: impl Fn(&[Symbol]) -> Reply + Send + 'static) -> Self {
        let (harness, mut orders) = Self::without_loop(token_directory);
        tokio::spawn(async move {
            while let Some(Command { symbols, reply: to }) = orders.recv().await {
                if let Some(reply) = reply(&symbols) {
                    // Who ordered it may have gone.
                    drop(to.send(reply));
                }
            }
        });
        harness
    }

    /// Orders go to the test itself. Two may wait.
    pub fn without_loop(token_directory: Option<&Path>) -> (Self, mpsc::Receiver<Command>) {
        let (spool, _) = Spool::open(None).unwrap();
        let status = Arc::new(Status::new(&symbols(&["AAPL", "MSFT"]), spool));
        let (commands, orders) = mpsc::channel(2);
        let mut registry = Registry::default();
        let api = Api {
            status: Arc::clone(&status),
            commands,
            metrics: Arc::new(Metrics::register(&mut registry)),
            registry,
            token_directory: token_directory.map(Path::to_owned),
        };
        let router = router(Arc::new(api));
        (Self { router, status }, orders)
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Orders a fetch with a JSON body.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        self.send(request.body(body.to_owned().into()).unwrap()).await
    }
}

pub fn symbols(texts: &[&str]) -> Vec<Symbol> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A new quote of each symbol.
pub fn all_published(symbols: &[Symbol]) -> Reply {
    let report = SymbolReport {
        outcome: Outcome::Published,
        price: None,
        event_time: None,
        reason: None,
        message: None,
    };
    Some(Ok(Report {
        results: symbols
            .iter()
            .map(|symbol| (symbol.clone(), report.clone()))
            .collect(),
        calls: 1,
        published: symbols.len(),
        unchanged: 0,
    }))
}

#[tokio::test]
async fn every_path_answers() {
    let harness = Harness::new(None, all_published);
    let root = harness.get("/").await;
    assert_eq!(root.status, 200);
    let links = json!({ "docs": "/docs", "openapi": "/openapi.json" });
    assert_eq!(
        (&root.json()["links"], &root.json()["message"]),
        (&links, &json!("StockFeed producer"))
    );
    let health = harness.get("/health").await;
    assert_eq!(
        (health.status, &health.json()["status"]),
        (200, &json!("degraded")),
        "no broker"
    );
    assert_eq!(health.json()["symbols"], json!(["AAPL", "MSFT"]));
    let ready = harness.get("/ready").await;
    assert_eq!(
        (ready.status, &ready.json()["ready"]),
        (200, &json!(true)),
        "the spool has room"
    );
    for part in ["broker", "source", "quota", "spool"] {
        assert!(ready.json()[part].is_object(), "{part}");
    }
    let shown = harness.get("/symbols").await;
    assert_eq!(
        (shown.status, &shown.json()["quotes"]["AAPL"]["price"]),
        (200, &json!(null))
    );
    let quota = harness.get("/quota").await;
    assert_eq!((quota.status, &quota.json()["used_today"]), (200, &json!(0)));
    let metrics = harness.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics.text.contains("stockfeed_producer_broker_connected 0"),
        "{}",
        metrics.text
    );
    harness.status.shut_down();
    let ready = harness.get("/ready").await;
    assert_eq!(
        (ready.status, &ready.json()["shutting_down"]),
        (503, &json!(true))
    );
    assert_eq!(
        harness.get("/health").await.status,
        200,
        "it lives until it has ended"
    );
}

#[tokio::test]
async fn symbols_that_changed_are_shown_and_fetched() {
    let harness = Harness::new(None, all_published);
    harness.status.set_symbols(&symbols(&["IBM"]));
    assert_eq!(harness.get("/symbols").await.json()["symbols"], json!(["IBM"]));
    assert_eq!(
        harness.post("/fetch-data", "").await.json()["symbols"],
        json!(["IBM"])
    );
    let refused = harness.post("/fetch-data", r#"{ "symbols": ["AAPL"] }"#).await;
    assert_eq!(refused.problem(), (422, "UnknownSymbols".to_owned()));
}

#[tokio::test]
async fn what_holds_data_needs_the_token_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "secret-1").unwrap();
    let harness = Harness::new(Some(directory.path()), all_published);
    for open in ["/", "/health", "/ready", "/metrics", "/openapi.json", "/docs/"] {
        assert_eq!(harness.get(open).await.status, 200, "{open}");
    }
    for (method, closed) in [
        ("GET", "/symbols"),
        ("GET", "/quota"),
        ("POST", "/fetch-data"),
        ("GET", "/fetch-data/019aba6c-1b2f-7c3a-8d4e-5f6071829304"),
    ] {
        let request = |token: Option<&str>| {
            let mut request = Request::builder().method(method).uri(closed);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            request.body(Body::empty()).unwrap()
        };
        let refused = harness.send(request(None)).await;
        assert_eq!(refused.problem(), (401, "Unauthorized".to_owned()), "{closed}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        let refused = harness.send(request(Some("guess"))).await;
        assert_eq!(refused.problem(), (401, "Unauthorized".to_owned()), "{closed}");
        let passed = harness.send(request(Some("secret-1"))).await;
        assert!([200, 404].contains(&passed.status), "{closed}: {passed:?}");
    }
}

#[tokio::test]
async fn a_folder_without_a_token_opens_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let harness = Harness::new(Some(&missing), all_published);
    let refused = harness.get("/symbols").await;
    assert_eq!(refused.problem(), (503, "TokenUnreadable".to_owned()));
    assert!(
        !refused.text.contains("missing"),
        "the folder is nobody's business: {}",
        refused.text
    );
    assert_eq!(harness.get("/ready").await.status, 200);
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let harness = Harness::new(None, all_published);
    assert_eq!(
        harness.get("/nothing").await.problem(),
        (404, "UnknownPath".to_owned())
    );
    let refused = harness.post("/symbols", "").await;
    assert_eq!(refused.problem(), (405, "MethodNotAllowed".to_owned()));
    assert_eq!(refused.header("allow"), Some("GET,HEAD"));
    let large = format!(r#"{{ "symbols": ["{}"] }}"#, "A".repeat(problem::MAX_BODY));
    for (path, body, expected) in [
        ("/fetch-data?wait=perhaps", "", (400, "InvalidQuery")),
        ("/fetch-data?wait=true&wait=false", "", (400, "InvalidQuery")),
        ("/fetch-data?await=true", "", (400, "InvalidQuery")),
        ("/fetch-data", "{", (400, "MalformedJson")),
        ("/fetch-data", "symbols", (400, "MalformedJson")),
        ("/fetch-data", &large, (413, "BodyTooLarge")),
        ("/fetch-data", "[]", (422, "InvalidBody")),
        ("/fetch-data", r#"[["AAPL"]]"#, (422, "InvalidBody")),
        ("/fetch-data", r#"{ "symbols": "AAPL" }"#, (422, "InvalidBody")),
        ("/fetch-data", r#"{ "symbols": ["aapl"] }"#, (422, "InvalidBody")),
        ("/fetch-data", r#"{ "symbol": ["AAPL"] }"#, (422, "InvalidBody")),
        ("/fetch-data", r#"{ "symbols": [] }"#, (422, "NoSymbols")),
    ] {
        let (status, reason) = harness.post(path, body).await.problem();
        assert_eq!((status, reason.as_str()), expected, "{path} {body}");
    }
    for content_type in [None, Some("application/x-www-form-urlencoded"), Some("text/json")] {
        let mut request = Request::post("/fetch-data");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let refused = harness.send(request.body("{}".into()).unwrap()).await;
        assert_eq!(refused.problem(), (415, "NotJson".to_owned()), "{content_type:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let harness = Harness::new(None, all_published);
    let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = Request::post("/fetch-data")
        .body(Body::from_stream(never))
        .unwrap();
    let started = tokio::time::Instant::now();
    let refused = harness.send(request).await;
    assert_eq!(refused.problem(), (408, "RequestTimeout".to_owned()));
    assert_eq!(started.elapsed().as_secs(), layers::TIMEOUT.as_secs());
}

#[tokio::test]
async fn answers_are_not_kept_but_the_files_of_the_documentation_may_be() {
    let harness = Harness::new(None, all_published);
    for path in ["/", "/health", "/metrics", "/openapi.json", "/nothing", "/docs"] {
        let answer = harness.get(path).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    let page = harness.get("/docs/").await;
    assert_eq!((page.status, page.header("cache-control")), (200, None));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn the_documentation_needs_nothing_from_elsewhere() {
    let harness = Harness::new(None, all_published);
    let entry = harness.get("/docs").await;
    assert_eq!((entry.status, entry.header("location")), (303, Some("/docs/")));
    let page = harness.get("/docs/").await;
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(
        !page.text.contains("://"),
        "no address of another host: {}",
        page.text
    );
    for file in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert!(page.text.contains(file), "{}", page.text);
        let file = harness.get(&format!("/docs/{file}")).await;
        assert_eq!(file.status, 200);
        assert!(file.text.len() > 100);
    }
    let start = harness.get("/docs/swagger-initializer.js").await;
    for setting in [r#""url": "/openapi.json""#, r#""validatorUrl": "none""#] {
        assert!(start.text.contains(setting), "{}", start.text);
    }
    assert_eq!(harness.get("/docs/nothing").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_takes_long_is_asked_about_later() {
    let (harness, mut orders) = Harness::without_loop(None);
    let started = tokio::time::Instant::now();
    let accepted = harness.post("/fetch-data", r#"{ "symbols": ["MSFT"] }"#).await;
    assert_eq!(
        (accepted.status, started.elapsed().as_secs()),
        (202, fetch::WAIT.as_secs())
    );
    let body = accepted.json();
    let url = body["status_url"].as_str().unwrap();
    assert_eq!(url, format!("/fetch-data/{}", body["id"].as_str().unwrap()));
    assert_eq!(accepted.header("location"), Some(url));
    assert_eq!(harness.get(url).await.json()["state"], "running");
    let Command { symbols, reply } = orders.recv().await.unwrap();
    reply.send(all_published(&symbols).unwrap()).unwrap();
    // The task that waits for it has to run.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let state = harness.get(url).await;
    assert_eq!((state.status, &state.json()["state"]), (200, &json!("finished")));
    assert_eq!(state.json()["result"]["message"], "Fetched 1 of 1 symbols");
    assert_eq!(state.json()["result"]["published"], 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_has_to_wait() {
    let (harness, mut orders) = Harness::without_loop(None);
    let started = tokio::time::Instant::now();
    let accepted = harness.post("/fetch-data?wait=false", "").await;
    assert_eq!((accepted.status, started.elapsed()), (202, Duration::ZERO));
    let Command { reply, .. } = orders.recv().await.unwrap();
    reply.send(Err(Refusal::SpoolFull { bytes: 7 })).unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let state = harness.get(accepted.header("location").unwrap()).await;
    assert_eq!((state.status, &state.json()["state"]), (200, &json!("finished")));
    let problem = state.json()["problem"].clone();
    assert_eq!(
        (&problem["status"], &problem["reason"]),
        (&json!(503), &json!("SpoolFull"))
    );
}

#[tokio::test]
async fn a_fetch_that_nobody_ordered_is_not_found() {
    let harness = Harness::new(None, all_published);
    for id in ["019aba6c-1b2f-7c3a-8d4e-5f6071829304", "nonsense", "%FF"] {
        let refused = harness.get(&format!("/fetch-data/{id}")).await;
        assert_eq!(refused.problem(), (404, "UnknownFetch".to_owned()), "{id}");
    }
}

#[tokio::test]
async fn orders_beyond_what_may_wait_are_refused() {
    let (harness, orders) = Harness::without_loop(None);
    for _ in 0..2 {
        assert_eq!(harness.post("/fetch-data?wait=false", "").await.status, 202);
    }
    let refused = harness.post("/fetch-data?wait=false", "").await;
    assert_eq!(refused.problem(), (503, "Busy".to_owned()));
    drop(orders);
    let refused = harness.post("/fetch-data", "").await;
    assert_eq!(
        refused.problem(),
        (503, "ShuttingDown".to_owned()),
        "the poll loop has ended"
    );
}

#[tokio::test]
async fn a_producer_that_ends_takes_no_orders() {
    let harness = Harness::new(None, |_| None);
    let refused = harness.post("/fetch-data", "").await;
    assert_eq!(
        refused.problem(),
        (503, "ShuttingDown".to_owned()),
        "dropped half way"
    );
    let harness = Harness::new(None, all_published);
    harness.status.shut_down();
    let refused = harness.post("/fetch-data", "").await;
    assert_eq!(refused.problem(), (503, "ShuttingDown".to_owned()));
}
