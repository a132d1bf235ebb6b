//! A feed's dashboards in Apache Superset.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The feed's dashboards in Apache Superset, where the installation has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboards {
    /// Whether the feed has dashboards. false removes those that the operator made; charts that people made themselves stay, with what
    /// they read.
    #[serde(default = "yes")]
    pub enabled: bool,

    /// What happens when somebody changes what the operator made: Heal puts it back; Report leaves it, and says so in condition
    /// DashboardsReady.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
}

/// What happens when somebody changes what the operator made in Superset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// It is put back.
    #[default]
    Heal,
    /// It is left, and reported.
    Report,
}

impl Default for Dashboards {
    fn default() -> Self {
        Self {
            enabled: yes(),
            drift_policy: DriftPolicy::default(),
        }
    }
}

fn yes() -> bool {
    true
}
