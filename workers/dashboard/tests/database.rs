//! Candles and quarantine from a real PostgreSQL, as the reader role whose Secret an API server gives.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use contract::names::FeedName;
use dashboard::{
    database::{CandleQuery, Databases},
    error::Code,
    feeds::Key,
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Client, client::Body};
use pretty_assertions::assert_eq;
use sqlx::{AssertSqlSafe, PgConnection};
use test_servers::TestDatabase;
use tower::service_fn;

const CANDLES: &str = r"INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key, last_key,
        volume_total, tick_count, price_sum, price_square_sum, revision, is_final)
    SELECT 'AAPL', '1m', start, start + interval '1 minute', DATE '2026-11-27', 228.01, 228.4, 227.9, 228.12, '\x01', '\x02',
           1000 + 10 * number, 3, 684.43, 156148.1, CASE number WHEN 1 THEN 2 ELSE 0 END, number < 4
    FROM generate_series(0, 4) AS number, LATERAL (SELECT TIMESTAMPTZ '2026-11-27T14:30:00Z' + number * interval '1 minute' AS start) AS at";

const QUARANTINED: &str = "INSERT INTO quarantine (generation, partition, reason, detail, raw)
    VALUES (1, 0, 'invalid_price', 'price is not above 0', '{}'), (1, 1, 'malformed', '', convert_to(repeat('x', 5000), 'UTF8'))";

/// A feed with candles and quarantined messages, and an API server that has its reader's Secret.
struct Bench {
    key: Key,
    feed: FeedName,
    admin: PgConnection,
    password: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    databases: Databases,
    _server: TestDatabase,
}

impl Bench {
    async fn new() -> Result<Self> {
        let server = TestDatabase::create().await?;
        let unique: String = server.name.chars().rev().take(12).collect();
        let feed = FeedName::new("markets", format!("d{unique}"))?;
        let mut admin = server.connect().await?;
        schema::roles::ensure(&mut admin, &feed).await?;
        schema::migrate(&mut admin, &feed).await?;
        let password = Arc::new(Mutex::new("first".to_owned()));
        schema::roles::set_password(&mut admin, &feed.reader_role(), &"first".to_owned().into()).await?;
        run(&mut admin, &format!("SET search_path TO {}", feed.schema())).await?;
        run(&mut admin, CANDLES).await?;
        run(&mut admin, QUARANTINED).await?;
        let asked = Arc::new(AtomicUsize::new(0));
        let options = server.options.clone();
        let secret = {
            let (password, feed, name) = (Arc::clone(&password), feed.clone(), server.name.clone());
            move || {
                let password = password.lock().expect("not poisoned").clone();
                [
                    ("host", options.get_host().to_owned()),
                    ("port", options.get_port().to_string()),
                    ("dbname", name.clone()),
                    ("username", feed.reader_role()),
                    ("password", password),
                ]
                .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
                .into()
            }
        };
        let counted = Arc::clone(&asked);
        let wanted = format!(
            "/api/v1/namespaces/markets/secrets/{}-database-reader",
            feed.name()
        );
        let service = service_fn(move |request: axum::http::Request<Body>| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert_eq!(request.uri().path(), wanted, "no other Secret is read");
            let answer = Secret {
                data: Some(secret()),
                ..Secret::default()
            };
            async move {
                let body = serde_json::to_vec(&answer).unwrap_or_default();
                Ok::<_, std::convert::Infallible>(axum::http::Response::new(Body::from(body)))
            }
        });
        Ok(Self {
            key: Key {
                namespace: "markets".to_owned(),
                name: feed.name().to_owned(),
            },
            databases: Databases::new(Client::new(service, "default")),
            feed,
            admin,
            password,
            asked,
            _server: server,
        })
    }

    fn query(limit: u16) -> Result<CandleQuery> {
        Ok(CandleQuery {
            symbol: "AAPL".to_owned(),
            window: "1m".to_owned(),
            from: Some("2026-11-27T14:31:00Z".parse()?),
            to: "2026-11-27T14:34:00Z".parse()?,
            limit,
        })
    }
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}

#[tokio::test]
async fn candles_are_the_last_ones_of_the_span_oldest_first() -> Result<()> {
    let bench = Bench::new().await?;
    let (all, truncated) = bench
        .databases
        .candles(&bench.key, &Bench::query(10)?)
        .await
        .expect("readable");
    let starts: Vec<_> = all.iter().map(|candle| candle.start.to_string()).collect();
    let expected = [
        "2026-11-27T14:31:00Z",
        "2026-11-27T14:32:00Z",
        "2026-11-27T14:33:00Z",
    ];
    assert_eq!(
        (starts.as_slice(), truncated),
        (expected.map(str::to_owned).as_slice(), false)
    );
    let first = &all[0];
    assert_eq!(
        (first.open.as_str(), first.close.as_str(), first.volume),
        ("228.01", "228.12", Some(10))
    );
    assert_eq!(
        (first.average_price.as_str(), first.revision, first.is_final),
        ("228.14333333", 2, true)
    );
    let (last, truncated) = bench
        .databases
        .candles(&bench.key, &Bench::query(2)?)
        .await
        .expect("readable");
    assert_eq!((last.as_slice(), truncated), (&all[1..], true));
    assert_eq!(
        bench.asked.load(Ordering::Relaxed),
        1,
        "the Secret is read once for a connection"
    );
    Ok(())
}

#[tokio::test]
async fn the_quarantine_is_shown_cut_and_counted() -> Result<()> {
    let bench = Bench::new().await?;
    let all = bench
        .databases
        .quarantine(&bench.key, None, 10)
        .await
        .expect("readable");
    assert_eq!(
        (all.entries.len(), all.reasons.len(), all.truncated),
        (2, 2, false)
    );
    let long = all
        .entries
        .iter()
        .find(|entry| entry.reason == "malformed")
        .expect("there");
    assert_eq!((long.raw.len(), long.raw_truncated), (4096, true));
    let one = bench
        .databases
        .quarantine(&bench.key, Some("invalid_price"), 1)
        .await
        .expect("readable");
    assert_eq!(
        (one.entries.len(), one.truncated, one.entries[0].raw.as_str()),
        (1, false, "{}")
    );
    Ok(())
}

#[tokio::test]
async fn a_password_that_was_renewed_is_read_anew() -> Result<()> {
    let mut bench = Bench::new().await?;
    bench
        .databases
        .candles(&bench.key, &Bench::query(10)?)
        .await
        .expect("readable");
    let role = bench.feed.reader_role();
    schema::roles::set_password(&mut bench.admin, &role, &"second".to_owned().into()).await?;
    // Connections that are there go on; a server that restarts takes them away.
    let ended = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    run(&mut bench.admin, &ended).await?;
    let refused = bench.databases.candles(&bench.key, &Bench::query(10)?).await;
    assert_eq!(refused.expect_err("the Secret is old").code, Code::Unavailable);
    "second".clone_into(&mut bench.password.lock().expect("not poisoned"));
    bench
        .databases
        .candles(&bench.key, &Bench::query(10)?)
        .await
        .expect("readable again");
    Ok(())
}
