//! How many processors run.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How many processors run.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.max) || self.min <= self.max").message("replicas.min must be at most replicas.max"))]
pub struct Replicas {
    /// Processors that always run. Without max it is how many run, and what kubectl scale and a HorizontalPodAutoscaler set;
    /// leave it out of what you apply then. Partitions are spread over them; more processors than partitions are hot spares.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub min: i32,

    /// The most processors that the operator may run; at most as many as partitions. Between min and this it follows the
    /// backlog, what arrives, and what a processor was seen to commit; status.scaling says what it decided and why. Omit to
    /// run min processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max: Option<i32>,

    /// In how many seconds a backlog is to be worked off, beside what arrives.
    #[serde(default = "default_catch_up")]
    #[schemars(range(min = 1, max = 86400))]
    pub target_catch_up_seconds: i32,

    /// How many seconds fewer processors must have been enough before one is taken away, and then again before the next.
    #[serde(default = "default_stabilization")]
    #[schemars(range(min = 5, max = 86400))]
    pub scale_down_stabilization_seconds: i32,

    /// Only say in status.scaling what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            min: one(),
            max: None,
            target_catch_up_seconds: default_catch_up(),
            scale_down_stabilization_seconds: default_stabilization(),
            dry_run: false,
        }
    }
}

fn one() -> i32 {
    1
}

fn default_catch_up() -> i32 {
    60
}

fn default_stabilization() -> i32 {
    300
}
