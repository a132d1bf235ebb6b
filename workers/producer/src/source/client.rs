//! One request over HTTP: what is sent, and what each possible answer means, whatever the source.

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use reqwest::{
    IntoUrl, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, RETRY_AFTER},
    redirect::Policy,
};
use service::clock;
use snafu::{IntoError as _, ensure};

use super::{
    CutOffSnafu, SourceError, TimeoutSnafu, TooLargeSnafu, UnreachableSnafu, WrongContentTypeSnafu,
    key::Key,
    round::{Answer, Entry},
};

/// The largest answer that is read. 500 quotes are about 250 kB.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// The most of an error's body that is read.
const MAX_ERROR_BODY: usize = 16 * 1024;
/// The most of the source's own words that is shown.
const MAX_MESSAGE: usize = 300;
/// The longest pause that a source may ask for with `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Sends requests.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    timeout: Duration,
}

/// An answer with status 200 that is JSON by its own account.
#[derive(Debug)]
pub struct Received {
    /// Its body.
    pub body: Vec<u8>,
    /// The source's clock.
    pub date: Option<Timestamp>,
}

/// Why there is no such answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Another status.
    Refused(Refusal),
    /// Everything else.
    Failed(SourceError),
}

/// An answer with another status than 200.
#[derive(Debug)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// What is said about it, without the key, on one line and not too long.
    pub message: String,
    /// Said by the source itself, in the form of its errors; otherwise it may be a gateway's.
    pub by_source: bool,
    /// When to come back, if it says.
    pub retry_after: Option<Duration>,
}

impl Client {
    /// Prepares a client; nothing is sent yet. `timeout` is the longest that one request may take, its answer's body included.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(timeout: Duration) -> anyhow::Result<Self> {
        // The images have no certificates of their own, so the authorities come with the program.
        let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = rustls::crypto::ring::default_provider();
        let tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .context("failed to set up TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("stockfeed-producer/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .connect_timeout(timeout)
            // A redirection would take the key's header to wherever it points.
            .redirect(Policy::none())
            // Repetitions are counted, so none is made behind the budget's back.
            .retry(reqwest::retry::never())
            .build()
            .context("failed to set up the HTTP client")?;
        Ok(Self { http, timeout })
    }

    /// A request to be sent; that the URL is none is an error of [`Client::send`].
    pub fn request(&self, url: impl IntoUrl) -> RequestBuilder {
        self.http.get(url)
    }

    /// Sends a request and reads its answer. `said` finds the source's words in the body of an error.
    ///
    /// # Errors
    /// Everything that is not JSON with status 200.
    pub async fn send(
        &self,
        request: RequestBuilder,
        key: Option<&Key>,
        said: fn(&[u8]) -> Option<String>,
    ) -> Result<Received, NoAnswer> {
        let response = request.send().await.map_err(|error| self.failure(error))?;
        if response.status() != StatusCode::OK {
            return Err(NoAnswer::Refused(self.refusal(response, key, said).await));
        }
        let content_type = text_of(response.headers(), CONTENT_TYPE).unwrap_or_default();
        if !content_type.to_ascii_lowercase().contains("json") {
            let content_type = show(content_type, key);
            return Err(WrongContentTypeSnafu { content_type }.build().into());
        }
        let date = date_of(response.headers());
        let body = self.body(response, MAX_BODY).await?;
        Ok(Received { body, date })
    }

    async fn refusal(
        &self,
        response: Response,
        key: Option<&Key>,
        said: fn(&[u8]) -> Option<String>,
    ) -> Refusal {
        let status = response.status().as_u16();
        let retry_after = text_of(response.headers(), RETRY_AFTER)
            .and_then(|text| retry_after(text, date_of(response.headers()).unwrap_or_else(clock::now)));
        let is_html = text_of(response.headers(), CONTENT_TYPE).is_some_and(|text| text.contains("html"));
        // What cannot be read is not needed either: the status says enough.
        let body = self.body(response, MAX_ERROR_BODY).await.unwrap_or_default();
        let words = said(&body);
        let by_source = words.is_some();
        let message = match words {
            Some(words) => show(&words, key),
            None if is_html => "a page, not an answer".to_owned(),
            None => show(&String::from_utf8_lossy(&body), key),
        };
        Refusal {
            status,
            message,
            by_source,
            retry_after,
        }
    }

    async fn body(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, SourceError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(error))? {
            ensure!(body.len() + chunk.len() <= limit, TooLargeSnafu { limit });
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failure(&self, error: reqwest::Error) -> SourceError {
        let error = error.without_url();
        if error.is_timeout() {
            return TimeoutSnafu { limit: self.timeout }.build();
        }
        if error.is_connect() {
            return UnreachableSnafu.into_error(error);
        }
        CutOffSnafu.into_error(error)
    }
}

impl Received {
    /// The answer with these entries. What they say about themselves may quote the body, so it is not shown where that
    /// repeats the key: not even a part of it.
    #[must_use]
    pub fn into_answer(self, mut entries: Vec<Entry>, key: Option<&Key>) -> Answer {
        let rejected = || entries.iter().any(Result::is_err);
        if rejected() && self.repeats(key) {
            for (_, rejected) in entries.iter_mut().filter_map(|entry| entry.as_mut().err()) {
                "the answer repeats the API key, so the details are not shown"
                    .clone_into(&mut rejected.detail);
            }
        }
        Answer {
            entries,
            date: self.date,
        }
    }

    /// The error for a body that cannot be read, with the same care.
    #[must_use]
    pub fn malformed(&self, detail: &str, key: Option<&Key>) -> SourceError {
        let detail = if self.repeats(key) {
            "the answer repeats the API key, so the details are not shown".to_owned()
        } else {
            show(detail, key)
        };
        SourceError::Malformed { detail }
    }

    fn repeats(&self, key: Option<&Key>) -> bool {
        key.is_some_and(|key| key.is_in(&String::from_utf8_lossy(&self.body)))
    }
}

impl From<SourceError> for NoAnswer {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl From<NoAnswer> for SourceError {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Refused(refusal) => refusal.into(),
            NoAnswer::Failed(error) => error,
        }
    }
}

/// What the statuses mean at any source.
impl From<Refusal> for SourceError {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            status,
            message,
            by_source: _,
            retry_after,
        } = refusal;
        match status {
            401 => Self::InvalidKey { message },
            402 => Self::PaymentRequired { message },
            403 => Self::Forbidden {
                message,
                by_plan: false,
            },
            429 => Self::RateLimited { message, retry_after },
            500..=599 => Self::ServerError { status },
            status => Self::UnexpectedStatus { status, message },
        }
    }
}

/// Words without the key, should they repeat it, on one line and not too long.
#[must_use]
pub fn show(words: &str, key: Option<&Key>) -> String {
    let words = key.map_or_else(|| words.to_owned(), |key| key.redact(words));
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_MESSAGE).collect()
}

/// Reads `Retry-After` in both of its forms, seconds and a date; at most [`MAX_RETRY_AFTER`]. A date is compared with the
/// source's own clock, so that it does not matter whether ours is right.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let pause = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time as well.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = rfc2822::parse(text).ok()?.timestamp();
        let left: SignedDuration = until.duration_since(now);
        Duration::try_from(left).unwrap_or_default()
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

fn date_of(headers: &HeaderMap) -> Option<Timestamp> {
    let date = rfc2822::parse(text_of(headers, DATE)?).ok()?;
    Some(date.timestamp())
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_without_the_key() {
        let key = Key::new("s3cret".into()).unwrap();
        let words = format!("the key\n s3cret  is wrong {}", "x".repeat(1_000));
        let shown = show(&words, Some(&key));
        assert!(shown.starts_with("the key [the API key] is wrong"), "{shown}");
        assert_eq!(shown.len(), MAX_MESSAGE);
    }

    #[test]
    fn a_pause_is_read_in_both_forms() {
        let now = "2026-11-25T14:30:00Z".parse().unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("0", Some(0)),
            ("86400", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("Wed, 25 Nov 2026 14:30:09 GMT", Some(9)),
            ("Wed, 25 Nov 2026 14:29:00 GMT", Some(0)),
            ("Thu, 26 Nov 2026 14:30:00 GMT", Some(3_600)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(text, now), expected, "{text:?}");
        }
    }
}
