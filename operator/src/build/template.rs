//! What a user has otherwise in a worker's pod, put into it. What the operator sets wins.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{PodTemplateSpec, ResourceRequirements, TopologySpreadConstraint},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector},
};

use crate::{
    api::template::{Spread, WhenUnsatisfiable},
    labels::Component,
    resources,
    validate::template::Overrides,
};

/// Puts labels, annotations and places into a pod's template.
pub(super) fn apply(
    overrides: &Overrides,
    selector: &BTreeMap<String, String>,
    template: &mut PodTemplateSpec,
) {
    let meta = template.metadata.get_or_insert_default();
    add(&overrides.labels, meta.labels.get_or_insert_default());
    add(&overrides.annotations, meta.annotations.get_or_insert_default());
    let Some(pod) = &mut template.spec else { return };
    pod.priority_class_name.clone_from(&overrides.priority_class);
    pod.node_selector = some(&overrides.node_selector, BTreeMap::is_empty);
    pod.tolerations = some(&overrides.tolerations, Vec::is_empty);
    pod.image_pull_secrets = some(&overrides.image_pull_secrets, Vec::is_empty);
    if !overrides.spread.is_empty() {
        let spread = overrides
            .spread
            .iter()
            .map(|one| constraint(one, selector.clone()));
        pod.topology_spread_constraints = Some(spread.collect());
    }
}

/// CPU and memory: ours, where nothing else is asked for.
pub(super) fn amounts(overrides: &Overrides, component: Component) -> ResourceRequirements {
    let [cpu, memory] = resources::of(component);
    let of = |given: &BTreeMap<&'static str, Quantity>, ours: [(&'static str, &str); 2]| {
        let amount = |(resource, ours): (&'static str, &str)| {
            let amount = given.get(resource).cloned();
            (
                resource.to_owned(),
                amount.unwrap_or_else(|| Quantity(ours.to_owned())),
            )
        };
        Some(ours.map(amount).into())
    };
    ResourceRequirements {
        requests: of(
            &overrides.requests,
            [("cpu", cpu.request), ("memory", memory.request)],
        ),
        limits: of(&overrides.limits, [("cpu", cpu.limit), ("memory", memory.limit)]),
        ..ResourceRequirements::default()
    }
}

/// Not all on one node, where that is possible: the operator's own wish for processors.
pub(super) fn over_nodes(selector: BTreeMap<String, String>) -> TopologySpreadConstraint {
    let spread = Spread {
        topology_key: "kubernetes.io/hostname".to_owned(),
        max_skew: 1,
        when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
    };
    constraint(&spread, selector)
}

fn constraint(spread: &Spread, selector: BTreeMap<String, String>) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: spread.max_skew,
        topology_key: spread.topology_key.clone(),
        when_unsatisfiable: <&str>::from(spread.when_unsatisfiable).to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(selector),
            ..LabelSelector::default()
        }),
        // Pods of an earlier form are on their way out and do not count.
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    }
}

fn add(from: &BTreeMap<String, String>, to: &mut BTreeMap<String, String>) {
    for (key, value) in from {
        to.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn some<T: Clone>(value: &T, is_empty: impl Fn(&T) -> bool) -> Option<T> {
    (!is_empty(value)).then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        build::build,
        validate::tests::{example, validated},
    };

    fn templates(template: &Value) -> (Value, Value) {
        let mut value = example();
        value["spec"]["template"] = template.clone();
        let built = build(&validated(value));
        let template = |plan: crate::build::WorkloadPlan| {
            serde_json::to_value(plan.deployment.unwrap().spec.unwrap().template).unwrap()
        };
        (template(built.producer), template(built.processor))
    }

    #[test]
    fn everything_arrives_in_the_pod_it_is_meant_for_and_in_no_other() {
        let plain = templates(&Value::Null);
        let image = format!("mirror/processor@sha256:{}", "a".repeat(64));
        let (producer, processor) = templates(&json!({"processor": {
            "image": image,
            "imagePullSecrets": [{"name": "registry"}],
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}},
            "labels": {"team": "data"},
            "annotations": {"example.com/note": "x"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "feeds", "operator": "Exists"}],
            "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone"}],
            "priorityClassName": "high",
        }}));
        assert_eq!(producer, plain.0);
        let (meta, pod) = (&processor["metadata"], &processor["spec"]);
        assert_eq!(meta["labels"]["team"], "data");
        assert_eq!(meta["labels"]["app.kubernetes.io/component"], "processor");
        assert_eq!(meta["annotations"]["example.com/note"], "x");
        assert_eq!(
            meta["annotations"]["stockfeed.dev/config-hash"],
            plain.1["metadata"]["annotations"]["stockfeed.dev/config-hash"]
        );
        let container = &pod["containers"][0];
        assert_eq!(container["image"], image);
        assert_eq!(
            container["resources"],
            json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}})
        );
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(pod["nodeSelector"], json!({"disk": "ssd"}));
        assert_eq!(
            pod["tolerations"],
            json!([{"key": "feeds", "operator": "Exists"}])
        );
        assert_eq!(pod["priorityClassName"], "high");
        let spread = &pod["topologySpreadConstraints"];
        assert_eq!(spread.as_array().unwrap().len(), 1);
        assert_eq!(spread[0]["topologyKey"], "topology.kubernetes.io/zone");
        assert_eq!(
            spread[0]["labelSelector"],
            plain.1["spec"]["topologySpreadConstraints"][0]["labelSelector"]
        );
    }

    #[test]
    fn a_selector_never_changes() {
        let selector = |template: &Value| {
            let mut value = example();
            value["spec"]["template"] = template.clone();
            let built = build(&validated(value));
            built.processor.deployment.unwrap().spec.unwrap().selector
        };
        assert_eq!(
            selector(&json!({"processor": {"labels": {"team": "data"}}})),
            selector(&Value::Null)
        );
    }
}
