//! The rules of security, and our own API, through the routes.

use axum::http::{Method, StatusCode, header};
use rstest::rstest;
use serde_json::{Value, json};

use crate::testing::{ALICE, BOB, stand};

const SUSPEND: &str = "/api/v1/feeds/markets/tech/actions/suspend";

#[rstest]
#[case::rebinding("evil.example:8081", "/api/v1/feeds", StatusCode::MISDIRECTED_REQUEST)]
#[case::rebinding_of_flinks_paths("evil.example", "/jobs/overview", StatusCode::MISDIRECTED_REQUEST)]
#[case::rebinding_of_the_page("evil.example", "/", StatusCode::MISDIRECTED_REQUEST)]
#[case::the_service("stockfeed-dashboard:8081", "/api/v1/feeds", StatusCode::OK)]
#[case::a_probe("10.0.0.9:8081", "/healthz", StatusCode::OK)]
#[case::another_probe("10.0.0.9:8081", "/readyz", StatusCode::OK)]
#[tokio::test]
async fn it_answers_to_its_own_names_only(
    #[case] host: &str,
    #[case] path: &str,
    #[case] expected: StatusCode,
) {
    let (status, ..) = stand(false)
        .await
        .send(Method::GET, path, &[("host", host)])
        .await;
    assert_eq!(status, expected);
}

#[rstest]
#[case::own("/api/v1/feeds")]
#[case::flink("/overview")]
#[case::nothing("/nothing")]
#[case::refused("/api/v1/feeds/markets/none")]
#[tokio::test]
async fn every_answer_keeps_the_browser_in_and_others_out(#[case] path: &str) {
    let (.., headers) = stand(false)
        .await
        .send(Method::GET, path, &[("origin", "https://evil.example")])
        .await;
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(
        !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN),
        "no other origin reads anything"
    );
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
}

#[rstest]
#[case::off(false, Method::POST, SUSPEND, Some(ALICE), &[], StatusCode::FORBIDDEN, "ActionsOff")]
#[case::by_get(true, Method::GET, SUSPEND, Some(ALICE), &[], StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed")]
#[case::no_token(true, Method::POST, SUSPEND, None, &[], StatusCode::UNAUTHORIZED, "Unauthenticated")]
#[case::a_token_of_nobody(true, Method::POST, SUSPEND, Some("x"), &[], StatusCode::UNAUTHORIZED, "Unauthenticated")]
#[case::who_may_only_read(true, Method::POST, SUSPEND, Some(BOB), &[], StatusCode::FORBIDDEN, "Forbidden")]
#[case::another_namespace(true, Method::POST, "/api/v1/feeds/other/tech/actions/suspend", Some(ALICE), &[], StatusCode::FORBIDDEN, "Forbidden")]
#[case::another_origin(true, Method::POST, SUSPEND, Some(ALICE), &[("origin", "https://evil.example")], StatusCode::FORBIDDEN, "Forbidden")]
#[case::another_site(true, Method::POST, SUSPEND, Some(ALICE), &[("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN, "Forbidden")]
#[case::no_such_action(true, Method::POST, "/api/v1/feeds/markets/tech/actions/explode", Some(ALICE), &[], StatusCode::NOT_FOUND, "NotFound")]
#[tokio::test]
async fn an_action_that_is_refused_writes_nothing(
    #[case] actions: bool,
    #[case] method: Method,
    #[case] path: &str,
    #[case] token: Option<&str>,
    #[case] more: &[(&str, &str)],
    #[case] status: StatusCode,
    #[case] code: &str,
) {
    let stand = stand(actions).await;
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("x-stockfeed-request", "1")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    headers.extend_from_slice(more);
    let (found, answer, _) = stand.send(method, path, &headers).await;
    assert_eq!(
        (found, answer["error"]["code"].as_str()),
        (status, Some(code)),
        "{answer}"
    );
    assert!(stand.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_the_header_against_forgery_nothing_is_done() {
    let stand = stand(true).await;
    let bearer = format!("Bearer {ALICE}");
    let (status, ..) = stand
        .send(Method::POST, SUSPEND, &[("authorization", &bearer)])
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(stand.writes.lock().unwrap().is_empty());
}

#[rstest]
#[case::suspend("suspend", json!({"spec": {"suspend": true}}))]
#[case::drain("drain", json!({"spec": {"suspend": true}}))]
#[case::resume("resume", json!({"spec": {"suspend": false}}))]
#[tokio::test]
async fn who_may_acts_once(#[case] action: &str, #[case] patch: Value) {
    let stand = stand(true).await;
    let bearer = format!("Bearer {ALICE}");
    let headers = [
        ("x-stockfeed-request", "1"),
        ("authorization", bearer.as_str()),
        ("origin", "http://localhost:8081"),
    ];
    let path = format!("/api/v1/feeds/markets/tech/actions/{action}");
    let (status, answer, _) = stand.send(Method::POST, &path, &headers).await;
    assert_eq!(
        (status, answer["user"].as_str()),
        (StatusCode::ACCEPTED, Some("alice")),
        "{answer}"
    );
    let writes = stand.writes.lock().unwrap().clone();
    let path = "/apis/stockfeed.dev/v1alpha1/namespaces/markets/stockfeeds/tech".to_owned();
    assert_eq!(writes, [(Method::PATCH, path, patch)]);
}

#[tokio::test]
async fn a_restart_changes_the_annotations_of_both_workers() {
    let stand = stand(true).await;
    let bearer = format!("Bearer {ALICE}");
    let headers = [("x-stockfeed-request", "1"), ("authorization", bearer.as_str())];
    stand
        .send(
            Method::POST,
            "/api/v1/feeds/markets/tech/actions/restart",
            &headers,
        )
        .await;
    let writes = stand.writes.lock().unwrap().clone();
    let annotations = writes[0].2["metadata"]["annotations"]
        .as_object()
        .unwrap()
        .clone();
    let keys: Vec<_> = annotations.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "stockfeed.dev/restart-processor",
            "stockfeed.dev/restart-producer"
        ]
    );
}

#[tokio::test]
async fn a_checkpoint_needs_no_more_than_reading_and_changes_nothing() {
    let stand = stand(true).await;
    let bearer = format!("Bearer {BOB}");
    let headers = [("x-stockfeed-request", "1"), ("authorization", bearer.as_str())];
    let path = "/api/v1/feeds/markets/tech/actions/checkpoint";
    let (status, answer, _) = stand.send(Method::POST, path, &headers).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        answer["checkpoints"][0],
        json!({"partition": "1.0", "checkpoint": 17, "complete": true})
    );
    assert!(stand.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn flinks_cancel_by_get_is_refused_and_by_patch_follows_the_same_rules() {
    let stand = stand(true).await;
    let id = stand.app.feeds.all()[0].id();
    let (status, answer) = stand.get(&format!("/jobs/{id}/yarn-cancel")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(
        answer["errors"][0].as_str().unwrap().contains("PATCH"),
        "{answer}"
    );
    let path = format!("/v1/jobs/{id}?mode=cancel");
    let (status, answer, _) = stand
        .send(Method::PATCH, &path, &[("x-stockfeed-request", "1")])
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{answer}");
    let bearer = format!("Bearer {ALICE}");
    let headers = [("x-stockfeed-request", "1"), ("authorization", bearer.as_str())];
    let (status, ..) = stand.send(Method::PATCH, &path, &headers).await;
    assert_eq!(
        (status, stand.writes.lock().unwrap().len()),
        (StatusCode::ACCEPTED, 1)
    );
}

#[tokio::test]
async fn a_feed_is_shown_whole_after_one_look() {
    let stand = stand(false).await;
    let (status, feed) = stand.get("/api/v1/feeds/markets/tech").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(feed["state"], "Ready");
    assert_eq!(feed["observation"]["problems"], json!([]), "{feed:#}");
    assert_eq!(feed["partitions"][0]["processor"], "tech-processor-1");
    assert_eq!(feed["partitions"][0]["queue"]["ready"], 3);
    assert_eq!(feed["processors"][0]["lastExit"]["reason"], "OOMKilled");
    assert_eq!(feed["producer"]["broker"]["connected"], true);
    assert_eq!(feed["partitionCount"], 2);
    let (_, graph) = stand.get("/api/v1/feeds/markets/tech/graph").await;
    let held = graph["edges"]
        .as_array()
        .unwrap()
        .iter()
        .find(|edge| edge["to"] == "database")
        .unwrap();
    assert_eq!(
        (held["backpressure"].as_f64(), held["level"].as_str()),
        (Some(0.6), Some("high"))
    );
    let (_, errors) = stand.get("/api/v1/feeds/markets/tech/errors").await;
    let kinds: Vec<_> = errors["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["condition", "restart", "restart", "processor"]);
    let (_, checkpoints) = stand.get("/api/v1/feeds/markets/tech/checkpoints").await;
    assert_eq!(checkpoints["totals"], json!({"completed": 21.0, "failed": 1.0}));
    assert_eq!(checkpoints["checkpoints"].as_array().unwrap().len(), 3);
    let (_, history) = stand.get("/api/v1/feeds/markets/tech/history").await;
    assert_eq!(
        history["series"]["backlog"],
        json!([6.0]),
        "what waits in both queues"
    );
}

#[tokio::test]
async fn the_overview_asks_nobody_and_says_what_the_status_says() {
    let stand = stand(false).await;
    let (_, feeds) = stand.get("/api/v1/feeds").await;
    assert_eq!(feeds["totals"]["ready"], 1);
    assert_eq!(feeds["feeds"][0]["observed"], false);
    assert_eq!(stand.app.watchers.observed(), 0);
}

#[rstest]
#[case::no_feed("/api/v1/feeds/markets/none", StatusCode::NOT_FOUND, "NotFound")]
#[case::no_path("/api/v1/none", StatusCode::NOT_FOUND, "NotFound")]
#[case::no_symbol("/api/v1/feeds/markets/tech/candles", StatusCode::BAD_REQUEST, "BadRequest")]
#[case::no_window(
    "/api/v1/feeds/markets/tech/candles?symbol=AAPL&window=2m",
    StatusCode::BAD_REQUEST,
    "BadRequest"
)]
#[case::no_time(
    "/api/v1/feeds/markets/tech/candles?symbol=AAPL&from=noon",
    StatusCode::BAD_REQUEST,
    "BadRequest"
)]
#[case::no_secret(
    "/api/v1/feeds/markets/tech/candles?symbol=AAPL",
    StatusCode::SERVICE_UNAVAILABLE,
    "Unavailable"
)]
#[case::no_stream("/api/v1/stream?feed=tech", StatusCode::BAD_REQUEST, "BadRequest")]
#[tokio::test]
async fn errors_name_what_is_wrong(#[case] path: &str, #[case] status: StatusCode, #[case] code: &str) {
    let (found, answer) = stand(false).await.get(path).await;
    assert_eq!(
        (found, answer["error"]["code"].as_str()),
        (status, Some(code)),
        "{answer}"
    );
}
