use std::borrow::Cow;

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;

const EXAMPLE: &str = r#"[{"symbol":"AAPL","price":"228.12","event_time":"2026-11-20T20:59:59Z","volume":44489128,
  "market_cap":"3500823120000","open":"227.2","day_high":"233.13","day_low":"226.65","previous_close":"228.01",
  "change":"0.11","change_percentage":"0.0482","exchange":"NASDAQ","name":"Apple Inc."}]"#;

fn tick(body: &str) -> Tick {
    let mut entries = decode(body.as_bytes()).unwrap();
    assert_eq!(entries.len(), 1);
    owned(entries.remove(0))
}

fn owned(entry: Entry<'_>) -> Tick {
    entry.unwrap().to_tick().unwrap()
}

fn reason(body: &str) -> RejectReason {
    match decode(body.as_bytes()) {
        Err(rejected) => rejected.reason,
        Ok(mut entries) => entries.remove(0).unwrap_err().0.reason,
    }
}

#[test]
fn reads_the_example_of_the_architecture() {
    let tick = tick(EXAMPLE);
    assert_eq!(tick.symbol.as_str(), "AAPL");
    assert_eq!(tick.price.to_string(), "228.12");
    assert_eq!(tick.volume, Some(44_489_128));
    assert_eq!(tick.name.as_deref(), Some("Apple Inc."));
    let body = encode(std::slice::from_ref(&tick));
    assert_eq!(owned(decode(&body).unwrap().remove(0)), tick);
}

#[test]
fn one_object_is_a_body_too_and_unknown_fields_are_ignored() {
    let tick = tick(
        r#" {"symbol":"A","price":1.10,"event_time":"2026-11-20T20:59:59Z","colour":"red","volume":null}"#,
    );
    assert_eq!(tick.price.to_string(), "1.1");
    assert_eq!(tick.volume, None);
}

#[test]
fn texts_are_borrowed_from_the_body() {
    let entries = decode(EXAMPLE.as_bytes()).unwrap();
    let tick = entries[0].as_ref().unwrap();
    assert!(matches!(tick.symbol, Cow::Borrowed("AAPL")));
    assert!(matches!(tick.name, Some(Cow::Borrowed("Apple Inc."))));
}

#[test]
fn digits_do_not_pass_through_a_float() {
    let body = r#"{"symbol":"A","price":0.1000000001,"event_time":"2026-11-20T20:59:59Z","market_cap":12345678901234567890.123}"#;
    let tick = tick(body);
    assert_eq!(tick.price.to_string(), "0.1000000001");
    assert_eq!(tick.market_cap.unwrap().to_string(), "12345678901234567890.123");
}

#[test]
fn every_fault_has_its_reason() {
    let with = |field: &str, value: &str| {
        let mut fields = std::collections::BTreeMap::from([
            ("symbol", r#""A""#.to_owned()),
            ("price", "1".to_owned()),
            ("event_time", r#""2026-11-20T20:59:59Z""#.to_owned()),
        ]);
        fields.insert(field, value.to_owned());
        let fields: Vec<_> = fields
            .iter()
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        reason(&format!("{{{}}}", fields.join(",")))
    };
    assert_eq!(reason(""), RejectReason::Undecodable);
    assert_eq!(reason("nonsense"), RejectReason::Undecodable);
    assert_eq!(reason("7"), RejectReason::Undecodable);
    assert_eq!(reason("[{]"), RejectReason::Undecodable);
    assert_eq!(reason("[7]"), RejectReason::Undecodable);
    assert_eq!(reason("{}"), RejectReason::InvalidSymbol);
    assert_eq!(with("symbol", r#""aapl""#), RejectReason::InvalidSymbol);
    assert_eq!(with("symbol", "7"), RejectReason::Undecodable);
    assert_eq!(with("price", "null"), RejectReason::InvalidPrice);
    assert_eq!(with("price", r#""free""#), RejectReason::InvalidPrice);
    assert_eq!(with("price", "true"), RejectReason::InvalidPrice);
    assert_eq!(with("price", "0"), RejectReason::PriceNotPositive);
    assert_eq!(with("price", "-3"), RejectReason::PriceNotPositive);
    assert_eq!(with("price", "1e15"), RejectReason::PriceOutOfRange);
    assert_eq!(with("event_time", r#""yesterday""#), RejectReason::InvalidTime);
    assert_eq!(with("event_time", "null"), RejectReason::InvalidTime);
    assert_eq!(with("volume", "-1"), RejectReason::InvalidNumber);
    assert_eq!(with("volume", "1.5"), RejectReason::InvalidNumber);
    assert_eq!(with("change", "[]"), RejectReason::InvalidNumber);
    assert_eq!(with("name", r#""a\u0000b""#), RejectReason::InvalidText);
}

#[test]
fn a_bad_tick_does_not_spoil_its_neighbours() {
    let body = r#"[{"symbol":"A","price":1,"event_time":"2026-11-20T20:59:59Z"},{"symbol":"A"},
                   {"symbol":"B","price":2,"event_time":"2026-11-20T20:59:59Z"}]"#;
    let entries = decode(body.as_bytes()).unwrap();
    assert_eq!(
        entries.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(entries[1].as_ref().unwrap_err().1, r#"{"symbol":"A"}"#);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _entries = decode(&body);
    }

    #[test]
    fn a_mutilated_body_is_read_or_refused_as_a_whole(cut in 0_usize..EXAMPLE.len(), replacement in any::<char>()) {
        let mut body: String = EXAMPLE.chars().take(cut).collect();
        body.push(replacement);
        body.extend(EXAMPLE.chars().skip(cut + 1));
        match decode(body.as_bytes()) {
            Ok(entries) => prop_assert!(!entries.is_empty() || body.trim() == "[]"),
            Err(rejected) => prop_assert_eq!(rejected.reason, RejectReason::Undecodable),
        }
    }

    #[test]
    fn what_is_written_reads_the_same(
        symbol in "[A-Z0-9.^=-]{1,16}",
        mantissa in 1_i64..10_i64.pow(15),
        scale in 0_u32..=10,
        microseconds in 0_i64..4_000_000_000_000_000,
        volume in proptest::option::of(0_i64..),
        change in proptest::option::of((any::<i64>(), 0_u32..=18)),
        name in proptest::option::of("[^\\x00]{0,40}"),
    ) {
        let Ok(price) = Price::new(Decimal::new(mantissa, scale)) else { return Ok(()) };
        let tick = Tick {
            symbol: symbol.parse().unwrap(),
            price,
            event_time: EventTime::from_microseconds(microseconds).unwrap(),
            volume,
            market_cap: None, open: None, day_high: None, day_low: None, previous_close: None,
            change: change.map(|(mantissa, scale)| Decimal::new(mantissa, scale)),
            change_percentage: None, exchange: None, name,
        };
        let body = encode(std::slice::from_ref(&tick));
        let mut entries = decode(&body).unwrap();
        prop_assert_eq!(entries.len(), 1);
        prop_assert_eq!(owned(entries.remove(0)), tick);
    }
}
