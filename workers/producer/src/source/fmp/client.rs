//! One request to FMP: what is sent, and what each possible answer means.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use contract::symbol::Symbol;
use jiff::{Timestamp, fmt::rfc2822};
use prometheus_client::encoding::EncodeLabelValue;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use secrecy::{ExposeSecret as _, SecretString};
use snafu::{IntoError as _, ensure};

use super::parse::{self, Entry, NoQuotes};
use crate::source::{
    CutOffSnafu, SourceError, TimeoutSnafu, TooLargeSnafu, UnreachableSnafu, WrongContentTypeSnafu,
};

/// The largest answer that is read. 500 quotes are about 250 kB.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// The most of an error's body that is read.
const MAX_ERROR_BODY: usize = 16 * 1024;
/// The most of the source's own words that is shown.
const MAX_MESSAGE: usize = 300;
/// The longest pause that a source may ask for with `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// FMP's endpoints for quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Endpoint {
    /// `batch-quote?symbols=AAPL,MSFT`
    BatchQuote,
    /// `quote?symbol=AAPL`
    Quote,
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// Its quotes, good and bad.
    pub entries: Vec<Entry>,
    /// The source's clock.
    pub date: Option<Timestamp>,
}

/// Asks FMP.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    timeout: Duration,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::BatchQuote => "batch-quote",
            Self::Quote => "quote",
        })
    }
}

impl Client {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the base URL is not one.
    pub fn new(base_url: &str, timeout: Duration) -> anyhow::Result<Self> {
        let url: reqwest::Url = base_url.parse().context("failed to parse source.fmp.baseUrl")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "source.fmp.baseUrl must begin with http:// or https://"
        );
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
            .build()
            .context("failed to set up the HTTP client")?;
        Ok(Self {
            http,
            base_url: base_url.trim_end_matches('/').to_owned(),
            timeout,
        })
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// Everything that is not a list of quotes.
    pub async fn get(
        &self,
        endpoint: Endpoint,
        symbols: &[Symbol],
        key: &SecretString,
    ) -> Result<Answer, SourceError> {
        let mut header = HeaderValue::from_str(key.expose_secret()).map_err(|_| SourceError::UnusableKey)?;
        header.set_sensitive(true);
        let parameter = match endpoint {
            Endpoint::BatchQuote => "symbols",
            Endpoint::Quote => "symbol",
        };
        let names: Vec<&str> = symbols.iter().map(Symbol::as_str).collect();
        let request = self
            .http
            .get(format!("{}/{endpoint}", self.base_url))
            .query(&[(parameter, names.join(","))])
            .header("apikey", header);
        let response = request.send().await.map_err(|error| self.failure(error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response, key).await);
        }
        let content_type = text_of(response.headers(), CONTENT_TYPE).unwrap_or_default();
        ensure!(
            content_type.to_ascii_lowercase().contains("json"),
            WrongContentTypeSnafu {
                content_type: shorten(content_type)
            }
        );
        let date = text_of(response.headers(), DATE)
            .and_then(|text| rfc2822::parse(text).ok())
            .map(|date| date.timestamp());
        let body = self.body(response, MAX_BODY).await?;
        match parse::quotes(&body, symbols) {
            Ok(entries) => Ok(Answer { entries, date }),
            Err(NoQuotes::ErrorMessage(message)) => {
                let message = redact(&message, key);
                Err(by_message(message, None).unwrap_or_else(|message| SourceError::ErrorMessage { message }))
            }
            Err(NoQuotes::Malformed(detail)) => Err(SourceError::Malformed { detail }),
        }
    }

    /// What a status other than 200 means.
    async fn refusal(&self, response: Response, key: &SecretString) -> SourceError {
        let status = response.status();
        let retry_after = text_of(response.headers(), RETRY_AFTER)
            .and_then(|text| text.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        let is_html = text_of(response.headers(), CONTENT_TYPE).is_some_and(|text| text.contains("html"));
        // What cannot be read is not needed either: the status says enough.
        let body = self.body(response, MAX_ERROR_BODY).await.unwrap_or_default();
        let message = match parse::error_message(&body) {
            Some(message) => redact(&message, key),
            None if is_html => "a page, not an answer".to_owned(),
            None => redact(&String::from_utf8_lossy(&body), key),
        };
        match status.as_u16() {
            401 => SourceError::InvalidKey { message },
            402 => SourceError::PaymentRequired { message },
            403 => match by_message(message, retry_after) {
                Ok(SourceError::PaymentRequired { message }) => SourceError::Forbidden {
                    message,
                    by_plan: true,
                },
                Ok(error) => error,
                Err(message) => SourceError::Forbidden {
                    message,
                    by_plan: false,
                },
            },
            429 => SourceError::RateLimited { message, retry_after },
            status @ 500..=599 => SourceError::ServerError { status },
            status => SourceError::UnexpectedStatus { status, message },
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

/// The class of an error by FMP's words; the words themselves where they have no class.
///
/// The quota comes before the plan: FMP asks to upgrade the plan when the quota is used up as well.
fn by_message(message: String, retry_after: Option<Duration>) -> Result<SourceError, String> {
    let lower = message.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    if says(&["invalid api key"]) {
        return Ok(SourceError::InvalidKey { message });
    }
    if says(&["limit reach", "rate limit", "too many requests"]) {
        return Ok(SourceError::RateLimited { message, retry_after });
    }
    if says(&["legacy endpoint"]) {
        return Ok(SourceError::Forbidden {
            message,
            by_plan: true,
        });
    }
    if says(&[
        "subscription",
        "premium",
        "restricted endpoint",
        "special endpoint",
        "exclusive endpoint",
    ]) {
        return Ok(SourceError::PaymentRequired { message });
    }
    Err(message)
}

fn text_of(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The source's words without the key, should it repeat it, on one line and not too long.
fn redact(message: &str, key: &SecretString) -> String {
    shorten(&message.replace(key.expose_secret(), "[the API key]"))
}

fn shorten(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Reason;

    #[test]
    fn fmps_words_have_classes() {
        for (message, expected) in [
            (
                "Invalid API KEY. Feel free to create a Free API Key",
                Some(Reason::InvalidKey),
            ),
            (
                "Limit Reach . Please upgrade your plan or visit",
                Some(Reason::RateLimited),
            ),
            (
                "Bandwidth Limit Reach . Please upgrade your plan",
                Some(Reason::RateLimited),
            ),
            (
                "Premium Query: subscription required",
                Some(Reason::PaymentRequired),
            ),
            (
                "Restricted Endpoint: not available under your current subscription",
                Some(Reason::PaymentRequired),
            ),
            (
                "Legacy Endpoint : Due to Legacy endpoints being no longer supported",
                Some(Reason::Forbidden),
            ),
            ("We are out of coffee", None),
        ] {
            let class = by_message(message.to_owned(), None).ok();
            assert_eq!(class.map(|error| error.reason()), expected, "{message}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_without_the_key() {
        let key = SecretString::from("s3cret");
        let shown = redact(&format!("the key\n s3cret  is wrong {}", "x".repeat(1_000)), &key);
        assert!(shown.starts_with("the key [the API key] is wrong"), "{shown}");
        assert_eq!(shown.len(), MAX_MESSAGE);
    }

    #[test]
    fn a_base_url_must_be_one() {
        for url in ["", "financialmodelingprep.com", "ftp://example.com"] {
            assert!(Client::new(url, Duration::from_secs(1)).is_err(), "{url}");
        }
        let client = Client::new("http://example.com/stable/", Duration::from_secs(1)).unwrap();
        assert_eq!(client.base_url, "http://example.com/stable");
    }
}
