//! What is special about the generic source: its URL, its key, and where in an answer the values are.

use std::{fs, time::Duration};

use contract::config::{HttpConfig, SourceConfig, TimeFormat};
use producer::source::{QuoteSource as _, Reason};

use crate::{
    server::{Server, json, reply},
    support::{KEY, Kind, Rig, STEP, failed, http, names, quotes, simulate, symbols},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A source of a configuration that begins with the URL of a server, with a key.
fn rig(server: &Server, path: &str, change: impl FnOnce(HttpConfig) -> HttpConfig) -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apiKey");
    fs::write(&file, KEY).unwrap();
    let config = http(&format!("{}{path}", server.url()), file, TIMEOUT);
    Rig::with(SourceConfig::Http(change(config)), folder)
}

#[tokio::test]
async fn it_reads_fmp_as_the_source_for_fmp_does() {
    let (for_fmp, for_http) = (simulate(STEP).await, simulate(STEP).await);
    let mut fmp = Rig::new(Kind::FmpBatch, &for_fmp.base_url(), TIMEOUT);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apiKey");
    fs::write(&file, KEY).unwrap();
    let url = format!("{}/batch-quote?symbols={{symbols}}", for_http.base_url());
    let config = HttpConfig {
        key_header: Some("apikey".into()),
        ..http(&url, file, TIMEOUT)
    };
    let mut http = Rig::with(SourceConfig::Http(config), folder);
    for _ in 0..3 {
        let texts = ["AAPL", "NONE", "IBM"];
        let (fmp, http) = (fmp.fetch(&texts).await, http.fetch(&texts).await);
        let values = |fetched: &producer::source::Fetched| {
            let ticks = fetched.ticks.iter();
            ticks
                .map(|tick| (tick.symbol.clone(), tick.price, tick.event_time, tick.volume))
                .collect::<Vec<_>>()
        };
        assert_eq!((values(&fmp).len(), values(&fmp)), (2, values(&http)));
        assert_eq!((fmp.absent, fmp.bound), (http.absent, http.bound));
    }
}

#[tokio::test]
async fn singles_are_encoded_answered_in_order_and_have_the_key_in_its_header() {
    let server = Server::start(|_, _| {
        json(r#"{"chart":{"result":{"last":["232.80"],"at":"2025-02-04T21:00:01.5Z"}}}"#)
    })
    .await;
    let mut rig = rig(&server, "/v1/{symbol}/last?of={symbol}", |config| HttpConfig {
        quotes: "/chart/result".into(),
        symbol: None,
        price: "/last/0".into(),
        time: "/at".into(),
        time_format: TimeFormat::Rfc3339,
        volume: None,
        ..config
    });
    let texts = ["^GSPC", "EURUSD=X", "BRK.B", "A", "B", "C"];
    assert_eq!(rig.source.calls(6), 6);
    let fetched = rig.fetch(&texts).await;
    assert_eq!((names(&fetched), fetched.calls), (texts.to_vec(), 6));
    assert_eq!(fetched.ticks[0].price.to_string(), "232.8");
    assert_eq!(fetched.ticks[0].event_time.to_string(), "2025-02-04T21:00:01.5Z");
    let mut targets = server.targets();
    targets.sort();
    assert_eq!(targets[0], "/v1/%5EGSPC/last?of=%5EGSPC");
    assert!(targets.contains(&"/v1/EURUSD%3DX/last?of=EURUSD%3DX".to_owned()));
    let header = format!("x-api-key: {KEY}\r\n");
    assert!(
        server
            .heads()
            .iter()
            .all(|head| head.to_lowercase().contains(&header))
    );
    assert!(rig.metrics().contains(r#"endpoint="Http",outcome="Ok"} 6"#));
}

#[tokio::test]
async fn batches_are_of_a_hundred_symbols_separated_by_commas() {
    let server = Server::start(|target, _| json(&quotes(target))).await;
    let mut rig = Rig::new(Kind::HttpBatch, &server.url(), TIMEOUT);
    let texts: Vec<String> = (0..201).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let fetched = rig.fetch(&texts).await;
    assert_eq!((names(&fetched), fetched.calls), (texts, 3));
    let targets = server.targets();
    assert!(
        targets[0].starts_with("/batch-quote?symbols=S0,S1,S2"),
        "{targets:?}"
    );
    assert_eq!(targets[2], "/batch-quote?symbols=S200");
}

#[tokio::test]
async fn wrong_entries_leave_their_neighbours() {
    let server = Server::start(|_, _| {
        let good = r#"{"symbol":"MSFT","price":2,"timestamp":1738702801,"volume":7}"#;
        json(&format!(
            r#"[{{"symbol":"AAPL","price":0,"timestamp":1738702801}},{good},{{"symbol":"XXX"}},7]"#
        ))
    })
    .await;
    let mut rig = Rig::new(Kind::HttpBatch, &server.url(), TIMEOUT);
    let fetched = rig.fetch(&["AAPL", "MSFT", "IBM"]).await;
    assert_eq!(
        (names(&fetched), fetched.absent.clone()),
        (vec!["MSFT"], symbols(&["IBM"]))
    );
    assert_eq!(fetched.ticks[0].volume, Some(7));
    let labels: Vec<&str> = fetched
        .rejected
        .iter()
        .map(|(_, rejected)| rejected.reason.label())
        .collect();
    assert_eq!(labels, ["price_not_positive", "unknown_symbol", "invalid_symbol"]);
    assert_eq!(fetched.rejected[0].0, Some("AAPL".parse().unwrap()));
}

#[tokio::test]
async fn null_means_that_there_is_no_quote() {
    let server = Server::start(|_, _| json(r#"{"result":null}"#)).await;
    let mut rig = rig(&server, "/{symbol}", |config| HttpConfig {
        quotes: "/result".into(),
        ..config
    });
    let fetched = rig.fetch(&["AAPL", "IBM"]).await;
    assert_eq!(
        (fetched.absent, fetched.failures.len()),
        (symbols(&["AAPL", "IBM"]), 0)
    );
}

#[tokio::test]
async fn an_answer_without_the_place_of_quotes_is_shown() {
    let server = Server::start(|_, _| json(r#"{"Note":"25 requests a day"}"#)).await;
    let mut rig = rig(&server, "/{symbol}", |config| HttpConfig {
        quotes: "/result".into(),
        ..config
    });
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!(failed(&fetched, Reason::Malformed), ["AAPL"]);
    let chain = fetched.failures[0].error.chain();
    assert!(
        chain.contains("/result") && chain.contains("25 requests a day"),
        "{chain}"
    );
}

#[tokio::test]
async fn a_scheme_before_the_key_is_no_secret_but_what_follows_is() {
    let server = Server::start(|_, _| {
        let echo = format!(r#"{{"error":{{"message":"{KEY} is unknown"}}}}"#);
        reply(401, "content-type: application/json", &echo)
    })
    .await;
    let mut rig = rig(&server, "/{symbol}", |config| HttpConfig {
        key_header: Some("Authorization".into()),
        ..config
    });
    rig.write_key(&format!("Bearer {KEY}"));
    let fetched = rig.fetch(&["AAPL"]).await;
    let chain = fetched.failures[0].error.chain();
    assert!(chain.ends_with("[the API key] is unknown"), "{chain}");
    let head = server.heads().remove(0).to_lowercase();
    assert!(
        head.contains(&format!("authorization: bearer {KEY}\r\n")),
        "{head}"
    );
}

#[tokio::test]
async fn without_a_header_no_key_is_read_or_sent() {
    let server = Server::start(|target, _| json(&quotes(target))).await;
    let mut rig = rig(&server, "/?of={symbol}", |config| HttpConfig {
        key_header: None,
        ..config
    });
    fs::remove_file(rig.key_file()).unwrap();
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!((names(&fetched), fetched.failures.len()), (vec!["AAPL"], 0));
    assert!(!server.heads()[0].contains(KEY));
}

/// The plan of another API says nothing about batches: there is no other way to ask.
#[tokio::test]
async fn a_refusal_is_a_refusal() {
    let server = Server::start(|_, _| reply(402, "", "pay")).await;
    let mut rig = Rig::new(Kind::HttpBatch, &server.url(), TIMEOUT);
    for round in 1..=2 {
        let fetched = rig.fetch(&["AAPL", "IBM"]).await;
        assert_eq!(failed(&fetched, Reason::PaymentRequired), ["AAPL", "IBM"]);
        assert_eq!((server.count(), rig.source.calls(2)), (round, 1));
    }
}
