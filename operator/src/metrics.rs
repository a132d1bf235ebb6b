//! Metrics of the operator. Every label comes from an enumeration.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds of the histogram of reconciliations, in seconds.
const BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// The feed is as declared.
    Ready,
    /// The feed is on its way, or something keeps it from being ready.
    NotReady,
    /// The spec cannot be used.
    Invalid,
    /// The feed is left as it is, as asked.
    Paused,
    /// A deletion is under way.
    Deleting,
    /// The feed is gone.
    Deleted,
    /// The reconciliation itself failed.
    Failed,
}

/// A kind of thing that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelValue)]
pub enum Heal {
    /// A broker's exchange.
    Exchange,
    /// A broker's queue.
    Queue,
    /// A broker's binding.
    Binding,
    /// A broker's user.
    BrokerUser,
    /// A broker user's permissions.
    Permissions,
    /// A database's roles.
    Roles,
    /// A role's password.
    RolePassword,
    /// A database's schema.
    Schema,
    /// A Kubernetes object.
    Object,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealLabels {
    kind: Heal,
}

/// The metrics, and the registry that they are written from.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciliations: Family<OutcomeLabels, Counter>,
    durations: Histogram,
    heals: Family<HealLabels, Counter>,
}

impl Metrics {
    /// Metrics that count from zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stockfeed_operator");
        let reconciliations = Family::default();
        registry.register(
            "reconciliations",
            "Reconciliations, by how they ended",
            reconciliations.clone(),
        );
        let durations = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciliations took",
            Unit::Seconds,
            durations.clone(),
        );
        let heals = Family::default();
        registry.register(
            "heals",
            "Things that were not as declared after they had been, and were written again",
            heals.clone(),
        );
        Self {
            registry,
            reconciliations,
            durations,
            heals,
        }
    }

    /// Counts a reconciliation.
    pub fn reconciled(&self, outcome: Outcome, duration: Duration) {
        self.reconciliations
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
        self.durations.observe(duration.as_secs_f64());
    }

    /// Counts something that was healed.
    pub fn healed(&self, kind: Heal) {
        self.heals.get_or_create(&HealLabels { kind }).inc();
    }

    /// All metrics as Prometheus reads them.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_the_prefix_and_closed_labels() {
        let metrics = Metrics::new();
        metrics.reconciled(Outcome::Ready, Duration::from_millis(20));
        metrics.healed(Heal::Queue);
        let text = metrics.render().unwrap();
        assert!(
            text.contains("stockfeed_operator_reconciliations_total{outcome=\"Ready\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("stockfeed_operator_reconcile_duration_seconds_count 1"),
            "{text}"
        );
        assert!(
            text.contains("stockfeed_operator_heals_total{kind=\"Queue\"} 1"),
            "{text}"
        );
    }
}
