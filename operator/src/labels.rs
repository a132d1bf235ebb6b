//! Names and labels of a feed's children in Kubernetes.

use std::collections::BTreeMap;

use strum::IntoStaticStr;

/// The operator's name: field manager, reporter of events, and value of `app.kubernetes.io/managed-by`.
pub const MANAGER: &str = "stockfeed-operator";
/// Selects everything the operator made.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=stockfeed-operator";
/// The label with the manager's name.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// On a child: the hash of what was applied, so that a field that we no longer set is noticed.
pub const APPLIED_HASH: &str = "stockfeed.dev/applied-hash";
/// On a pod template: the hash of the configuration and credentials, so that pods are replaced when they change.
pub const CONFIG_HASH: &str = "stockfeed.dev/config-hash";
/// On the Secret with the API's token: when the token was made, RFC 3339. Remove it, or the Secret, and there is a new one.
pub const TOKEN_MADE: &str = "stockfeed.dev/token-made";
/// On a pod: the generation of queues that it publishes to, or consumes.
pub const QUEUE_GENERATION: &str = "stockfeed.dev/queue-generation";

/// On a Secret of ours: when its password was made, RFC 3339.
pub const PASSWORD_MADE: &str = "stockfeed.dev/password-made";
/// On a Secret of ours: what [`ROTATE`] said when its password was made.
pub const ROTATION: &str = "stockfeed.dev/rotation";
/// On a feed: another text than before asks for new passwords of its broker user and its roles, as in a date.
pub const ROTATE: &str = "stockfeed.dev/rotate-credentials";
/// On a feed: `true` leaves it as it is. Nothing is compared, healed or changed until it is taken away; a deletion goes on.
pub const PAUSED: &str = "stockfeed.dev/paused";
/// On a feed: another value than before has an image tried again that was put back.
pub const RETRY_ROLLOUT: &str = "stockfeed.dev/retry-rollout";
/// On a feed, and from there on the producer's pod template: when its value changes, the producer is replaced.
pub const RESTART_PRODUCER: &str = "stockfeed.dev/restart-producer";
/// On a feed, and from there on the processors' pod template: when its value changes, the processors are replaced, one by one.
pub const RESTART_PROCESSOR: &str = "stockfeed.dev/restart-processor";
/// On the processors' `ConfigMap`: the spec that the workers run by, which goes on running when a later one cannot be used.
pub const LAST_VALID_SPEC: &str = "stockfeed.dev/last-valid-spec";

/// Whether a feed is to be left as it is.
#[must_use]
pub fn is_paused(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(PAUSED).is_some_and(|value| value == "true")
}

/// A worker of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Component {
    /// Polls and publishes.
    Producer,
    /// Consumes and stores.
    Processor,
}

impl Component {
    /// The label's value, the container's name and the program's.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The annotation that asks for a restart.
    #[must_use]
    pub const fn restart_annotation(self) -> &'static str {
        match self {
            Self::Producer => RESTART_PRODUCER,
            Self::Processor => RESTART_PROCESSOR,
        }
    }

    /// The port of health, metrics and API.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Producer => 8000,
            Self::Processor => 8001,
        }
    }

    /// The name of the component's Deployment, Service, `ServiceAccount` and `ConfigMap`.
    #[must_use]
    pub fn object_name(self, feed: &str) -> String {
        format!("{feed}-{}", self.name())
    }
}

/// The Secret with the feed's broker user.
#[must_use]
pub fn broker_secret(feed: &str) -> String {
    format!("{feed}-broker")
}

/// The Secret with the bearer token of the producer's API.
#[must_use]
pub fn token_secret(feed: &str) -> String {
    format!("{feed}-api-token")
}

/// The Secret with the feed's writer role.
#[must_use]
pub fn database_secret(feed: &str) -> String {
    format!("{feed}-database")
}

/// The Secret with the feed's reader role.
#[must_use]
pub fn reader_secret(feed: &str) -> String {
    format!("{feed}-database-reader")
}

/// The `NetworkPolicy` that forbids everything.
#[must_use]
pub fn default_deny(feed: &str) -> String {
    format!("{feed}-default-deny")
}

/// Whether a key of a label or annotation is for the operator's own use.
#[must_use]
pub fn is_ours(key: &str) -> bool {
    key.starts_with("stockfeed.dev/")
}

/// Whether a label of a pod has a meaning for the operator or for Deployments.
#[must_use]
pub fn is_reserved(key: &str) -> bool {
    is_ours(key) || key == "pod-template-hash" || of_component("", Component::Producer).contains_key(key)
}

/// Labels of every child of a feed.
#[must_use]
pub fn common(feed: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "stockfeed"),
        ("app.kubernetes.io/instance", feed),
        (MANAGED_BY, MANAGER),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Labels of a component's objects and pods.
#[must_use]
pub fn of_component(feed: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = common(feed);
    labels.insert(
        "app.kubernetes.io/component".to_owned(),
        component.name().to_owned(),
    );
    labels
}

/// What selects a component's pods. Part of a Deployment that cannot be changed: leave it as it is.
#[must_use]
pub fn selector(feed: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = of_component(feed, component);
    labels.remove(MANAGED_BY);
    labels
}

/// [`selector`] as the API server wants it in a query.
#[must_use]
pub fn selector_text(feed: &str, component: Component) -> String {
    let pairs: Vec<_> = selector(feed, component)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}
