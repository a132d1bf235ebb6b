use std::sync::mpsc;

use axum::{Router, body::Bytes as Body, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value,
    trace::v1::Span as Exported,
};
use prost::Message as _;
use rstest::rstest;
use tracing::Instrument as _;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _};

use super::*;

#[rstest]
#[case("http://collector:4318", Ok("http://collector:4318"))]
#[case(
    "http://collector.observability.svc:4318/",
    Ok("http://collector.observability.svc:4318")
)]
#[case("http://collector/otlp", Ok("http://collector/otlp"))]
#[case("https://collector", Err(InvalidEndpoint::Scheme))]
#[case("collector:4318", Err(InvalidEndpoint::Scheme))]
#[case("http://", Err(InvalidEndpoint::Host))]
#[case("http://a b", Err(InvalidEndpoint::Host))]
#[case("http://user:word@collector", Err(InvalidEndpoint::Secret))]
#[case("http://collector?key=word", Err(InvalidEndpoint::Secret))]
fn an_endpoint_is_plain_http_without_secrets(
    #[case] text: &str,
    #[case] expected: Result<&str, InvalidEndpoint>,
) {
    let endpoint: Result<Endpoint, _> = text.parse();
    assert_eq!(
        endpoint.map(|endpoint| endpoint.to_string()),
        expected.map(str::to_owned)
    );
}

#[rstest]
#[case("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true)]
#[case("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more", true)]
#[case("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false)]
#[case("00-00000000000000000000000000000000-b7ad6b7169203331-01", false)]
#[case("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false)]
#[case("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false)]
#[case("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false)]
#[case("", false)]
fn only_a_traceparent_names_a_place(#[case] text: &str, #[case] valid: bool) {
    let expected = valid.then_some(Place {
        trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
        span: 0xb7ad_6b71_6920_3331,
    });
    assert_eq!(Place::from_traceparent(text), expected);
}

#[test]
fn without_a_collector_nothing_is_made() {
    let log = tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_filter(EnvFilter::new("info")));
    tracing::subscriber::with_default(log, || {
        assert!(!are_on());
        let span = tracing::trace_span!(target: TARGET, "commit");
        assert!(span.is_disabled());
        assert_eq!(Place::of(&span), None);
    });
}

/// A collector: what is posted to it arrives at the receiver.
fn collector() -> (Endpoint, mpsc::Receiver<(HeaderMap, Body)>) {
    let (sender, receiver) = mpsc::channel();
    let (address_sender, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address_sender.send(listener.local_addr().unwrap()).unwrap();
            let take = move |headers: HeaderMap, body: Body| async move {
                let _ = sender.send((headers, body));
            };
            axum::serve(listener, Router::new().route("/v1/traces", post(take)))
                .await
                .unwrap();
        });
    });
    let endpoint = format!("http://{}", address.recv().unwrap());
    (endpoint.parse().unwrap(), receiver)
}

#[test]
fn a_collector_gets_spans_with_their_parents_and_links_and_no_log() {
    let (endpoint, arrived) = collector();
    let traces = Traces::start(&endpoint, "processor", "1.2.3").unwrap();
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::sink)
        .with_filter(EnvFilter::new("info"));
    let subscriber = tracing_subscriber::registry().with(log).with(traces.layer());
    let origin = Place {
        trace: 0xabc,
        span: 0xdef,
    };
    let place = tracing::subscriber::with_default(subscriber, || {
        assert!(are_on());
        let log = tracing::info_span!("only in the log");
        assert_eq!(Place::of(&log), None, "spans of the log are no part of traces");
        let commit = tracing::trace_span!(target: TARGET, "commit", messages = 3);
        link(&commit, &[origin]);
        let place = Place::of(&commit);
        // As a program that has no more than one thread does it.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let step = async { tracing::trace_span!(target: TARGET, "write").in_scope(|| ()) };
        runtime.block_on(step.instrument(log).instrument(commit));
        runtime.block_on(async { drop(traces) });
        place.unwrap()
    });

    let (headers, body) = arrived.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let resource = &request.resource_spans[0];
    let named = |key: &str| {
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let found = attributes.iter().find(|attribute| attribute.key == key);
        match found.and_then(|attribute| attribute.value.clone()?.value) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{key}: {other:?}"),
        }
    };
    assert_eq!(named("service.name"), "stockfeed-processor");
    assert_eq!(named("service.version"), "1.2.3");
    let spans: Vec<&Exported> = resource
        .scope_spans
        .iter()
        .flat_map(|scope| &scope.spans)
        .collect();
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["commit", "write"]);
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let commit = span("commit");
    assert_eq!(commit.trace_id, place.trace.to_be_bytes());
    assert_eq!(commit.span_id, place.span.to_be_bytes());
    assert_eq!(commit.links.len(), 1);
    assert_eq!(commit.links[0].trace_id, origin.trace.to_be_bytes());
    assert_eq!(commit.links[0].span_id, origin.span.to_be_bytes());
    let write = span("write");
    assert_eq!(write.trace_id, commit.trace_id);
    assert_eq!(
        write.parent_span_id, commit.span_id,
        "steps belong to what they are steps of"
    );
}
