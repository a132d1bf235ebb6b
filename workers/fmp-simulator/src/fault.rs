//! Faults on demand.

use std::{num::NonZeroU32, time::Duration};

use contract::symbol::Symbol;
use serde::{Deserialize, Serialize};

/// How long a `slow` fault lasts when its order does not say: longer than a client waits.
pub const DEFAULT_DELAY: Duration = Duration::from_secs(30);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// 401 with FMP's body.
    WrongKey,
    /// 429 with FMP's body, and `retry_after_seconds` as its header.
    RateLimit,
    /// 402 with FMP's body.
    PaymentRequired,
    /// 403 with FMP's body.
    Forbidden,
    /// `status` (500 by default) with a page that is not JSON.
    ServerError,
    /// The right answer after `delay`.
    Slow,
    /// The right answer's head and half its body, then the connection is closed.
    CutOff,
    /// Status 200 and half of the right answer as the whole body.
    Malformed,
    /// Status 200 with an error as body: `message`, by default the one of a used-up quota.
    ErrorOn200,
    /// Status 200 with a page that is not JSON.
    WrongContentType,
}

/// The API's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// `/stable/quote`
    Quote,
    /// `/stable/batch-quote`
    BatchQuote,
}

/// An order for a fault: the body of `POST /control/faults`. Only `kind` must be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// For how many requests; without it, until cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroU32>,
    /// Only at this endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Only for requests that ask for this symbol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Of `slow`: as in `500ms`, `5s`.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// Of `rate-limit`: the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// Of `server-error`: 500 to 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Of `error-on-200`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Fault {
    /// A fault of every request until cleared, or of the next `count`.
    #[must_use]
    pub fn new(kind: FaultKind, count: Option<u32>) -> Self {
        Self {
            kind,
            count: count.and_then(NonZeroU32::new),
            endpoint: None,
            symbol: None,
            delay: None,
            retry_after_seconds: None,
            status: None,
            message: None,
        }
    }

    fn concerns(&self, endpoint: Endpoint, symbols: &[Symbol]) -> bool {
        self.endpoint.is_none_or(|only| only == endpoint)
            && self.symbol.as_ref().is_none_or(|only| symbols.contains(only))
    }
}

/// The faults that are ordered: each request takes the first that concerns it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    ordered: Vec<Fault>,
}

impl Faults {
    /// Adds one after the others.
    pub fn push(&mut self, fault: Fault) {
        self.ordered.push(fault);
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.ordered.clear();
    }

    /// All, with what is left of their counts.
    #[must_use]
    pub fn ordered(&self) -> &[Fault] {
        &self.ordered
    }

    /// The fault of a request, if it has one; counts it.
    pub fn take(&mut self, endpoint: Endpoint, symbols: &[Symbol]) -> Option<Fault> {
        let index = self
            .ordered
            .iter()
            .position(|fault| fault.concerns(endpoint, symbols))?;
        let Some(count) = self.ordered[index].count else {
            return Some(self.ordered[index].clone());
        };
        match NonZeroU32::new(count.get() - 1) {
            None => Some(self.ordered.remove(index)),
            left => {
                self.ordered[index].count = left;
                Some(self.ordered[index].clone())
            }
        }
    }
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => contract::duration::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| contract::duration::parse(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_takes_the_first_fault_that_concerns_it() {
        let mut faults = Faults::default();
        let symbols: Vec<Symbol> = vec!["AAPL".parse().unwrap()];
        let of_batch = Fault {
            endpoint: Some(Endpoint::BatchQuote),
            ..Fault::new(FaultKind::Forbidden, None)
        };
        let of_ibm = Fault {
            symbol: Some("IBM".parse().unwrap()),
            ..Fault::new(FaultKind::CutOff, None)
        };
        for fault in [of_batch, of_ibm, Fault::new(FaultKind::Slow, Some(2))] {
            faults.push(fault);
        }
        let mut take = |endpoint| faults.take(endpoint, &symbols).map(|fault| fault.kind);
        let taken = [
            Endpoint::Quote,
            Endpoint::BatchQuote,
            Endpoint::Quote,
            Endpoint::Quote,
        ]
        .map(&mut take);
        let expected = [
            Some(FaultKind::Slow),
            Some(FaultKind::Forbidden),
            Some(FaultKind::Slow),
            None,
        ];
        assert_eq!(taken, expected);
        assert_eq!(faults.ordered().len(), 2, "those without a count stay");
    }

    #[test]
    fn an_order_is_plain_json() {
        let fault: Fault = serde_json::from_str(r#"{"kind":"slow","count":3,"delay":"1500ms"}"#).unwrap();
        assert_eq!(fault.delay, Some(Duration::from_millis(1_500)));
        assert_eq!(
            serde_json::to_string(&fault).unwrap(),
            r#"{"kind":"slow","count":3,"delay":"1500ms"}"#
        );
        for wrong in [
            r#"{"kind":"fire"}"#,
            r#"{"kind":"slow","count":0}"#,
            r#"{"kind":"slow","tempo":1}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<Fault>(wrong).is_err(), "{wrong}");
        }
    }
}
