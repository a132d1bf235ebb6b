use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    connection::{BrokerConnection, Problem},
    isolation::Operator,
    validate::tests::{example, validated},
};

fn feed() -> ValidatedFeed {
    validated(example())
}

fn spec(feed: &ValidatedFeed, place: usize) -> Value {
    serde_json::to_value(policies(feed).wanted[place].spec.clone()).unwrap()
}

fn broker_at(host: &str, port: &str) -> ValidatedFeed {
    let pairs = [
        ("host", host),
        ("port", port),
        ("username", "u"),
        ("password", "p"),
    ];
    let data = pairs
        .map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())))
        .into();
    let mut feed = feed();
    feed.broker = Ok(BrokerConnection::read("s/r", &data).unwrap());
    feed
}

#[rstest]
#[case::service("rabbitmq.markets-infra.svc", json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "markets-infra"}}}]))]
#[case::service_in_full("rabbitmq.infra.svc.cluster.local", json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "infra"}}}]))]
#[case::service_with_the_root("rabbitmq.infra.svc.cluster.local.", json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "infra"}}}]))]
#[case::pod_of_a_headless_service("node-0.rabbitmq.infra.svc", json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "infra"}}}]))]
#[case::service_of_the_feeds_namespace("rabbitmq", json!([{"podSelector": {}}]))]
#[case::address("192.0.2.7", json!([{"ipBlock": {"cidr": "192.0.2.7/32"}}]))]
#[case::address_of_version_6("[2001:db8::7]", json!([{"ipBlock": {"cidr": "2001:db8::7/128"}}]))]
#[case::outside("amqp.example.com", Value::Null)]
#[case::outside_with_our_words("db.svc.example.com", Value::Null)]
#[case::name_of_two_parts("rabbitmq.infra", Value::Null)]
fn what_is_known_of_a_host_decides_how_narrow_its_rule_is(#[case] host: &str, #[case] expected: Value) {
    assert_eq!(serde_json::to_value(destination(host)).unwrap(), expected);
    let rule = &spec(&broker_at(host, "5679"), 1)["egress"][1];
    assert_eq!(rule["to"], expected);
    assert_eq!(rule["ports"], json!([{"protocol": "TCP", "port": 5679}]));
}

#[rstest]
#[case::public("https://financialmodelingprep.com/stable", json!({"ports": [{"protocol": "TCP", "port": 443}]}))]
#[case::custom_port("http://quotes.example.com:8443/v1", json!({"ports": [{"protocol": "TCP", "port": 8443}]}))]
#[case::address("http://192.0.2.7:8090/v1", json!({"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 8090}]}))]
#[case::service("http://simulator.tools.svc/stable", json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tools"}}}]}))]
fn only_the_producer_may_call_the_source(#[case] url: &str, #[case] expected: Value) {
    let mut value = example();
    value["spec"]["source"]["fmp"]["baseUrl"] = json!(url);
    let feed = validated(value);
    assert_eq!(spec(&feed, 0)["egress"][3], expected);
    assert_eq!(spec(&feed, 0)["egress"].as_array().unwrap().len(), 4);
    assert_eq!(spec(&feed, 1)["egress"].as_array().unwrap().len(), 3);
}

#[rstest]
#[case::nobody(NetworkClients::None, Some(1))]
#[case::neighbours(NetworkClients::SameNamespace, Some(2))]
#[case::everybody(NetworkClients::Any, None)]
fn clients_use_one_port_and_the_operator_always_may(
    #[case] clients: NetworkClients,
    #[case] peers: Option<usize>,
) {
    let mut feed = feed();
    feed.isolation.as_mut().unwrap().clients = clients;
    for (place, number) in [(0, 8000), (1, 8001)] {
        let rule = &spec(&feed, place)["ingress"][0];
        assert_eq!(rule["ports"], json!([{"protocol": "TCP", "port": number}]));
        assert_eq!(rule["from"].as_array().map(Vec::len), peers);
        if peers.is_some() {
            let operator = json!({
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "stockfeed-system"}},
                "podSelector": {"matchLabels": {"app.kubernetes.io/component": "operator"}},
            });
            assert_eq!(rule["from"][0], operator);
        }
    }
}

#[test]
fn an_operator_of_an_unknown_namespace_is_let_in_by_its_labels() {
    let mut feed = feed();
    feed.isolation.as_mut().unwrap().operator = Operator {
        namespace: None,
        labels: "a=b".parse().unwrap(),
    };
    assert_eq!(
        spec(&feed, 0)["ingress"][0]["from"][0],
        json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}})
    );
}

#[test]
fn the_dashboard_is_let_in_where_the_operator_is() {
    let mut feed = feed();
    let labels: crate::isolation::Labels = "app.kubernetes.io/component=dashboard".parse().unwrap();
    if let Some(isolation) = &mut feed.isolation {
        isolation.dashboard = Some(labels);
        isolation.clients = NetworkClients::None;
    }
    for place in [0, 1] {
        let from = &spec(&feed, place)["ingress"][0]["from"];
        let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": "stockfeed-system"}});
        let dashboard = json!({"namespaceSelector": namespace, "podSelector": {"matchLabels": {"app.kubernetes.io/component": "dashboard"}}});
        assert_eq!(
            (from.as_array().unwrap().len(), &from[1]),
            (2, &dashboard),
            "{from}"
        );
    }
}

#[test]
fn the_denial_is_of_all_pods_of_this_feed_and_comes_last() {
    let expected = json!({
        "podSelector": {"matchLabels": {
            "app.kubernetes.io/name": "stockfeed",
            "app.kubernetes.io/instance": "tech",
            "app.kubernetes.io/managed-by": "stockfeed-operator",
        }},
        "policyTypes": ["Ingress", "Egress"],
    });
    assert_eq!(spec(&feed(), 2), expected);
}

#[test]
fn every_policy_selects_labels_that_the_pods_have() {
    let feed = feed();
    let built = crate::build::build(&feed);
    for (plan, place) in [(built.producer, 0), (built.processor, 1)] {
        let template = plan.deployment.unwrap().spec.unwrap().template;
        let labels = template.metadata.unwrap().labels.unwrap();
        for policy in [
            &built.network_policies.wanted[place],
            &built.network_policies.wanted[2],
        ] {
            let selector = policy.spec.clone().unwrap().pod_selector.unwrap();
            for (key, value) in selector.match_labels.unwrap() {
                assert_eq!(labels.get(&key), Some(&value), "{key}");
            }
        }
    }
}

#[test]
fn a_lost_connection_keeps_its_rule_and_one_that_never_was_has_none() {
    let feed = broker_at("rabbitmq", "5679");
    let before = spec(&feed, 0);
    let mut lost = feed.clone();
    lost.broker_secret.data = objects::broker_data(&feed);
    lost.broker = Err(Problem::NotConfigured);
    assert_eq!(spec(&lost, 0), before);
    lost.broker_secret.data = None;
    assert_eq!(spec(&lost, 0)["egress"].as_array().unwrap().len(), 3);
}

#[test]
fn name_servers_may_be_anywhere() {
    let mut feed = feed();
    let chosen = &spec(&feed, 1)["egress"][0]["to"][0];
    assert_eq!(
        chosen["podSelector"]["matchLabels"],
        json!({"k8s-app": "kube-dns"})
    );
    feed.isolation.as_mut().unwrap().name_servers = NameServers::Any;
    let rule = &spec(&feed, 1)["egress"][0];
    assert_eq!(rule["to"], Value::Null);
    assert_eq!(rule["ports"][0], json!({"protocol": "UDP", "port": 53}));
}

#[test]
fn switched_off_all_of_them_go() {
    let mut feed = feed();
    let names: Vec<_> = policies(&feed)
        .wanted
        .into_iter()
        .filter_map(|policy| policy.metadata.name)
        .collect();
    feed.isolation = None;
    let off = policies(&feed);
    assert!(off.wanted.is_empty());
    assert_eq!(off.unwanted, names);
}

#[test]
fn both_workers_may_send_traces_where_there_is_a_collector() {
    let mut feed = feed();
    let rules = |feed: &ValidatedFeed, place| spec(feed, place)["egress"].as_array().unwrap().len();
    let without = [rules(&feed, 0), rules(&feed, 1)];
    feed.otlp_endpoint = Some("http://192.0.2.9:4318".parse().unwrap());
    assert_eq!([rules(&feed, 0), rules(&feed, 1)], without.map(|rules| rules + 1));
    let expected =
        json!({"to": [{"ipBlock": {"cidr": "192.0.2.9/32"}}], "ports": [{"protocol": "TCP", "port": 4318}]});
    for place in [0, 1] {
        let spec = spec(&feed, place);
        assert_eq!(spec["egress"].as_array().unwrap().last(), Some(&expected));
    }
}
