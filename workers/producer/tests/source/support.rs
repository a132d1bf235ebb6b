//! Sources with a key and metrics of their own, and the simulator.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use clap::Parser as _;
use contract::{
    config::{FmpConfig, HttpConfig, SourceConfig, TimeFormat},
    symbol::Symbol,
};
use fmp_simulator::{Simulator, fault::Endpoint as Asked, options::Options};
use producer::{
    metrics::Metrics,
    source::{Fetched, QuoteSource as _, Reason, any::AnySource},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// What the file with the API key holds.
pub const KEY: &str = "s3cret-key";
/// A replay in which each request gives the next quote of each symbol, so that none is lost unnoticed.
pub const STEP: &[&str] = &[
    "--source=history",
    "--replay=step",
    "--from=2012-01-03",
    "--to=2012-01-04",
];
/// Enough for every test that is not about the budget.
pub const PLENTY: u64 = 1_000;

/// A source and what belongs to it.
pub struct Rig {
    pub source: AnySource,
    pub token: CancellationToken,
    registry: Registry,
    folder: TempDir,
}

/// How a URL is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As FMP, one by one.
    FmpSingle,
    /// As FMP, many at once.
    FmpBatch,
    /// As any API, one by one.
    HttpSingle,
    /// As any API, many at once.
    HttpBatch,
}

impl Rig {
    /// A source that asks a server at this URL. All kinds ask for `/quote?symbol=` or `/batch-quote?symbols=`.
    pub fn new(kind: Kind, url: &str, timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let api_key_file = folder.path().join("apiKey");
        fs::write(&api_key_file, format!("{KEY}\n")).unwrap();
        let config = match kind {
            Kind::FmpSingle | Kind::FmpBatch => SourceConfig::Fmp(FmpConfig {
                base_url: url.to_owned(),
                api_key_file,
                batch: kind == Kind::FmpBatch,
                delay: Duration::from_secs(2),
                timeout,
            }),
            Kind::HttpSingle => SourceConfig::Http(http(
                &format!("{url}/quote?symbol={{symbol}}"),
                api_key_file,
                timeout,
            )),
            Kind::HttpBatch => SourceConfig::Http(http(
                &format!("{url}/batch-quote?symbols={{symbols}}"),
                api_key_file,
                timeout,
            )),
        };
        Self::with(config, folder)
    }

    /// A source of this configuration, whose files are in a folder.
    pub fn with(config: SourceConfig, folder: TempDir) -> Self {
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::register(&mut registry));
        let token = CancellationToken::new();
        let source = AnySource::new(config, metrics, token.clone()).unwrap();
        Self {
            source,
            token,
            registry,
            folder,
        }
    }

    pub async fn fetch(&mut self, texts: &[&str]) -> Fetched {
        self.fetch_within(texts, PLENTY).await
    }

    pub async fn fetch_within(&mut self, texts: &[&str], budget: u64) -> Fetched {
        let fetched = self.source.fetch(&symbols(texts), budget).await;
        assert!(fetched.calls <= budget, "{} of {budget}", fetched.calls);
        assert_hides_key(&fetched);
        assert!(!format!("{:?}", self.source).contains(KEY));
        assert!(!self.metrics().contains(KEY));
        fetched
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    pub fn write_key(&self, key: &str) {
        fs::write(self.key_file(), key).unwrap();
    }

    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("apiKey")
    }
}

/// A configuration whose quotes are FMP's, read by pointers.
pub fn http(url: &str, api_key_file: PathBuf, timeout: Duration) -> HttpConfig {
    HttpConfig {
        url: url.to_owned(),
        key_header: Some("X-Api-Key".into()),
        api_key_file: Some(api_key_file),
        quotes: String::new(),
        symbol: Some("/symbol".into()),
        price: "/price".into(),
        time: "/timestamp".into(),
        time_format: TimeFormat::UnixSeconds,
        volume: Some("/volume".into()),
        delay: Duration::from_secs(2),
        timeout,
    }
}

pub async fn simulate(flags: &[&str]) -> Simulator {
    let common = [
        "fmp-simulator",
        "--listen=127.0.0.1:0",
        "--control-listen=127.0.0.1:0",
    ];
    let options = Options::parse_from(common.iter().chain(flags));
    fmp_simulator::start(options, CancellationToken::new())
        .await
        .unwrap()
}

/// How many requests the simulator answered, whatever the answer.
pub fn requests(simulator: &Simulator, endpoint: Asked) -> u64 {
    let requests = simulator.report().requests;
    requests
        .get(&endpoint)
        .map_or(0, |statuses| statuses.values().sum())
}

pub fn symbols(texts: &[&str]) -> Vec<Symbol> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub fn names(fetched: &Fetched) -> Vec<&str> {
    fetched.ticks.iter().map(|tick| tick.symbol.as_str()).collect()
}

pub fn reasons(fetched: &Fetched) -> BTreeSet<Reason> {
    fetched
        .failures
        .iter()
        .map(|failure| failure.error.reason())
        .collect()
}

/// The symbols of failures with this reason.
pub fn failed(fetched: &Fetched, reason: Reason) -> Vec<&str> {
    let failures = fetched.failures.iter();
    failures
        .filter(|failure| failure.error.reason() == reason)
        .flat_map(|failure| failure.symbols.iter().map(Symbol::as_str))
        .collect()
}

fn assert_hides_key(fetched: &Fetched) {
    let mut shown = format!("{fetched:?} {fetched:#?}");
    for failure in &fetched.failures {
        let error = &failure.error;
        shown += &format!("{error} {error:?} {}", error.chain());
    }
    for (_, rejected) in &fetched.rejected {
        shown += &rejected.to_string();
    }
    // Nor a part of it that is long enough to be one.
    assert!(!shown.contains(&KEY[..6]), "{shown}");
}

/// FMP's answer to a target of [`Rig::new`].
pub fn quotes(target: &str) -> String {
    let asked = asked(target);
    let quotes: Vec<String> = asked
        .iter()
        .map(|symbol| format!(r#"{{"symbol":"{symbol}","price":409.40,"volume":5,"timestamp":1322236800}}"#))
        .collect();
    format!("[{}]", quotes.join(","))
}

/// The symbols of a target.
pub fn asked(target: &str) -> Vec<&str> {
    let (_, list) = target.split_once('=').unwrap();
    // FMP's are encoded as a form, the others with plain commas.
    list.split("%2C").flat_map(|part| part.split(',')).collect()
}
