use rstest::rstest;
use serde_json::json;

use super::*;

#[rstest]
#[case::equal(json!({"a": 1}), json!({"a": 1}), true)]
#[case::others_add_fields(json!({"a": 1, "b": 2}), json!({"a": 1}), true)]
#[case::a_field_is_missing(json!({"b": 2}), json!({"a": 1}), false)]
#[case::a_field_differs(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), false)]
#[case::nothing_is_wanted_of_a_field(json!({}), json!({"a": null}), true)]
#[case::arguments_are_a_whole(json!(["x", "y"]), json!(["x"]), false)]
#[case::rules_are_a_whole(json!([{"from": [], "ports": [{"port": 1}]}, {"ports": [{"port": 2}]}]), json!([{"ports": [{"port": 2}]}]), false)]
#[case::others_add_to_lists_with_a_key(json!([{"name": 1}, {"name": 2}]), json!([{"name": 2}]), true)]
#[case::an_entry_is_missing(json!([{"n": 1}]), json!([{"n": 2}]), false)]
fn covering(#[case] live: Value, #[case] wanted: Value, #[case] expected: bool) {
    assert_eq!(covers(&live, &wanted), expected);
}

#[rstest]
#[case::ours(json!({"ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "n", "uid": "mine"}]}), true)]
#[case::anothers(json!({"ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "n", "uid": "other"}], "labels": {"app.kubernetes.io/managed-by": "stockfeed-operator"}}), false)]
#[case::owner_was_taken_away(json!({"labels": {"app.kubernetes.io/managed-by": "stockfeed-operator"}}), true)]
#[case::a_users_own(json!({}), false)]
fn ownership(#[case] metadata: Value, #[case] expected: bool) {
    let object: ConfigMap = serde_json::from_value(json!({"metadata": metadata})).unwrap();
    assert_eq!(belongs_to(&object, "mine"), expected);
}

#[rstest]
#[case::a_value(json!({"spec": {"replicas": 5}}), json!({"spec": {"replicas": 1}}), "spec.replicas was 5, not 1")]
#[case::gone(json!({"spec": {}}), json!({"spec": {"replicas": 1}}), "spec.replicas was missing")]
#[case::in_a_list(
    json!({"containers": [{"name": "sidecar"}, {"name": "producer", "image": "x"}]}),
    json!({"containers": [{"name": "producer", "image": "y"}]}),
    "containers[producer].image was \"x\", not \"y\""
)]
#[case::an_entry_is_gone(json!({"ports": []}), json!({"ports": [{"port": 1}]}), "ports[0] was missing")]
#[case::many(
    json!({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}), json!({"a": 2, "b": 2, "c": 2, "d": 2, "e": 2, "f": 2}),
    "a was 1, not 2, b was 1, not 2, c was 1, not 2, d was 1, not 2 and 2 more"
)]
#[case::long(json!({"a": "x"}), json!({"a": "y".repeat(100)}), "a was different")]
fn what_differs_is_named(#[case] live: Value, #[case] wanted: Value, #[case] expected: &str) {
    assert_eq!(differences(&live, &wanted, true), expected);
}

#[test]
fn values_of_a_secret_are_not_shown() {
    let (live, wanted) = (
        json!({"data": {"password": "b25l"}}),
        json!({"data": {"password": "dHdv"}}),
    );
    assert_eq!(differences(&live, &wanted, false), "data.password was different");
}
