//! Against the simulator: one row for each thing that can go wrong.

use std::{collections::BTreeSet, fs};

use clap::Parser as _;
use fmp_simulator::{
    Simulator,
    fault::{Endpoint as Asked, Fault, FaultKind},
    message,
    options::Options,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tempfile::TempDir;

use super::*;

const STEP: &[&str] = &[
    "--source=history",
    "--replay=step",
    "--from=2012-01-03",
    "--to=2012-01-04",
];
const KEY: &str = "s3cret-key";

struct Setup {
    simulator: Simulator,
    source: FmpSource,
    folder: TempDir,
    registry: Registry,
    token: CancellationToken,
}

impl Setup {
    async fn new(flags: &[&str], batch: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("apiKey"), format!("{KEY}\n")).unwrap();
        let common = [
            "fmp-simulator",
            "--listen=127.0.0.1:0",
            "--control-listen=127.0.0.1:0",
        ];
        let options = Options::parse_from(common.iter().chain(flags));
        let simulator = fmp_simulator::start(options, CancellationToken::new())
            .await
            .unwrap();
        let config = FmpConfig {
            base_url: simulator.base_url(),
            api_key_file: folder.path().join("apiKey"),
            batch,
            delay: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
        };
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::register(&mut registry));
        let token = CancellationToken::new();
        let source = FmpSource::new(config, metrics, token.clone()).unwrap();
        Self {
            simulator,
            source,
            folder,
            registry,
            token,
        }
    }

    async fn fetch(&mut self, texts: &[&str]) -> Fetched {
        self.source.fetch(&symbols(texts)).await
    }

    /// How many requests the simulator answered, whatever the answer.
    fn requests(&self, endpoint: Asked) -> u64 {
        let requests = self.simulator.report().requests;
        requests
            .get(&endpoint)
            .map_or(0, |statuses| statuses.values().sum())
    }

    fn write_key(&self, key: &str) {
        fs::write(self.folder.path().join("apiKey"), key).unwrap();
    }
}

fn symbols(texts: &[&str]) -> Vec<Symbol> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn names(fetched: &Fetched) -> Vec<&str> {
    fetched.ticks.iter().map(|tick| tick.symbol.as_str()).collect()
}

fn reasons(fetched: &Fetched) -> BTreeSet<Reason> {
    fetched
        .failures
        .iter()
        .map(|failure| failure.error.reason())
        .collect()
}

#[tokio::test]
async fn brings_exact_quotes_and_the_sources_promise() {
    let mut setup = Setup::new(STEP, true).await;
    let fetched = setup.fetch(&["MSFT", "NONE", "AAPL"]).await;
    assert_eq!(names(&fetched), ["MSFT", "AAPL"]);
    assert_eq!(fetched.absent, symbols(&["NONE"]));
    let aapl = &fetched.ticks[1];
    assert_eq!(
        (
            aapl.price.to_string().as_str(),
            aapl.event_time.to_string().as_str()
        ),
        ("409.4", "2012-01-03T14:30:00Z")
    );
    assert_eq!(aapl.previous_close.unwrap().to_string(), "405.0");
    assert_eq!(aapl.exchange.as_deref(), Some("NASDAQ"));
    // The first quotes' time less the delay of two seconds.
    assert_eq!(fetched.bound.unwrap().to_string(), "2012-01-03T14:29:58Z");
    assert_eq!((fetched.succeeded, fetched.failures.len()), (1, 0));
}

#[tokio::test]
async fn singles_bring_the_same_as_a_batch() {
    let (mut batch, mut single) = (Setup::new(STEP, true).await, Setup::new(STEP, false).await);
    for _ in 0..3 {
        let texts = ["AAPL", "IBM", "NONE", "GOOG", "MSFT"];
        let (batch, single) = (batch.fetch(&texts).await, single.fetch(&texts).await);
        assert_eq!((batch.ticks, batch.absent), (single.ticks, single.absent));
        // Four requests were under way at once, so the least date may be that of the quotes before.
        assert!(single.bound.unwrap() <= batch.bound.unwrap());
    }
    assert_eq!(
        (single.requests(Asked::Quote), single.requests(Asked::BatchQuote)),
        (15, 0)
    );
}

#[tokio::test]
async fn many_symbols_are_asked_for_in_chunks() {
    let mut setup = Setup::new(&[], true).await;
    let texts: Vec<String> = (0..250).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let fetched = setup.fetch(&texts).await;
    assert_eq!(names(&fetched), texts);
    assert_eq!(setup.requests(Asked::BatchQuote), 3);
}

/// What one fault does: the reason, the requests that were made, and whether the fetch succeeded in the end.
#[tokio::test]
async fn every_fault_has_its_reason_and_its_rule() {
    use FaultKind::{
        CutOff, ErrorOn200, Forbidden, Malformed, PaymentRequired, RateLimit, ServerError, Slow,
        WrongContentType, WrongKey,
    };
    let always = |kind| Fault {
        delay: Some(Duration::from_secs(5)),
        ..Fault::new(kind, None)
    };
    let saying = |message: &str| Fault {
        message: Some(message.to_owned()),
        ..Fault::new(ErrorOn200, None)
    };
    let retried = u64::try_from(RETRIES).unwrap() + 1;
    for (fault, expected, requests) in [
        // Not repeated: it would be refused again.
        (always(WrongKey), Reason::InvalidKey, 1),
        (always(PaymentRequired), Reason::PaymentRequired, 1),
        (always(Forbidden), Reason::Forbidden, 1),
        (always(RateLimit), Reason::RateLimited, 1),
        (saying(message::INVALID_KEY), Reason::InvalidKey, 1),
        (saying(message::LIMIT_REACH), Reason::RateLimited, 1),
        (
            saying("Premium Query: subscription required"),
            Reason::PaymentRequired,
            1,
        ),
        (saying(message::LEGACY), Reason::Forbidden, 1),
        (saying("We are out of coffee"), Reason::ErrorMessage, 1),
        // Not repeated: the next poll comes soon enough.
        (always(Malformed), Reason::Malformed, 1),
        (always(WrongContentType), Reason::WrongContentType, 1),
        // Repeated: it may pass.
        (always(ServerError), Reason::ServerError, retried),
        (
            Fault {
                status: Some(503),
                ..always(ServerError)
            },
            Reason::ServerError,
            retried,
        ),
        (always(CutOff), Reason::CutOff, retried),
        (always(Slow), Reason::Timeout, retried),
    ] {
        let mut setup = Setup::new(STEP, false).await;
        if fault.kind == Slow {
            setup.source.client =
                Client::new(&setup.simulator.base_url(), Duration::from_millis(300)).unwrap();
        }
        setup.simulator.inject(fault.clone());
        let fetched = setup.fetch(&["AAPL"]).await;
        assert_eq!(reasons(&fetched), BTreeSet::from([expected]), "{fault:?}");
        assert_eq!(
            (fetched.ticks.len(), fetched.succeeded, fetched.bound),
            (0, 0, None),
            "{fault:?}"
        );
        let mut text = String::new();
        encode(&mut text, &setup.registry).unwrap();
        let line = format!(r#"source_requests_total{{endpoint="Quote",outcome="{expected:?}"}} {requests}"#);
        assert!(text.contains(&line), "{fault:?}: {text}");
        assert!(!fetched.failures[0].error.chain().contains(KEY), "{fault:?}");
        // Once it is over the same quote comes: nothing was lost on the way.
        setup.simulator.clear_faults();
        let fetched = setup.fetch(&["AAPL"]).await;
        assert_eq!(
            fetched.ticks[0].event_time.to_string(),
            "2012-01-03T14:30:00Z",
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_passing_fault_is_not_even_noticed() {
    for kind in [FaultKind::ServerError, FaultKind::CutOff] {
        let mut setup = Setup::new(STEP, true).await;
        setup.simulator.inject(Fault::new(kind, Some(2)));
        let fetched = setup.fetch(&["AAPL"]).await;
        assert_eq!(
            (names(&fetched), fetched.failures.len()),
            (vec!["AAPL"], 0),
            "{kind:?}"
        );
        assert_eq!(setup.requests(Asked::BatchQuote), 3);
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_unreachable() {
    let mut setup = Setup::new(STEP, true).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    setup.source.client = Client::new(&format!("http://{address}"), Duration::from_secs(1)).unwrap();
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::Unreachable]));
    assert!(
        fetched.failures[0].error.chain().contains("refused"),
        "{}",
        fetched.failures[0].error.chain()
    );
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let mut setup = Setup::new(STEP, true).await;
    let huge = axum::Router::new().fallback(|| async {
        let body = format!("[{}]", " ".repeat(client::MAX_BODY));
        ([("content-type", "application/json")], body)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let token = CancellationToken::new();
    let server = tokio::spawn(service::http::serve(listener, huge, token.clone()));
    setup.source.client = Client::new(&url, Duration::from_secs(20)).unwrap();
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::TooLarge]));
    token.cancel();
    server.abort();
}

#[tokio::test]
async fn a_redirection_does_not_carry_the_key_away() {
    let mut setup = Setup::new(STEP, true).await;
    let away = format!("{}/batch-quote?symbols=AAPL", setup.simulator.base_url());
    let redirect = axum::Router::new().fallback(move || {
        let away = away.clone();
        async move { (axum::http::StatusCode::FOUND, [("location", away)]) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(service::http::serve(listener, redirect, CancellationToken::new()));
    setup.source.client = Client::new(&url, Duration::from_secs(20)).unwrap();
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::UnexpectedStatus]));
    assert_eq!(setup.requests(Asked::BatchQuote), 0);
    server.abort();
}

#[tokio::test]
async fn a_plan_without_batches_is_remembered() {
    let mut setup = Setup::new(&["--plan=basic"], true).await;
    assert!(setup.source.asks_in_batches());
    for round in 1..=2 {
        let fetched = setup.fetch(&["AAPL", "IBM"]).await;
        assert_eq!(
            (names(&fetched), fetched.failures.len()),
            (vec!["AAPL", "IBM"], 0)
        );
        assert_eq!(
            (setup.requests(Asked::BatchQuote), setup.requests(Asked::Quote)),
            (1, 2 * round)
        );
    }
    assert!(!setup.source.asks_in_batches());
}

#[tokio::test]
async fn a_gateway_that_forbids_says_nothing_about_the_plan() {
    let mut setup = Setup::new(STEP, true).await;
    let gateway = axum::Router::new().fallback(|| async {
        let page = "<html>Forbidden</html>";
        (
            axum::http::StatusCode::FORBIDDEN,
            [("content-type", "text/html")],
            page,
        )
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(service::http::serve(listener, gateway, CancellationToken::new()));
    setup.source.client = Client::new(&url, Duration::from_secs(20)).unwrap();
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::Forbidden]));
    assert!(setup.source.asks_in_batches());
    server.abort();
}

#[tokio::test]
async fn one_symbol_that_the_plan_excludes_does_not_spoil_the_others() {
    let mut setup = Setup::new(STEP, false).await;
    setup.simulator.inject(Fault {
        symbol: Some("IBM".parse().unwrap()),
        ..Fault::new(FaultKind::PaymentRequired, None)
    });
    let fetched = setup.fetch(&["AAPL", "IBM", "MSFT"]).await;
    assert_eq!(names(&fetched), ["AAPL", "MSFT"]);
    assert_eq!(fetched.failures[0].symbols, symbols(&["IBM"]));
    assert!(fetched.failures[0].error.is_refusal_by_plan());
    assert!(fetched.bound.is_some());
}

#[tokio::test]
async fn a_refusal_of_all_is_not_asked_for_again_and_again() {
    let mut setup = Setup::new(&["--calls-per-minute=3", "--retry-after=7s"], false).await;
    let texts: Vec<String> = (0..20).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let fetched = setup.fetch(&texts).await;
    assert_eq!(fetched.ticks.len(), 3);
    assert_eq!(fetched.failures.len(), 17);
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::RateLimited]));
    assert_eq!(fetched.pause, Some(Duration::from_secs(7)));
    // Four at once, so a few were under way when the first was refused.
    assert!(
        setup.requests(Asked::Quote) <= 3 + 4,
        "{}",
        setup.requests(Asked::Quote)
    );
}

#[tokio::test]
async fn a_rotated_key_is_found_by_itself() {
    let keys = tempfile::tempdir().unwrap();
    let accepted = keys.path().join("keys");
    fs::write(&accepted, KEY).unwrap();
    let flag = format!("--api-key-file={}", accepted.display());
    let mut setup = Setup::new(&[&flag], true).await;
    assert_eq!(setup.fetch(&["AAPL"]).await.ticks.len(), 1);
    fs::write(&accepted, "another").unwrap();
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::InvalidKey]));
    setup.write_key("another\n");
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!((fetched.ticks.len(), fetched.failures.len()), (1, 0));
}

#[tokio::test]
async fn a_missing_or_unusable_key_is_a_state_that_passes() {
    let mut setup = Setup::new(STEP, true).await;
    fs::remove_file(setup.folder.path().join("apiKey")).unwrap();
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::KeyUnreadable]));
    assert!(fetched.failures[0].error.chain().contains("apiKey"));
    setup.write_key("two\nlines");
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::KeyUnreadable]));
    assert_eq!(setup.requests(Asked::BatchQuote), 0);
    setup.write_key("fine");
    assert_eq!(setup.fetch(&["AAPL"]).await.ticks.len(), 1);
}

#[tokio::test]
async fn a_producer_that_ends_does_not_repeat_requests() {
    let mut setup = Setup::new(STEP, true).await;
    setup.simulator.inject(Fault::new(FaultKind::ServerError, None));
    setup.token.cancel();
    let fetched = setup.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::ServerError]));
    assert_eq!(setup.requests(Asked::BatchQuote), 1);
}
