//! Suspend, resume, drain, restart, and a checkpoint: the one place that writes.
//!
//! The dashboard writes by its own rights, which are to patch feeds, and only what the API server has said that the user may.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use operator::{api::StockFeed, labels::Component};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};
use tracing::info;

use crate::{
    api::App,
    error::{ApiError, Code},
    feeds::{Feed, Key},
    observe::{Observation, ask::plain},
    security, users,
};

/// Who changes a feed, in its managed fields.
const MANAGER: &str = "stockfeed-dashboard";
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a checkpoint is waited for.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(10);
/// Between looks at the processors.
const LOOK: Duration = Duration::from_millis(500);

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Suspend,
    Resume,
    Restart,
    Drain,
    Checkpoint,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Suspend,
        Self::Resume,
        Self::Restart,
        Self::Drain,
        Self::Checkpoint,
    ];

    /// Its name in a path.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Restart => "restart",
            Self::Drain => "drain",
            Self::Checkpoint => "checkpoint",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// What a user has to be allowed.
    const fn verb(self) -> &'static str {
        match self {
            Self::Checkpoint => "get",
            _ => "patch",
        }
    }
}

/// The body of a restart.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    components: Option<Vec<String>>,
}

/// What was done.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Done {
    action: &'static str,
    feed: String,
    user: String,
    message: String,
    follow: Option<&'static str>,
    checkpoints: Option<Vec<Committed>>,
}

/// How far a partition is committed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Committed {
    partition: String,
    checkpoint: i64,
    complete: bool,
}

/// `/api/v1/feeds/{namespace}/{name}/actions/{action}`
pub async fn act(
    State(app): State<App>,
    Path((namespace, name, action)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    security::check_forgery(&method, &headers)?;
    let Some(action) = Action::named(&action) else {
        let names = Action::ALL.map(Action::name).join(", ");
        return Err(
            ApiError::new(Code::NotFound, format!("there is no action {action}"))
                .remedy(format!("there are {names}")),
        );
    };
    perform(&app, &Key { namespace, name }, action, &headers, &body).await
}

/// Does it, if the installation has actions and the user may.
///
/// # Errors
/// When one of them says no, or the API server does not answer.
pub async fn perform(
    app: &App,
    key: &Key,
    action: Action,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, ApiError> {
    if !app.actions {
        return Err(ApiError::new(Code::ActionsOff, "this dashboard only shows")
            .remedy("dashboard.actions: true in the chart's values switches actions on; kubectl stockfeed does the same"));
    }
    let components = components(body)?;
    let Some(token) = users::token(headers)? else {
        return Err(ApiError::new(
            Code::Unauthenticated,
            "an action needs a token in the header Authorization",
        ));
    };
    let user = users::authenticate(&app.client, token).await?;
    // Before it is told whether there is such a feed.
    users::authorize(&app.client, &user, action.verb(), key).await?;
    let feed = app.feed(key)?;
    if is_deleted(&feed) {
        return Err(ApiError::new(Code::Conflict, format!("{key} is being deleted")));
    }
    info!(feed = %key, user = user.name, action = action.name(), "A user acts");
    if action == Action::Checkpoint {
        let checkpoints = checkpoint(app, &feed).await?;
        let complete = checkpoints.iter().filter(|partition| partition.complete).count();
        let done = Done {
            action: action.name(),
            feed: key.to_string(),
            user: user.name,
            message: format!(
                "{complete} of {} partitions hold nothing that is not committed",
                checkpoints.len()
            ),
            follow: None,
            checkpoints: Some(checkpoints),
        };
        return Ok(Json(done).into_response());
    }
    let (patch, message, follow) = change(action, key, &components, &service::clock::now().to_string());
    patch_feed(app, key, &patch).await?;
    let done = Done {
        action: action.name(),
        feed: key.to_string(),
        user: user.name,
        message,
        follow: Some(follow),
        checkpoints: None,
    };
    Ok((StatusCode::ACCEPTED, Json(done)).into_response())
}

fn is_deleted(feed: &Feed) -> bool {
    let object = feed.object.as_ref().ok();
    object.is_some_and(|object| object.metadata.deletion_timestamp.is_some())
}

fn components(body: &[u8]) -> Result<Vec<Component>, ApiError> {
    let options: Options = match body.is_empty() {
        true => Options::default(),
        false => serde_json::from_slice(body).map_err(|error| {
            ApiError::new(
                Code::BadRequest,
                format!("the body is not as it should be: {error}"),
            )
        })?,
    };
    let both = || vec!["producer".to_owned(), "processor".to_owned()];
    let named = options.components.unwrap_or_else(both);
    let component = |name: &String| match name.as_str() {
        "producer" => Ok(Component::Producer),
        "processor" => Ok(Component::Processor),
        other => Err(
            ApiError::new(Code::BadRequest, format!("components has {other:?}"))
                .remedy("there are producer and processor"),
        ),
    };
    named.iter().map(component).collect()
}

/// What changes, what is said, and what to follow.
fn change(action: Action, key: &Key, components: &[Component], now: &str) -> (Value, String, &'static str) {
    match action {
        Action::Suspend | Action::Drain => (
            json!({"spec": {"suspend": true}}),
            format!("{key} is being suspended"),
            "condition Suspended",
        ),
        Action::Resume => (
            json!({"spec": {"suspend": false}}),
            format!("{key} is being resumed"),
            "condition Ready",
        ),
        Action::Restart | Action::Checkpoint => {
            let annotations: Map<String, Value> = components
                .iter()
                .map(|component| (component.restart_annotation().to_owned(), json!(now)))
                .collect();
            (
                json!({"metadata": {"annotations": annotations}}),
                format!("{key}: pods are replaced, one after the other"),
                "condition Ready",
            )
        }
    }
}

async fn patch_feed(app: &App, key: &Key, patch: &Value) -> Result<(), ApiError> {
    let api: Api<StockFeed> = Api::namespaced(app.client.clone(), &key.namespace);
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    timeout(PATIENCE, api.patch(&key.name, &parameters, &Patch::Merge(patch)))
        .await
        .map_err(|_| ApiError::new(Code::Timeout, "the API server did not answer in time"))?
        .map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => ApiError::no_feed(&key.to_string()),
            error => ApiError::new(Code::Unavailable, plain(error)),
        })?;
    Ok(())
}

/// Waits until every partition has committed since, or had nothing to commit.
async fn checkpoint(app: &App, feed: &Feed) -> Result<Vec<Committed>, ApiError> {
    let began = Instant::now();
    let observe = || app.asker.observe(&feed.key, None, service::clock::now());
    let first = observe().await;
    if let Some((source, trouble)) = first.problems.iter().next() {
        return Err(ApiError::new(
            Code::Unavailable,
            format!("{source} {}", trouble.message),
        ));
    }
    let mut last = committed(&first);
    let mut complete: BTreeMap<String, i64> = BTreeMap::new();
    loop {
        sleep(LOOK).await;
        let next = committed(&observe().await);
        for (partition, now) in &next {
            let is_complete = last.get(partition).is_some_and(|before| {
                // A batch is committed within milliseconds: who did nothing in between holds nothing.
                now.checkpoint > before.checkpoint || now.at_work <= before.at_work
            });
            if is_complete {
                complete.insert(partition.clone(), now.checkpoint);
            }
        }
        let all = next.keys().all(|partition| complete.contains_key(partition));
        if (all && !next.is_empty()) || began.elapsed() >= CHECKPOINT_PATIENCE {
            let view = |(partition, now): (&String, &Progress)| Committed {
                partition: partition.clone(),
                checkpoint: complete.get(partition).copied().unwrap_or(now.checkpoint),
                complete: complete.contains_key(partition),
            };
            return Ok(next.iter().map(view).collect());
        }
        // Partitions that moved to another processor begin anew.
        for (partition, now) in next {
            last.entry(partition).or_insert(now);
        }
    }
}

struct Progress {
    checkpoint: i64,
    at_work: f64,
}

fn committed(observation: &Observation) -> BTreeMap<String, Progress> {
    let progress = |((generation, number), (_, partition)): (
        (u32, u16),
        (&str, &crate::observe::processor::Partition),
    )| {
        let spent = partition.spent.unwrap_or_default();
        let progress = Progress {
            checkpoint: partition.checkpoint,
            at_work: spent.busy_seconds + spent.backpressured_seconds,
        };
        (format!("{generation}.{number}"), progress)
    };
    observation.partitions().into_iter().map(progress).collect()
}
