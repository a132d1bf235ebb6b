//! Step 2: checks a feed and turns it into types that carry the proof. Pure.
//!
//! Admission refuses nearly all of this already; what is checked here came in under an older schema, or is beyond what a
//! schema can say. A feed that fails keeps its last valid workers running.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::{
    config::{Duplicates, MAX_PARTITIONS, MAX_SYMBOLS, MIN_INTERVAL, MarketHours, QueueGeneration},
    duration,
    names::FeedName,
    symbol::Symbol,
    window::WindowWidth,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource as _, ResourceExt as _};
use snafu::{ResultExt as _, ensure};

use crate::{
    api::{self, StockFeed, status::Quota},
    connection::{BrokerConnection, DatabaseConnection, Problem},
    context::{Defaults, Images},
    dereference::{OwnSecret, References},
    generations::Generations,
    isolation::Isolation,
    labels::Component,
    quota::{Ask, Assessment, assess},
    release,
    rollout::Rollout,
    scaling::Limits,
    token::ApiToken,
};

mod error;
mod source;
pub mod template;

use error::{
    DuplicateSymbolSnafu, DuplicateWindowSnafu, DurationSnafu, IntervalSnafu, NameLengthSnafu, NameSnafu,
    NoUidSnafu, NoWindowSnafu, PartitionsSnafu, PodTemplateSnafu, RetentionSnafu, SpoolSnafu,
    SymbolCountSnafu, SymbolSnafu, TooShortSnafu, WindowSnafu,
};
pub use error::{Error, ErrorKind};
use source::source;
pub use source::{SourceKind, ValidatedSource};
use template::Overrides;

/// The shortest look ahead: clocks that are kept in time differ less.
const MIN_FUTURE: Duration = Duration::from_secs(1);
/// The least age: what is younger is still on its way.
const MIN_AGE: Duration = Duration::from_secs(60);

/// A feed that can be built: nothing below needs to check anything again.
#[derive(Clone, Debug)]
pub struct ValidatedFeed {
    /// Namespace and name.
    pub name: FeedName,
    /// What children name as their owner.
    pub owner: OwnerReference,
    /// The generation of the spec.
    pub generation: i64,
    /// The spec itself, as JSON.
    pub spec: String,
    /// At least one, no two equal.
    pub symbols: Vec<Symbol>,
    /// Those that processors know already.
    pub former_symbols: Vec<Symbol>,
    /// Where quotes come from.
    pub source: ValidatedSource,
    /// Time between polls.
    pub interval: Duration,
    /// When it is polled at all.
    pub market_hours: MarketHours,
    /// What becomes of a quote that is the same as the last one.
    pub duplicates: Duplicates,
    /// Bytes that may wait for the broker.
    pub spool_bytes: u64,
    /// The claim that they are kept on; `None`: with the pod.
    pub spool_claim: Option<String>,
    /// How many queues the spec asks for.
    pub partitions: u16,
    /// The queues that there are, or will be after this reconciliation; `None` until the broker was looked at.
    pub generations: Option<Generations>,
    /// The newest generation whose queues were all there once; 0 when none was.
    pub queues_made: u32,
    /// Which generations the producer may publish to.
    pub producer: Rollout,
    /// Which generations the processors may consume.
    pub processor: Rollout,
    /// How many processors there may be.
    pub limits: Limits,
    /// How many there are to be until it is decided anew.
    pub replicas: u16,
    /// At least one, no two equal, narrowest first.
    pub windows: Vec<WindowWidth>,
    /// How far behind the newest event the watermark runs.
    pub out_of_orderness: Duration,
    /// How long a final candle may be revised.
    pub allowed_lateness: Duration,
    /// How far ahead of the clock a tick may be.
    pub max_future: Duration,
    /// How old a tick may be; `None`: everything since 1970.
    pub max_age: Option<Duration>,
    /// How long raw ticks are kept.
    pub retention: Option<Duration>,
    /// Whether polling stops.
    pub suspend: bool,
    /// What the plan allows.
    pub quota: Assessment,
    /// Images of the workers, as they are to be now.
    pub images: Images,
    /// Those that they get when data flows on them: the installation's, or those that the feed names.
    pub wanted_images: Images,
    /// What is other in the workers' pods.
    pub overrides: WorkerOverrides,
    /// What a person last asked for.
    pub restarts: Restarts,
    /// The network of the pods; `None`: it is not restricted.
    pub isolation: Option<Isolation>,
    /// Where traces of the workers go; `None`: there are none.
    pub otlp_endpoint: Option<traces::Endpoint>,
    /// The broker, or why there is none.
    pub broker: Result<BrokerConnection, Problem>,
    /// The database, or why there is none.
    pub database: Result<DatabaseConnection, Problem>,
    /// The feed's broker user.
    pub broker_secret: OwnSecret,
    /// The feed's writer role.
    pub writer_secret: OwnSecret,
    /// The feed's reader role.
    pub reader_secret: OwnSecret,
    /// The tokens of the producer's API.
    pub token: ApiToken,
}

/// When a person last asked for a restart, in whatever words: only that they changed counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    producer: Option<String>,
    processor: Option<String>,
}

impl Restarts {
    /// What the annotations say.
    #[must_use]
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let asked = |component: Component| annotations.get(component.restart_annotation()).cloned();
        Self {
            producer: asked(Component::Producer),
            processor: asked(Component::Processor),
        }
    }

    /// What was asked for this worker, if anything was.
    #[must_use]
    pub fn of_component(&self, component: Component) -> Option<&str> {
        match component {
            Component::Producer => self.producer.as_deref(),
            Component::Processor => self.processor.as_deref(),
        }
    }
}

/// What is other in the workers' pods.
#[derive(Clone, Debug, Default)]
pub struct WorkerOverrides {
    producer: Overrides,
    processor: Overrides,
}

impl WorkerOverrides {
    /// What is other in this worker's.
    #[must_use]
    pub const fn of(&self, component: Component) -> &Overrides {
        match component {
            Component::Producer => &self.producer,
            Component::Processor => &self.processor,
        }
    }
}

impl ValidatedFeed {
    /// The quota for the status.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota.quota
    }

    /// The queues that the producer publishes to: the newest, but not before they were all there, because what is published to
    /// a queue that is missing comes back. A first producer is not made before its queues are.
    #[must_use]
    pub fn published(&self) -> Option<QueueGeneration> {
        let generations = self.generations.as_ref()?;
        let made = generations
            .all()
            .filter(|queues| queues.generation <= self.queues_made)
            .last();
        Some(made.copied().unwrap_or_else(|| generations.last()))
    }
}

/// Checks a feed.
///
/// # Errors
/// When the feed cannot be built; the message names the field.
pub fn validate(
    defaults: &Defaults,
    feed: &StockFeed,
    references: References,
) -> Result<ValidatedFeed, Error> {
    let References {
        api_key,
        broker,
        database,
        broker_secret,
        writer_secret,
        reader_secret,
        token,
        sharing,
        former_symbols,
        producer,
        processor,
    } = references;
    let spec = &feed.spec;

    let name = feed_name(feed)?;
    let owner = feed.controller_owner_ref(&()).ok_or_else(|| NoUidSnafu.build())?;
    let symbols = symbols(&spec.symbols)?;
    let interval = time("spec.interval", &spec.interval)?;
    ensure!(
        interval >= MIN_INTERVAL,
        IntervalSnafu {
            interval: &spec.interval
        }
    );
    let market_hours = match spec.market_hours {
        api::MarketHours::Always => MarketHours::Always,
        api::MarketHours::Regular => MarketHours::Regular,
        api::MarketHours::Extended => MarketHours::Extended,
    };
    let partitions = partitions(spec.processing.partitions)?;
    let limits = Limits::new(&spec.processing.replicas, partitions)?;
    let last = feed.status.as_ref().and_then(|status| status.scaling.as_ref());
    let replicas = limits.replicas(last, processor.replicas);
    let source = source(feed, api_key, sharing)?;
    let overrides = worker_overrides(spec.template.as_ref())?;
    let quota = assess(&Ask {
        symbols: symbols.len(),
        interval,
        hours: market_hours,
        quota: &source.quota,
        batch: source.batch(),
    });

    let release = feed.status.as_ref().and_then(|status| status.release.as_ref());
    let wanted_images = images(&defaults.images, &overrides);
    let images = release::images(&wanted_images, release, &processor, &producer);

    Ok(ValidatedFeed {
        name,
        owner,
        generation: feed.metadata.generation.unwrap_or_default(),
        // It came out of JSON, so that it goes back.
        spec: serde_json::to_string(spec).unwrap_or_default(),
        source,
        market_hours,
        duplicates: match spec.duplicates {
            api::Duplicates::Skip => Duplicates::Skip,
            api::Duplicates::Keep => Duplicates::Keep,
        },
        spool_bytes: spool_bytes(spec.spool.max_mebibytes)?,
        spool_claim: spec.spool.claim_name.clone(),
        token,
        interval,
        partitions,
        generations: feed
            .status
            .as_ref()
            .and_then(Generations::of_status)
            .and_then(|generations| generations.up_to_date(&producer)),
        queues_made: queues_made(feed),
        producer,
        processor,
        limits,
        replicas,
        windows: windows(&spec.processing.windows)?,
        out_of_orderness: time(
            "spec.processing.outOfOrderness",
            &spec.processing.out_of_orderness,
        )?,
        allowed_lateness: time(
            "spec.processing.allowedLateness",
            &spec.processing.allowed_lateness,
        )?,
        max_future: at_least(
            MIN_FUTURE,
            "spec.processing.maxFuture",
            &spec.processing.max_future,
        )?,
        max_age: spec
            .processing
            .max_age
            .as_deref()
            .map(|text| at_least(MIN_AGE, "spec.processing.maxAge", text))
            .transpose()?,
        retention: retention(spec.storage.retention.as_deref())?,
        suspend: spec.suspend,
        quota,
        symbols,
        former_symbols,
        images,
        wanted_images,
        overrides,
        restarts: Restarts::of(feed.annotations()),
        isolation: defaults.isolation.clone(),
        otlp_endpoint: defaults.otlp_endpoint.clone(),
        broker,
        database,
        broker_secret,
        writer_secret,
        reader_secret,
    })
}

/// The feed's name, as part of others.
///
/// # Errors
/// When it is too long or has a dot.
pub fn feed_name(feed: &StockFeed) -> Result<FeedName, Error> {
    let name = feed.name_any();
    let length = name.len();
    ensure!(length <= api::MAX_NAME, NameLengthSnafu { length });
    FeedName::new(feed.namespace().unwrap_or_default(), name).context(NameSnafu)
}

fn worker_overrides(spec: Option<&api::template::Template>) -> Result<WorkerOverrides, Error> {
    let of = |component, template: Option<&api::template::PodTemplate>| {
        template::overrides(component, template).context(PodTemplateSnafu)
    };
    Ok(WorkerOverrides {
        producer: of(Component::Producer, spec.and_then(|spec| spec.producer.as_ref()))?,
        processor: of(
            Component::Processor,
            spec.and_then(|spec| spec.processor.as_ref()),
        )?,
    })
}

/// The installation's images, or those that the feed names.
fn images(installed: &Images, overrides: &WorkerOverrides) -> Images {
    let of = |component, installed: &String| {
        let own = overrides.of(component).image.as_ref();
        own.unwrap_or(installed).clone()
    };
    Images {
        producer: of(Component::Producer, &installed.producer),
        processor: of(Component::Processor, &installed.processor),
        pull_policy: installed.pull_policy.clone(),
    }
}

fn symbols(texts: &[String]) -> Result<Vec<Symbol>, Error> {
    let count = texts.len();
    ensure!((1..=MAX_SYMBOLS).contains(&count), SymbolCountSnafu { count });
    let mut seen = BTreeSet::new();
    let mut symbols = Vec::with_capacity(count);
    for text in texts {
        let symbol: Symbol = text.parse().context(SymbolSnafu)?;
        ensure!(seen.insert(symbol.clone()), DuplicateSymbolSnafu { symbol });
        symbols.push(symbol);
    }
    Ok(symbols)
}

fn windows(texts: &[String]) -> Result<Vec<WindowWidth>, Error> {
    ensure!(!texts.is_empty(), NoWindowSnafu);
    let mut windows = BTreeSet::new();
    for text in texts {
        let window: WindowWidth = text.parse().context(WindowSnafu)?;
        ensure!(windows.insert(window), DuplicateWindowSnafu { window });
    }
    Ok(windows.into_iter().collect())
}

fn time(field: &'static str, text: &str) -> Result<Duration, Error> {
    duration::parse(text).context(DurationSnafu { field })
}

fn at_least(least: Duration, field: &'static str, text: &str) -> Result<Duration, Error> {
    let duration = time(field, text)?;
    ensure!(duration >= least, TooShortSnafu { field, least });
    Ok(duration)
}

fn queues_made(feed: &StockFeed) -> u32 {
    let made = feed.status.as_ref().and_then(|status| status.queue_generation);
    made.and_then(|made| u32::try_from(made).ok()).unwrap_or(0)
}

fn retention(text: Option<&str>) -> Result<Option<Duration>, Error> {
    let day = Duration::from_secs(86_400);
    let retention = text
        .map(|text| time("spec.storage.retention", text))
        .transpose()?;
    ensure!(retention.is_none_or(|retention| retention >= day), RetentionSnafu);
    Ok(retention)
}

fn partitions(partitions: i32) -> Result<u16, Error> {
    in_range(partitions).ok_or_else(|| PartitionsSnafu { partitions }.build())
}

fn in_range(number: i32) -> Option<u16> {
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=MAX_PARTITIONS).contains(number))
}

fn spool_bytes(value: i32) -> Result<u64, Error> {
    let mebibytes = u64::try_from(value)
        .ok()
        .filter(|value| (1..=65_536).contains(value));
    mebibytes
        .map(|mebibytes| mebibytes << 20)
        .ok_or_else(|| SpoolSnafu { value }.build())
}

#[cfg(test)]
pub(crate) mod tests;
