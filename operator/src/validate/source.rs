//! Where quotes come from, checked.

use std::time::Duration;

use contract::config::{QuotaConfig, QuotaPolicy};
use kube::ResourceExt as _;
use snafu::ensure;

use super::{
    Error,
    error::{BaseUrlSnafu, CallsSnafu, SourceSnafu, TemplateSnafu},
    time,
};
use crate::{
    api::{self, SecretKeyRef, StockFeed},
    connection::Problem,
    quota::NO_PLAN,
};

/// Where quotes come from.
#[derive(Clone, Debug)]
pub struct ValidatedSource {
    /// Which source.
    pub kind: SourceKind,
    /// How far behind its own clock the source may publish.
    pub delay: Duration,
    /// The Secret with the API key; `None`: the source needs none.
    pub secret: Option<SecretKeyRef>,
    /// A fingerprint of the API key, or why there is none.
    pub fingerprint: Result<String, Problem>,
    /// How many calls may be made.
    pub quota: QuotaConfig,
}

/// A source.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// Financial Modeling Prep.
    Fmp {
        /// The URL that the endpoints are appended to.
        base_url: String,
        /// Whether the plan has the batch endpoint.
        batch: bool,
    },
    /// Any HTTP API, as the spec says.
    Http(Box<api::Http>),
}

fn limit(field: &'static str, value: Option<i64>) -> Result<Option<u64>, Error> {
    let Some(value) = value else { return Ok(None) };
    match u64::try_from(value) {
        Ok(limit) if limit > 0 => Ok(Some(limit)),
        _ => CallsSnafu { field, value }.fail(),
    }
}

pub(super) fn source(
    feed: &StockFeed,
    fingerprint: Result<String, Problem>,
    feeds: u64,
) -> Result<ValidatedSource, Error> {
    let spec = &feed.spec.source;
    let (kind, delay, per_day, per_minute, policy) = match (&spec.fmp, &spec.http) {
        (Some(fmp), None) => {
            let per_day = limit("spec.source.fmp.callsPerDay", fmp.calls_per_day)?;
            let per_minute = limit("spec.source.fmp.callsPerMinute", fmp.calls_per_minute)?;
            (
                SourceKind::Fmp {
                    base_url: base_url(&fmp.base_url)?,
                    batch: fmp.plan.has_batch(),
                },
                time("spec.source.fmp.delay", &fmp.delay)?,
                per_day.or_else(|| fmp.plan.calls_per_day()),
                per_minute.or_else(|| fmp.plan.calls_per_minute()),
                fmp.quota_policy,
            )
        }
        (None, Some(http)) => {
            url_template(&http.url)?;
            (
                SourceKind::Http(Box::new(http.clone())),
                time("spec.source.http.delay", &http.delay)?,
                limit("spec.source.http.callsPerDay", http.calls_per_day)?,
                limit("spec.source.http.callsPerMinute", http.calls_per_minute)?,
                http.quota_policy,
            )
        }
        _ => return SourceSnafu.fail(),
    };
    let secret = spec.api_key().cloned();
    let namespace = feed.namespace().unwrap_or_default();
    let key = match &secret {
        Some(secret) => format!("{namespace}/{}/{}", secret.name, secret.key),
        // Nobody else is counted with it.
        None => format!("{namespace}//{}", feed.name_any()),
    };
    Ok(ValidatedSource {
        kind,
        delay,
        secret,
        fingerprint,
        quota: QuotaConfig {
            calls_per_day: per_day,
            calls_per_minute: per_minute,
            policy: match policy {
                api::QuotaPolicy::Stretch => QuotaPolicy::Stretch,
                api::QuotaPolicy::Enforce => QuotaPolicy::Enforce,
            },
            plan: spec
                .fmp
                .as_ref()
                .map_or(NO_PLAN, |fmp| fmp.plan.name())
                .to_owned(),
            key,
            feeds: feeds.max(1),
        },
    })
}

impl ValidatedSource {
    /// Whether many symbols are asked for in one call.
    #[must_use]
    pub fn batch(&self) -> bool {
        match &self.kind {
            SourceKind::Fmp { batch, .. } => *batch,
            SourceKind::Http(http) => http.url.contains("{symbols}"),
        }
    }
}

fn url_template(text: &str) -> Result<(), Error> {
    let example = text.replace("{symbols}", "A").replace("{symbol}", "A");
    let url: reqwest::Url = example.parse().map_err(|_| TemplateSnafu.build())?;
    let plain = ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
        && example != text;
    ensure!(plain, TemplateSnafu);
    Ok(())
}

fn base_url(text: &str) -> Result<String, Error> {
    let url: reqwest::Url = text.parse().map_err(|_| BaseUrlSnafu.build())?;
    let plain = ["http", "https"].contains(&url.scheme())
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    ensure!(plain, BaseUrlSnafu);
    Ok(text.trim_end_matches('/').to_owned())
}
