//! Calls are counted in a real PostgreSQL: a limit holds to the call, across restarts and across feeds with the same key.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{collections::BTreeMap, time::Duration};

use contract::{
    config::{MarketHours, QuotaConfig, QuotaPolicy},
    names::FeedName,
};
use jiff::{SignedDuration, Timestamp, civil::Date};
use producer::{ledger::Ledger, quota::limit};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use schedule::{
    calendar,
    plan::{Demand, Effective, effective_interval},
};
use schema::roles;
use tempfile::TempDir;
use test_servers::TestDatabase;

const PASSWORD: &str = "secret";

/// A feed with its schema and its own role.
struct Feed {
    name: FeedName,
    secret: TempDir,
}

async fn feed(database: &TestDatabase, name: &str) -> Feed {
    let unique = &database.name[database.name.len() - 12..];
    let name = FeedName::new("markets", format!("{name}{unique}")).unwrap();
    let mut admin = database.connect().await.unwrap();
    roles::ensure(&mut admin, &name).await.unwrap();
    schema::migrate(&mut admin, &name).await.unwrap();
    roles::set_password(&mut admin, &name.writer_role(), &PASSWORD.to_owned().into())
        .await
        .unwrap();
    let secret = database.secret(&name.writer_role(), PASSWORD).unwrap();
    Feed { name, secret }
}

impl Feed {
    fn ledger(&self) -> Ledger {
        Ledger::new(self.name.clone(), Some(self.secret.path().to_owned()))
    }
}

fn quota(calls_per_day: u64, feeds: u64) -> QuotaConfig {
    QuotaConfig {
        calls_per_day: Some(calls_per_day),
        policy: QuotaPolicy::Stretch,
        key: "markets/fmp/apiKey".to_owned(),
        feeds,
        ..QuotaConfig::default()
    }
}

fn start() -> Timestamp {
    "2026-10-29T11:17:00Z".parse().unwrap()
}

/// Ten days in October and November 2026, one of them of 25 hours: two feeds with one key, restarts at random, orders at random.
/// Both policies and both kinds of hours.
#[tokio::test(flavor = "multi_thread")]
async fn no_day_takes_a_call_too_many_whatever_is_restarted() {
    let database = TestDatabase::create().await.unwrap();
    let feeds = [feed(&database, "a").await, feed(&database, "b").await];
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    const LIMIT: u64 = 100;
    let mut made: BTreeMap<Date, u64> = BTreeMap::new();
    let mut by_feed: BTreeMap<(Date, usize), u64> = BTreeMap::new();
    let mut refused = 0;
    let demands = [(3, MarketHours::Always), (2, MarketHours::Extended)].map(|(symbols, hours)| Demand {
        symbols,
        symbols_per_call: 1,
        interval: Duration::from_secs(60),
        hours,
    });
    let mut quotas = [quota(LIMIT, 2), quota(LIMIT, 2)];
    quotas[1].policy = QuotaPolicy::Enforce;
    let mut ledgers = [feeds[0].ledger(), feeds[1].ledger()];
    let mut due = [start(); 2];
    let end = start() + SignedDuration::from_hours(24 * 10);
    let mut now = start();
    while now < end {
        for which in 0..2 {
            if random.random_bool(0.005) {
                // Killed: what it had taken and not made is lost, and it polls at once when it is back.
                ledgers[which] = feeds[which].ledger();
                due[which] = now;
            }
            let (ledger, quota, demand) = (&mut ledgers[which], &quotas[which], &demands[which]);
            let ordered = random.random_bool(0.002);
            let used = ledger.used_today(now);
            let effective = effective_interval(demand, &limit(quota), quota.policy, used, now);
            let interval = match effective {
                Effective::Every { interval, .. } if now >= due[which] => interval,
                _ if ordered => Duration::ZERO,
                _ => continue,
            };
            let needed = demand.calls_per_round();
            let granted = ledger.take(quota, needed + 2, now).await.unwrap();
            if granted < needed {
                refused += 1;
                due[which] = now + SignedDuration::from_mins(5);
                continue;
            }
            // A repetition now and then.
            let calls = (needed + random.random_range(0..=2)).min(granted);
            ledger.made(quota, calls, now).await;
            let day = calendar::day(now);
            *made.entry(day).or_default() += calls;
            *by_feed.entry((day, which)).or_default() += calls;
            if !ordered {
                due[which] = now + SignedDuration::try_from(interval).unwrap();
            }
        }
        now += SignedDuration::from_secs(60);
    }
    let whole: Vec<_> = made.iter().skip(1).take(8).collect();
    for (day, calls) in &made {
        assert!(*calls <= LIMIT, "{day}: {calls} of {LIMIT}, seed {seed}");
    }
    for ((day, which), calls) in &by_feed {
        assert!(*calls <= LIMIT / 2, "{day}, feed {which}: {calls}, seed {seed}");
    }
    assert!(refused > 0, "it was tried, seed {seed}");
    let used: u64 = whole.iter().map(|(_, calls)| **calls).sum();
    assert!(used > LIMIT * 8 / 3, "and not by doing nothing: {made:?}");
    // The feed's own table agrees, to the calls that were taken and lost.
    for (which, feed) in feeds.iter().enumerate() {
        let mut admin = database.connect().await.unwrap();
        let text = format!(
            "SELECT day::text, calls FROM {}.api_calls ORDER BY day",
            feed.name.schema()
        );
        let rows: Vec<(String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(text))
            .fetch_all(&mut admin)
            .await
            .unwrap();
        for (day, calls) in rows {
            let day: Date = day.parse().unwrap();
            let seen = by_feed.get(&(day, which)).copied().unwrap_or(0);
            assert!(
                calls as u64 >= seen && calls as u64 <= LIMIT / 2,
                "{day}: {calls} counted, {seen} made"
            );
        }
    }
}

#[tokio::test]
async fn a_newcomer_to_a_key_gets_no_more_than_what_the_key_has_left() {
    let database = TestDatabase::create().await.unwrap();
    let (first, second) = (feed(&database, "a").await, feed(&database, "b").await);
    let now = start();
    let mut ledger = first.ledger();
    assert_eq!(ledger.take(&quota(10, 1), 8, now).await.unwrap(), 8);
    ledger.made(&quota(10, 1), 8, now).await;
    // There are two now: the share is five, and two are left of the key.
    let mut other = second.ledger();
    assert_eq!(other.take(&quota(10, 2), 5, now).await.unwrap(), 2);
    assert_eq!(ledger.take(&quota(10, 2), 1, now).await.unwrap(), 0);
    assert_eq!(other.left_today(&quota(10, 2)), Some(2), "taken, not made yet");
    let tomorrow = now + SignedDuration::from_hours(24);
    assert_eq!(ledger.take(&quota(10, 2), 9, tomorrow).await.unwrap(), 5);
}

#[tokio::test]
async fn without_a_database_nothing_is_granted_where_there_is_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(
        FeedName::new("markets", "tech").unwrap(),
        Some(folder.path().to_owned()),
    );
    let error = ledger.take(&quota(10, 1), 1, start()).await.unwrap_err();
    assert!(error.to_string().contains("credentials"), "{error}");
    let unlimited = QuotaConfig::default();
    assert_eq!(ledger.take(&unlimited, 7, start()).await.unwrap(), 7);
    ledger.made(&unlimited, 7, start()).await;
    assert_eq!(ledger.used_today(start()), 7, "told of later");
}

#[test]
fn a_minute_has_no_more_calls_than_it_may() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let quota = QuotaConfig {
        calls_per_minute: Some(10),
        ..QuotaConfig::default()
    };
    let mut ledger = Ledger::new(FeedName::new("markets", "tech").unwrap(), None);
    let at = |second: i64| start() + SignedDuration::from_secs(second);
    for (second, calls) in [(0, 4), (20, 4)] {
        assert_eq!(ledger.minute_wait(&quota, calls, at(second)), Duration::ZERO);
        runtime.block_on(ledger.made(&quota, calls, at(second)));
    }
    assert_eq!(ledger.minute_wait(&quota, 2, at(30)), Duration::ZERO);
    assert_eq!(
        ledger.minute_wait(&quota, 3, at(30)),
        Duration::from_secs(30),
        "when the first four are a minute old"
    );
    assert_eq!(
        ledger.minute_wait(&quota, 7, at(30)),
        Duration::from_secs(50),
        "and the second four"
    );
    assert_eq!(
        ledger.minute_wait(&quota, 50, at(81)),
        Duration::ZERO,
        "a round that is larger is made alone"
    );
}
