//! A thousand feeds: the overview is there at once, and the memory is bounded. In a process of its own, for that is measured.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    body::Body,
    extract::Query,
    response::{IntoResponse as _, Response},
    routing::get,
};
use clap::Parser as _;
use dashboard::args::Arguments;
use futures::stream;
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

const FEEDS: usize = 1000;
/// The dashboard's limit, and what is in this process beside it: the API server and its text.
const MEBIBYTES: u64 = 128;
const FIRST_PAINT: Duration = Duration::from_secs(1);

fn feed(number: usize) -> Value {
    let symbols: Vec<_> = (0..50)
        .map(|symbol| format!("S{symbol}.{}", number % 7))
        .collect();
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "AsDeclared", "message": "everything is as it was declared to be, and data flows",
               "observedGeneration": 1, "lastTransitionTime": "2026-11-27T14:00:00Z"})
    };
    let conditions = [
        "Ready",
        "SourceReady",
        "BrokerReady",
        "SchemaReady",
        "ProducerReady",
        "ProcessorReady",
        "QuotaSufficient",
        "DataComplete",
    ];
    json!({
        "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
        "metadata": {"namespace": format!("team-{}", number % 20), "name": format!("feed-{number}"), "uid": format!("00000000-0000-4000-8000-{number:012x}"),
            "creationTimestamp": "2026-11-20T09:00:00Z", "resourceVersion": "1",
            "managedFields": [{"manager": "stockfeed-operator", "operation": "Apply", "fieldsV1": {"f:status": "x".repeat(4000)}}]},
        "spec": {"symbols": symbols, "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}}},
        "status": {"conditions": conditions.map(condition), "backlog": number, "replicas": "1/1", "partitions": 4,
            "watermark": "2026-11-27T14:29:54Z", "lastTickTime": "2026-11-27T14:29:59Z"},
    })
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    watch: bool,
}

/// Lists them; a watch says nothing, for ever.
async fn feeds(Query(asked): Query<Asked>) -> Response {
    if asked.watch {
        return Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>()).into_response();
    }
    let items: Vec<_> = (0..FEEDS).map(feed).collect();
    Json(json!({"apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeedList", "metadata": {"resourceVersion": "1"}, "items": items})).into_response()
}

async fn resident_mebibytes() -> Result<u64> {
    let status = tokio::fs::read_to_string("/proc/self/status").await?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("no VmRSS")?;
    let kibibytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kibibytes / 1024)
}

#[tokio::test]
async fn the_overview_of_a_thousand_feeds_is_there_at_once_and_memory_is_bounded() -> Result<()> {
    service::tls::install_provider()?;
    let loopback = (Ipv4Addr::LOCALHOST, 0);
    let api_server = TcpListener::bind(loopback).await?;
    let address = api_server.local_addr()?;
    let routes = Router::new().route("/apis/stockfeed.dev/v1alpha1/stockfeeds", get(feeds));
    tokio::spawn(async move { axum::serve(api_server, routes).await });
    let client = Client::try_from(Config::new(format!("http://{address}").parse()?))?;
    let listener = TcpListener::bind(loopback).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let arguments = Arguments::try_parse_from(["dashboard"])?;
    let serving = tokio::spawn(dashboard::serve(client, listener, arguments, shutdown.clone()));
    let http = reqwest::Client::new();
    // The first answer waits until they are listed.
    let first: Value = http
        .get(format!("{url}/api/v1/feeds"))
        .send()
        .await?
        .json()
        .await?;
    assert_eq!(first["totals"]["ready"], FEEDS);
    for (path, patience) in [
        ("/api/v1/feeds", FIRST_PAINT),
        ("/jobs/overview", 3 * FIRST_PAINT),
        ("/overview", FIRST_PAINT),
    ] {
        let began = Instant::now();
        let answer = http
            .get(format!("{url}{path}"))
            .send()
            .await?
            .error_for_status()?;
        let bytes = answer.bytes().await?.len();
        let took = began.elapsed();
        println!("{path}: {bytes} bytes in {took:?}");
        assert!(took < patience, "{path} took {took:?}");
    }
    let mut most = 0;
    for _ in 0..20 {
        http.get(format!("{url}/api/v1/feeds"))
            .send()
            .await?
            .bytes()
            .await?;
        most = most.max(resident_mebibytes().await?);
    }
    println!("{most} MiB resident");
    assert!(most < MEBIBYTES, "{most} MiB");
    shutdown.cancel();
    serving.await??;
    Ok(())
}
