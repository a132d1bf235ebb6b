//! Candles and quarantine, read as the feed's reader role.
//!
//! The role's Secret is read by its name when somebody asks, and no other Secret ever. What is kept is a pool of at most two
//! connections each of at most [`MAX_POOLS`] feeds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use certificates::postgres::Mode;
use contract::names::FeedName;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use operator::{connection::DatabaseConnection, labels};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use sqlx::{
    AssertSqlSafe, FromRow, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    error::{ApiError, Code},
    feeds::Key,
    observe::ask::plain,
};

/// How long a question may take in all.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long a statement may take.
const STATEMENT_MILLISECONDS: &str = "4000";
/// Questions at once.
const TURNS: usize = 16;
/// Feeds whose connections are kept.
const MAX_POOLS: usize = 16;
/// A connection that nobody uses is closed.
const IDLE: Duration = Duration::from_secs(60);
/// So much of a quarantined message is shown.
const SHOWN_RAW: usize = 4096;
/// So many entries of the quarantine are counted.
const COUNTED: i64 = 100_000;

/// Reads feeds' databases. Cheap to clone.
#[derive(Clone)]
pub struct Databases(Arc<Inner>);

struct Inner {
    client: Client,
    pools: Mutex<HashMap<Key, (PgPool, Instant)>>,
    turns: Semaphore,
}

/// A candle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candle {
    pub start: Timestamp,
    pub end: Timestamp,
    pub open: String,
    pub high: String,
    pub low: String,
    pub close: String,
    pub volume: Option<i64>,
    pub ticks: i64,
    pub average_price: String,
    pub revision: i64,
    #[serde(rename = "final")]
    pub is_final: bool,
    pub updated_at: Timestamp,
}

/// Times are read in microseconds since 1970.
#[derive(FromRow)]
struct CandleRow {
    window_start: i64,
    window_end: i64,
    open: String,
    high: String,
    low: String,
    close: String,
    volume: Option<i64>,
    tick_count: i64,
    average_price: String,
    revision: i64,
    is_final: bool,
    updated_at: i64,
}

/// Which candles.
#[derive(Clone, Debug)]
pub struct CandleQuery {
    pub symbol: String,
    pub window: String,
    pub from: Option<Timestamp>,
    pub to: Timestamp,
    pub limit: u16,
}

/// An entry of the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub id: i64,
    pub received_at: Timestamp,
    pub reason: String,
    pub detail: String,
    pub publisher: Option<String>,
    pub sequence: Option<i64>,
    pub raw: String,
    pub raw_truncated: bool,
    pub released_at: Option<Timestamp>,
    pub queue: Option<String>,
}

#[derive(FromRow)]
struct EntryRow {
    id: i64,
    received_at: i64,
    reason: String,
    detail: Option<String>,
    publisher: Option<String>,
    sequence: Option<i64>,
    raw: String,
    raw_length: i32,
    released_at: Option<i64>,
    queue: Option<String>,
}

/// How many entries have a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct ReasonCount {
    pub reason: String,
    pub entries: i64,
}

/// The answer of the quarantine.
#[derive(Clone, Debug, Serialize)]
pub struct Quarantine {
    pub reasons: Vec<ReasonCount>,
    pub truncated: bool,
    pub entries: Vec<Entry>,
}

impl Databases {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Inner {
            client,
            pools: Mutex::default(),
            turns: Semaphore::new(TURNS),
        }))
    }

    /// Candles, oldest first, and whether there were more.
    ///
    /// # Errors
    /// When the database cannot be read in time.
    pub async fn candles(&self, key: &Key, query: &CandleQuery) -> Result<(Vec<Candle>, bool), ApiError> {
        let ask = |pool, schema| candles(pool, schema, query.clone());
        self.ask(key, ask).await
    }

    /// The newest entries of the quarantine, of one reason or of all.
    ///
    /// # Errors
    /// When the database cannot be read in time.
    pub async fn quarantine(
        &self,
        key: &Key,
        reason: Option<&str>,
        limit: i32,
    ) -> Result<Quarantine, ApiError> {
        let ask = |pool, schema| quarantine(pool, schema, reason.map(str::to_owned), limit);
        self.ask(key, ask).await
    }

    async fn ask<T, F>(&self, key: &Key, question: impl Fn(PgPool, String) -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let name = FeedName::new(&key.namespace, &key.name)
            .map_err(|_| ApiError::new(Code::Unavailable, "the feed has no usable name"))?;
        let asked = async {
            let _turn = self.0.turns.acquire().await;
            let pool = self.pool(key).await?;
            match question(pool, name.schema()).await {
                // The password was renewed: its Secret says the new one.
                Err(error) if is_refused(&error) => {
                    self.forget(key);
                    let pool = self.pool(key).await?;
                    let again = question(pool, name.schema()).await;
                    again.map_err(|error| self.failed(key, &error))
                }
                answer => answer.map_err(|error| self.failed(key, &error)),
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
            Err(ApiError::new(
                Code::Timeout,
                format!(
                    "the database of {key} did not answer within {} s",
                    PATIENCE.as_secs()
                ),
            ))
        })
    }

    fn failed(&self, key: &Key, error: &sqlx::Error) -> ApiError {
        if !matches!(error, sqlx::Error::Database(_)) {
            // The server may be another one by now.
            self.forget(key);
        }
        let code = match error {
            sqlx::Error::Database(refused) if refused.code().as_deref() == Some("57014") => Code::Timeout,
            _ => Code::Unavailable,
        };
        ApiError::new(code, format!("the database of {key} cannot be read: {error}")).remedy(format!(
            "kubectl stockfeed explain {} -n {} says what is wrong with it",
            key.name, key.namespace
        ))
    }

    async fn pool(&self, key: &Key) -> Result<PgPool, ApiError> {
        if let Some((pool, used)) = self.lock().get_mut(key) {
            *used = Instant::now();
            return Ok(pool.clone());
        }
        let connection = self.connection(key).await?;
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .min_connections(0)
            .idle_timeout(IDLE)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options(&connection));
        let mut pools = self.lock();
        if pools.len() >= MAX_POOLS
            && let Some(oldest) = pools
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| key.clone())
        {
            // Its connections are closed when the last question that uses them is answered.
            pools.remove(&oldest);
        }
        pools.insert(key.clone(), (pool.clone(), Instant::now()));
        Ok(pool)
    }

    async fn connection(&self, key: &Key) -> Result<DatabaseConnection, ApiError> {
        let name = labels::reader_secret(&key.name);
        let api: Api<Secret> = Api::namespaced(self.0.client.clone(), &key.namespace);
        let unavailable = |message: String| ApiError::new(Code::Unavailable, message);
        let found = api.get_opt(&name).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 403 => unavailable(format!(
                "the dashboard may not read Secret {}/{name}",
                key.namespace
            ))
            .remedy("dashboard.readerSecrets in the chart's values lets it"),
            error => unavailable(plain(error)),
        })?;
        let data = found
            .and_then(|secret| secret.data)
            .ok_or_else(|| unavailable(format!("Secret {}/{name} is not there yet", key.namespace)))?;
        let place = format!("{}/{name}", key.namespace);
        DatabaseConnection::read(&place, &data).map_err(|problem| unavailable(problem.to_string()))
    }

    fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (PgPool, Instant)>> {
        // A panic elsewhere leaves plain data behind.
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether another password or certificate may help.
fn is_refused(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code.starts_with("28")) || certificates::meaning(error).is_some()
}

fn options(connection: &DatabaseConnection) -> PgConnectOptions {
    // The operator writes none that cannot be used.
    let mode = connection.mode().unwrap_or(Mode::VerifyFull);
    let options = PgConnectOptions::new_without_pgpass()
        .application_name("stockfeed dashboard")
        .host(&connection.host)
        .port(connection.port)
        .database(&connection.dbname)
        .username(&connection.username)
        .password(connection.password.expose_secret())
        .options([
            ("statement_timeout", STATEMENT_MILLISECONDS),
            ("default_transaction_read_only", "on"),
        ]);
    let (authority, client) = (connection.authority.as_deref(), connection.client.as_ref());
    certificates::postgres::secure(options, mode, authority, client)
}

async fn candles(
    pool: PgPool,
    schema: String,
    query: CandleQuery,
) -> Result<(Vec<Candle>, bool), sqlx::Error> {
    // The name of a schema has nothing in it that had to be quoted.
    let statement = format!(
        "SELECT (extract(epoch FROM window_start) * 1000000)::bigint AS window_start,
                (extract(epoch FROM window_end) * 1000000)::bigint AS window_end,
                trim_scale(open)::text AS open, trim_scale(high)::text AS high, trim_scale(low)::text AS low,
                trim_scale(close)::text AS close, volume, tick_count,
                trim_scale(round(average_price, 8))::text AS average_price, revision, is_final,
                (extract(epoch FROM updated_at) * 1000000)::bigint AS updated_at
         FROM {schema}.candles
         WHERE symbol = $1 AND width = $2
           AND window_start >= to_timestamp($3::bigint / 1000000.0) AND window_start < to_timestamp($4::bigint / 1000000.0)
         ORDER BY window_start DESC LIMIT $5"
    );
    let from = query.from.map_or(0, Timestamp::as_microsecond);
    let rows: Vec<CandleRow> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(&query.symbol)
        .bind(&query.window)
        .bind(from)
        .bind(query.to.as_microsecond())
        .bind(i64::from(query.limit) + 1)
        .fetch_all(&pool)
        .await?;
    let truncated = rows.len() > usize::from(query.limit);
    let mut candles: Vec<Candle> = rows
        .into_iter()
        .take(usize::from(query.limit))
        .filter_map(Candle::of)
        .collect();
    candles.reverse();
    Ok((candles, truncated))
}

async fn quarantine(
    pool: PgPool,
    schema: String,
    reason: Option<String>,
    limit: i32,
) -> Result<Quarantine, sqlx::Error> {
    let statement = format!(
        "SELECT id, (extract(epoch FROM received_at) * 1000000)::bigint AS received_at, reason, detail, publisher::text, sequence,
                left(raw, {SHOWN_RAW}) AS raw, length(raw) AS raw_length,
                (extract(epoch FROM released_at) * 1000000)::bigint AS released_at, queue
         FROM {schema}.list_quarantine($1, $2)"
    );
    let mut rows: Vec<EntryRow> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(reason)
        .bind(limit.saturating_add(1))
        .fetch_all(&pool)
        .await?;
    let shown = usize::try_from(limit).unwrap_or_default();
    let truncated = rows.len() > shown;
    rows.truncate(shown);
    let statement = format!(
        "SELECT reason, count(*) AS entries FROM (SELECT reason FROM {schema}.quarantine LIMIT {COUNTED}) AS counted
         GROUP BY reason ORDER BY entries DESC, reason"
    );
    let reasons = sqlx::query_as(AssertSqlSafe(statement)).fetch_all(&pool).await?;
    Ok(Quarantine {
        reasons,
        truncated,
        entries: rows.into_iter().filter_map(Entry::of).collect(),
    })
}

impl Candle {
    fn of(row: CandleRow) -> Option<Self> {
        Some(Self {
            start: Timestamp::from_microsecond(row.window_start).ok()?,
            end: Timestamp::from_microsecond(row.window_end).ok()?,
            open: row.open,
            high: row.high,
            low: row.low,
            close: row.close,
            volume: row.volume,
            ticks: row.tick_count,
            average_price: row.average_price,
            revision: row.revision,
            is_final: row.is_final,
            updated_at: Timestamp::from_microsecond(row.updated_at).ok()?,
        })
    }
}

impl Entry {
    fn of(row: EntryRow) -> Option<Self> {
        Some(Self {
            id: row.id,
            received_at: Timestamp::from_microsecond(row.received_at).ok()?,
            reason: row.reason,
            detail: row.detail.unwrap_or_default(),
            publisher: row.publisher,
            sequence: row.sequence,
            raw_truncated: usize::try_from(row.raw_length).unwrap_or_default() > SHOWN_RAW,
            raw: row.raw,
            released_at: row
                .released_at
                .and_then(|released| Timestamp::from_microsecond(released).ok()),
            queue: row.queue,
        })
    }
}
