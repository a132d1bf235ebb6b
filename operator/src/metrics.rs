//! Metrics of the operator. Every label comes from an enumeration; `docs/operator-metrics.md` lists all of them.
//!
//! What is counted is counted where it happens. What is there at the moment (feeds, objects, the Lease) is looked at when
//! somebody asks: a standby has no feeds.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use strum::IntoEnumIterator as _;

use crate::{
    api::{
        StockFeed,
        status::{ConditionType, reason},
    },
    children::Children,
    status::find,
};

pub mod requests;
pub mod state;

use requests::Requests;
use state::{State, state_of};

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
    /// A table of a feed, made anew.
    Table,
    /// A column's default, or that it has a value.
    Column,
    /// A constraint of a table.
    Constraint,
    /// An index of a table.
    Index,
    /// How a table is stored, or whom it shows its rows.
    TableOption,
    /// A view.
    View,
    /// A function.
    Function,
    /// A right in the database.
    Grant,
    /// Whose something in the database is.
    Owner,
    /// A Kubernetes object.
    Object,
    /// A feed's dashboards in Superset.
    Dashboards,
    /// Who sees what in Superset.
    DashboardAccess,
}

/// A kind of Kubernetes object that feeds have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ObjectKind {
    /// A worker.
    Deployment,
    /// A worker's configuration.
    ConfigMap,
    /// A worker's address.
    Service,
    /// A worker's account.
    ServiceAccount,
    /// Who may speak with a worker.
    NetworkPolicy,
    /// How many workers may be taken away at once.
    PodDisruptionBudget,
}

/// What happens to a feed's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ProcessorChange {
    /// There are to be more.
    Out,
    /// There are to be fewer.
    In,
    /// One whose consumer is stuck is replaced.
    Restart,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabels {
    change: ProcessorChange,
}

/// How a feed's dashboards in Superset are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum DashboardState {
    /// As they should be.
    Ready,
    /// Not as they should be.
    NotReady,
    /// Not looked at yet.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DashboardLabels {
    state: DashboardState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabels {
    kind: ObjectKind,
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
    changes: Family<ChangeLabels, Counter>,
    /// Requests to other programs.
    pub requests: Requests,
    leader: Gauge,
    running: Gauge,
    feeds: Family<StateLabels, Gauge>,
    dashboards: Family<DashboardLabels, Gauge>,
    ages: Family<StateLabels, Gauge>,
    objects: Family<ObjectLabels, Gauge>,
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
        let changes = Family::default();
        registry.register(
            "processor_changes",
            "Changes of the number of processors by autoscaling, and replacements of those whose consumer was stuck",
            changes.clone(),
        );
        let requests = Requests::default();
        requests.register(&mut registry);
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1 when this operator leads, 0 when it stands by",
            leader.clone(),
        );
        let running = Gauge::default();
        registry.register(
            "reconciliations_running",
            "Reconciliations under way; the most there may be is --concurrency",
            running.clone(),
        );
        let feeds = Family::default();
        registry.register("feeds", "Feeds, by their state", feeds.clone());
        let dashboards = Family::default();
        registry.register(
            "dashboards",
            "Feeds by how their dashboards in Superset are; without those that are to have none",
            dashboards.clone(),
        );
        let ages = Family::default();
        registry.register_with_unit(
            "feed_state_age",
            "How long that feed has been in the state that has been in it for longest; 0 when there is none",
            Unit::Seconds,
            ages.clone(),
        );
        let objects = Family::default();
        registry.register(
            "managed_objects",
            "Kubernetes objects that feeds have, by kind",
            objects.clone(),
        );
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this operator", build);
        Self {
            registry,
            reconciliations,
            durations,
            heals,
            changes,
            requests,
            leader,
            running,
            feeds,
            dashboards,
            ages,
            objects,
        }
    }

    /// Looks at what is there: whether this operator leads, how much it does at once, and the feeds with their objects.
    pub fn observe(&self, leads: bool, running: usize, children: &Children, now: Timestamp) {
        self.leader.set(i64::from(leads));
        self.running.set(whole(running));
        let feeds = children.feeds.all();
        self.observe_feeds(feeds.iter().map(AsRef::as_ref), now);
        for (kind, count) in [
            (ObjectKind::Deployment, children.deployments.count()),
            (ObjectKind::ConfigMap, children.config_maps.count()),
            (ObjectKind::Service, children.services.count()),
            (ObjectKind::ServiceAccount, children.service_accounts.count()),
            (ObjectKind::NetworkPolicy, children.network_policies.count()),
            (
                ObjectKind::PodDisruptionBudget,
                children.disruption_budgets.count(),
            ),
        ] {
            self.objects
                .get_or_create(&ObjectLabels { kind })
                .set(whole(count));
        }
    }

    fn observe_feeds<'a>(
        &self,
        feeds: impl Iterator<Item = &'a DeserializeGuard<StockFeed>>,
        now: Timestamp,
    ) {
        let mut states: BTreeMap<State, (i64, Duration)> =
            State::iter().map(|state| (state, Default::default())).collect();
        let mut dashboards = [
            (DashboardState::Ready, 0),
            (DashboardState::NotReady, 0),
            (DashboardState::Unknown, 0),
        ];
        for guard in feeds {
            if let Some(state) = dashboards_of(guard) {
                let counted = dashboards.iter_mut().filter(|(counted, _)| *counted == state);
                counted.for_each(|(_, count)| *count += 1);
            }
            let (state, since) = match &guard.0 {
                Ok(feed) => state_of(feed),
                Err(_) => (State::Unreadable, None),
            };
            let age = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
            let (count, oldest) = states.entry(state).or_default();
            *count += 1;
            *oldest = (*oldest).max(age.unwrap_or_default());
        }
        for (state, count) in dashboards {
            self.dashboards
                .get_or_create(&DashboardLabels { state })
                .set(count);
        }
        for (state, (count, oldest)) in states {
            let labels = StateLabels { state };
            self.feeds.get_or_create(&labels).set(count);
            let seconds = i64::try_from(oldest.as_secs()).unwrap_or(i64::MAX);
            self.ages.get_or_create(&labels).set(seconds);
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

    /// Counts what happens to a feed's processors.
    pub fn processors_changed(&self, change: ProcessorChange) {
        self.changes.get_or_create(&ChangeLabels { change }).inc();
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

fn dashboards_of(guard: &DeserializeGuard<StockFeed>) -> Option<DashboardState> {
    let status = guard.0.as_ref().ok()?.status.as_ref()?;
    let condition = find(status, ConditionType::DashboardsReady)?;
    match condition.status.as_str() {
        _ if condition.reason == reason::NOT_ENABLED => None,
        "True" => Some(DashboardState::Ready),
        "False" => Some(DashboardState::NotReady),
        _ => Some(DashboardState::Unknown),
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::{
        requests::{Access, Answer, Server},
        *,
    };

    fn feed(name: &str, status: &str, since: &str) -> DeserializeGuard<StockFeed> {
        serde_json::from_value(json!({
            "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
            "metadata": {"name": name, "namespace": "markets", "creationTimestamp": since},
            "spec": {"symbols": ["AAPL"], "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}}},
            "status": {"conditions": [
                {"type": "Ready", "status": status, "reason": "Any", "message": "", "lastTransitionTime": since},
                {"type": "DashboardsReady", "status": "False", "reason": if name == "a" { "Drifted" } else { "NotEnabled" }, "message": "",
                 "lastTransitionTime": since},
            ]},
        }))
        .unwrap()
    }

    /// Metrics with something in each of them.
    fn metrics() -> Metrics {
        let metrics = Metrics::new();
        metrics.reconciled(Outcome::Ready, Duration::from_millis(20));
        metrics.healed(Heal::Queue);
        metrics.processors_changed(ProcessorChange::Out);
        let took = Duration::from_millis(3);
        metrics
            .requests
            .ended(Server::Broker, Access::Read, Answer::Ok, took);
        metrics
            .requests
            .ended(Server::Kubernetes, Access::Write, Answer::HeldBack, took);
        let children = Children::default();
        let (_, mut one) = children.feeds.join();
        let (_, mut two) = children.feeds.join();
        one.apply_watcher_event(&Event::Apply(feed("a", "False", "2026-11-25T10:00:00Z")));
        one.apply_watcher_event(&Event::Apply(feed("b", "True", "2026-11-25T10:00:00Z")));
        two.apply_watcher_event(&Event::Apply(feed("c", "False", "2026-11-25T10:04:30Z")));
        let broken = json!({"metadata": {"name": "d", "namespace": "markets"}, "spec": 1});
        two.apply_watcher_event(&Event::Apply(serde_json::from_value(broken).unwrap()));
        let now = "2026-11-25T10:05:00Z".parse().unwrap();
        metrics.observe(true, 2, &children, now);
        metrics
    }

    #[test]
    fn metrics_have_the_prefix_and_closed_labels() {
        let text = metrics().render().unwrap();
        for line in [
            "reconciliations_total{outcome=\"Ready\"} 1",
            "reconcile_duration_seconds_count 1",
            "heals_total{kind=\"Queue\"} 1",
            "processor_changes_total{change=\"Out\"} 1",
            "requests_total{server=\"Broker\",access=\"Read\",answer=\"Ok\"} 1",
            "requests_total{server=\"Kubernetes\",access=\"Write\",answer=\"HeldBack\"} 1",
            "request_duration_seconds_count{server=\"Broker\"} 1",
            "leader 1",
            "reconciliations_running 2",
            "feeds{state=\"Progressing\"} 2",
            "feeds{state=\"Ready\"} 1",
            "dashboards{state=\"Ready\"} 0",
            "dashboards{state=\"NotReady\"} 1",
            "feeds{state=\"Unreadable\"} 1",
            "feeds{state=\"Stalled\"} 0",
            "feed_state_age_seconds{state=\"Progressing\"} 300",
            "managed_objects{kind=\"Deployment\"} 0",
        ] {
            let line = format!("stockfeed_operator_{line}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            text.contains(&format!(
                "stockfeed_operator_build_info{{version=\"{version}\"}} 1"
            )),
            "{text}"
        );
        assert!(
            !text.contains("request_duration_seconds_count{server=\"Kubernetes\"}"),
            "what was not sent took no time"
        );
    }

    #[test]
    fn every_metric_is_documented_and_every_documented_one_is_there() {
        let page = include_str!("../../docs/operator-metrics.md");
        let documented: BTreeSet<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `stockfeed_operator_")?.split('`').next())
            .collect();
        let text = metrics().render().unwrap();
        let written: BTreeSet<_> = text
            .lines()
            .filter_map(|line| {
                let (name, kind) = line.strip_prefix("# TYPE stockfeed_operator_")?.split_once(' ')?;
                Some(match kind {
                    "counter" => format!("{name}_total"),
                    "info" => format!("{name}_info"),
                    _ => name.to_owned(),
                })
            })
            .collect();
        let written: BTreeSet<_> = written.iter().map(String::as_str).collect();
        assert_eq!(documented, written);
    }
}
