//! Orders to the poll loop, and what comes back.

use std::{collections::BTreeMap, time::Duration};

use contract::{event_time::EventTime, price::Price, symbol::Symbol};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::{message::Composed, source::Fetched};

/// An order to fetch some symbols now, and where its outcome goes.
#[derive(Debug)]
pub struct Command {
    /// Which; all of them are the feed's.
    pub symbols: Vec<Symbol>,
    /// Gets the outcome when everything that was fetched is in the spool.
    pub reply: oneshot::Sender<Result<Report, Refusal>>,
}

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// Of each symbol that was asked for.
    #[schema(value_type = BTreeMap<String, SymbolReport>)]
    pub results: BTreeMap<Symbol, SymbolReport>,
    /// Calls to the source that it took; they count against the quota.
    pub calls: u64,
    /// Quotes that were published, or wait for the broker.
    pub published: usize,
    /// Quotes that were the same as the last one of their symbol.
    pub unchanged: usize,
}

/// What became of one symbol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SymbolReport {
    /// How it went.
    pub outcome: Outcome,
    /// The price, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "189.84")]
    pub price: Option<Price>,
    /// Its time at the exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub event_time: Option<EventTime>,
    /// What is wrong: the class, as in `GET /ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a symbol's fetch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A new quote, published or in the spool.
    Published,
    /// The same quote as before.
    Unchanged,
    /// The source does not know the symbol.
    Absent,
    /// The quote cannot be used.
    Rejected,
    /// The request failed.
    Failed,
}

/// Why nothing is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The source asked for a pause.
    Paused {
        /// What is left of it.
        left: Duration,
    },
    /// It would take more calls than are left of the day or the minute.
    QuotaExhausted {
        /// Calls that it takes.
        needed: u64,
        /// Calls that are left.
        left: u64,
        /// When there are more.
        resets: Timestamp,
    },
    /// Calls cannot be counted now, and there is a limit.
    QuotaUnknown {
        /// Why.
        message: String,
    },
    /// The spool is full: the broker has been away for too long.
    SpoolFull {
        /// Bytes in it.
        bytes: u64,
    },
}

impl Report {
    /// Says of each symbol what became of it.
    #[must_use]
    pub fn new(fetched: &Fetched, composed: &Composed) -> Self {
        let mut results = BTreeMap::new();
        for tick in &fetched.ticks {
            let outcome = if composed.unchanged.contains(&tick.symbol) {
                Outcome::Unchanged
            } else {
                Outcome::Published
            };
            let report = SymbolReport {
                outcome,
                price: Some(tick.price),
                event_time: Some(tick.event_time),
                reason: None,
                message: None,
            };
            results.insert(tick.symbol.clone(), report);
        }
        for symbol in &fetched.absent {
            let report = problem(
                Outcome::Absent,
                "UnknownSymbol",
                "the source knows no such symbol",
            );
            results.insert(symbol.clone(), report);
        }
        for (symbol, rejected) in &fetched.rejected {
            if let Some(symbol) = symbol {
                let report = problem(Outcome::Rejected, rejected.reason.label(), &rejected.detail);
                results.insert(symbol.clone(), report);
            }
        }
        for failure in &fetched.failures {
            let reason = format!("{:?}", failure.error.reason());
            for symbol in &failure.symbols {
                let report = problem(Outcome::Failed, &reason, &failure.error.chain());
                results.insert(symbol.clone(), report);
            }
        }
        Self {
            results,
            calls: fetched.calls,
            published: composed.ticks,
            unchanged: composed.unchanged.len(),
        }
    }
}

fn problem(outcome: Outcome, reason: &str, message: &str) -> SymbolReport {
    SymbolReport {
        outcome,
        price: None,
        event_time: None,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
    }
}
