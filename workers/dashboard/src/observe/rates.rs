//! Rates: differences of counters over the time between two observations.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    feeds::seconds_between,
    observe::{processor::ProcessorSeen, producer::ProducerSeen},
};

/// What is committed each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    pub messages_per_second: f64,
    pub ticks_per_second: f64,
    pub bytes_per_second: f64,
}

/// What is published each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerRates {
    pub messages_per_second: Option<f64>,
    pub ticks_per_second: Option<f64>,
    pub requests_per_second: Option<f64>,
}

impl Rates {
    /// Of several partitions; `None` where no rate of any is known.
    #[must_use]
    pub fn sum<'a>(rates: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        rates.into_iter().copied().reduce(|a, b| Self {
            messages_per_second: a.messages_per_second + b.messages_per_second,
            ticks_per_second: a.ticks_per_second + b.ticks_per_second,
            bytes_per_second: a.bytes_per_second + b.bytes_per_second,
        })
    }
}

/// Those of a processor's partitions, since what it said before. A partition that was claimed anew has none yet.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "rates are shown to three digits")]
pub fn of_processor(now: &ProcessorSeen, before: &ProcessorSeen) -> BTreeMap<String, Rates> {
    let seconds = seconds_between(before.at, now.at);
    let mut rates = BTreeMap::new();
    for (label, partition) in &now.state.partitions {
        let Some(earlier) = before.state.partitions.get(label) else {
            continue;
        };
        if earlier.claimed_at != partition.claimed_at || seconds <= 0.0 {
            continue;
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let (now, before) = (&partition.totals, &earlier.totals);
        let rate = Rates {
            messages_per_second: rate(now.messages, before.messages),
            ticks_per_second: rate(now.ticks, before.ticks),
            bytes_per_second: rate(now.bytes, before.bytes),
        };
        rates.insert(label.clone(), rate);
    }
    rates
}

/// Those of a producer; `None` when it began anew.
#[must_use]
pub fn of_producer(now: &ProducerSeen, before: &ProducerSeen) -> Option<ProducerRates> {
    let seconds = seconds_between(before.at, now.at);
    if now.pod != before.pod || seconds <= 0.0 {
        return None;
    }
    let rate = |now: Option<f64>, before: Option<f64>| {
        let grown = now? - before?;
        (grown >= 0.0).then_some(grown / seconds)
    };
    let (now, before) = (&now.figures, &before.figures);
    Some(ProducerRates {
        messages_per_second: rate(now.messages, before.messages),
        ticks_per_second: rate(now.ticks, before.ticks),
        requests_per_second: rate(now.source_requests, before.source_requests),
    })
}
