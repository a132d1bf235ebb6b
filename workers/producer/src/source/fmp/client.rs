//! One request to FMP: what is sent, and what each possible answer means.

use std::time::Duration;

use anyhow::Context as _;
use contract::symbol::Symbol;
use reqwest::Url;

use super::parse::{self, NoQuotes};
pub use crate::source::requester::Endpoint;
use crate::source::{
    SourceError,
    client::{Client, NoAnswer, Refusal, show},
    key::Key,
    requester::{Api, Shape},
    round::Answer,
};

/// The header that the key travels in.
const KEY_HEADER: &str = "apikey";

/// Asks FMP.
#[derive(Clone, Debug)]
pub struct FmpClient {
    http: Client,
    base_url: String,
}

impl FmpClient {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the base URL is not one.
    pub fn new(base_url: &str, timeout: Duration) -> anyhow::Result<Self> {
        let base_url = base_url.trim_end_matches('/').to_owned();
        let url: Url = base_url.parse().context("failed to parse source.fmp.baseUrl")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "source.fmp.baseUrl must begin with http:// or https://"
        );
        Ok(Self {
            http: Client::new(timeout)?,
            base_url,
        })
    }
}

impl Api for FmpClient {
    const HAS_SINGLES_INSTEAD: bool = true;

    fn endpoint(&self, shape: Shape) -> Endpoint {
        match shape {
            Shape::Batch => Endpoint::BatchQuote,
            Shape::Single => Endpoint::Quote,
        }
    }

    async fn get(&self, shape: Shape, symbols: &[Symbol], key: Option<&Key>) -> Result<Answer, SourceError> {
        let (path, parameter) = match shape {
            Shape::Batch => ("batch-quote", "symbols"),
            Shape::Single => ("quote", "symbol"),
        };
        let names: Vec<&str> = symbols.iter().map(Symbol::as_str).collect();
        let request = self
            .http
            .request(format!("{}/{path}", self.base_url))
            .query(&[(parameter, names.join(","))]);
        let request = match key {
            Some(key) => request.header(KEY_HEADER, key.header()),
            None => request,
        };
        let received = match self.http.send(request, key, parse::error_message).await {
            Ok(received) => received,
            Err(NoAnswer::Refused(refusal)) if refusal.status == 403 => return Err(forbidden(refusal)),
            Err(no_answer) => return Err(no_answer.into()),
        };
        match parse::quotes(&received.body, symbols) {
            Ok(entries) => Ok(received.into_answer(entries, key)),
            Err(NoQuotes::ErrorMessage(message)) => {
                let class = by_message(show(&message, key), None);
                Err(class.unwrap_or_else(|message| SourceError::ErrorMessage { message }))
            }
            Err(NoQuotes::Malformed(detail)) => Err(received.malformed(&detail, key)),
        }
    }
}

/// What a 403 means: mostly the plan. FMP uses it for the quota and the key as well, and so may a gateway before it for its
/// own reasons, from which nothing follows for the plan.
fn forbidden(refusal: Refusal) -> SourceError {
    let by_source = refusal.by_source;
    match by_message(refusal.message, refusal.retry_after) {
        Ok(SourceError::PaymentRequired { message }) => SourceError::Forbidden {
            message,
            by_plan: true,
        },
        Ok(error) => error,
        Err(message) => SourceError::Forbidden {
            message,
            by_plan: by_source,
        },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Reason;

    #[test]
    fn a_403_is_of_the_plan_where_fmp_says_so_itself() {
        for (message, by_source, expected, by_plan) in [
            (
                "Exclusive Endpoint : not on your plan",
                true,
                Reason::Forbidden,
                true,
            ),
            ("Not for you", true, Reason::Forbidden, true),
            ("a page, not an answer", false, Reason::Forbidden, false),
            (
                "Limit Reach . Please upgrade your plan",
                true,
                Reason::RateLimited,
                false,
            ),
            ("Invalid API KEY.", true, Reason::InvalidKey, false),
        ] {
            let error = forbidden(Refusal {
                status: 403,
                message: message.to_owned(),
                by_source,
                retry_after: None,
            });
            assert_eq!(
                (error.reason(), error.is_refusal_by_plan()),
                (expected, by_plan),
                "{message}"
            );
        }
    }

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
    fn a_base_url_must_be_one() {
        for url in ["", "financialmodelingprep.com", "ftp://example.com"] {
            assert!(FmpClient::new(url, Duration::from_secs(1)).is_err(), "{url}");
        }
        let client = FmpClient::new("http://example.com/stable/", Duration::from_secs(1)).unwrap();
        assert_eq!(client.base_url, "http://example.com/stable");
    }
}
