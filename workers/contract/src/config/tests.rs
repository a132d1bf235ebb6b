use proptest::{collection::btree_set, prelude::*, sample::subsequence};

use super::*;

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
}

fn feed() -> impl Strategy<Value = FeedName> {
    (label(), label()).prop_map(|(namespace, name)| FeedName::new(namespace, name).unwrap())
}

fn symbols() -> impl Strategy<Value = Vec<Symbol>> {
    btree_set("[A-Z0-9.^=-]{1,16}", 1..20)
        .prop_map(|set| set.iter().map(|text| text.parse().unwrap()).collect())
}

fn time(from: u64) -> impl Strategy<Value = Duration> {
    (from..10_000_000).prop_map(Duration::from_millis)
}

prop_compose! {
    fn quota()(
        calls_per_day in proptest::option::of(1_u64..), calls_per_minute in proptest::option::of(1_u64..), feeds in 1_u64..,
        stretch: bool, key in "[a-z/]{0,20}", plan in "[A-Za-z]{0,10}",
    ) -> QuotaConfig {
        let policy = if stretch { QuotaPolicy::Stretch } else { QuotaPolicy::Enforce };
        QuotaConfig { calls_per_day, calls_per_minute, policy, plan, key, feeds }
    }
}

prop_compose! {
    fn http()(
        delay in time(0), timeout in time(1), with_key: bool, symbol in proptest::option::of("/[a-z]{1,5}"),
        time_format in prop_oneof![Just(TimeFormat::UnixSeconds), Just(TimeFormat::UnixMilliseconds), Just(TimeFormat::Rfc3339)],
    ) -> SourceConfig {
        SourceConfig::Http(HttpConfig {
            url: "https://example.invalid/{symbol}".into(),
            key_header: with_key.then(|| "X-Api-Key".into()),
            api_key_file: with_key.then(|| "/etc/stockfeed/source/apiKey".into()),
            quotes: String::new(), symbol, price: "/p".into(), time: "/t".into(), time_format, volume: None, delay, timeout,
        })
    }
}

prop_compose! {
    fn producer()(
        feed in feed(), symbols in symbols(), interval in time(100), delay in time(0), timeout in time(1),
        generation in 1_u32.., partitions in 1..=MAX_PARTITIONS, batch: bool, port: u16, quota in quota(),
        http in proptest::option::of(http()), spool in proptest::option::of(1_u64..), keep: bool,
        market_hours in prop_oneof![Just(MarketHours::Always), Just(MarketHours::Regular), Just(MarketHours::Extended)],
    ) -> ProducerConfig {
        ProducerConfig {
            feed, symbols, interval, market_hours, quota,
            source: http.unwrap_or_else(|| SourceConfig::Fmp(FmpConfig {
                base_url: "https://example.invalid/stable".into(),
                api_key_file: "/etc/stockfeed/source/apiKey".into(),
                batch, delay, timeout,
            })),
            duplicates: if keep { Duplicates::Keep } else { Duplicates::Skip },
            spool: spool.map(|max_bytes| SpoolConfig { directory: "/var/spool/stockfeed".into(), max_bytes }),
            database_directory: keep.then(|| "/etc/stockfeed/database".into()),
            token_directory: keep.then(|| "/etc/stockfeed/token".into()),
            queues: QueueGeneration { generation, partitions },
            broker_directory: "/etc/stockfeed/broker".into(),
            listen: SocketAddr::from(([0, 0, 0, 0], port)),
        }
    }
}

prop_compose! {
    fn processor()(
        feed in feed(), symbols in symbols(), windows in subsequence(WindowWidth::ALL.to_vec(), 1..=12),
        generations in btree_set(1_u32.., 1..3), partitions in 1..=MAX_PARTITIONS,
        out_of_orderness in time(0), allowed_lateness in time(0), max_future in time(0), max_age in proptest::option::of(time(0)), gap_timeout in time(0),
        max_messages in 1_u16.., max_bytes in 1_u32.., linger in time(0), port: u16,
    ) -> ProcessorConfig {
        ProcessorConfig {
            feed, symbols, windows, out_of_orderness, allowed_lateness, max_future, max_age, gap_timeout,
            queues: generations.into_iter().map(|generation| QueueGeneration { generation, partitions }).collect(),
            batch: BatchConfig { max_messages, max_bytes, linger },
            broker_directory: "/etc/stockfeed/broker".into(),
            database_directory: "/etc/stockfeed/database".into(),
            listen: SocketAddr::from(([0, 0, 0, 0], port)),
        }
    }
}

proptest! {
    #[test]
    fn a_producer_parses_what_was_rendered(config in producer()) {
        prop_assert_eq!(ProducerConfig::parse(&config.render()).unwrap(), config);
    }

    #[test]
    fn a_processor_parses_what_was_rendered(config in processor()) {
        prop_assert_eq!(ProcessorConfig::parse(&config.render()).unwrap(), config);
    }
}

fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut value = serde_json::json!({
        "feed": {"namespace": "markets", "name": "tech"}, "symbols": ["AAPL"],
        "source": {"fmp": {"baseUrl": "http://127.0.0.1", "apiKeyFile": "key", "batch": true, "delay": "0s", "timeout": "5s"}},
        "interval": "60s", "queues": {"generation": 1, "partitions": 4},
        "brokerDirectory": "broker", "listen": "0.0.0.0:8000",
    });
    ProducerConfig::parse(&value.to_string()).unwrap();
    change(&mut value);
    let error = ProducerConfig::parse(&value.to_string()).unwrap_err();
    std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[test]
fn a_refusal_names_the_field() {
    assert!(refused(|value| value["symbols"] = serde_json::json!([])).contains("symbols has 0 entries"));
    assert!(
        refused(|value| value["symbols"] = serde_json::json!(["A", "A"])).contains("symbols names A twice")
    );
    assert!(refused(|value| value["interval"] = "10ms".into()).contains("interval is shorter"));
    assert!(refused(|value| value["queues"]["partitions"] = 0.into()).contains("partitions"));
    assert!(refused(|value| value["colour"] = "red".into()).contains("colour"));
    assert!(refused(|value| value["feed"]["name"] = "a.b".into()).contains("name"));
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    ProducerConfig::parse(include_str!("../../examples/producer.json")).unwrap();
    ProcessorConfig::parse(include_str!("../../examples/processor.json")).unwrap();
}
