//! Why a feed cannot be built: each names its field and what is wrong with it.

use std::time::Duration;

use contract::{
    config::{MAX_PARTITIONS, MAX_SYMBOLS},
    duration,
    symbol::Symbol,
    window::WindowWidth,
};
use snafu::Snafu;
use strum::{EnumDiscriminants, IntoStaticStr};

use super::template;
use crate::{api, scaling::limits};

/// Why a feed cannot be built.
#[derive(Debug, Snafu, EnumDiscriminants)]
#[strum_discriminants(
    name(ErrorKind),
    derive(IntoStaticStr),
    doc = "The variants of [`Error`], as words."
)]
#[snafu(visibility(pub(super)))]
pub enum Error {
    /// The name cannot be part of others.
    #[snafu(display("metadata.name: {source}"))]
    Name {
        /// Why.
        source: contract::names::InvalidName,
    },
    /// The name is too long to be part of others.
    #[snafu(display(
        "metadata.name has {length} characters, at most {} are possible",
        api::MAX_NAME
    ))]
    NameLength {
        /// How long it is.
        length: usize,
    },
    /// The object did not come from an API server.
    #[snafu(display("metadata has no UID"))]
    NoUid,
    /// None, or too many.
    #[snafu(display("spec.symbols has {count} entries, not 1 to {MAX_SYMBOLS}"))]
    SymbolCount {
        /// How many.
        count: usize,
    },
    /// Not a symbol.
    #[snafu(display("spec.symbols: {source}"))]
    Symbol {
        /// Why.
        source: contract::symbol::InvalidSymbol,
    },
    /// The same symbol again.
    #[snafu(display("spec.symbols names {symbol} twice"))]
    DuplicateSymbol {
        /// Which.
        symbol: Symbol,
    },
    /// Not a duration.
    #[snafu(display("{field}: {source}"))]
    Duration {
        /// Where.
        field: &'static str,
        /// Why.
        source: contract::duration::InvalidDuration,
    },
    /// Polls would come too fast.
    #[snafu(display("spec.interval is {interval}, at least 100ms are needed"))]
    Interval {
        /// What was asked.
        interval: String,
    },
    /// No partition, or too many.
    #[snafu(display("spec.processing.partitions is {partitions}, not 1 to {MAX_PARTITIONS}"))]
    Partitions {
        /// What was asked.
        partitions: i32,
    },
    /// A number of processors that cannot be.
    #[snafu(transparent)]
    Replicas {
        /// Why.
        source: limits::Error,
    },
    /// No candles.
    #[snafu(display("spec.processing.windows names none"))]
    NoWindow,
    /// Not a width.
    #[snafu(display("spec.processing.windows: {source}"))]
    Window {
        /// Why.
        source: contract::window::UnknownWidth,
    },
    /// The same width again.
    #[snafu(display("spec.processing.windows names {window} twice"))]
    DuplicateWindow {
        /// Which.
        window: WindowWidth,
    },
    /// None, or more than one.
    #[snafu(display("spec.source must have exactly one of fmp and http"))]
    Source,
    /// A URL without a place for a symbol.
    #[snafu(display(
        "spec.source.http.url must be an http or https URL without user and fragment, and hold {{symbol}} or {{symbols}}"
    ))]
    Template,
    /// Bytes that make no spool.
    #[snafu(display("spec.spool.maxMebibytes is {value}, not 1 to 65536"))]
    Spool {
        /// What was asked.
        value: i32,
    },
    /// Not an address of HTTP.
    #[snafu(display("spec.source.fmp.baseUrl is not an http or https URL without user, query and fragment"))]
    BaseUrl,
    /// Ticks that are right would be quarantined.
    #[snafu(display("{field} is shorter than {}", duration::format(*least)))]
    TooShort {
        /// Where.
        field: &'static str,
        /// The least.
        least: Duration,
    },
    /// Everything would be dropped at once.
    #[snafu(display("spec.storage.retention is shorter than a day"))]
    Retention,
    /// A worker's pod cannot be made as it is asked for.
    #[snafu(display("{source}"))]
    PodTemplate {
        /// Why.
        source: template::Error,
    },
    /// A limit that allows nothing.
    #[snafu(display("{field} is {value}, not at least 1"))]
    Calls {
        /// Where.
        field: &'static str,
        /// What was asked.
        value: i64,
    },
}
