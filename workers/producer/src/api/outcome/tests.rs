use axum::{http::header, response::IntoResponse as _};
use serde_json::{Value, json};

use super::*;
use crate::api::tests::{Answer, Harness, symbols};

fn report(outcome: Outcome, reason: Option<&str>) -> SymbolReport {
    SymbolReport {
        outcome,
        price: None,
        event_time: None,
        reason: reason.map(str::to_owned),
        message: reason.map(|reason| format!("{reason} it is")),
    }
}

fn results(entries: &[(&str, Outcome, Option<&str>)]) -> BTreeMap<Symbol, SymbolReport> {
    entries
        .iter()
        .map(|(symbol, outcome, reason)| (symbol.parse().unwrap(), report(*outcome, *reason)))
        .collect()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

async fn refusal(refusal: Refusal) -> Answer {
    let harness = Harness::new(None, move |_| Some(Err(refusal.clone())));
    harness.post("/fetch-data", "").await
}

#[test]
fn an_answer_says_what_became_of_each_symbol() {
    let results = results(&[
        ("A", Outcome::Published, None),
        ("B", Outcome::Unchanged, None),
        ("C", Outcome::Absent, Some("UnknownSymbol")),
        ("D", Outcome::Failed, Some("Timeout")),
        ("E", Outcome::Rejected, Some("Price")),
        ("F", Outcome::Failed, Some("Timeout")),
    ]);
    let report = Report {
        results: results.clone(),
        calls: 3,
        published: 1,
        unchanged: 1,
    };
    let wanted: Vec<Symbol> = results.keys().cloned().collect();
    let answer = answer(wanted, report, Some(247), at(0)).unwrap();
    let body: Value = serde_json::to_value(answer).unwrap();
    assert_eq!(body["message"], "Fetched 2 of 6 symbols");
    assert_eq!((&body["published"], &body["unchanged"]), (&json!(1), &json!(1)));
    assert_eq!((&body["calls"], &body["quota_left"]), (&json!(3), &json!(247)));
    assert_eq!(body["absent"], json!(["C"]));
    assert_eq!(
        body["errors"],
        json!([
            { "symbols": ["D", "F"], "reason": "Timeout", "message": "Timeout it is" },
            { "symbols": ["E"], "reason": "Price", "message": "Price it is" },
        ])
    );
    assert_eq!(body["results"]["D"]["outcome"], "failed");
}

#[tokio::test]
async fn a_source_that_answers_nothing_is_a_bad_gateway() {
    let failed = results(&[
        ("AAPL", Outcome::Failed, Some("InvalidKey")),
        ("MSFT", Outcome::Failed, Some("InvalidKey")),
    ]);
    let harness = Harness::new(None, move |_| {
        Some(Ok(Report {
            results: failed.clone(),
            calls: 1,
            published: 0,
            unchanged: 0,
        }))
    });
    let refused = harness.post("/fetch-data", "").await;
    assert_eq!(refused.problem(), (502, "InvalidKey".to_owned()));
    assert_eq!(refused.json()["detail"], "InvalidKey it is");
    assert_eq!(refused.json()["results"]["MSFT"]["reason"], "InvalidKey");
}

#[test]
fn a_source_that_knows_no_symbol_has_answered() {
    let results = results(&[
        ("A", Outcome::Absent, Some("UnknownSymbol")),
        ("B", Outcome::Failed, Some("Timeout")),
    ]);
    let report = Report {
        results,
        calls: 1,
        published: 0,
        unchanged: 0,
    };
    let answer = answer(symbols(&["A", "B"]), report, None, at(0)).unwrap();
    assert_eq!(answer.message, "Fetched 0 of 2 symbols");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back() {
    let paused = refusal(Refusal::Paused {
        left: Duration::from_millis(2_001),
    })
    .await;
    assert_eq!(paused.problem(), (429, "RateLimited".to_owned()));
    assert_eq!(paused.header("retry-after"), Some("3"), "rounded up");
    let exhausted = |resets| {
        refused(
            &Refusal::QuotaExhausted {
                needed: 4,
                left: 1,
                resets,
            },
            at(0),
        )
        .into_response()
    };
    for (resets, expected) in [(at(3_600), "3600"), (at(0), "1"), (at(-5), "1")] {
        let response = exhausted(resets);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], expected);
    }
    let unknown = refusal(Refusal::QuotaUnknown {
        message: "no database".to_owned(),
    })
    .await;
    assert_eq!(unknown.problem(), (503, "QuotaUnknown".to_owned()));
    assert!(unknown.text.contains("no database"));
    let full = refusal(Refusal::SpoolFull { bytes: 7 }).await;
    assert_eq!(full.problem(), (503, "SpoolFull".to_owned()));
    assert_eq!(full.header("retry-after"), None, "nobody knows");
}
