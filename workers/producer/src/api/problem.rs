//! Errors as RFC 9457 has them: one form for all of them, and one place that makes those that have nothing to do with fetching.

use std::{borrow::Cow, collections::BTreeMap};

use axum::{
    Json,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::symbol::Symbol;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{api::schema::SymbolText, poll::command::SymbolReport};

/// The media type of every error.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The most bytes that a body may have.
pub const MAX_BODY: usize = 16 * 1024;

/// An error, ready to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
    document: ProblemDocument,
}

/// An error (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// Always `about:blank`: `status` and `reason` say what kind of error it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: Cow<'static, str>,
    /// The status code, as in the answer itself.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong and what to do, for people.
    detail: String,
    /// The class of the error, for programs.
    reason: Cow<'static, str>,
    /// The symbols that it concerns, where it concerns some only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<SymbolText>, required = false)]
    symbols: Vec<Symbol>,
    /// What became of each symbol, where the source was asked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, SymbolReport>, required = false)]
    results: BTreeMap<Symbol, SymbolReport>,
}

impl Problem {
    /// An error of a status, its class, and what to do.
    pub fn new(status: StatusCode, reason: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let document = ProblemDocument {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.into(),
            reason: reason.into(),
            symbols: Vec::new(),
            results: BTreeMap::new(),
        };
        Self(Box::new(Parts {
            status,
            header: None,
            document,
        }))
    }

    /// The same, and it concerns these symbols.
    #[must_use]
    pub fn of_symbols(mut self, symbols: Vec<Symbol>) -> Self {
        self.0.document.symbols = symbols;
        self
    }

    /// The same, with what became of each symbol.
    #[must_use]
    pub fn with_results(mut self, results: BTreeMap<Symbol, SymbolReport>) -> Self {
        self.0.document.results = results;
        self
    }

    /// The same, with the header that says when to try again, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The class.
    pub fn reason(&self) -> &str {
        &self.0.document.reason
    }

    /// What is answered.
    pub fn document(&self) -> &ProblemDocument {
        &self.0.document
    }

    /// 400: the query cannot be read.
    pub fn invalid_query(detail: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidQuery", detail)
    }

    /// 400: the body is not JSON, whatever its type says.
    pub fn malformed_json(error: &serde_json::Error) -> Self {
        let detail = format!("the body is not JSON: {error}");
        Self::new(StatusCode::BAD_REQUEST, "MalformedJson", detail)
    }

    /// 400: the body ended before it was complete.
    pub fn unreadable_body() -> Self {
        let detail = "the body could not be read to its end";
        Self::new(StatusCode::BAD_REQUEST, "UnreadableBody", detail)
    }

    /// 401: no token, or not the right one.
    pub fn unauthorized(detail: &'static str, challenge: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 503: there is no token to compare with. Where it should be is in the log, not in the answer.
    pub fn token_unreadable() -> Self {
        let detail = "the producer cannot read its token: its log says why";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "TokenUnreadable", detail)
    }

    /// 404: no such path.
    pub fn unknown_path() -> Self {
        let detail = "there is nothing at this path: GET / says where the API is described";
        Self::new(StatusCode::NOT_FOUND, "UnknownPath", detail)
    }

    /// 405: the path is there, and does not take the method.
    pub fn method_not_allowed(method: &Method) -> Self {
        let detail = format!("this path does not take {method}: the header Allow names what it takes");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", detail)
    }

    /// 408: the request took too long.
    pub fn timed_out(seconds: u64) -> Self {
        let detail = format!("the request was not complete within {seconds} s");
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", detail)
    }

    /// 413: the body is too large.
    pub fn body_too_large() -> Self {
        let detail = format!("the body is larger than {MAX_BODY} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge", detail)
    }

    /// 415: the body is of another type than JSON.
    pub fn not_json() -> Self {
        let detail = "a body must be JSON, and its Content-Type application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NotJson", detail)
    }

    /// 422: the body is JSON, but not of the right form.
    pub fn invalid_body(error: &serde_json::Error) -> Self {
        let detail = format!("the body does not have the right form: {error}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidBody", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Parts {
            status,
            header,
            document,
        } = *self.0;
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], Json(document)).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
