use contract::config::TimeFormat;
use prometheus_client::registry::Registry;

use super::*;

fn config(url: &str) -> HttpConfig {
    HttpConfig {
        url: url.to_owned(),
        key_header: None,
        api_key_file: None,
        quotes: String::new(),
        symbol: Some("/symbol".into()),
        price: "/price".into(),
        time: "/time".into(),
        time_format: TimeFormat::default(),
        volume: None,
        delay: Duration::ZERO,
        timeout: Duration::from_secs(1),
    }
}

fn source(config: HttpConfig) -> anyhow::Result<HttpSource> {
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    HttpSource::new(config, metrics, CancellationToken::new())
}

#[test]
fn the_url_decides_how_many_requests_a_fetch_takes() {
    let singles = source(config("http://example.com/{symbol}")).unwrap();
    let batches = source(config("http://example.com/?of={symbols}")).unwrap();
    for (symbols, single, batch) in [(0, 0, 0), (1, 1, 1), (100, 100, 1), (101, 101, 2), (500, 500, 5)] {
        assert_eq!(
            (singles.calls(symbols), batches.calls(symbols)),
            (single, batch),
            "{symbols}"
        );
    }
    assert_eq!(
        (singles.asks_in_batches(), batches.asks_in_batches()),
        (false, true)
    );
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_its_field() {
    let good = config("http://example.com/{symbols}");
    for (wrong, field) in [
        (config("http://example.com/"), "source.http.url"),
        (
            HttpConfig {
                symbol: None,
                ..good.clone()
            },
            "source.http.symbol",
        ),
        (
            HttpConfig {
                key_header: Some("X-Key".into()),
                ..good.clone()
            },
            "source.http.apiKeyFile",
        ),
        (
            HttpConfig {
                key_header: Some("X Key".into()),
                api_key_file: Some("apiKey".into()),
                ..good.clone()
            },
            "source.http.keyHeader",
        ),
        (
            HttpConfig {
                price: "price".into(),
                ..good.clone()
            },
            "source.http.price",
        ),
        (
            HttpConfig {
                time: "~".into(),
                ..good.clone()
            },
            "source.http.time",
        ),
        (
            HttpConfig {
                volume: Some("volume".into()),
                ..good.clone()
            },
            "source.http.volume",
        ),
        (
            HttpConfig {
                quotes: "/~".into(),
                ..good.clone()
            },
            "source.http.quotes",
        ),
    ] {
        let error = source(wrong).unwrap_err().to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    assert!(source(good).is_ok());
}
