//! Where quotes come from: one trait, and what can go wrong at any source.
//!
//! ```text
//!  any ──► fmp ──┐                ┌──► budget: may one more request be made?
//!      ──► http ─┴──► requester ──┼──► client: one request, and what each status means
//!                                 ├──► key: the file with the API key
//!                                 └──► round: the answers of a fetch
//! ```

pub mod any;
pub mod budget;
pub mod client;
pub mod fmp;
pub mod http;
pub mod key;
pub mod requester;
pub mod round;
pub mod value;

use std::time::Duration;

use contract::{
    event_time::EventTime,
    symbol::Symbol,
    tick::{Rejected, Tick},
};
use prometheus_client::encoding::EncodeLabelValue;
use serde::Serialize;
use snafu::Snafu;

pub use self::any::AnySource;
use crate::chain::chain;

/// A source of quotes.
pub trait QuoteSource: Send {
    /// Asks for the newest quote of each symbol, with at most `budget` requests, repetitions included. What goes wrong is
    /// part of the outcome: the quotes of a request that succeeded are not lost because another one failed.
    ///
    /// A fetch that is dropped before it ends may have made as many requests as its budget allows.
    fn fetch(&mut self, symbols: &[Symbol], budget: u64) -> impl Future<Output = Fetched> + Send;

    /// How many requests a fetch of so many symbols makes at present when none of them has to be repeated.
    fn calls(&self, symbols: usize) -> u64;

    /// Whether it asks for many symbols at once at present.
    fn asks_in_batches(&self) -> bool;
}

/// What a fetch brought.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Quotes.
    pub ticks: Vec<Tick>,
    /// Quotes that cannot be used, with their symbols where those are known.
    pub rejected: Vec<(Option<Symbol>, Rejected)>,
    /// Symbols that the source answered about without a quote: it does not know them.
    pub absent: Vec<Symbol>,
    /// Requests that failed.
    pub failures: Vec<Failure>,
    /// The source's promise: nothing older will follow. `None` when no request succeeded, or the source does not say.
    pub bound: Option<EventTime>,
    /// How many requests succeeded.
    pub succeeded: u32,
    /// How many requests were made, repetitions and those that found no connection included.
    pub calls: u64,
    /// The source asks not to be asked again for so long.
    pub pause: Option<Duration>,
}

/// A request that failed.
#[derive(Debug)]
pub struct Failure {
    /// What it asked for.
    pub symbols: Vec<Symbol>,
    /// Why it failed.
    pub error: SourceError,
}

/// The class of a failure. Closed: it is a metric label and a condition's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, EncodeLabelValue)]
pub enum Reason {
    /// The file with the API key cannot be read, or holds what cannot be sent.
    KeyUnreadable,
    /// The source refuses the API key.
    InvalidKey,
    /// The plan does not include what was asked for.
    PaymentRequired,
    /// The source refuses for another reason.
    Forbidden,
    /// The quota is used up.
    RateLimited,
    /// The source, or a gateway before it, is broken.
    ServerError,
    /// No answer in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// The connection ended before the answer did.
    CutOff,
    /// The answer is larger than any real one.
    TooLarge,
    /// The answer is not JSON.
    WrongContentType,
    /// The answer is called JSON, but is none of the right form.
    Malformed,
    /// An error of the source that has no class of its own.
    ErrorMessage,
    /// A status that the source should not answer with.
    UnexpectedStatus,
    /// Not asked, because no more requests may be made.
    OverBudget,
}

/// Why a request failed. Texts of the source are shortened, and never hold the API key.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum SourceError {
    /// The key's file cannot be read.
    #[snafu(display("failed to read the API key"))]
    ReadKey {
        /// Which file, and why.
        source: service::credentials::Error,
    },
    /// The key has characters that no HTTP header can hold.
    #[snafu(display(
        "the API key has characters that cannot be sent: check the Secret for line ends and blanks"
    ))]
    UnusableKey,
    /// The source refuses the key.
    #[snafu(display("the source refuses the API key: {message}"))]
    InvalidKey {
        /// In its words.
        message: String,
    },
    /// The plan does not include what was asked for.
    #[snafu(display("the source's plan does not include this: {message}"))]
    PaymentRequired {
        /// In its words.
        message: String,
    },
    /// Refused for the plan (`by_plan`) or by a gateway.
    #[snafu(display("the source forbids this: {message}"))]
    Forbidden {
        /// In its words.
        message: String,
        /// The source said so itself; otherwise a gateway did, and nothing follows for the plan.
        by_plan: bool,
    },
    /// Over the quota.
    #[snafu(display("the source's quota is used up: {message}"))]
    RateLimited {
        /// In its words.
        message: String,
        /// When to come back, if it said.
        retry_after: Option<Duration>,
    },
    /// 5xx.
    #[snafu(display("the source failed with status {status}"))]
    ServerError {
        /// Which.
        status: u16,
    },
    /// No answer in time.
    #[snafu(display("the source did not answer within {} ms", limit.as_millis()))]
    Timeout {
        /// How long was waited.
        limit: Duration,
    },
    /// No connection.
    #[snafu(display("failed to connect to the source"))]
    Unreachable {
        /// Why.
        source: reqwest::Error,
    },
    /// The connection ended early.
    #[snafu(display("the connection ended before the source's answer did"))]
    CutOff {
        /// How.
        source: reqwest::Error,
    },
    /// Too large.
    #[snafu(display("the source's answer is larger than {limit} bytes"))]
    TooLarge {
        /// What is read at most.
        limit: usize,
    },
    /// Not JSON by its own account.
    #[snafu(display("the source answered with content of type {content_type:?}"))]
    WrongContentType {
        /// What it said.
        content_type: String,
    },
    /// Not JSON of the right form.
    #[snafu(display("failed to read the source's answer: {detail}"))]
    Malformed {
        /// Where and why.
        detail: String,
    },
    /// An error without a class.
    #[snafu(display("the source reports an error: {message}"))]
    ErrorMessage {
        /// In its words.
        message: String,
    },
    /// A status that should not be.
    #[snafu(display("the source answered with status {status}: {message}"))]
    UnexpectedStatus {
        /// Which.
        status: u16,
        /// In its words.
        message: String,
    },
    /// Not asked, because an earlier request of the same fetch failed in a way that this one would have failed in as well.
    #[snafu(display("not asked, because an earlier request failed"))]
    NotAsked {
        /// How that one failed.
        because: Reason,
    },
    /// Not asked, because the fetch may make no more requests.
    #[snafu(display("not asked, because the calls that may be made are used up"))]
    OverBudget,
}

impl SourceError {
    /// The class.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::ReadKey { .. } | Self::UnusableKey => Reason::KeyUnreadable,
            Self::InvalidKey { .. } => Reason::InvalidKey,
            Self::PaymentRequired { .. } => Reason::PaymentRequired,
            Self::Forbidden { .. } => Reason::Forbidden,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::ServerError { .. } => Reason::ServerError,
            Self::Timeout { .. } => Reason::Timeout,
            Self::Unreachable { .. } => Reason::Unreachable,
            Self::CutOff { .. } => Reason::CutOff,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::WrongContentType { .. } => Reason::WrongContentType,
            Self::Malformed { .. } => Reason::Malformed,
            Self::ErrorMessage { .. } => Reason::ErrorMessage,
            Self::UnexpectedStatus { .. } => Reason::UnexpectedStatus,
            Self::NotAsked { because } => *because,
            Self::OverBudget => Reason::OverBudget,
        }
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::ServerError { .. } | Self::Timeout { .. } | Self::Unreachable { .. } | Self::CutOff { .. }
        )
    }

    /// Whether the other requests of the same fetch would fail as well, and had better not be made.
    #[must_use]
    pub const fn concerns_all(&self) -> bool {
        matches!(
            self.reason(),
            Reason::KeyUnreadable
                | Reason::InvalidKey
                | Reason::RateLimited
                | Reason::Timeout
                | Reason::Unreachable
        )
    }

    /// Whether the plan does not include what was asked for. It will stay so, and nothing is on its way.
    #[must_use]
    pub const fn is_refusal_by_plan(&self) -> bool {
        matches!(
            self,
            Self::PaymentRequired { .. } | Self::Forbidden { by_plan: true, .. }
        )
    }

    /// The error and what caused it, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        chain(self)
    }
}
