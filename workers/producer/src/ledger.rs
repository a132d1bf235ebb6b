//! Counts calls to the source before they are made, so that a limit holds to the call: across restarts, and across the feeds
//! that use the same API key.
//!
//! With a limit a day each round's calls are taken in the database first, and a round whose calls cannot be counted is not made.
//! What was taken and not used stays good for the same day. Without such a limit calls are only told of, afterwards.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use contract::{config::QuotaConfig, names::FeedName};
use jiff::{Timestamp, civil::Date};
use service::{
    credentials::{self, DatabaseCredentials},
    postgres,
};
use snafu::{ResultExt as _, Snafu};
use sqlx::{Connection as _, PgConnection};
use tracing::debug;

/// How long the database may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What the source means by a minute.
const MINUTE: Duration = Duration::from_secs(60);

/// Why calls cannot be counted.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The credentials cannot be read.
    #[snafu(display("failed to read the database's credentials"))]
    Credentials {
        /// Which file and why.
        source: credentials::Error,
    },
    /// The database cannot be asked.
    #[snafu(display("failed to count calls in the database"))]
    Database {
        /// Why.
        source: sqlx::Error,
    },
    /// No answer.
    #[snafu(display("the database did not answer within {} s", TIMEOUT.as_secs()))]
    Timeout,
}

/// The calls of one feed.
#[derive(Debug)]
pub struct Ledger {
    feed: FeedName,
    directory: Option<PathBuf>,
    connection: Option<PgConnection>,
    day: Option<Date>,
    /// Calls of the day that this feed has taken.
    used: u64,
    /// Calls of the day that all feeds of the key have taken.
    used_by_key: u64,
    /// Taken, and not made yet.
    credit: u64,
    /// Made, and not told of yet.
    untold: u64,
    /// When calls of the last minute were made, and how many.
    minute: VecDeque<(Timestamp, u64)>,
}

impl Ledger {
    /// A ledger in the feed's database, or in memory.
    #[must_use]
    pub const fn new(feed: FeedName, directory: Option<PathBuf>) -> Self {
        Self {
            feed,
            directory,
            connection: None,
            day: None,
            used: 0,
            used_by_key: 0,
            credit: 0,
            untold: 0,
            minute: VecDeque::new(),
        }
    }

    /// Reads what was used today.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn look(&mut self, quota: &QuotaConfig, now: Timestamp) -> Result<u64, Error> {
        self.turn(now);
        self.ask(quota, 0).await?;
        Ok(self.used)
    }

    /// Calls that this feed has made on the day of `now`, as far as is known.
    pub fn used_today(&mut self, now: Timestamp) -> u64 {
        self.turn(now);
        self.used + self.untold - self.credit
    }

    /// Calls of the day that are left to this feed; `None`: no limit.
    #[must_use]
    pub fn left_today(&self, quota: &QuotaConfig) -> Option<u64> {
        let (key, share) = (quota.calls_per_day?, share(quota)?);
        let left = key
            .saturating_sub(self.used_by_key)
            .min(share.saturating_sub(self.used));
        Some(left + self.credit)
    }

    /// Asks for `wanted` calls; gives fewer, or none, when the day does not have them. Say afterwards how many were made
    /// ([`Ledger::made`]).
    ///
    /// # Errors
    /// When there is a limit and the database cannot be asked: then no call may be made.
    pub async fn take(&mut self, quota: &QuotaConfig, wanted: u64, now: Timestamp) -> Result<u64, Error> {
        self.turn(now);
        if quota.calls_per_day.is_none() {
            return Ok(wanted);
        }
        if self.credit < wanted {
            let granted = self.ask(quota, wanted - self.credit).await?;
            self.credit += granted;
        }
        Ok(wanted.min(self.credit))
    }

    /// Says how many calls were made.
    pub async fn made(&mut self, quota: &QuotaConfig, calls: u64, now: Timestamp) {
        self.minute.push_back((now, calls));
        if quota.calls_per_day.is_some() {
            self.credit = self.credit.saturating_sub(calls);
            return;
        }
        self.untold += calls;
        let untold = self.untold;
        // Nothing depends on it. What cannot be told now is told later.
        match self.ask(quota, untold).await {
            Ok(_) => self.untold = 0,
            Err(error) => debug!(%error, "Calls are not counted yet"),
        }
    }

    /// How long to wait until `wanted` calls may be made within the minute; zero: now.
    pub fn minute_wait(&mut self, quota: &QuotaConfig, wanted: u64, now: Timestamp) -> Duration {
        while self
            .minute
            .front()
            .is_some_and(|(at, _)| since(*at, now) >= MINUTE)
        {
            self.minute.pop_front();
        }
        let Some(limit) = quota.calls_per_minute.map(|limit| (limit / quota.feeds).max(1)) else {
            return Duration::ZERO;
        };
        let mut made: u64 = self.minute.iter().map(|(_, calls)| calls).sum();
        // A round that is larger than the limit is made when nothing else was.
        let wanted = wanted.min(limit);
        for (at, calls) in &self.minute {
            if made + wanted <= limit {
                break;
            }
            made -= calls;
            if made + wanted <= limit {
                return MINUTE.saturating_sub(since(*at, now));
            }
        }
        Duration::ZERO
    }

    /// Closes the connection.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Nothing is under way on it.
            connection.close().await.ok();
        }
    }

    /// Begins the day, when it is another one.
    fn turn(&mut self, now: Timestamp) {
        let day = schedule::calendar::day(now);
        if self.day != Some(day) {
            self.day = Some(day);
            self.used = 0;
            self.used_by_key = 0;
            self.credit = 0;
            self.untold = 0;
        }
    }

    /// Takes calls; returns how many there were.
    async fn ask(&mut self, quota: &QuotaConfig, wanted: u64) -> Result<u64, Error> {
        let Some(day) = self.day else {
            return Ok(0);
        };
        let Some(directory) = &self.directory else {
            return Ok(self.ask_memory(quota, wanted));
        };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(directory, &self.feed).await?,
        };
        let taking = take(&mut connection, quota, day, wanted);
        let (granted, used, used_by_key) = match tokio::time::timeout(TIMEOUT, taking).await {
            Ok(taken) => taken.context(DatabaseSnafu)?,
            Err(_) => return TimeoutSnafu.fail(),
        };
        self.connection = Some(connection);
        self.used = used;
        self.used_by_key = used_by_key;
        Ok(granted)
    }

    fn ask_memory(&mut self, quota: &QuotaConfig, wanted: u64) -> u64 {
        let limit = share(quota).unwrap_or(u64::MAX);
        let granted = wanted.min(limit.saturating_sub(self.used));
        self.used += granted;
        self.used_by_key = self.used;
        granted
    }
}

/// This feed's part of the day's calls; `None`: no limit.
fn share(quota: &QuotaConfig) -> Option<u64> {
    quota.calls_per_day.map(|calls| (calls / quota.feeds).max(1))
}

async fn connect(directory: &std::path::Path, feed: &FeedName) -> Result<PgConnection, Error> {
    let credentials = DatabaseCredentials::read(directory).context(CredentialsSnafu)?;
    let options =
        postgres::options(&credentials, "stockfeed producer").options([("search_path", feed.schema())]);
    match tokio::time::timeout(TIMEOUT, postgres::connect(options)).await {
        Ok(connection) => connection.context(DatabaseSnafu),
        Err(_) => TimeoutSnafu.fail(),
    }
}

/// Takes calls of the key, and notes them in the feed's own table, in one statement.
async fn take(
    connection: &mut PgConnection,
    quota: &QuotaConfig,
    day: Date,
    wanted: u64,
) -> Result<(u64, u64, u64), sqlx::Error> {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let (granted, used, used_by_key): (i64, i64, i64) = sqlx::query_as(
        "WITH taken AS (SELECT * FROM stockfeed.take_calls($1, $2::text::date, $3, $4, $5)),
              noted AS (INSERT INTO api_calls AS noted SELECT $2::text::date, granted FROM taken WHERE granted > 0
                        ON CONFLICT (day) DO UPDATE SET calls = noted.calls + excluded.calls)
         SELECT granted, used_by_feed, used_by_key FROM taken",
    )
    .bind(&quota.key)
    .bind(day.to_string())
    .bind(number(wanted))
    .bind(quota.calls_per_day.map(number))
    .bind(share(quota).map(number))
    .fetch_one(connection)
    .await?;
    Ok((
        granted.cast_unsigned(),
        used.cast_unsigned(),
        used_by_key.cast_unsigned(),
    ))
}

fn since(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}
