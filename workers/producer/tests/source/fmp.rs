//! What is special about FMP: exact quotes, batches by plan, and keys that change.

use std::{collections::BTreeSet, fs, time::Duration};

use fmp_simulator::fault::{Endpoint as Asked, Fault, FaultKind};
use producer::source::{QuoteSource as _, Reason};
use rstest::rstest;

use crate::{
    server::{Server, json, reply},
    support::{KEY, Kind, Rig, STEP, failed, names, quotes, reasons, requests, simulate, symbols},
};

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn brings_exact_quotes_and_the_sources_promise() {
    let simulator = simulate(STEP).await;
    let mut rig = Rig::new(Kind::FmpBatch, &simulator.base_url(), TIMEOUT);
    let fetched = rig.fetch(&["MSFT", "NONE", "AAPL"]).await;
    assert_eq!(names(&fetched), ["MSFT", "AAPL"]);
    assert_eq!(fetched.absent, symbols(&["NONE"]));
    let aapl = &fetched.ticks[1];
    let shown = (aapl.price.to_string(), aapl.event_time.to_string());
    assert_eq!(shown, ("409.4".to_owned(), "2012-01-03T14:30:00Z".to_owned()));
    assert_eq!(aapl.previous_close.unwrap().to_string(), "405.0");
    assert_eq!(aapl.exchange.as_deref(), Some("NASDAQ"));
    // The first quotes' time less the delay of two seconds.
    assert_eq!(fetched.bound.unwrap().to_string(), "2012-01-03T14:29:58Z");
    assert_eq!(
        (fetched.succeeded, fetched.calls, fetched.failures.len()),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn singles_bring_the_same_as_a_batch() {
    let (for_batch, for_single) = (simulate(STEP).await, simulate(STEP).await);
    let mut batch = Rig::new(Kind::FmpBatch, &for_batch.base_url(), TIMEOUT);
    let mut single = Rig::new(Kind::FmpSingle, &for_single.base_url(), TIMEOUT);
    for _ in 0..3 {
        let texts = ["AAPL", "IBM", "NONE", "GOOG", "MSFT"];
        let (batch, single) = (batch.fetch(&texts).await, single.fetch(&texts).await);
        assert_eq!((batch.ticks, batch.absent), (single.ticks, single.absent));
        assert_eq!((batch.calls, single.calls), (1, 5));
        // Four requests were under way at once, so the least date may be that of the quotes before.
        assert!(single.bound.unwrap() <= batch.bound.unwrap());
    }
    assert_eq!(requests(&for_single, Asked::Quote), 15);
    assert_eq!(requests(&for_single, Asked::BatchQuote), 0);
}

#[tokio::test]
async fn many_symbols_are_asked_for_in_chunks() {
    let simulator = simulate(&[]).await;
    let mut rig = Rig::new(Kind::FmpBatch, &simulator.base_url(), TIMEOUT);
    let texts: Vec<String> = (0..250).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(rig.source.calls(250), 3);
    let fetched = rig.fetch(&texts).await;
    assert_eq!((names(&fetched), fetched.calls), (texts, 3));
    assert_eq!(requests(&simulator, Asked::BatchQuote), 3);
}

/// One server of the plan's refusal each; after it every request is for one symbol.
#[rstest]
#[case::payment_required(
    402,
    r#"{"Error Message":"Restricted Endpoint: not in your subscription"}"#,
    true
)]
#[case::payment_required_without_words(402, "", true)]
#[case::forbidden(
    403,
    r#"{"Error Message":"Exclusive Endpoint : not under your subscription"}"#,
    true
)]
#[case::forbidden_in_other_words(403, r#"{"Error Message":"Not for you"}"#, true)]
#[case::premium_on_200(200, r#"{"Error Message":"Premium Query: upgrade"}"#, true)]
#[case::gateway(403, "<html>Forbidden</html>", false)]
#[case::wrong_key(403, r#"{"Error Message":"Invalid API KEY."}"#, false)]
#[case::quota(403, r#"{"Error Message":"Limit Reach . Please upgrade your plan"}"#, false)]
#[tokio::test]
async fn a_refusal_of_batches_is_remembered(
    #[case] status: u16,
    #[case] body: &'static str,
    #[case] by_plan: bool,
) {
    let server = Server::start(move |target, _| {
        if target.starts_with("/batch-quote") {
            reply(status, "content-type: application/json", body)
        } else {
            json(&quotes(target))
        }
    })
    .await;
    let mut rig = Rig::new(Kind::FmpBatch, &server.url(), TIMEOUT);
    assert_eq!((rig.source.asks_in_batches(), rig.source.calls(2)), (true, 1));
    let fetched = rig.fetch(&["AAPL", "IBM"]).await;
    if !by_plan {
        assert_eq!((fetched.calls, fetched.ticks.len()), (1, 0));
        assert_eq!((rig.source.asks_in_batches(), rig.source.calls(2)), (true, 1));
        return;
    }
    assert_eq!(
        (names(&fetched), fetched.failures.len()),
        (vec!["AAPL", "IBM"], 0)
    );
    assert_eq!((server.count(), fetched.calls), (3, 3));
    assert_eq!((rig.source.asks_in_batches(), rig.source.calls(2)), (false, 2));
    let fetched = rig.fetch(&["AAPL", "IBM"]).await;
    assert_eq!((server.count(), fetched.calls), (5, 2));

    // Another key may be of another plan, so it is asked once more.
    rig.write_key("s3cret-second");
    let fetched = rig.fetch(&["AAPL", "IBM"]).await;
    assert_eq!((server.count(), fetched.calls), (8, 3));
    assert!(!rig.source.asks_in_batches());
    assert!(server.heads()[5].contains("s3cret-second"));
}

#[tokio::test]
async fn a_plan_without_batches_is_asked_for_singles() {
    let simulator = simulate(&["--plan=basic"]).await;
    let mut rig = Rig::new(Kind::FmpBatch, &simulator.base_url(), TIMEOUT);
    for round in 1..=2 {
        let fetched = rig.fetch(&["AAPL", "IBM"]).await;
        assert_eq!(
            (names(&fetched), fetched.failures.len()),
            (vec!["AAPL", "IBM"], 0)
        );
        let counts = (
            requests(&simulator, Asked::BatchQuote),
            requests(&simulator, Asked::Quote),
        );
        assert_eq!(counts, (1, 2 * round));
    }
}

#[tokio::test]
async fn one_symbol_that_the_plan_excludes_does_not_spoil_the_others() {
    let simulator = simulate(STEP).await;
    let mut rig = Rig::new(Kind::FmpSingle, &simulator.base_url(), TIMEOUT);
    simulator.inject(Fault {
        symbol: Some("IBM".parse().unwrap()),
        ..Fault::new(FaultKind::PaymentRequired, None)
    });
    let fetched = rig.fetch(&["AAPL", "IBM", "MSFT"]).await;
    assert_eq!(names(&fetched), ["AAPL", "MSFT"]);
    assert_eq!(failed(&fetched, Reason::PaymentRequired), ["IBM"]);
    assert!(fetched.failures[0].error.is_refusal_by_plan());
}

#[tokio::test]
async fn a_used_up_quota_is_not_asked_for_again_and_again() {
    let simulator = simulate(&["--calls-per-minute=3", "--retry-after=7s"]).await;
    let mut rig = Rig::new(Kind::FmpSingle, &simulator.base_url(), TIMEOUT);
    let texts: Vec<String> = (0..20).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let fetched = rig.fetch(&texts).await;
    assert_eq!((fetched.ticks.len(), fetched.failures.len()), (3, 17));
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::RateLimited]));
    assert_eq!(fetched.pause, Some(Duration::from_secs(7)));
    // Four at once, so a few were under way when the first was refused.
    assert!(fetched.calls <= 3 + 4, "{}", fetched.calls);
    assert_eq!(requests(&simulator, Asked::Quote), fetched.calls);
}

#[tokio::test]
async fn wrong_quotes_leave_their_neighbours_and_hide_the_key() {
    let body = format!(
        r#"[{{"symbol":"{KEY}","price":1,"timestamp":1}},{{"symbol":"IBM","price":"{KEY}","timestamp":1}},
           {{"symbol":["{KEY}"]}},{{"symbol":"AAPL","price":5,"timestamp":1322236800,"unknown":["{KEY}"]}}]"#
    );
    let server = Server::start(move |_, _| json(&body)).await;
    let mut rig = Rig::new(Kind::FmpBatch, &server.url(), TIMEOUT);
    let fetched = rig.fetch(&["AAPL", "IBM", "MSFT"]).await;
    assert_eq!(
        (names(&fetched), fetched.absent.clone()),
        (vec!["AAPL"], symbols(&["MSFT"]))
    );
    let labels: Vec<&str> = fetched
        .rejected
        .iter()
        .map(|(_, rejected)| rejected.reason.label())
        .collect();
    assert_eq!(labels, ["invalid_symbol", "invalid_price", "undecodable"]);
    let about: Vec<_> = fetched
        .rejected
        .iter()
        .map(|(symbol, _)| symbol.clone())
        .collect();
    assert_eq!(about, [None, Some("IBM".parse().unwrap()), None]);
}

#[tokio::test]
async fn a_rotated_key_is_found_by_itself() {
    let keys = tempfile::tempdir().unwrap();
    let accepted = keys.path().join("keys");
    fs::write(&accepted, KEY).unwrap();
    let simulator = simulate(&[&format!("--api-key-file={}", accepted.display())]).await;
    let mut rig = Rig::new(Kind::FmpBatch, &simulator.base_url(), TIMEOUT);
    assert_eq!(rig.fetch(&["AAPL"]).await.ticks.len(), 1);
    fs::write(&accepted, "another").unwrap();
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::InvalidKey]));
    rig.write_key("another\n");
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!((fetched.ticks.len(), fetched.calls), (1, 1));
}

#[tokio::test]
async fn a_key_that_is_replaced_during_a_fetch_costs_one_more_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("moved");
    let target = path.clone();
    // The server replaces the file when the old key comes, as a rotation in this moment would.
    let server = Server::start(move |request, number| {
        if number == 0 {
            let key_file = fs::read_to_string(&target).unwrap();
            fs::write(key_file, "s3cret-second").unwrap();
            reply(401, "", "")
        } else {
            json(&quotes(request))
        }
    })
    .await;
    let mut rig = Rig::new(Kind::FmpBatch, &server.url(), TIMEOUT);
    fs::write(path, rig.key_file().to_str().unwrap()).unwrap();
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!((names(&fetched), fetched.calls), (vec!["AAPL"], 2));
    assert!(server.heads()[1].contains("s3cret-second"));
}

#[tokio::test]
async fn a_missing_or_unusable_key_is_a_state_that_passes() {
    let simulator = simulate(STEP).await;
    let mut rig = Rig::new(Kind::FmpBatch, &simulator.base_url(), TIMEOUT);
    fs::remove_file(rig.key_file()).unwrap();
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::KeyUnreadable]));
    assert!(fetched.failures[0].error.chain().contains("apiKey"));
    rig.write_key("two\nlines");
    let fetched = rig.fetch(&["AAPL"]).await;
    assert_eq!(reasons(&fetched), BTreeSet::from([Reason::KeyUnreadable]));
    assert_eq!((requests(&simulator, Asked::BatchQuote), fetched.calls), (0, 0));
    rig.write_key("fine");
    assert_eq!(rig.fetch(&["AAPL"]).await.ticks.len(), 1);
}
