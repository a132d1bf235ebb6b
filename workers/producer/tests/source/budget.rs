//! No request over the budget, whatever goes wrong.

use std::{collections::BTreeSet, time::Duration};

use contract::symbol::Symbol;
use fmp_simulator::fault::{Endpoint as Asked, Fault, FaultKind};
use producer::source::{QuoteSource as _, Reason};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use rstest::rstest;

use crate::{
    server::{Reply, Server, head, json, nowhere, reply},
    support::{Kind, Rig, STEP, failed, names, quotes, reasons, requests, simulate},
};

const TIMEOUT: Duration = Duration::from_secs(20);
const HTML: &str = "content-type: text/html";

#[rstest]
#[tokio::test]
async fn without_a_budget_nothing_is_asked(
    #[values(Kind::FmpSingle, Kind::FmpBatch, Kind::HttpSingle, Kind::HttpBatch)] kind: Kind,
) {
    let server = Server::start(|target, _| json(&quotes(target))).await;
    let mut rig = Rig::new(kind, &server.url(), TIMEOUT);
    let fetched = rig.fetch_within(&["AAPL", "IBM"], 0).await;
    assert_eq!(failed(&fetched, Reason::OverBudget), ["AAPL", "IBM"]);
    assert_eq!((server.count(), fetched.calls, fetched.succeeded), (0, 0, 0));
    assert_eq!((fetched.bound, fetched.pause), (None, None));
    let error = &fetched.failures[0].error;
    assert!(!error.is_transient() && !error.is_refusal_by_plan() && !error.concerns_all());
}

#[rstest]
#[case::singles(Kind::FmpSingle, 3, 3)]
#[case::batches(Kind::FmpBatch, 1, 100)]
#[case::http_singles(Kind::HttpSingle, 3, 3)]
#[case::http_batches(Kind::HttpBatch, 1, 100)]
#[tokio::test]
async fn the_first_symbols_are_asked_for_and_the_others_say_so(
    #[case] kind: Kind,
    #[case] budget: u64,
    #[case] symbols: usize,
) {
    let server = Server::start(|target, _| json(&quotes(target))).await;
    let mut rig = Rig::new(kind, &server.url(), TIMEOUT);
    let texts: Vec<String> = (0..120).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let fetched = rig.fetch_within(&texts, budget).await;
    assert_eq!(names(&fetched), texts[..symbols]);
    assert_eq!(failed(&fetched, Reason::OverBudget), texts[symbols..]);
    assert_eq!((server.count(), fetched.calls), (budget, budget));
}

#[tokio::test]
async fn a_repetition_over_the_budget_is_not_made() {
    for budget in 1..=4 {
        let server = Server::start(|_, _| reply(500, HTML, "")).await;
        let mut rig = Rig::new(Kind::FmpBatch, &server.url(), TIMEOUT);
        let fetched = rig.fetch_within(&["AAPL"], budget).await;
        // Asked, so it has the server's reason and not the budget's.
        assert_eq!(reasons(&fetched), BTreeSet::from([Reason::ServerError]));
        assert_eq!((server.count(), fetched.calls), (budget.min(3), budget.min(3)));
    }
}

#[tokio::test]
async fn one_symbols_repetitions_do_not_cost_another_its_turn() {
    let simulator = simulate(STEP).await;
    simulator.inject(Fault {
        symbol: Some("AAPL".parse().unwrap()),
        ..Fault::new(FaultKind::ServerError, None)
    });
    let mut rig = Rig::new(Kind::FmpSingle, &simulator.base_url(), TIMEOUT);
    // Room for the first requests and one repetition.
    let fetched = rig
        .fetch_within(&["AAPL", "IBM", "GOOG", "MSFT", "FB", "NONE"], 7)
        .await;
    assert_eq!(failed(&fetched, Reason::ServerError), ["AAPL"]);
    assert_eq!(fetched.ticks.len() + fetched.absent.len(), 5);
    assert_eq!((requests(&simulator, Asked::Quote), fetched.calls), (7, 7));
}

#[tokio::test]
async fn singles_instead_of_a_refused_batch_fit_what_is_left() {
    let simulator = simulate(&["--plan=basic"]).await;
    let mut rig = Rig::new(Kind::FmpBatch, &simulator.base_url(), TIMEOUT);
    let texts = ["AAPL", "IBM", "GOOG", "MSFT"];
    let fetched = rig.fetch_within(&texts, rig.source.calls(4)).await;
    assert_eq!(failed(&fetched, Reason::OverBudget), texts);
    assert_eq!((requests(&simulator, Asked::Quote), fetched.calls), (0, 1));
    // From now on it says what it takes.
    assert_eq!(rig.source.calls(4), 4);
    let fetched = rig.fetch_within(&texts, 4).await;
    assert_eq!((names(&fetched), fetched.calls), (texts.to_vec(), 4));

    let mut rig = Rig::new(Kind::FmpBatch, &simulator.base_url(), TIMEOUT);
    let fetched = rig.fetch_within(&texts, 3).await;
    assert_eq!(names(&fetched), texts[..2]);
    assert_eq!(failed(&fetched, Reason::OverBudget), texts[2..]);
}

#[tokio::test]
async fn attempts_that_find_no_connection_count() {
    let mut rig = Rig::new(Kind::HttpSingle, &nowhere(), TIMEOUT);
    let fetched = rig.fetch_within(&["AAPL"], 2).await;
    assert_eq!(failed(&fetched, Reason::Unreachable), ["AAPL"]);
    assert_eq!(fetched.calls, 2);
}

/// What a server does next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Good,
    Status(u16),
    ErrorOn200,
    Close,
    CutOff,
    Hang,
    Malformed,
}

#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    symbols: usize,
    budget: u64,
    steps: Vec<Step>,
    fetches: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![
        Just(Kind::FmpSingle),
        Just(Kind::FmpBatch),
        Just(Kind::HttpSingle),
        Just(Kind::HttpBatch)
    ];
    let status = prop::sample::select(vec![302, 401, 402, 403, 404, 429, 500, 502, 503]);
    let step = prop_oneof![
        4 => Just(Step::Good),
        4 => status.prop_map(Step::Status),
        1 => Just(Step::ErrorOn200),
        1 => Just(Step::Close),
        1 => Just(Step::CutOff),
        1 => Just(Step::Hang),
        1 => Just(Step::Malformed),
    ];
    let symbols = prop_oneof![3 => 1..12_usize, 1 => 95..230_usize];
    let steps = prop::collection::vec(step, 1..12);
    (kind, symbols, 0..15_u64, steps, 1..3_usize).prop_map(|(kind, symbols, budget, steps, fetches)| Case {
        kind,
        symbols,
        budget,
        steps,
        fetches,
    })
}

fn answer(step: Step, target: &str) -> Reply {
    let half = head(200, "content-type: application/json", 500) + "[";
    match step {
        Step::Good => json(&quotes(target)),
        Step::Status(status) => reply(status, "", ""),
        Step::ErrorOn200 => json(r#"{"Error Message":"Premium Query"}"#),
        Step::Close => Reply::Bytes(String::new()),
        Step::CutOff => Reply::Bytes(half),
        Step::Hang => Reply::Hang,
        Step::Malformed => json("["),
    }
}

async fn check(case: Case) {
    let steps = case.steps.clone();
    let script = move |target: &str, number: usize| answer(steps[number % steps.len()], target);
    let server = Server::start(script).await;
    let mut rig = Rig::new(case.kind, &server.url(), Duration::from_millis(400));
    let texts: Vec<String> = (0..case.symbols).map(|number| format!("S{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut calls = 0;
    for _ in 0..case.fetches {
        let fetched = rig.fetch_within(&texts, case.budget).await;
        calls += fetched.calls;
        // Under load an attempt may time out before it has connected; it counts, and the server does not see it.
        assert!(server.count() <= calls, "{} of {calls}: {case:?}", server.count());
        assert!(fetched.calls <= case.budget, "{}: {case:?}", fetched.calls);
        let refused = failed(&fetched, Reason::OverBudget);
        assert!(refused.is_empty() || fetched.calls == case.budget, "{case:?}");

        // Each symbol has one outcome.
        let ticks = fetched.ticks.iter().map(|tick| &tick.symbol);
        let failures = fetched.failures.iter().flat_map(|failure| &failure.symbols);
        let mut outcomes: Vec<&str> = ticks
            .chain(failures)
            .chain(&fetched.absent)
            .map(Symbol::as_str)
            .collect();
        outcomes.sort_unstable();
        let mut expected = texts.clone();
        expected.sort_unstable();
        assert_eq!(outcomes, expected, "{case:?}");
    }
}

/// Many cases at once, because most of each is spent waiting.
#[tokio::test]
async fn no_faults_make_a_fetch_exceed_its_budget() {
    let mut runner = TestRunner::default();
    let cases: Vec<Case> = (0..200)
        .map(|_| case().new_tree(&mut runner).unwrap().current())
        .collect();
    futures::future::join_all(cases.into_iter().map(check)).await;
}
