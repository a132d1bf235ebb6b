//! Our own API; docs/dashboard-api.md is its description.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, Uri},
    routing::{any, get},
};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    actions::{self, Action},
    database::{CandleQuery, Databases},
    detail::{Detail, detail, measured},
    error::{ApiError, Code},
    errors, events,
    feeds::{Feed, Feeds, Key, PATIENCE},
    graph::{Graph, graph},
    history::Series,
    observe::{MAX_LOOKED_AT, Observation, PERIOD, Watchers, ask::Asker, processor::ProcessorSeen},
    percentile::Distribution,
    stream,
    summary::{Summary, Totals},
    users,
};

/// How long an answer waits for the first observation.
const FIRST_LOOK: Duration = Duration::from_millis(2500);

/// What the handlers need. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Every feed.
    pub feeds: Feeds,
    /// Those that are looked at.
    pub watchers: Watchers,
    /// Their databases.
    pub databases: Databases,
    /// Asks pods.
    pub asker: Asker,
    /// The API server.
    pub client: Client,
    /// Whether users may act.
    pub actions: bool,
    /// Namespaces that are watched; none means all.
    pub namespaces: Arc<Vec<String>>,
    /// Streams that may still be opened.
    pub streams: Arc<Semaphore>,
    /// The list of all processors, for Flink's task managers.
    pub task_managers: crate::flink::task_managers::Cache,
    /// What was asked for by Flink's paths.
    pub operations: crate::flink::operations::Operations,
}

impl App {
    /// A feed.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn feed(&self, key: &Key) -> Result<Arc<Feed>, ApiError> {
        self.feeds
            .get(key)
            .ok_or_else(|| ApiError::no_feed(&key.to_string()))
    }

    /// Looks at a feed, and waits a moment for the first observation.
    ///
    /// # Errors
    /// When too many feeds are looked at.
    pub async fn look(&self, feed: &Feed) -> Result<Option<Arc<Observation>>, ApiError> {
        let mut look = self.watchers.look(&feed.key, &feed.uid).ok_or_else(too_many)?;
        let first = timeout(FIRST_LOOK, look.wait_for(Option::is_some)).await;
        Ok(match first {
            Ok(Ok(seen)) => seen.clone(),
            _ => None,
        })
    }

    /// Waits until the feeds are listed.
    async fn listed(&self) -> Result<(), ApiError> {
        let mut news = self.feeds.news();
        let listing = async { while !self.feeds.ready() && news.changed().await.is_ok() {} };
        timeout(PATIENCE, listing).await.map_err(|_| {
            ApiError::new(
                Code::Unavailable,
                "the feeds are not listed yet: the API server did not answer",
            )
        })
    }

    /// Every feed, or those of a namespace.
    #[must_use]
    pub fn summaries(&self, namespace: Option<&str>, now: Timestamp) -> Vec<Summary> {
        let all = self.feeds.all();
        all.iter()
            .filter(|feed| namespace.is_none_or(|namespace| feed.key.namespace == namespace))
            .map(|feed| self.summary(feed, now))
            .collect()
    }

    /// A feed, with what is measured if it is observed anyhow.
    #[must_use]
    pub fn summary(&self, feed: &Feed, now: Timestamp) -> Summary {
        let observation = self.watchers.last(&feed.key);
        measured(feed, observation.as_deref(), now)
    }
}

/// Too many feeds are looked at.
#[must_use]
pub fn too_many() -> ApiError {
    ApiError::new(
        Code::TooMany,
        format!("{MAX_LOOKED_AT} feeds are looked at already"),
    )
    .remedy("close pages of other feeds, and wait a minute")
}

/// The routes below `/api/v1`.
pub fn router() -> Router<App> {
    Router::new()
        .route("/session", get(session))
        .route("/feeds", get(feeds))
        .route("/stream", get(stream::stream))
        .route("/feeds/{namespace}/{name}", get(feed))
        .route("/feeds/{namespace}/{name}/graph", get(feed_graph))
        .route("/feeds/{namespace}/{name}/candles", get(candles))
        .route("/feeds/{namespace}/{name}/checkpoints", get(checkpoints))
        .route("/feeds/{namespace}/{name}/events", get(feed_events))
        .route("/feeds/{namespace}/{name}/errors", get(feed_errors))
        .route("/feeds/{namespace}/{name}/quarantine", get(quarantine))
        .route("/feeds/{namespace}/{name}/scaling", get(scaling))
        .route("/feeds/{namespace}/{name}/history", get(history))
        // Any method, so that a GET hears why it is refused.
        .route("/feeds/{namespace}/{name}/actions/{action}", any(actions::act))
        .fallback(async |uri: Uri| {
            ApiError::new(Code::NotFound, format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async || ApiError::new(Code::MethodNotAllowed, "this is read by GET"))
}

type Named = Path<(String, String)>;

fn key(Path((namespace, name)): Named) -> Key {
    Key { namespace, name }
}

async fn session(State(app): State<App>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    let user = match users::token(&headers)? {
        Some(token) if app.actions => Some(users::authenticate(&app.client, token).await?),
        _ => None,
    };
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": service::clock::now(),
        "actions": {"enabled": app.actions, "names": Action::ALL.map(Action::name), "header": "X-StockFeed-Request"},
        "user": user,
        "watchNamespaces": *app.namespaces,
        "observeEverySeconds": PERIOD,
        "feeds": app.feeds.count(),
    })))
}

#[derive(Deserialize)]
struct InNamespace {
    namespace: Option<String>,
}

async fn feeds(State(app): State<App>, Query(query): Query<InNamespace>) -> Result<Json<Value>, ApiError> {
    app.listed().await?;
    let now = service::clock::now();
    let summaries = app.summaries(query.namespace.as_deref(), now);
    Ok(Json(
        json!({"at": now, "totals": Totals::of(&summaries), "feeds": summaries}),
    ))
}

async fn look(app: &App, named: Named) -> Result<(Arc<Feed>, Option<Arc<Observation>>), ApiError> {
    app.listed().await?;
    let feed = app.feed(&key(named))?;
    let observation = app.look(&feed).await?;
    Ok((feed, observation))
}

async fn feed(State(app): State<App>, named: Named) -> Result<Json<Detail>, ApiError> {
    let (feed, observation) = look(&app, named).await?;
    Ok(Json(detail(&feed, observation.as_deref(), service::clock::now())))
}

async fn feed_graph(State(app): State<App>, named: Named) -> Result<Json<Graph>, ApiError> {
    let (feed, observation) = look(&app, named).await?;
    Ok(Json(graph(&detail(
        &feed,
        observation.as_deref(),
        service::clock::now(),
    ))))
}

async fn feed_errors(State(app): State<App>, named: Named) -> Result<Json<Value>, ApiError> {
    let (feed, observation) = look(&app, named).await?;
    let detail = detail(&feed, observation.as_deref(), service::clock::now());
    let errors = errors::errors(&detail, observation.as_deref());
    let mut answer = aged(&detail);
    answer["errors"] = json!(errors);
    Ok(Json(answer))
}

/// How old it is, for answers that are made of an observation.
fn aged(detail: &Detail) -> Value {
    let freshness = detail.observation.as_ref();
    json!({
        "at": freshness.map(|freshness| freshness.at),
        "ageSeconds": freshness.map(|freshness| freshness.age_seconds),
        "stale": freshness.is_none_or(|freshness| freshness.stale),
    })
}

#[derive(Deserialize)]
struct Candles {
    symbol: Option<String>,
    window: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: Option<u16>,
}

async fn candles(
    State(app): State<App>,
    named: Named,
    query: Result<Query<Candles>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(Code::BadRequest, error.body_text()))?;
    app.listed().await?;
    let feed = app.feed(&key(named))?;
    let object = feed
        .object
        .as_ref()
        .map_err(|error| ApiError::new(Code::Unavailable, error.clone()))?;
    let mut windows = object.spec.processing.windows.clone();
    windows.sort_by_key(|window| {
        contract::window::WindowWidth::ALL
            .iter()
            .position(|known| known.label() == window)
    });
    let bad = |message: String| ApiError::new(Code::BadRequest, message);
    let symbol = query.symbol.ok_or_else(|| bad("symbol is missing".to_owned()))?;
    let window = match query.window {
        Some(window) if windows.contains(&window) => window,
        Some(window) => {
            return Err(bad(format!("the feed has no window {window}"))
                .remedy(format!("it has {}", windows.join(", "))));
        }
        None => windows.first().cloned().unwrap_or_default(),
    };
    let now = service::clock::now();
    // A tick may be a little ahead of our clock, and its window with it.
    let tomorrow = now.checked_add(SignedDuration::from_hours(24)).unwrap_or(now);
    let to = query.to.unwrap_or(tomorrow);
    let limit = query.limit.unwrap_or(300).clamp(1, 2000);
    let asked = CandleQuery {
        symbol,
        window,
        from: query.from,
        to,
        limit,
    };
    let (candles, truncated) = app.databases.candles(&feed.key, &asked).await?;
    let from = query.from.or_else(|| candles.first().map(|candle| candle.start));
    Ok(Json(json!({
        "symbol": asked.symbol, "window": asked.window, "from": from, "to": query.to.unwrap_or(now),
        "symbols": object.spec.symbols, "windows": windows,
        "watermark": app.summary(&feed, now).watermark,
        "truncated": truncated,
        "candles": candles,
    })))
}

#[derive(Deserialize)]
struct Limited {
    limit: Option<usize>,
    reason: Option<String>,
    seconds: Option<u32>,
}

#[expect(clippy::cast_precision_loss, reason = "numbers of a batch")]
async fn checkpoints(
    State(app): State<App>,
    named: Named,
    Query(query): Query<Limited>,
) -> Result<Json<Value>, ApiError> {
    let (feed, observation) = look(&app, named).await?;
    let detail = detail(&feed, observation.as_deref(), service::clock::now());
    let nothing = Arc::default();
    let seen = observation.as_ref().unwrap_or(&nothing);
    let mut all: Vec<_> = seen
        .processors
        .iter()
        .flat_map(|(pod, seen)| {
            seen.state
                .checkpoints
                .iter()
                .map(move |checkpoint| (pod, checkpoint))
        })
        .collect();
    all.sort_by_key(|(_, checkpoint)| std::cmp::Reverse(checkpoint.completed_at));
    all.truncate(query.limit.unwrap_or(100));
    let sum =
        |of: fn(&ProcessorSeen) -> Option<f64>| seen.processors.values().filter_map(of).reduce(|a, b| a + b);
    let seconds = |milliseconds: f64| milliseconds / 1000.0;
    let mut answer = aged(&detail);
    answer["mode"] = json!("exactly_once");
    answer["totals"] = json!({
        "completed": sum(|seen| seen.figures.commits),
        "failed": sum(|seen| seen.figures.commit_errors),
    });
    answer["summary"] = json!({
        "count": all.len(),
        "durationSeconds": Distribution::of(all.iter().map(|(_, checkpoint)| seconds(checkpoint.duration_milliseconds))),
        "bytes": Distribution::of(all.iter().map(|(_, checkpoint)| checkpoint.bytes as f64)),
        "ticks": Distribution::of(all.iter().map(|(_, checkpoint)| checkpoint.ticks as f64)),
    });
    let last = |id: &str| {
        let of = |(_, checkpoint): &&(_, &crate::observe::processor::Checkpoint)| checkpoint.partition == id;
        all.iter().find(of).map(|(_, checkpoint)| checkpoint.completed_at)
    };
    let partitions = detail.partitions.iter().map(|partition| {
        json!({"id": partition.id, "checkpoint": partition.checkpoint, "processor": partition.processor, "completedAt": last(&partition.id)})
    });
    answer["partitions"] = partitions.collect();
    let checkpoints = all.iter().map(|(pod, checkpoint)| {
        json!({
            "id": checkpoint.id, "partition": checkpoint.partition, "processor": pod, "completedAt": checkpoint.completed_at,
            "durationSeconds": seconds(checkpoint.duration_milliseconds), "messages": checkpoint.messages,
            "duplicates": checkpoint.duplicates, "ticks": checkpoint.ticks, "candles": checkpoint.candles,
            "late": checkpoint.late, "quarantined": checkpoint.quarantined, "bytes": checkpoint.bytes,
        })
    });
    answer["checkpoints"] = checkpoints.collect();
    Ok(Json(answer))
}

async fn feed_events(State(app): State<App>, named: Named) -> Result<Json<Value>, ApiError> {
    app.listed().await?;
    let feed = app.feed(&key(named))?;
    Ok(Json(
        json!({"events": events::of_feed(&app.client, &feed).await?}),
    ))
}

async fn quarantine(
    State(app): State<App>,
    named: Named,
    Query(query): Query<Limited>,
) -> Result<Json<crate::database::Quarantine>, ApiError> {
    app.listed().await?;
    let feed = app.feed(&key(named))?;
    let limit = i32::try_from(query.limit.unwrap_or(50).clamp(1, 500)).unwrap_or(500);
    Ok(Json(
        app.databases
            .quarantine(&feed.key, query.reason.as_deref(), limit)
            .await?,
    ))
}

async fn scaling(State(app): State<App>, named: Named) -> Result<Json<Value>, ApiError> {
    app.listed().await?;
    let feed = app.feed(&key(named))?;
    let events = events::of_feed(&app.client, &feed).await?;
    let decisions: Vec<_> = events
        .into_iter()
        .filter(|event| ["ScaledOut", "ScaledIn", "ConsumerRestarted"].contains(&event.reason.as_str()))
        .map(|event| json!({"at": event.at, "reason": event.reason, "message": event.message}))
        .collect();
    let object = feed.object.as_deref().ok();
    let processors = app.summary(&feed, service::clock::now()).processor_count;
    let processing = object.map(|object| &object.spec.processing);
    let most =
        |processing: &operator::api::Processing| processing.replicas.max.unwrap_or(processing.partitions);
    let replicas = json!({
        "min": processing.map(|processing| processing.replicas.min), "max": processing.map(most),
        "ready": processors.map(|processors| processors.ready), "wanted": processors.map(|processors| processors.wanted),
    });
    let current = object
        .and_then(|object| object.status.as_ref()?.scaling.as_ref())
        .map(|scaling| {
            json!({
                "replicas": scaling.replicas, "wanted": scaling.wanted, "reason": scaling.reason, "message": scaling.message,
                "backlog": scaling.backlog, "arrivalPerSecond": scaling.arrival_per_second,
                "perReplicaPerSecond": scaling.per_replica_per_second, "busyRatio": scaling.busy_ratio,
                "catchUpSeconds": scaling.catch_up_seconds, "decidedAt": scaling.decided_at, "dryRun": scaling.dry_run,
            })
        });
    Ok(Json(
        json!({"replicas": replicas, "current": current, "decisions": decisions}),
    ))
}

async fn history(
    State(app): State<App>,
    named: Named,
    Query(query): Query<Limited>,
) -> Result<Json<Series>, ApiError> {
    let (feed, _) = look(&app, named).await?;
    let since = query.seconds.and_then(|seconds| {
        let back = SignedDuration::from_secs(i64::from(seconds));
        service::clock::now().checked_sub(back).ok()
    });
    Ok(Json(app.watchers.history(&feed.key, since)))
}
