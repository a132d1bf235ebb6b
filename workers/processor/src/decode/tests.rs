use proptest::prelude::*;

use super::*;

const PUBLISHER: &str = "019a0000-0000-7000-8000-000000000001";

fn now() -> EventTime {
    "2026-11-20T21:00:00Z".parse().unwrap()
}

fn rules() -> Rules {
    Rules::new(&["AAPL".parse().unwrap()], 0, 1, Duration::from_secs(3_600), None)
}

fn properties(headers: &[(&str, AMQPValue)]) -> AMQPProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), value.clone());
    }
    AMQPProperties::default()
        .with_type(tick::MESSAGE_TYPE.into())
        .with_headers(table)
}

fn numbered(sequence: i64) -> AMQPProperties {
    let publisher = AMQPValue::LongString(PUBLISHER.into());
    properties(&[
        (header::PUBLISHER, publisher),
        (header::SEQUENCE, AMQPValue::LongLongInt(sequence)),
    ])
}

fn body(symbol: &str, time: &str) -> String {
    format!(r#"[{{"symbol":"{symbol}","price":"1.5","event_time":"{time}"}}]"#)
}

/// A message as the processor reads it.
fn read<'a>(rules: &Rules, properties: &AMQPProperties, body: &'a [u8]) -> (Header, Decoded<'a>) {
    let header = header(rules, properties, now());
    let decoded = decode(rules, Scope::Partition, &header, body, now());
    (header, decoded)
}

fn reasons(decoded: &Decoded<'_>) -> Vec<RejectReason> {
    decoded.refused.iter().map(|refused| refused.why.reason).collect()
}

#[test]
fn a_good_message_has_its_identity_and_ticks() {
    let body = body("AAPL", "2026-11-20T20:00:00Z");
    let (header, decoded) = read(&rules(), &numbered(7), body.as_bytes());
    assert_eq!(header.identity.unwrap().sequence, 7);
    assert_eq!(decoded.ticks.len(), 1);
    assert_eq!(reasons(&decoded), []);
}

#[test]
fn a_heartbeat_has_a_time_and_no_ticks() {
    let beat = properties(&[(
        header::EVENT_TIME,
        AMQPValue::LongString("2026-11-20T20:00:00Z".into()),
    )]);
    let (header, decoded) = read(&rules(), &beat, b"[]");
    assert_eq!(header.heartbeat.unwrap().to_string(), "2026-11-20T20:00:00Z");
    assert_eq!((decoded.ticks.len(), decoded.refused.len()), (0, 0));
}

#[test]
fn what_is_refused_keeps_its_sequence() {
    let (header, decoded) = read(&rules(), &numbered(3), b"nonsense");
    assert_eq!(
        header.identity.unwrap().sequence,
        3,
        "or the next message would look like a gap"
    );
    assert_eq!(reasons(&decoded), [RejectReason::Undecodable]);
    assert_eq!(decoded.refused[0].raw, b"nonsense");
}

#[test]
fn every_rule_has_its_reason() {
    let good = body("AAPL", "2026-11-20T20:00:00Z");
    let text = |text: &str| AMQPValue::LongString(text.into());
    let publisher = || (header::PUBLISHER, text(PUBLISHER));
    let cases = [
        (AMQPProperties::default(), good.clone(), RejectReason::UnknownType),
        (
            properties(&[publisher()]),
            good.clone(),
            RejectReason::InvalidHeaders,
        ),
        (
            properties(&[publisher(), (header::SEQUENCE, text("7"))]),
            good.clone(),
            RejectReason::InvalidHeaders,
        ),
        (
            properties(&[publisher(), (header::SEQUENCE, AMQPValue::LongInt(0))]),
            good.clone(),
            RejectReason::InvalidHeaders,
        ),
        (
            properties(&[
                (header::PUBLISHER, text("me")),
                (header::SEQUENCE, AMQPValue::LongInt(1)),
            ]),
            good,
            RejectReason::InvalidHeaders,
        ),
        (
            properties(&[(header::EVENT_TIME, text("soon"))]),
            "[]".into(),
            RejectReason::InvalidHeaders,
        ),
        (
            properties(&[(header::EVENT_TIME, text("2027-01-01T00:00:00Z"))]),
            "[]".into(),
            RejectReason::TimeOutOfRange,
        ),
        (numbered(1), "[]".into(), RejectReason::InvalidHeaders),
        (
            numbered(1),
            body("MSFT", "2026-11-20T20:00:00Z"),
            RejectReason::UnknownSymbol,
        ),
        (
            numbered(1),
            body("AAPL", "2026-11-20T22:00:01Z"),
            RejectReason::TimeOutOfRange,
        ),
        (
            numbered(1),
            body("AAPL", "1969-11-20T22:00:01Z"),
            RejectReason::TimeOutOfRange,
        ),
    ];
    for (properties, body, expected) in cases {
        let (_, decoded) = read(&rules(), &properties, body.as_bytes());
        assert_eq!(reasons(&decoded), [expected], "{body}");
        assert!(decoded.ticks.is_empty());
    }
}

#[test]
fn the_greatest_age_is_a_limit_of_the_resource() {
    let symbols = ["AAPL".parse().unwrap()];
    let day = Duration::from_secs(86_400);
    let rules = Rules::new(&symbols, 0, 1, Duration::ZERO, Some(day));
    let of = |time: &str| reasons(&read(&rules, &numbered(1), body("AAPL", time).as_bytes()).1);
    assert_eq!(of("2026-11-19T21:00:00Z"), []);
    assert_eq!(of("2026-11-19T20:59:59Z"), [RejectReason::TimeOutOfRange]);
}

#[test]
fn a_symbol_of_another_partition_is_refused() {
    let symbols = ["AAPL".parse().unwrap()];
    let home = partition_of(&symbols[0], 4);
    let elsewhere = Rules::new(&symbols, (home + 1) % 4, 4, Duration::ZERO, None);
    let body = body("AAPL", "2026-11-20T20:00:00Z");
    let (header, decoded) = read(&elsewhere, &numbered(1), body.as_bytes());
    assert_eq!(reasons(&decoded), [RejectReason::UnknownSymbol]);
    let decoded = decode(&elsewhere, Scope::Feed, &header, body.as_bytes(), now());
    assert_eq!(decoded.ticks.len(), 1, "what is released may be of any partition");
}

proptest! {
    #[test]
    fn every_entry_comes_out_as_a_tick_or_refused(
        entries in proptest::collection::vec((prop_oneof!["AAPL", "MSFT", "\\PC{0,4}"], -3_i64..3), 0..5),
        junk in "\\PC{0,30}",
        use_junk: bool,
    ) {
        let body = if use_junk { junk } else {
            let entries: Vec<_> = entries.iter()
                .map(|(symbol, price)| serde_json::json!({"symbol": symbol, "price": price, "event_time": "2026-11-20T20:00:00Z"}))
                .collect();
            serde_json::to_string(&entries).unwrap()
        };
        let (_, decoded) = read(&rules(), &numbered(1), body.as_bytes());
        let entries = serde_json::from_str::<Vec<serde_json::Value>>(&body).map_or(1, |entries| entries.len().max(1));
        prop_assert_eq!(decoded.ticks.len() + decoded.refused.len(), entries);
    }
}

#[test]
fn a_message_may_name_the_trace_that_it_belongs_to() {
    let named = |traceparent: &str| {
        let value = AMQPValue::LongString(traceparent.into());
        origin(&properties(&[(header::TRACEPARENT, value)]))
    };
    let place = Place {
        trace: 0xa,
        span: 0xb,
    };
    let good = "00-0000000000000000000000000000000a-000000000000000b-01";
    assert_eq!(named(good), Some(place));
    assert_eq!(named("anything"), None);
    assert_eq!(origin(&numbered(1)), None);
}
