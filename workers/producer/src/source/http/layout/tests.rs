use std::time::Duration;

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;

/// The layout `{"data":{"quotes":[{"id":…,"last":{"price":…,"at":…},"volume":…}]}}`.
fn config() -> HttpConfig {
    HttpConfig {
        url: "http://example.com/{symbols}".into(),
        key_header: None,
        api_key_file: None,
        quotes: "/data/quotes".into(),
        symbol: Some("/id".into()),
        price: "/last/price".into(),
        time: "/last/at".into(),
        time_format: TimeFormat::UnixMilliseconds,
        volume: Some("/volume".into()),
        delay: Duration::ZERO,
        timeout: Duration::from_secs(1),
    }
}

fn asked() -> Vec<Symbol> {
    ["AAPL", "MSFT"].map(|text| text.parse().unwrap()).to_vec()
}

fn read(body: &str) -> Result<Vec<Entry>, String> {
    Layout::new(&config()).unwrap().quotes(body.as_bytes(), &asked())
}

fn one(quote: &str) -> Entry {
    let mut entries = read(&format!(r#"{{"data":{{"quotes":[{quote}]}}}}"#)).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn quote(id: &str, price: &str, at: &str, volume: &str) -> String {
    format!(r#"{{"id":{id},"volume":{volume},"last":{{"price":{price},"at":{at}}}}}"#)
}

#[test]
fn a_quote_is_read_from_where_its_values_are() {
    for price in ["232.80", r#""232.8""#, "2.328e2"] {
        let tick = one(&quote(r#""AAPL""#, price, "1738702801250", "100.9")).unwrap();
        let expected =
            r#"{"symbol":"AAPL","price":"232.8","event_time":"2025-02-04T21:00:01.25Z","volume":100}"#;
        assert_eq!(serde_json::to_string(&tick).unwrap(), expected, "{price}");
    }
    let without = one(&quote(r#""AAPL""#, "1", "1", "null")).unwrap();
    assert_eq!(without.volume, None);
}

#[test]
fn the_place_may_hold_an_object_a_list_or_null() {
    let quote = quote(r#""MSFT""#, "2", "1738702801000", "5");
    let count = |quotes: &str| {
        let entries = read(&format!(r#"{{"data":{{"quotes":{quotes}}}}}"#));
        entries.map(|entries| entries.iter().filter(|entry| entry.is_ok()).count())
    };
    assert_eq!(count(&quote), Ok(1));
    assert_eq!(count(&format!("[{quote}, null, {quote}]")), Ok(2));
    assert_eq!(count("[]"), Ok(0));
    assert_eq!(count("null"), Ok(0));
    for wrong in ["5", r#""text""#, "true"] {
        let error = count(wrong).unwrap_err();
        assert!(error.contains("neither an object nor a list"), "{error}");
    }
}

#[test]
fn the_answer_itself_may_be_the_quote_of_the_symbol_that_was_asked_for() {
    let config = HttpConfig {
        url: "http://example.com/{symbol}".into(),
        quotes: String::new(),
        symbol: None,
        price: "/0".into(),
        time: "/1".into(),
        volume: None,
        ..config()
    };
    let layout = Layout::new(&config).unwrap();
    let entries = layout
        .quotes(br#"[["1.50",1738702801000]]"#, &asked()[..1])
        .unwrap();
    let tick = entries[0].as_ref().unwrap();
    assert_eq!(
        (tick.symbol.as_str(), tick.price.to_string().as_str()),
        ("AAPL", "1.5")
    );
    let entries = layout.quotes(br#"[["1.50",1738702801000]]"#, &asked()).unwrap();
    let (symbol, rejected) = entries[0].as_ref().unwrap_err();
    assert_eq!((symbol, rejected.reason), (&None, RejectReason::InvalidSymbol));
}

#[test]
fn every_fault_of_a_quote_has_its_reason() {
    let aapl = r#""AAPL""#;
    let good = (aapl, "1.5", "1738702801000", "5");
    for (id, price, at, volume, expected, field) in [
        ("null", good.1, good.2, good.3, RejectReason::InvalidSymbol, "/id"),
        ("5", good.1, good.2, good.3, RejectReason::InvalidSymbol, "/id"),
        (
            r#""a b""#,
            good.1,
            good.2,
            good.3,
            RejectReason::InvalidSymbol,
            "a b",
        ),
        (
            r#""IBM""#,
            good.1,
            good.2,
            good.3,
            RejectReason::UnknownSymbol,
            "IBM",
        ),
        (
            aapl,
            "null",
            good.2,
            good.3,
            RejectReason::InvalidPrice,
            "/last/price",
        ),
        (
            aapl,
            "{}",
            good.2,
            good.3,
            RejectReason::InvalidPrice,
            "/last/price",
        ),
        (
            aapl,
            "0.0",
            good.2,
            good.3,
            RejectReason::PriceNotPositive,
            "/last/price",
        ),
        (
            aapl,
            "1e10",
            good.2,
            good.3,
            RejectReason::PriceOutOfRange,
            "/last/price",
        ),
        (
            aapl,
            good.1,
            "null",
            good.3,
            RejectReason::InvalidTime,
            "/last/at",
        ),
        (
            aapl,
            good.1,
            r#""now""#,
            good.3,
            RejectReason::InvalidTime,
            "/last/at",
        ),
        (
            aapl,
            good.1,
            "0",
            good.3,
            RejectReason::TimeOutOfRange,
            "/last/at",
        ),
        (aapl, good.1, good.2, "-1", RejectReason::InvalidNumber, "/volume"),
        (aapl, good.1, good.2, "[]", RejectReason::InvalidNumber, "/volume"),
    ] {
        let (symbol, rejected) = one(&quote(id, price, at, volume)).unwrap_err();
        assert_eq!(rejected.reason, expected, "{rejected}");
        assert!(rejected.detail.contains(field), "{rejected}");
        assert_eq!(symbol.is_some(), id == aapl, "{rejected}");
    }
    let (_, rejected) = one("7").unwrap_err();
    assert_eq!(rejected.reason, RejectReason::InvalidSymbol);
}

#[test]
fn a_wrong_quote_does_not_spoil_its_neighbours() {
    let good = quote(r#""MSFT""#, "2", "1738702801000", "5");
    let wrong = quote(r#""AAPL""#, "-2", "1738702801000", "5");
    let entries = read(&format!(r#"{{"data":{{"quotes":[{wrong},{good},[]]}}}}"#)).unwrap();
    let ticks: Vec<bool> = entries.iter().map(Result::is_ok).collect();
    assert_eq!(ticks, [false, true, false]);
}

#[test]
fn an_answer_of_another_form_says_what_is_missing() {
    for (body, says) in [
        ("", "EOF"),
        (r#"{"data":{"quotes":["#, "EOF"),
        ("<html>", "expected value"),
        (r#"{"Note":"too many calls"}"#, "too many calls"),
        ("[]", "/data/quotes"),
        (r#"{"data":5}"#, "nothing at"),
    ] {
        let error = read(body).unwrap_err();
        assert!(error.contains(says), "{body}: {error}");
    }
    assert!(read("\u{fffd}").is_err());
    let invalid = Layout::new(&config())
        .unwrap()
        .quotes(b"{\"data\":\"\xff\"}", &asked());
    assert!(invalid.is_err(), "no UTF-8");
}

proptest! {
    #[test]
    fn a_price_keeps_every_digit(mantissa in 1_i64..i64::MAX / 10, scale in 0_u32..=10, text: bool) {
        let value = Decimal::from_i128_with_scale(i128::from(mantissa), scale);
        prop_assume!(contract::price::Price::new(value).is_ok());
        let written = if text { format!(r#""{value}""#) } else { value.to_string() };
        let tick = one(&quote(r#""AAPL""#, &written, "1", "null")).unwrap();
        prop_assert_eq!(tick.price.value(), value.normalize());
    }

    #[test]
    fn no_answer_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Layout::new(&config()).unwrap().quotes(&body, &asked()));
    }

    #[test]
    fn no_json_makes_the_reader_panic(
        place in 0..4_usize,
        value in r#"null|true|-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?(e-?[0-9]{1,3})?|"[ -~&&[^"\\]]{0,20}"|\[\]|\{\}"#,
    ) {
        let mut values = [r#""AAPL""#, "1.5", "1738702801000", "5"];
        values[place] = &value;
        drop(one(&quote(values[0], values[1], values[2], values[3])));
    }
}
