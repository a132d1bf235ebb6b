//! What every request passes: the `Host` check, the headers of answers, and, for what changes something, the checks against forgery.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::error::{ApiError, Code};

/// What no form, image or link of another page can send.
pub const FORGERY_HEADER: &str = "x-stockfeed-request";
/// Nothing is loaded from elsewhere, nothing runs that is not a file of ours, nobody frames it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What the kubelet asks, by the pod's address. They say nothing of feeds.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// Names under which the dashboard answers. A page that had its own name lead to this address (DNS rebinding) comes with that name.
#[derive(Clone, Debug)]
pub struct Hosts(Arc<BTreeSet<String>>);

impl Hosts {
    /// These names, beside those of the own machine, that a port-forward has.
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let names = names.iter().map(|name| name.to_ascii_lowercase());
        Self(Arc::new(names.chain(own).collect()))
    }

    /// Whether it answers to a name, with or without a port.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        self.0.contains(&without_port(host).to_ascii_lowercase())
    }
}

/// A port is digits after the last colon; an IPv6 address has brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The host that a request was sent to.
fn host(request: &Request) -> Option<&str> {
    let header = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    header.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str))
}

/// Refuses requests to other names.
pub async fn check_host(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    if PROBES.contains(&request.uri().path()) || host(&request).is_some_and(|host| hosts.allows(host)) {
        return next.run(request).await;
    }
    ApiError::new(Code::WrongHost, "the dashboard does not answer to this name")
        .remedy("dashboard.hosts in the chart's values names those that it answers to")
        .into_response()
}

/// Adds what keeps a browser from doing more than the page needs.
pub async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses what another page made the browser send: without the header that only a script of the same origin can set, or from another
/// origin.
///
/// # Errors
/// When one of them is wrong; the message says which.
pub fn check_forgery(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if method != Method::POST && method != Method::PATCH {
        return Err(ApiError::new(Code::MethodNotAllowed, "an action is a POST")
            .remedy("nothing is changed by GET, so that no link and no image can"));
    }
    if headers
        .get(FORGERY_HEADER)
        .is_none_or(|value| value.as_bytes() != b"1")
    {
        return Err(ApiError::new(
            Code::Forbidden,
            "the header X-StockFeed-Request: 1 is missing",
        ));
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(origin) = text(header::ORIGIN) {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        if authority.is_none() || authority != text(header::HOST) {
            return Err(ApiError::new(
                Code::Forbidden,
                "the request comes from another origin",
            ));
        }
    }
    if text(HeaderName::from_static("sec-fetch-site"))
        .is_some_and(|site| site != "same-origin" && site != "none")
    {
        return Err(ApiError::new(
            Code::Forbidden,
            "the request comes from another site",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_port_forward("localhost:8081", true)]
    #[case::by_address("127.0.0.1:9", true)]
    #[case::long_address("[::1]:8081", true)]
    #[case::without_a_port("localhost", true)]
    #[case::the_service("stockfeed-dashboard.stockfeed-system.svc:8081", true)]
    #[case::capitals("LocalHost:8081", true)]
    #[case::rebinding("evil.example:8081", false)]
    #[case::a_longer_name("localhost.evil.example:8081", false)]
    #[case::user_part("localhost:8081@evil.example", false)]
    #[case::nothing("", false)]
    fn hosts(#[case] host: &str, #[case] expected: bool) {
        let hosts = Hosts::new(&["stockfeed-dashboard.stockfeed-system.svc".to_owned()]);
        assert_eq!(hosts.allows(host), expected);
    }

    #[rstest]
    #[case::as_the_page_sends_it(Method::POST, &[("x-stockfeed-request", "1"), ("host", "localhost:8081"), ("origin", "http://localhost:8081"), ("sec-fetch-site", "same-origin")], None)]
    #[case::as_a_program_sends_it(Method::PATCH, &[("x-stockfeed-request", "1"), ("host", "localhost:8081")], None)]
    #[case::get(Method::GET, &[("x-stockfeed-request", "1")], Some(Code::MethodNotAllowed))]
    #[case::a_form(Method::POST, &[("host", "localhost:8081")], Some(Code::Forbidden))]
    #[case::another_port(Method::POST, &[("x-stockfeed-request", "1"), ("host", "localhost:8081"), ("origin", "http://localhost:3000")], Some(Code::Forbidden))]
    #[case::a_sandbox(Method::POST, &[("x-stockfeed-request", "1"), ("host", "localhost:8081"), ("origin", "null")], Some(Code::Forbidden))]
    #[case::another_site(Method::POST, &[("x-stockfeed-request", "1"), ("host", "localhost:8081"), ("sec-fetch-site", "cross-site")], Some(Code::Forbidden))]
    fn forgery(
        #[case] method: Method,
        #[case] pairs: &[(&'static str, &'static str)],
        #[case] expected: Option<Code>,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        assert_eq!(
            check_forgery(&method, &headers).err().map(|error| error.code),
            expected
        );
    }
}
