//! The `PodDisruptionBudget` of the processors: whoever drains nodes takes them away one by one.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::objects;
use crate::{
    labels::{self, Component},
    validate::ValidatedFeed,
};

/// At most one processor may be away. That holds for any number of them, so scaling does not change it, and with one
/// processor it does not hold a drain up, as a least number would: its partitions wait in their queues until it is back. The
/// producer has none for the same reason: there is never more than one.
pub(super) fn budgets(feed: &ValidatedFeed) -> Vec<PodDisruptionBudget> {
    let name = feed.name.name();
    let component = Component::Processor;
    vec![PodDisruptionBudget {
        metadata: objects::metadata(
            feed,
            component.object_name(name),
            labels::of_component(name, component),
        ),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(labels::selector(name, component)),
                ..LabelSelector::default()
            }),
            // One that does not work anyway is nothing to wait for.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }]
}
