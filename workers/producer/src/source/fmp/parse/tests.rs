use std::collections::BTreeMap;

use contract::price::Price;
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;

/// The quote in FMP's documentation.
const EXAMPLE: &str = r#"[{"symbol":"AAPL","name":"Apple Inc.","price":232.8,"changePercentage":2.1008,"change":4.79,
  "volume":44489128,"dayLow":226.65,"dayHigh":233.13,"yearHigh":260.1,"yearLow":164.08,"marketCap":3500823120000,
  "priceAvg50":240.2278,"priceAvg200":219.98755,"exchange":"NASDAQ","open":227.2,"previousClose":228.01,
  "timestamp":1738702801}]"#;

fn asked() -> Vec<Symbol> {
    ["AAPL", "MSFT"].map(|text| text.parse().unwrap()).to_vec()
}

fn one(body: &str) -> Entry {
    let mut entries = quotes(body.as_bytes(), &asked()).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

/// A quote with one field replaced; an empty value leaves it out.
fn with(field: &str, value: &str) -> Entry {
    let mut fields = BTreeMap::from([
        ("symbol", r#""AAPL""#),
        ("price", "232.8"),
        ("timestamp", "1738702801"),
        ("volume", "44489128"),
    ]);
    fields.insert(field, value);
    fields.retain(|_, value| !value.is_empty());
    let fields: Vec<_> = fields
        .iter()
        .map(|(field, value)| format!(r#""{field}":{value}"#))
        .collect();
    one(&format!("[{{{}}}]", fields.join(",")))
}

#[test]
fn reads_the_documented_quote() {
    let tick = one(EXAMPLE).unwrap();
    let expected = r#"{"symbol":"AAPL","price":"232.8","event_time":"2025-02-04T21:00:01Z","volume":44489128,"market_cap":"3500823120000","open":"227.2","day_high":"233.13","day_low":"226.65","previous_close":"228.01","change":"4.79","change_percentage":"2.1008","exchange":"NASDAQ","name":"Apple Inc."}"#;
    assert_eq!(serde_json::to_string(&tick).unwrap(), expected);
}

#[test]
fn most_fields_may_be_null_or_missing() {
    let tick = one(
        r#"[{"symbol":"AAPL","price":1,"timestamp":1738702801,"volume":null,"name":null,"open":null,"news":{}}]"#,
    );
    let tick = tick.unwrap();
    assert_eq!(
        (tick.volume, tick.name, tick.open, tick.exchange),
        (None, None, None, None)
    );
    assert_eq!(quotes(b" [] ", &asked()).unwrap(), []);
}

#[test]
fn whole_numbers_may_come_as_fractions_or_powers_of_ten() {
    assert_eq!(with("volume", "44489128.0").unwrap().volume, Some(44_489_128));
    assert_eq!(with("volume", "44489128.97").unwrap().volume, Some(44_489_128));
    assert_eq!(with("volume", "4.4489128e7").unwrap().volume, Some(44_489_128));
    assert_eq!(with("volume", r#""100""#).unwrap().volume, Some(100));
    let fraction = with("timestamp", "1738702801.25").unwrap().event_time;
    assert_eq!(fraction.to_string(), "2025-02-04T21:00:01.25Z");
}

#[test]
fn every_fault_of_a_quote_has_its_reason() {
    let long = format!(r#""{}""#, "x".repeat(257));
    for (field, value, expected) in [
        ("symbol", "", RejectReason::InvalidSymbol),
        ("symbol", r#""a b""#, RejectReason::InvalidSymbol),
        ("symbol", r#""IBM""#, RejectReason::UnknownSymbol),
        ("symbol", "5", RejectReason::Undecodable),
        ("price", "", RejectReason::InvalidPrice),
        ("price", "null", RejectReason::InvalidPrice),
        ("price", r#""n/a""#, RejectReason::InvalidPrice),
        ("price", "[1]", RejectReason::InvalidPrice),
        ("price", "0", RejectReason::PriceNotPositive),
        ("price", "-1.5", RejectReason::PriceNotPositive),
        ("price", "1e10", RejectReason::PriceOutOfRange),
        ("price", "0.12345678901", RejectReason::PriceOutOfRange),
        ("timestamp", "", RejectReason::InvalidTime),
        ("timestamp", r#""today""#, RejectReason::InvalidTime),
        ("timestamp", "0", RejectReason::TimeOutOfRange),
        ("timestamp", "-5", RejectReason::TimeOutOfRange),
        ("timestamp", "1738702801000", RejectReason::TimeOutOfRange),
        ("volume", "-1", RejectReason::InvalidNumber),
        ("volume", "1e19", RejectReason::InvalidNumber),
        ("volume", "true", RejectReason::InvalidNumber),
        ("open", r#""n/a""#, RejectReason::InvalidNumber),
        ("name", &long, RejectReason::InvalidText),
        ("name", "5", RejectReason::InvalidText),
        ("exchange", "{}", RejectReason::InvalidText),
        ("exchange", r#""a\u0000b""#, RejectReason::InvalidText),
    ] {
        let (symbol, rejected) = with(field, value).unwrap_err();
        assert_eq!(rejected.reason, expected, "{field} = {value}: {rejected}");
        assert_eq!(
            symbol.is_some(),
            field != "symbol",
            "{field} = {value}: {rejected}"
        );
    }
}

#[test]
fn a_wrong_quote_does_not_spoil_its_neighbours() {
    let body = r#"[{"symbol":"AAPL","price":null,"timestamp":1738702801},{"symbol":"MSFT","price":2,"timestamp":1738702801},7]"#;
    let entries = quotes(body.as_bytes(), &asked()).unwrap();
    let symbols: Vec<_> = entries
        .iter()
        .map(|entry| match entry {
            Ok(tick) => tick.symbol.to_string(),
            Err((symbol, _)) => format!("not {symbol:?}"),
        })
        .collect();
    assert_eq!(symbols, [r#"not Some(Symbol("AAPL"))"#, "MSFT", "not None"]);
}

#[test]
fn an_answer_that_is_no_list_says_what_it_is() {
    let error = quotes(br#"{"Error Message": "Limit \"Reach\""}"#, &asked()).unwrap_err();
    assert_eq!(error, NoQuotes::ErrorMessage(r#"Limit "Reach""#.to_owned()));
    for body in [
        "",
        "[",
        "[{]",
        "{}",
        r#"{"Error Message": 5}"#,
        "null",
        "<html>",
        "\u{fffd}",
    ] {
        let error = quotes(body.as_bytes(), &asked()).unwrap_err();
        assert!(matches!(error, NoQuotes::Malformed(_)), "{body}: {error:?}");
    }
}

proptest! {
    #[test]
    fn a_price_keeps_every_digit(mantissa in 1_i64..i64::MAX / 10, scale in 0_u32..=10) {
        let value = Decimal::from_i128_with_scale(i128::from(mantissa), scale);
        prop_assume!(Price::new(value).is_ok());
        let tick = with("price", &value.to_string()).unwrap();
        prop_assert_eq!(tick.price.value(), value.normalize());
        let open = with("open", &value.to_string()).unwrap().open.unwrap();
        prop_assert_eq!(open.to_string(), value.to_string());
    }

    #[test]
    fn a_price_written_with_an_exponent_is_the_same(mantissa in 1_i64..10_000_000, exponent in -6_i32..=2) {
        let written = format!("{mantissa}e{exponent}");
        let expected = if exponent < 0 {
            Decimal::new(mantissa, exponent.unsigned_abs())
        } else {
            Decimal::from(mantissa) * Decimal::from(10_i64.pow(exponent.unsigned_abs()))
        };
        prop_assert_eq!(with("price", &written).unwrap().price.value(), expected.normalize());
    }

    #[test]
    fn a_float_of_javascript_is_read_as_it_is_written(value in 0.0001_f64..1_000_000.0) {
        // The shortest text that reads back as this float, which is what a server written in JavaScript sends.
        let written = value.to_string();
        if let Ok(price) = written.parse::<Price>() {
            prop_assert_eq!(with("price", &written).unwrap().price, price);
            prop_assert_eq!(price.to_string(), written);
        }
    }

    #[test]
    fn no_answer_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(quotes(&body, &asked()));
    }

    #[test]
    fn no_json_makes_the_parser_panic(
        field in "symbol|price|timestamp|volume|name",
        value in r#"null|true|-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?(e-?[0-9]{1,3})?|"[ -~&&[^"\\]]{0,20}"|\[\]|\{\}"#,
    ) {
        drop(with(&field, &value));
    }
}
