//! What a producer says of itself: `/ready` and `/metrics`. Both are open; what needs its token is not asked.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    observe::{exposition::Samples, rates::ProducerRates},
    percentile::Histogram,
};

/// What a producer said, and when.
#[derive(Clone, Debug)]
pub struct ProducerSeen {
    pub at: Timestamp,
    pub pod: String,
    pub ready: Readiness,
    pub figures: Figures,
    pub rates: Option<ProducerRates>,
}

/// `/ready`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Readiness {
    pub broker: Broker,
    pub source: Source,
    pub spool: Spool,
}

/// Its connection to the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
pub struct Broker {
    pub connected: bool,
    pub reason: String,
    pub message: Option<String>,
    pub held_messages: u64,
}

/// Its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
pub struct Source {
    pub ready: bool,
    #[serde(serialize_with = "in_words")]
    pub problem: Option<Trouble>,
    pub last_attempt: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    pub consecutive_failures: u64,
    pub paused_until: Option<Timestamp>,
    pub bound: Option<Timestamp>,
}

/// What is wrong with the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub reason: String,
    pub message: String,
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn in_words<S: Serializer>(problem: &Option<Trouble>, serializer: S) -> Result<S::Ok, S::Error> {
    let words = problem
        .as_ref()
        .map(|problem| format!("{}: {}", problem.reason, problem.message));
    words.serialize(serializer)
}

/// What waits for the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
pub struct Spool {
    pub messages: u64,
    pub bytes: u64,
    pub max_bytes: Option<u64>,
    pub full: bool,
}

/// Of its metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub messages: Option<f64>,
    pub ticks: Option<f64>,
    pub source_requests: Option<f64>,
    pub requests: Histogram,
}

impl Figures {
    /// Reads `/metrics`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let samples = Samples::read(text, "stockfeed_producer_");
        let sum = |name: &str, label| samples.sum(&format!("stockfeed_producer_{name}_total"), label);
        Self {
            messages: sum("messages", None),
            ticks: sum("quotes", Some(("outcome", "Published"))),
            source_requests: sum("source_requests", None),
            requests: samples.histogram("stockfeed_producer_source_request_duration_seconds"),
        }
    }
}
