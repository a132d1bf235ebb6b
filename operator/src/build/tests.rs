use certificates::ClientCertificate;
use k8s_openapi::ByteString;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::rollout::Rollout;
use crate::validate::tests::{defaults, example, parsed, references, validated};

/// All objects of a feed in the order they are applied.
fn objects(feed: &ValidatedFeed) -> Vec<serde_json::Value> {
    let built = build(feed);
    let mut objects = Vec::new();
    let mut push = |object: Result<serde_json::Value, serde_json::Error>| objects.push(object.unwrap());
    built
        .service_accounts
        .iter()
        .for_each(|object| push(serde_json::to_value(object)));
    built
        .secrets
        .iter()
        .for_each(|object| push(serde_json::to_value(object)));
    built
        .config_maps
        .iter()
        .for_each(|object| push(serde_json::to_value(object)));
    built
        .services
        .iter()
        .for_each(|object| push(serde_json::to_value(object)));
    built
        .network_policies
        .wanted
        .iter()
        .for_each(|object| push(serde_json::to_value(object)));
    built
        .disruption_budgets
        .iter()
        .for_each(|object| push(serde_json::to_value(object)));
    push(serde_json::to_value(built.producer.deployment.unwrap()));
    push(serde_json::to_value(built.processor.deployment.unwrap()));
    objects
}

#[test]
fn objects_of_the_example() {
    insta::assert_yaml_snapshot!(objects(&validated(example())));
}

/// `cargo xtask scan` looks at these snapshots too: together they have everything that a feed can ask for.
#[test]
fn objects_of_a_feed_with_everything() {
    let mut value = example();
    value["metadata"]["name"] = json!("all");
    value["spec"]["source"] = json!({"http": {
        "url": "https://quotes.example.com/v1?symbols={symbols}", "symbol": "/s", "price": "/p", "time": "/t",
        "apiKeySecretRef": {"name": "quotes"}, "apiKeyHeader": "x-api-key",
    }});
    value["spec"]["spool"] = json!({"claimName": "spool"});
    let pod = json!({
        "image": format!("registry.example.com/worker@sha256:{}", "a".repeat(64)),
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "labels": {"team": "data"},
        "annotations": {"example.com/note": "x"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "feeds", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
        "topologySpreadConstraints": [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "priorityClassName": "high",
    });
    value["spec"]["template"] = json!({"producer": pod, "processor": pod});
    insta::assert_yaml_snapshot!(objects(&validated(value)));
}

#[test]
fn the_same_feed_gives_the_same_objects() {
    assert_eq!(objects(&validated(example())), objects(&validated(example())));
}

#[test]
fn every_object_is_owned_labelled_and_in_the_feeds_namespace() {
    for object in objects(&validated(example())) {
        let metadata = &object["metadata"];
        assert_eq!(metadata["namespace"], "markets");
        assert_eq!(
            metadata["labels"]["app.kubernetes.io/managed-by"],
            "stockfeed-operator"
        );
        assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "tech");
        assert_eq!(metadata["ownerReferences"][0]["kind"], "StockFeed");
        assert_eq!(metadata["ownerReferences"][0]["controller"], true);
    }
}

#[test]
fn administrators_passwords_are_in_no_object() {
    let text = serde_json::to_string(&objects(&validated(example()))).unwrap();
    for password in ["root-of-broker", "root-of-database"] {
        let encoded = serde_json::to_string(&ByteString(password.as_bytes().to_vec())).unwrap();
        assert!(!text.contains(password) && !text.contains(encoded.trim_matches('"')));
    }
}

fn hashes(feed: &ValidatedFeed) -> (String, String) {
    let built = build(feed);
    let hash = |plan: WorkloadPlan| {
        let deployment = serde_json::to_value(plan.deployment.unwrap()).unwrap();
        let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
        annotations["stockfeed.dev/config-hash"].to_string()
    };
    (hash(built.producer), hash(built.processor))
}

#[test]
fn pods_are_replaced_when_what_they_read_changes() {
    let feed = validated(example());
    let before = hashes(&feed);

    let mut other_key = feed.clone();
    other_key.source.fingerprint = Ok("another".to_owned());
    let after = hashes(&other_key);
    assert!(after.0 != before.0 && after.1 == before.1, "API key");

    let mut other_password = feed;
    other_password.writer_secret.credential.password = "another".into();
    let after = hashes(&other_password);
    assert!(after.0 == before.0 && after.1 != before.1, "writer's password");

    let mut other_symbols = example();
    other_symbols["spec"]["symbols"] = json!(["AAPL"]);
    let after = hashes(&validated(other_symbols));
    assert!(
        after.0 == before.0 && after.1 != before.1,
        "symbols, which the producer takes on as it runs"
    );

    let mut other_replicas = example();
    other_replicas["spec"]["processing"]["replicas"]["min"] = json!(1);
    assert_eq!(hashes(&validated(other_replicas)), before, "replicas");
}

#[rstest]
#[case::none(json!({}), None, None)]
#[case::producer(json!({"stockfeed.dev/restart-producer": "noon"}), Some("noon"), None)]
#[case::processor(json!({"stockfeed.dev/restart-processor": "noon"}), None, Some("noon"))]
fn a_restart_that_is_asked_for_reaches_the_pods_of_that_worker(
    #[case] annotations: serde_json::Value,
    #[case] producer: Option<&str>,
    #[case] processor: Option<&str>,
) {
    let mut value = example();
    value["metadata"]["annotations"] = annotations;
    let built = build(&validated(value));
    let asked = |plan: WorkloadPlan, key: &str| {
        let template = plan.deployment.unwrap().spec.unwrap().template;
        template.metadata.unwrap().annotations.unwrap().remove(key)
    };
    assert_eq!(
        asked(built.producer, "stockfeed.dev/restart-producer").as_deref(),
        producer
    );
    assert_eq!(
        asked(built.processor, "stockfeed.dev/restart-processor").as_deref(),
        processor
    );
}

#[test]
fn while_partitions_change_the_producer_has_the_newest_queues_that_are_there_and_processors_the_oldest() {
    let mut value = example();
    value["status"]["queues"] = json!([
        {"generation": 1, "partitions": 2}, {"generation": 2, "partitions": 8}, {"generation": 3, "partitions": 1},
    ]);
    // Those of generation 3 were not all there yet.
    value["status"]["queueGeneration"] = json!(2);
    let mut feed = validated(value);
    let config = |built: &Resources<Prepared>, place: usize| -> serde_json::Value {
        let data = built.config_maps[place].data.clone().unwrap();
        serde_json::from_str(&data[config::CONFIG_FILE]).unwrap()
    };
    let generation = |plan: &WorkloadPlan| {
        let template = &plan.deployment.as_ref().unwrap().spec.as_ref().unwrap().template;
        template.metadata.clone().unwrap().annotations.unwrap()["stockfeed.dev/queue-generation"].clone()
    };
    let built = build(&feed);
    assert_eq!(
        config(&built, 0)["queues"],
        json!({"generation": 2, "partitions": 8})
    );
    assert_eq!(
        config(&built, 1)["queues"],
        json!([{"generation": 1, "partitions": 2}])
    );
    assert_eq!(
        (
            generation(&built.producer).as_str(),
            generation(&built.processor).as_str()
        ),
        ("2", "1")
    );
    let topology = built.broker.unwrap().topology;
    assert_eq!(
        (topology.partitions.len(), topology.sealed_below),
        (2 + 8 + 1, 0),
        "it is not settled"
    );

    feed.producer = crate::rollout::Rollout {
        generations: [2].into(),
        settled: true,
        ..Rollout::default()
    };
    assert_eq!(build(&feed).broker.unwrap().topology.sealed_below, 2);
    feed.queues_made = 3;
    assert_eq!(generation(&build(&feed).producer), "3");
}

#[test]
fn nothing_that_names_queues_is_touched_before_it_is_known_which_there_are() {
    let mut value = example();
    value["status"] = json!({});
    let built = build(&validated(value));
    assert!(built.config_maps.is_empty() && built.broker.unwrap().topology.partitions.is_empty());
    for plan in [built.producer, built.processor] {
        assert_eq!(plan.deployment.unwrap_err(), NOT_COUNTED);
    }
}

#[test]
fn a_producer_waits_for_its_api_key_unless_it_is_suspended() {
    let build_with = |suspend: bool| {
        let mut value = example();
        value["spec"]["suspend"] = json!(suspend);
        let mut references = references();
        references.api_key = Err(Problem::SecretNotFound {
            namespace: "markets".to_owned(),
            name: "fmp".to_owned(),
        });
        let feed = crate::validate::validate(&defaults(), &parsed(value), references).unwrap();
        build(&feed)
    };
    let built = build_with(false);
    assert_eq!(
        built.producer.deployment.unwrap_err(),
        "Secret markets/fmp does not exist"
    );
    assert!(built.processor.deployment.is_ok());
    let suspended = build_with(true).producer.deployment.unwrap();
    assert_eq!(suspended.spec.unwrap().replicas, Some(0));
}

#[test]
fn workers_get_the_certificate_that_is_theirs_and_run_on_when_it_is_renewed() {
    let client = |name: &str| {
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        ClientCertificate::read(Some(certificate), Some(key.into())).unwrap()
    };
    let (operators, first, second) = (client("operator"), client("first"), client("second"));
    let with = |workers: &Option<ClientCertificate>| {
        let mut feed = validated(example());
        if let (Ok(broker), Ok(database)) = (&mut feed.broker, &mut feed.database) {
            broker.client.clone_from(&operators);
            database.client.clone_from(&operators);
            broker.worker_client.clone_from(workers);
            database.worker_client.clone_from(workers);
        }
        feed
    };
    let certificates = |feed: &ValidatedFeed| -> Vec<Option<String>> {
        let secrets = build(feed).secrets.into_iter().take(3);
        secrets
            .map(|secret| {
                let data = secret.data.unwrap();
                assert_eq!(data.contains_key("tls.crt"), data.contains_key("tls.key"));
                data.get("tls.crt")
                    .map(|text| String::from_utf8(text.0.clone()).unwrap())
            })
            .collect()
    };
    let text =
        |client: &Option<ClientCertificate>| client.as_ref().map(|client| client.certificate().to_owned());
    assert_eq!(
        certificates(&with(&None)),
        [None, None, None],
        "the operator's own stays with it"
    );
    assert_eq!(
        certificates(&with(&first)),
        [text(&first), text(&first), text(&first)],
        "broker, writer, reader"
    );
    assert_eq!(hashes(&with(&first)), hashes(&with(&second)));
}

#[test]
fn a_lost_connection_leaves_running_workers_as_they_are() {
    let feed = validated(example());
    let before = hashes(&feed);
    let data: Vec<_> = build(&feed)
        .secrets
        .into_iter()
        .map(|secret| secret.data.unwrap())
        .collect();

    let mut lost = feed;
    lost.broker = Err(Problem::NotConfigured);
    lost.database = Err(Problem::NotConfigured);
    lost.broker_secret.data = Some(data[0].clone());
    lost.writer_secret.data = Some(data[1].clone());
    assert_eq!(hashes(&lost), before);
    let built = build(&lost);
    assert!(built.broker.is_err() && built.database.is_err());
    assert_eq!(
        built.secrets.len(),
        1,
        "the token of the API, which is nobody else's"
    );

    lost.broker_secret.data = None;
    let built = build(&lost);
    assert!(built.producer.deployment.is_err() && built.processor.deployment.is_err());
}

#[test]
fn what_takes_effect_while_the_producer_runs_leaves_its_deployment_alone() {
    let deployment = |value: serde_json::Value| {
        let built = build(&validated(value));
        serde_json::to_value(built.producer.deployment.unwrap()).unwrap()
    };
    let before = deployment(example());
    for (path, value) in [
        ("/spec/symbols", json!(["AAPL"])),
        ("/spec/interval", json!("5s")),
        ("/spec/marketHours", json!("Regular")),
        ("/spec/duplicates", json!("Keep")),
        ("/spec/source/fmp/callsPerDay", json!(100)),
        ("/spec/source/fmp/quotaPolicy", json!("Enforce")),
    ] {
        let mut changed = example();
        let (parent, key) = path.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(deployment(changed.clone()), before, "{path}");
        let config = |value| build(&validated(value)).config_maps[0].data.clone();
        assert_ne!(config(changed), config(example()), "{path} is in the ConfigMap");
    }
    let mut changed = example();
    changed["spec"]["source"]["fmp"]["delay"] = json!("5s");
    assert_ne!(
        deployment(changed),
        before,
        "what is read at the start needs a new pod"
    );
}

#[test]
fn another_source_and_a_claim_are_in_configuration_and_pod() {
    let mut value = example();
    value["spec"]["source"] = json!({"http": {
        "url": "https://quotes.example.com/v1?symbols={symbols}", "symbol": "/s", "price": "/p", "time": "/t",
        "timeFormat": "Rfc3339", "callsPerDay": 1000,
    }});
    value["spec"]["spool"] = json!({"maxMebibytes": 10, "claimName": "spool"});
    let feed = validated(value);
    let built = build(&feed);
    let data = built.config_maps[0].data.as_ref().unwrap();
    let config: serde_json::Value = serde_json::from_str(&data["config.json"]).unwrap();
    assert_eq!(config["source"]["http"]["timeFormat"], "Rfc3339");
    assert_eq!(config["spool"]["maxBytes"], 10 << 20);
    assert_eq!(config["quota"]["callsPerDay"], 1000);
    let deployment = serde_json::to_value(built.producer.deployment.unwrap()).unwrap();
    let volumes = deployment["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap();
    let of = |name: &str| volumes.iter().find(|volume| volume["name"] == name);
    assert_eq!(
        of("spool").unwrap()["persistentVolumeClaim"]["claimName"],
        "spool"
    );
    assert!(of("source").is_none(), "it needs no key");
    assert!(of("token").is_some() && of("database").is_some());
}

#[test]
fn a_running_producer_hears_of_new_symbols_when_all_processors_know_them() {
    let hash = |deployment: Result<Box<Deployment>, String>| {
        let template = deployment.unwrap().spec.unwrap().template.metadata.unwrap();
        template.annotations.unwrap()[CONFIG_HASH].clone()
    };
    let of = |hashes: &[&String], settled| Rollout {
        hashes: hashes.iter().map(|hash| (*hash).clone()).collect(),
        settled,
        ..Rollout::default()
    };
    let before = build(&validated(example()));
    let (producer, old) = (
        hash(before.producer.deployment),
        hash(before.processor.deployment),
    );
    let mut changed = example();
    changed["spec"]["symbols"] = json!(["AAPL", "MSFT", "GOOG", "NVDA"]);
    let new = hash(build(&validated(changed.clone())).processor.deployment);
    let maps = |of_producer: Rollout, of_processor: Rollout| {
        let mut feed = validated(changed.clone());
        feed.producer = of_producer;
        feed.processor = of_processor;
        build(&feed).config_maps.len()
    };
    assert_eq!(maps(of(&[&producer], true), of(&[&old], true)), 1, "not told yet");
    assert_eq!(
        maps(of(&[&producer], true), of(&[&old, &new], true)),
        1,
        "an old one is still there"
    );
    assert_eq!(
        maps(of(&[&producer], true), of(&[&new], false)),
        1,
        "an old one may come"
    );
    assert_eq!(maps(of(&[&producer], true), of(&[&new], true)), 2, "told");
    assert_eq!(
        maps(of(&[], true), of(&[&old], true)),
        2,
        "one that is not there needs its configuration"
    );
    let other = "another".to_owned();
    assert_eq!(
        maps(of(&[&other], true), of(&[&old], true)),
        2,
        "one that is replaced has to read it"
    );
}

#[test]
fn processors_go_on_knowing_symbols_that_have_left() {
    let mut feed = validated(example());
    let before = build(&feed);
    feed.former_symbols = feed.symbols.clone();
    feed.symbols.truncate(1);
    let after = build(&feed);
    assert_eq!(before.config_maps[1], after.config_maps[1]);
    assert_ne!(before.config_maps[0], after.config_maps[0]);
    feed.former_symbols = (0..600)
        .map(|number| format!("S{number}").parse().unwrap())
        .collect();
    assert_eq!(
        config::processor(
            &feed,
            contract::config::QueueGeneration {
                generation: 1,
                partitions: 2
            }
        )
        .symbols
        .len(),
        500
    );
}

#[test]
fn workers_are_told_where_traces_go_and_what_they_are_of() {
    let mut feed = validated(example());
    feed.otlp_endpoint = Some("http://collector.observability.svc:4318".parse().unwrap());
    let objects = objects(&feed);
    let deployments: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == "Deployment")
        .collect();
    assert_eq!(deployments.len(), 2);
    for deployment in deployments {
        let environment = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
        let value = |name: &str| {
            let variables = environment.as_array().unwrap();
            let found = variables.iter().find(|variable| variable["name"] == name);
            found.unwrap()["value"].clone()
        };
        assert_eq!(
            value("STOCKFEED_OTLP_ENDPOINT"),
            "http://collector.observability.svc:4318"
        );
        assert_eq!(
            value("OTEL_RESOURCE_ATTRIBUTES"),
            "k8s.namespace.name=markets,stockfeed.feed=tech"
        );
    }
}
