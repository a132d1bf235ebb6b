use k8s_openapi::ByteString;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    build::config,
    connection::{BrokerConnection, Data},
    credential::Credential,
    isolation::{NetworkClients, Operator},
};

pub(crate) fn defaults() -> Defaults {
    Defaults {
        images: Images {
            producer: "stockfeed/producer:1".to_owned(),
            processor: "stockfeed/processor:1".to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
        },
        broker_secret: Some("stockfeed-system/stockfeed-rabbitmq".parse().unwrap()),
        database_secret: None,
        rotate_after: None,
        orphan_after: Duration::from_secs(600),
        rollout_deadline: Duration::from_secs(600),
        otlp_endpoint: None,
        isolation: Some(Isolation {
            operator: Operator {
                namespace: Some("stockfeed-system".to_owned()),
                labels: "app.kubernetes.io/component=operator".parse().unwrap(),
            },
            dashboard: None,
            clients: NetworkClients::SameNamespace,
            name_servers: "kube-system/k8s-app=kube-dns".parse().unwrap(),
        }),
    }
}

/// The feed of the documentation.
pub(crate) fn example() -> Value {
    json!({
        "apiVersion": "stockfeed.dev/v1alpha1",
        "kind": "StockFeed",
        "metadata": {
            "name": "tech", "namespace": "markets", "generation": 1,
            "uid": "5ec2a3a0-0000-4000-8000-000000000001",
        },
        "spec": {
            "symbols": ["AAPL", "MSFT", "GOOG"],
            "source": {"fmp": {"apiKeySecretRef": {"name": "fmp", "key": "token"}, "baseUrl": "http://simulator:8090/stable/", "plan": "Starter"}},
            "interval": "1s",
            "processing": {"partitions": 2, "replicas": {"min": 2}, "windows": ["1d", "1m"]},
            "storage": {"retention": "90d"},
        },
        // As after the first look at the broker.
        "status": {"queues": [{"generation": 1, "partitions": 2}]},
    })
}

fn data(pairs: &[(&str, &str)]) -> Data {
    let entry = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    pairs.iter().map(entry).collect()
}

pub(crate) fn references() -> References {
    let own = |password: &str| OwnSecret {
        data: None,
        credential: Credential {
            password: password.into(),
            made: jiff::Timestamp::UNIX_EPOCH,
            rotation: None,
            renewed: false,
        },
    };
    let broker = data(&[
        ("host", "rabbitmq"),
        ("username", "admin"),
        ("password", "root-of-broker"),
    ]);
    let database = data(&[
        ("host", "postgresql"),
        ("dbname", "fintech_data"),
        ("username", "admin"),
        ("password", "root-of-database"),
    ]);
    References {
        api_key: Ok("0123456789abcdef".to_owned()),
        broker: BrokerConnection::read("s/r", &broker),
        database: DatabaseConnection::read("s/p", &database),
        broker_secret: own("broker-password"),
        writer_secret: own("writer-password"),
        reader_secret: own("reader-password"),
        token: ApiToken {
            token: "api-token".into(),
            previous: None,
            made: "2026-11-25T00:00:00Z".parse().unwrap(),
        },
        sharing: 1,
        former_symbols: Vec::new(),
        producer: Rollout::default(),
        processor: Rollout::default(),
    }
}

pub(crate) fn parsed(value: Value) -> StockFeed {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn validated(value: Value) -> ValidatedFeed {
    validate(&defaults(), &parsed(value), references()).unwrap()
}

#[test]
fn the_example_is_valid_and_windows_are_in_order() {
    let feed = validated(example());
    assert_eq!(feed.windows, [WindowWidth::Minute1, WindowWidth::Day1]);
    let SourceKind::Fmp { base_url, batch } = &feed.source.kind else {
        panic!("{:?}", feed.source.kind);
    };
    assert_eq!(
        (base_url.as_str(), *batch),
        ("http://simulator:8090/stable", true)
    );
    assert_eq!(feed.retention, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(feed.out_of_orderness, Duration::from_secs(5));
    assert!(!feed.suspend);
}

#[rstest]
#[case::dotted_name("/metadata/name", json!("a.b"), ErrorKind::Name, "metadata.name")]
#[case::long_name("/metadata/name", json!("a".repeat(41)), ErrorKind::NameLength, "metadata.name")]
#[case::no_uid("/metadata/uid", Value::Null, ErrorKind::NoUid, "UID")]
#[case::empty_symbols("/spec/symbols", json!([]), ErrorKind::SymbolCount, "spec.symbols")]
#[case::too_many_symbols("/spec/symbols", json!((0..501).map(|number| format!("S{number}")).collect::<Vec<_>>()), ErrorKind::SymbolCount, "spec.symbols has 501")]
#[case::bad_symbol("/spec/symbols/0", json!("aapl"), ErrorKind::Symbol, "spec.symbols")]
#[case::duplicate_symbol("/spec/symbols/1", json!("AAPL"), ErrorKind::DuplicateSymbol, "spec.symbols names AAPL twice")]
#[case::interval_zero("/spec/interval", json!("0s"), ErrorKind::Interval, "spec.interval")]
#[case::interval_short("/spec/interval", json!("99ms"), ErrorKind::Interval, "spec.interval")]
#[case::interval_form("/spec/interval", json!("often"), ErrorKind::Duration, "spec.interval")]
#[case::no_partitions("/spec/processing/partitions", json!(0), ErrorKind::Partitions, "spec.processing.partitions")]
#[case::too_many_partitions("/spec/processing/partitions", json!(65), ErrorKind::Partitions, "spec.processing.partitions")]
#[case::no_look_ahead("/spec/processing/maxFuture", json!("999ms"), ErrorKind::TooShort, "spec.processing.maxFuture is shorter than 1s")]
#[case::no_age("/spec/processing/maxAge", json!("59s"), ErrorKind::TooShort, "spec.processing.maxAge is shorter than 1m")]
#[case::age_form("/spec/processing/maxAge", json!("old"), ErrorKind::Duration, "spec.processing.maxAge")]
#[case::no_replicas("/spec/processing/replicas/min", json!(0), ErrorKind::Replicas, "spec.processing.replicas.min")]
#[case::no_windows("/spec/processing/windows", json!([]), ErrorKind::NoWindow, "spec.processing.windows")]
#[case::unknown_window("/spec/processing/windows/0", json!("2m"), ErrorKind::Window, "spec.processing.windows")]
#[case::duplicate_window("/spec/processing/windows/0", json!("1m"), ErrorKind::DuplicateWindow, "spec.processing.windows names 1m twice")]
#[case::other_scheme("/spec/source/fmp/baseUrl", json!("ftp://x"), ErrorKind::BaseUrl, "spec.source.fmp.baseUrl")]
#[case::credentials_in_url("/spec/source/fmp/baseUrl", json!("http://u:p@x"), ErrorKind::BaseUrl, "spec.source.fmp.baseUrl")]
#[case::short_retention("/spec/storage/retention", json!("23h"), ErrorKind::Retention, "spec.storage.retention")]
#[case::two_sources("/spec/source/http", json!({"url": "http://x/{symbol}", "price": "/p", "time": "/t"}), ErrorKind::Source, "exactly one of fmp and http")]
#[case::no_source("/spec/source", json!({}), ErrorKind::Source, "exactly one of fmp and http")]
#[case::no_place_for_a_symbol("/spec/source", json!({"http": {"url": "http://x/", "price": "/p", "time": "/t"}}), ErrorKind::Template, "spec.source.http.url")]
#[case::no_spool("/spec/spool", json!({"maxMebibytes": 0}), ErrorKind::Spool, "spec.spool.maxMebibytes")]
#[case::no_calls("/spec/source/fmp/callsPerDay", json!(0), ErrorKind::Calls, "spec.source.fmp.callsPerDay")]
fn refuses(#[case] pointer: &str, #[case] value: Value, #[case] expected: ErrorKind, #[case] message: &str) {
    let mut feed = example();
    match feed.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            feed.pointer_mut(parent).unwrap()[key] = value;
        }
    }
    let error = validate(&defaults(), &parsed(feed), references()).unwrap_err();
    assert!(error.to_string().contains(message), "{error}");
    assert_eq!(ErrorKind::from(error), expected);
}

#[test]
fn a_minimal_feed_gets_the_documented_defaults() {
    let mut feed = example();
    feed["spec"] = json!({"symbols": ["A"], "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}}});
    let feed = validated(feed);
    assert_eq!(feed.interval, Duration::from_secs(60));
    assert_eq!(feed.source.secret.as_ref().unwrap().key, "apiKey");
    assert_eq!(feed.partitions, 4);
    assert_eq!((feed.max_future, feed.max_age), (Duration::from_secs(300), None));
    assert_eq!(feed.windows.len(), 4);
    assert_eq!(
        (feed.replicas, feed.retention, feed.source.batch()),
        (1, None, false)
    );
    assert!(feed.quota.sufficient == (1_440 <= 250));
}

prop_compose! {
    fn any_feed()(
        symbols in proptest::collection::btree_set("[A-Z0-9.^=-]{1,16}", 1..500),
        interval in 100_u64..100_000_000,
        delay in 0_u64..100_000_000,
        partitions in 1..=64,
        replicas in 1..=64,
        windows in proptest::sample::subsequence(WindowWidth::ALL.map(WindowWidth::label).to_vec(), 1..=12),
        lateness in 0_u64..100_000_000,
        max_age in proptest::option::of(60_000_u64..100_000_000),
        generations in any_generations(),
        plan in proptest::sample::select(vec!["Basic", "Starter", "Premium", "Ultimate"]),
        suspend: bool,
    ) -> Value {
        let text = |milliseconds| duration::format(Duration::from_millis(milliseconds));
        let mut feed = example();
        feed["spec"] = json!({
            "symbols": symbols,
            "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}, "plan": plan, "delay": text(delay)}},
            "interval": text(interval),
            "processing": {
                "partitions": partitions, "replicas": {"min": replicas}, "windows": windows,
                "outOfOrderness": text(lateness / 2), "allowedLateness": text(lateness),
                "maxFuture": text(1_000 + lateness), "maxAge": max_age.map(text),
            },
            "suspend": suspend,
        });
        let queues: Vec<_> = generations.iter().map(|(generation, partitions)| json!({"generation": generation, "partitions": partitions})).collect();
        feed["status"] = json!({"queues": queues});
        feed
    }
}

fn any_generations() -> impl Strategy<Value = std::collections::BTreeMap<u32, u16>> {
    proptest::collection::btree_map(1..i32::MAX.cast_unsigned(), 1..=MAX_PARTITIONS, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn workers_parse_what_is_rendered_for_them(value in any_feed()) {
        let feed = validated(value);
        let generations = feed.generations.clone().unwrap();
        let producer = config::producer(&feed, generations.last());
        prop_assert_eq!(contract::config::ProducerConfig::parse(&producer.render()).unwrap(), producer);
        let processor = config::processor(&feed, generations.first());
        prop_assert_eq!(contract::config::ProcessorConfig::parse(&processor.render()).unwrap(), processor);
    }
}
