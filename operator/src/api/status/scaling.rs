//! What is said of the number of processors.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many processors there are to be, and why. Numbers are of the last look, over some 30 seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Processors that there are.
    #[serde(default)]
    pub replicas: i32,
    /// Processors that there are to be; in a dry run, that there would be.
    #[serde(default)]
    pub wanted: i32,
    /// Why, as one word.
    #[serde(default)]
    pub reason: String,
    /// Why, with the numbers.
    #[serde(default)]
    pub message: String,
    /// Messages in the queues that are consumed, those that a processor holds included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// Messages that came in, each second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival_per_second: Option<f64>,
    /// Messages that one processor commits each second when it has no pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_replica_per_second: Option<f64>,
    /// The share of their time that processors were at work, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_ratio: Option<f64>,
    /// In how many seconds the processors that there are will have worked off the backlog; absent when they will not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_seconds: Option<i64>,
    /// When the number last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Time>,
    /// Whether it is only said, and not done.
    #[serde(default)]
    pub dry_run: bool,
    /// What selects the processors' pods.
    #[serde(default)]
    pub selector: String,
}

impl Scaling {
    /// Without the figures that change quickly, those in words included.
    #[must_use]
    pub fn without_figures(&self) -> Self {
        Self {
            replicas: self.replicas,
            wanted: self.wanted,
            decided_at: self.decided_at.clone(),
            dry_run: self.dry_run,
            selector: self.selector.clone(),
            ..Self::default()
        }
    }
}
