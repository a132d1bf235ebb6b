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
