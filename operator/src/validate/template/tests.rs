use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::template::WhenUnsatisfiable,
    validate::{
        ErrorKind,
        tests::{defaults, example, parsed, references},
    },
};

fn checked(component: Component, template: Value) -> Result<Overrides, Error> {
    let template: PodTemplate = serde_json::from_value(template).unwrap();
    overrides(component, Some(&template))
}

#[rstest]
#[case::selector_label(json!({"labels": {"app.kubernetes.io/name": "x"}}), "spec.template.processor.labels: app.kubernetes.io/name is set by the operator")]
#[case::managers_label(json!({"labels": {"app.kubernetes.io/managed-by": "x"}}), "labels: app.kubernetes.io/managed-by is set")]
#[case::our_label(json!({"labels": {"stockfeed.dev/x": "x"}}), "labels: stockfeed.dev/x is set")]
#[case::hash_label(json!({"labels": {"pod-template-hash": "x"}}), "labels: pod-template-hash is set")]
#[case::our_annotation(json!({"annotations": {"stockfeed.dev/config-hash": "x"}}), "annotations: stockfeed.dev/config-hash is set")]
#[case::label_key(json!({"labels": {"a/b/c": "x"}}), "labels: \"a/b/c\" is no key")]
#[case::label_domain(json!({"labels": {"A.b/c": "x"}}), "labels: \"A.b/c\" is no key")]
#[case::empty_key(json!({"labels": {"": "x"}}), "labels: \"\" is no key")]
#[case::label_value(json!({"labels": {"team": "a b"}}), "labels: the value of team")]
#[case::label_value_end(json!({"labels": {"team": "a-"}}), "labels: the value of team")]
#[case::annotation_key(json!({"annotations": {"a b": "x"}}), "annotations: \"a b\" is no key")]
#[case::node_key(json!({"nodeSelector": {"-": "x"}}), "nodeSelector: \"-\" is no key")]
#[case::node_value(json!({"nodeSelector": {"disk": "s,d"}}), "nodeSelector: the value of disk")]
#[case::image_with_a_space(json!({"image": "a b"}), "spec.template.processor.image is no image")]
#[case::image_short_digest(json!({"image": "stockfeed/processor@sha256:abc"}), "image is no image")]
#[case::image_other_digest(json!({"image": format!("a@md5:{}", "a".repeat(64))}), "image is no image")]
#[case::image_digest_only(json!({"image": format!("@sha256:{}", "a".repeat(64))}), "image is no image")]
#[case::pull_secret(json!({"imagePullSecrets": [{"name": "Registry"}]}), "imagePullSecrets: \"Registry\" is no name")]
#[case::priority_class(json!({"priorityClassName": "-high"}), "priorityClassName: \"-high\" is no name")]
#[case::amount(json!({"resources": {"limits": {"memory": "1GB"}}}), "spec.template.processor.resources.limits.memory is no amount")]
#[case::request_above_our_limit(json!({"resources": {"requests": {"memory": "1Gi"}}}), "resources.requests.memory is 1Gi, more than the limit of 512Mi; raise limits.memory too")]
#[case::limit_below_our_request(json!({"resources": {"limits": {"cpu": "10m"}}}), "resources.requests.cpu is 50m, more than the limit of 10m")]
#[case::toleration_without_key(json!({"tolerations": [{"value": "x"}]}), "spec.template.processor.tolerations: one without a key")]
#[case::toleration_value(json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}), "tolerations: one with operator Exists")]
#[case::toleration_seconds(json!({"tolerations": [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}]}), "tolerationSeconds needs effect NoExecute")]
#[case::toleration_key(json!({"tolerations": [{"key": "a b"}]}), "tolerations: \"a b\" is no key")]
#[case::toleration_bad_value(json!({"tolerations": [{"key": "a", "value": "x y"}]}), "tolerations: the value of a")]
#[case::spread_key(json!({"topologySpreadConstraints": [{"topologyKey": "a b"}]}), "topologySpreadConstraints.topologyKey: \"a b\" is no key")]
#[case::spread_skew(json!({"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 0}]}), "topologySpreadConstraints.maxSkew is 0")]
fn refuses(#[case] template: Value, #[case] expected: &str) {
    let error = checked(Component::Processor, template.clone()).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");

    let mut feed = example();
    feed["spec"]["template"] = json!({"processor": template});
    let refused = crate::validate::validate(&defaults(), &parsed(feed), references()).unwrap_err();
    assert_eq!(refused.to_string(), error.to_string());
    assert_eq!(ErrorKind::from(refused), ErrorKind::PodTemplate);
}

#[rstest]
#[case::tag("registry.example.com:5000/team/processor:1.2")]
#[case::digest("stockfeed/processor@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
#[case::both("stockfeed/processor:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")]
fn images_by_tag_and_by_digest_are_taken(#[case] image: &str) {
    let checked = checked(Component::Producer, json!({"image": image})).unwrap();
    assert_eq!(checked.image.as_deref(), Some(image));
}

#[test]
fn what_is_right_comes_out_as_it_went_in() {
    let all = checked(
        Component::Producer,
        json!({
            "labels": {"team": "", "example.com/cost-centre": "42"},
            "annotations": {"example.com/note": "any text, of any form"},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"operator": "Exists"}, {"key": "feeds", "value": "only", "effect": "NoExecute", "tolerationSeconds": 5}],
            "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "resources": {"requests": {"memory": "256Mi"}, "limits": {"memory": "0.5Gi"}},
            "imagePullSecrets": [{"name": "registry"}],
            "priorityClassName": "high",
        }),
    )
    .unwrap();
    assert_eq!(
        (all.labels.len(), all.annotations.len(), all.node_selector.len()),
        (2, 1, 1)
    );
    assert_eq!(
        serde_json::to_value(&all.tolerations).unwrap(),
        json!([{"operator": "Exists"}, {"key": "feeds", "operator": "Equal", "value": "only", "effect": "NoExecute", "tolerationSeconds": 5}])
    );
    assert_eq!(
        (all.spread[0].max_skew, all.spread[0].when_unsatisfiable),
        (1, WhenUnsatisfiable::DoNotSchedule)
    );
    assert_eq!(all.requests.keys().copied().collect::<Vec<_>>(), ["memory"]);
    assert_eq!(all.limits["memory"].0, "0.5Gi");
    assert_eq!(all.image_pull_secrets[0].name, "registry");
}

#[test]
fn nothing_is_other_without_a_template() {
    assert_eq!(overrides(Component::Producer, None), Ok(Overrides::default()));
    assert_eq!(checked(Component::Producer, json!({})), Ok(Overrides::default()));
}

#[test]
fn admission_refuses_the_labels_that_we_set() {
    let definition = crate::crd::render().unwrap();
    for key in labels::of_component("tech", Component::Producer).keys() {
        assert!(
            labels::is_reserved(key) && definition.contains(&format!("'{key}'")),
            "{key}"
        );
    }
}
