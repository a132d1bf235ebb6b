//! The table of faults: for each what the source makes of it. Reasons and rules are the same whatever the source.

use std::{collections::BTreeSet, time::Duration};

use fmp_simulator::{
    fault::{Fault, FaultKind},
    message,
};
use producer::source::{
    Reason, SourceError,
    client::{MAX_BODY, MAX_RETRY_AFTER},
    requester::RETRIES,
    round::DEFAULT_PAUSE,
};
use rstest::rstest;

use crate::{
    server::{Reply, Server, head, json, nowhere, reply},
    support::{KEY, Kind, Rig, STEP, failed, names, quotes, reasons, simulate, symbols},
};

const JSON: &str = "content-type: application/json";
const HTML: &str = "content-type: text/html";
/// What is repeated is sent so often.
const REPEATED: u64 = RETRIES as u64 + 1;
/// Requests for single symbols that are under way at once.
const AT_ONCE: u64 = 4;

/// What becomes of a request with a fault.
#[derive(Clone, Copy, Debug)]
struct Rule {
    reason: Reason,
    /// How often it is sent.
    sent: u64,
    /// The other requests of the fetch are not made any more.
    stops: bool,
    pause: Option<Duration>,
}

/// Sent once, and the others as well.
const fn once(reason: Reason) -> Rule {
    Rule {
        reason,
        sent: 1,
        stops: false,
        pause: None,
    }
}

/// Sent once, and it concerns the others as well.
const fn stop(reason: Reason) -> Rule {
    Rule {
        stops: true,
        ..once(reason)
    }
}

/// Repeated, because it may pass.
const fn repeat(reason: Reason) -> Rule {
    Rule {
        sent: REPEATED,
        ..once(reason)
    }
}

const fn repeat_then_stop(reason: Reason) -> Rule {
    Rule {
        stops: true,
        ..repeat(reason)
    }
}

const fn pause(pause: Duration) -> Rule {
    Rule {
        pause: Some(pause),
        ..stop(Reason::RateLimited)
    }
}

fn timeout_for(rule: Rule) -> Duration {
    match rule.reason {
        Reason::Timeout => Duration::from_millis(500),
        _ => Duration::from_secs(20),
    }
}

fn error_on_200(message: &str) -> Fault {
    Fault {
        message: Some(message.to_owned()),
        ..Fault::new(FaultKind::ErrorOn200, None)
    }
}

fn retry_after(seconds: u32) -> Fault {
    Fault {
        retry_after_seconds: Some(seconds),
        ..Fault::new(FaultKind::RateLimit, None)
    }
}

fn server_error(status: u16) -> Fault {
    Fault {
        status: Some(status),
        ..Fault::new(FaultKind::ServerError, None)
    }
}

#[rstest]
#[case::wrong_key(Fault::new(FaultKind::WrongKey, None), stop(Reason::InvalidKey))]
#[case::rate_limit(Fault::new(FaultKind::RateLimit, None), pause(DEFAULT_PAUSE))]
#[case::rate_limit_with_pause(retry_after(7), pause(Duration::from_secs(7)))]
#[case::payment_required(Fault::new(FaultKind::PaymentRequired, None), once(Reason::PaymentRequired))]
#[case::forbidden(Fault::new(FaultKind::Forbidden, None), once(Reason::Forbidden))]
#[case::server_error(server_error(500), repeat(Reason::ServerError))]
#[case::bad_gateway(server_error(502), repeat(Reason::ServerError))]
#[case::unavailable(server_error(503), repeat(Reason::ServerError))]
#[case::slow(Fault::new(FaultKind::Slow, None), repeat_then_stop(Reason::Timeout))]
#[case::cut_off(Fault::new(FaultKind::CutOff, None), repeat(Reason::CutOff))]
#[case::malformed(Fault::new(FaultKind::Malformed, None), once(Reason::Malformed))]
#[case::wrong_content_type(Fault::new(FaultKind::WrongContentType, None), once(Reason::WrongContentType))]
#[case::key_on_200(error_on_200(message::INVALID_KEY), stop(Reason::InvalidKey))]
#[case::quota_on_200(error_on_200(message::LIMIT_REACH), pause(DEFAULT_PAUSE))]
#[case::plan_on_200(
    error_on_200("Premium Query: subscription required"),
    once(Reason::PaymentRequired)
)]
#[case::legacy_on_200(error_on_200(message::LEGACY), once(Reason::Forbidden))]
#[case::unknown_on_200(error_on_200("We are out of coffee"), once(Reason::ErrorMessage))]
#[tokio::test]
async fn a_fault_of_fmp(#[case] fault: Fault, #[case] rule: Rule) {
    let simulator = simulate(STEP).await;
    let mut rig = Rig::new(Kind::FmpSingle, &simulator.base_url(), timeout_for(rule));
    let met = || {
        simulator
            .report()
            .faults_met
            .get(&fault.kind)
            .copied()
            .unwrap_or(0)
    };

    // Of one symbol: the others are there.
    simulator.inject(Fault {
        symbol: Some("IBM".parse().unwrap()),
        ..fault.clone()
    });
    let fetched = rig.fetch(&["AAPL", "IBM", "MSFT"]).await;
    assert_eq!(names(&fetched), ["AAPL", "MSFT"]);
    assert_eq!(failed(&fetched, rule.reason), ["IBM"]);
    assert_eq!((fetched.failures.len(), fetched.succeeded), (1, 2));
    assert!(fetched.bound.is_some() && fetched.absent.is_empty());
    assert_eq!((met(), fetched.calls), (rule.sent, rule.sent + 2));
    assert_eq!(fetched.pause, rule.pause);
    let metric = format!(
        r#"source_requests_total{{endpoint="Quote",outcome="{:?}"}} {}"#,
        rule.reason, rule.sent
    );
    assert!(rig.metrics().contains(&metric), "{metric}: {}", rig.metrics());

    // Of all: those that would fail as well are not asked for.
    simulator.clear_faults();
    simulator.inject(fault.clone());
    let all = ["A", "B", "C", "D", "E", "F", "G", "H", "IBM"];
    let fetched = rig.fetch(&all).await;
    assert_eq!(failed(&fetched, rule.reason), all);
    assert_eq!(
        (fetched.ticks.len(), fetched.succeeded, fetched.bound),
        (0, 0, None)
    );
    let asked = if rule.stops { AT_ONCE } else { 9 };
    assert_eq!(fetched.calls, asked * rule.sent);
    assert_eq!(met(), rule.sent + fetched.calls);

    // Once it is over the same quote comes: nothing was lost on the way.
    simulator.clear_faults();
    let fetched = rig.fetch(&["IBM"]).await;
    assert_eq!(fetched.ticks[0].event_time.to_string(), "2012-01-03T14:30:00Z");
}

/// What any server may do. Each answer repeats the key, which must be seen nowhere.
#[rstest]
#[case::unauthorized(reply(401, JSON, &said("no such key")), stop(Reason::InvalidKey))]
#[case::payment_required(reply(402, JSON, &said("pay")), once(Reason::PaymentRequired))]
#[case::forbidden(reply(403, JSON, &said("not for you")), once(Reason::Forbidden))]
#[case::forbidden_by_gateway(reply(403, HTML, KEY), once(Reason::Forbidden))]
#[case::too_many(reply(429, JSON, &said("slowly")), pause(DEFAULT_PAUSE))]
#[case::too_many_for_seconds(limited("7"), pause(Duration::from_secs(7)))]
#[case::too_many_until_a_date(limited("Wed, 25 Nov 2026 14:30:09 GMT"), pause(Duration::from_secs(9)))]
#[case::too_many_until_the_past(limited("Wed, 25 Nov 2026 14:29:59 GMT"), pause(Duration::ZERO))]
#[case::too_many_for_a_day(limited("86400"), pause(MAX_RETRY_AFTER))]
#[case::too_many_until_nonsense(limited("tomorrow"), pause(DEFAULT_PAUSE))]
#[case::internal(reply(500, JSON, &said("ouch")), repeat(Reason::ServerError))]
#[case::bad_gateway(reply(502, HTML, KEY), repeat(Reason::ServerError))]
#[case::unavailable(reply(503, HTML, KEY), repeat(Reason::ServerError))]
#[case::not_found(reply(404, JSON, &said("no such page")), once(Reason::UnexpectedStatus))]
#[case::bad_request(reply(400, "content-type: text/plain", KEY), once(Reason::UnexpectedStatus))]
#[case::moved(
    reply(302, "location: http://127.0.0.1:1/", ""),
    once(Reason::UnexpectedStatus)
)]
#[case::no_content(reply(204, JSON, ""), once(Reason::UnexpectedStatus))]
#[case::page(reply(200, HTML, KEY), once(Reason::WrongContentType))]
#[case::key_as_type(reply(200, &format!("content-type: text/{KEY}"), "[]"), once(Reason::WrongContentType))]
#[case::no_type(reply(200, "", "[]"), once(Reason::WrongContentType))]
#[case::empty(json(""), once(Reason::Malformed))]
#[case::half(json(&format!(r#"[{{"symbol":"IBM","x":"{KEY}"#)), once(Reason::Malformed))]
#[case::text(json(&format!(r#""{KEY}""#)), once(Reason::Malformed))]
#[case::huge(Reply::Padded(head(200, JSON, 1 << 30), 1 << 30), once(Reason::TooLarge))]
#[case::just_too_large(
    Reply::Padded(head(200, JSON, MAX_BODY + 1), MAX_BODY + 1),
    once(Reason::TooLarge)
)]
#[case::endless_error(Reply::Padded(head(403, HTML, 1 << 30), 1 << 30), once(Reason::Forbidden))]
#[case::closed(Reply::Bytes(String::new()), repeat(Reason::CutOff))]
#[case::half_a_head(Reply::Bytes("HTTP/1.1 200".into()), repeat(Reason::CutOff))]
#[case::half_a_body(Reply::Bytes(head(200, JSON, 500) + "[{"), repeat(Reason::CutOff))]
#[case::no_http(Reply::Bytes(format!("{KEY}\r\n\r\n")), repeat(Reason::CutOff))]
#[case::silence(Reply::Hang, repeat_then_stop(Reason::Timeout))]
#[tokio::test]
async fn a_fault_of_any_server(
    #[case] fault: Reply,
    #[case] rule: Rule,
    #[values(Kind::FmpSingle, Kind::HttpSingle)] kind: Kind,
) {
    let script = move |target: &str, _| {
        if target.ends_with("=IBM") {
            fault.clone()
        } else {
            json(&quotes(target))
        }
    };
    let server = Server::start(script).await;
    let mut rig = Rig::new(kind, &server.url(), timeout_for(rule));
    let fetched = rig.fetch(&["AAPL", "IBM", "MSFT"]).await;
    assert_eq!(names(&fetched), ["AAPL", "MSFT"]);
    assert_eq!(failed(&fetched, rule.reason), ["IBM"], "{:?}", fetched.failures);
    assert_eq!((fetched.failures.len(), fetched.succeeded), (1, 2));
    assert_eq!(fetched.pause, rule.pause);
    assert_eq!(fetched.bound.unwrap().to_string(), "2026-11-25T14:29:58Z");
    assert_eq!((server.count(), fetched.calls), (rule.sent + 2, rule.sent + 2));
    assert!(server.targets().iter().all(|target| !target.contains(KEY)));
    let sent = server.heads();
    assert!(
        sent.iter().all(|head| head.contains(KEY)),
        "in a header it is: {sent:?}"
    );
    assert_eq!(fetched.failures[0].error.concerns_all(), rule.stops);
    assert_eq!(fetched.failures[0].error.is_transient(), rule.sent > 1);
}

/// A body with words, and the key among them.
fn said(words: &str) -> String {
    format!(r#"{{"Error Message":"{words}: {KEY}"}}"#)
}

fn limited(retry_after: &str) -> Reply {
    let headers = format!("{JSON}\nretry-after: {retry_after}");
    reply(429, &headers, &said("slowly"))
}

#[rstest]
#[tokio::test]
async fn a_server_that_is_not_there(
    #[values(Kind::FmpSingle, Kind::FmpBatch, Kind::HttpSingle, Kind::HttpBatch)] kind: Kind,
) {
    let mut rig = Rig::new(kind, &nowhere(), Duration::from_secs(5));
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!(failed(&fetched, Reason::Unreachable), ["AAPL"]);
    assert_eq!(fetched.calls, REPEATED, "attempts to connect are calls");
    let chain = fetched.failures[0].error.chain();
    assert!(chain.contains("refused"), "{chain}");
    assert!(!chain.contains("AAPL"), "no URL: {chain}");
}

#[rstest]
#[case::passing(reply(500, HTML, ""), 2, 3)]
#[case::cut_off(Reply::Bytes(head(200, JSON, 500) + "[{"), 1, 2)]
#[tokio::test]
async fn a_passing_fault_is_not_even_noticed(
    #[case] fault: Reply,
    #[case] times: usize,
    #[case] sent: u64,
    #[values(Kind::FmpSingle, Kind::FmpBatch, Kind::HttpSingle, Kind::HttpBatch)] kind: Kind,
) {
    let server = Server::start(move |target, number| {
        if number < times {
            fault.clone()
        } else {
            json(&quotes(target))
        }
    })
    .await;
    let mut rig = Rig::new(kind, &server.url(), Duration::from_secs(20));
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!((names(&fetched), fetched.failures.len()), (vec!["AAPL"], 0));
    assert_eq!((server.count(), fetched.calls), (sent, sent));
}

#[rstest]
#[tokio::test]
async fn a_producer_that_ends_does_not_repeat_requests(
    #[values(Kind::FmpSingle, Kind::HttpBatch)] kind: Kind,
) {
    let server = Server::start(|_, _| reply(500, HTML, "")).await;
    let mut rig = Rig::new(kind, &server.url(), Duration::from_secs(20));
    rig.token.cancel();
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::ServerError]));
    assert_eq!((server.count(), fetched.calls), (1, 1));
}

#[rstest]
#[case::server_error(reply(500, HTML, ""), Reason::ServerError, 2 + REPEATED, 100)]
#[case::malformed(json("{"), Reason::Malformed, 3, 100)]
#[case::wrong_key(reply(401, HTML, ""), Reason::InvalidKey, 2, 150)]
#[case::quota(reply(429, HTML, ""), Reason::RateLimited, 2, 150)]
#[tokio::test]
async fn a_batch_that_fails_leaves_the_others(
    #[case] fault: Reply,
    #[case] reason: Reason,
    #[case] sent: u64,
    #[case] lost: usize,
    #[values(Kind::FmpBatch, Kind::HttpBatch)] kind: Kind,
) {
    let texts: Vec<String> = (0..250).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let server = Server::start(move |target, _| {
        if target.contains("S100") {
            fault.clone()
        } else {
            json(&quotes(target))
        }
    })
    .await;
    let mut rig = Rig::new(kind, &server.url(), Duration::from_secs(20));
    let fetched = rig.fetch(&texts).await;
    assert_eq!(failed(&fetched, reason), texts[100..100 + lost]);
    let left: Vec<&str> = texts[..100].iter().chain(&texts[100 + lost..]).copied().collect();
    assert_eq!(names(&fetched), left);
    assert_eq!((server.count(), fetched.calls), (sent, sent));
}

#[tokio::test]
async fn what_was_not_asked_says_why() {
    let server = Server::start(|_, _| reply(401, HTML, "")).await;
    let mut rig = Rig::new(Kind::HttpSingle, &server.url(), Duration::from_secs(20));
    let fetched = rig.fetch(&["A", "B", "C", "D", "E"]).await;
    let last = &fetched.failures[4];
    assert_eq!(last.symbols, symbols(&["E"]));
    let because = Reason::InvalidKey;
    assert!(matches!(last.error, SourceError::NotAsked { because: reason } if reason == because));
}
