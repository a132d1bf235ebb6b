//! Traces, for whoever is given the address of a collector: spans over OTLP, protobuf over plain HTTP.
//!
//! Spans are made with `tracing`, under a target of their own ([`TARGET`]) and at level TRACE. So they are no part of the log, and
//! without a collector they cost one look at a number each: nothing is made, kept or sent.
//!
//! ```text
//!  poll (producer) ──traceparent in every message──► commit (processor): a link to each poll that it has messages of
//!  reconcile (operator): a span for each step
//! ```
//!
//! What is sent goes out on a thread of its own, with a runtime of its own: the thread that folds ticks is not held up.

use std::{fmt, str::FromStr, time::Duration};

use opentelemetry::{
    Context, KeyValue,
    trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
    },
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, hyper::HyperClient};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use snafu::{ResultExt as _, Snafu, ensure};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// The target of spans that belong to traces.
pub const TARGET: &str = "stockfeed::trace";
/// The longest that a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end waits until what is left was sent.
const FLUSH: Duration = Duration::from_secs(3);

/// The address of a collector, as in `http://otel-collector.observability.svc:4318`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

/// Not the address of a collector.
#[derive(Debug, PartialEq, Eq, Snafu)]
pub enum InvalidEndpoint {
    /// Another scheme, or none.
    #[snafu(display("the address of the collector must begin with http://"))]
    Scheme,
    /// It names no host.
    #[snafu(display("the address of the collector names no host"))]
    Host,
    /// It would be in logs and objects that many may read.
    #[snafu(display("the address of the collector must have neither user nor password nor a query"))]
    Secret,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let rest = text.strip_prefix("http://");
        let Some(rest) = rest else {
            return SchemeSnafu.fail();
        };
        ensure!(!rest.contains(['@', '?', '#']), SecretSnafu);
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        let plain = |character: char| character.is_ascii_graphic();
        ensure!(!host.is_empty() && rest.chars().all(plain), HostSnafu);
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why there are no traces.
#[derive(Debug, Snafu)]
pub enum Error {
    /// No thread can be had.
    #[snafu(display("failed to make a runtime for traces"))]
    Runtime {
        /// Why.
        source: std::io::Error,
    },
    /// The library refused.
    #[snafu(display("failed to make an exporter of traces"))]
    Exporter {
        /// Why.
        source: ExporterBuildError,
    },
}

/// Where spans go. What is left is sent when it is dropped.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send spans to a collector, in the name of a program. A collector that is away costs spans, nothing else.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(endpoint: &Endpoint, program: &'static str, version: &'static str) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(RuntimeSnafu)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OwnThread {
                client: HyperClient::with_default_connector(TIMEOUT, None),
                runtime,
            })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_timeout(TIMEOUT)
            .build()
            .context(ExporterSnafu)?;
        // What a pod is of, it is told in OTEL_RESOURCE_ATTRIBUTES.
        let resource = Resource::builder()
            .with_service_name(format!("stockfeed-{program}"))
            .with_attribute(KeyValue::new("service.version", version))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .build();
        Ok(Self { provider })
    }

    /// Takes spans of [`TARGET`] in, and nothing else.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'lookup> LookupSpan<'lookup> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("stockfeed"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.target() == TARGET))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // Whether a collector heard of the end matters to nobody.
        let _ = self.provider.shutdown_with_timeout(FLUSH);
    }
}

/// Sends on the thread that asks, which is the exporter's own.
#[derive(Debug)]
struct OwnThread {
    client: HyperClient,
    runtime: tokio::runtime::Runtime,
}

impl HttpClient for OwnThread {
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move { self.runtime.block_on(self.client.send_bytes(request)) })
    }
}

/// Whether spans are taken in at all.
#[inline]
#[must_use]
pub fn are_on() -> bool {
    tracing::enabled!(target: TARGET, Level::TRACE)
}

/// A span as others may refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The trace; not zero.
    pub trace: u128,
    /// The span in it; not zero.
    pub span: u64,
}

impl Place {
    /// Of a span that is taken in.
    #[must_use]
    pub fn of(span: &Span) -> Option<Self> {
        if span.is_disabled() {
            return None;
        }
        let context: Context = span.context();
        let context = context.span().span_context().clone();
        context.is_valid().then(|| Self {
            trace: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
        })
    }

    /// From the header `traceparent` of W3C Trace Context. What is none is no trace, and no error.
    #[must_use]
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |part: &str, length: usize| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            part.len() == length && part.bytes().all(lower)
        };
        if !hex(version, 2) || version == "ff" || !hex(trace, 32) || !hex(span, 16) {
            return None;
        }
        let place = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
        };
        (place.trace != 0 && place.span != 0).then_some(place)
    }
}

/// Links a span to others, which may be of other traces.
pub fn link(span: &Span, places: &[Place]) {
    for place in places {
        span.add_link(SpanContext::new(
            TraceId::from_bytes(place.trace.to_be_bytes()),
            SpanId::from_bytes(place.span.to_be_bytes()),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        ));
    }
}

#[cfg(test)]
mod tests;
