//! What changes something, by Flink's paths: cancel, stop, and a checkpoint. The rights and checks are those of our own actions.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Failure};
use crate::{
    actions::{self, Action},
    api::App,
    security,
};

/// So many requests are remembered.
const REMEMBERED: usize = 256;
/// The largest answer of an action.
const MAX_ANSWER: usize = 64 * 1024;

/// Requests that were answered with an id. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Operations(Arc<Mutex<VecDeque<Operation>>>);

#[derive(Clone, Debug)]
struct Operation {
    id: String,
    job: String,
    /// What is asked for later.
    result: Value,
}

impl Operations {
    fn remember(&self, job: &str, result: Value) -> String {
        let id = Uuid::now_v7().simple().to_string();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(Operation {
            id: id.clone(),
            job: job.to_owned(),
            result,
        });
        while all.len() > REMEMBERED {
            all.pop_front();
        }
        id
    }

    fn find(&self, job: &str, id: &str) -> Option<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .find(|operation| operation.id == id && operation.job == job)
            .map(|operation| operation.result.clone())
    }
}

/// Flink's page cancels by GET, which any image on any page can send.
pub async fn by_get() -> Failure {
    let why = "nothing is changed by GET, so that no link and no image can: PATCH /jobs/{job}?mode=cancel, or \
               POST /api/v1/feeds/{namespace}/{name}/actions/suspend";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, why)
}

/// How a job is to end.
#[derive(Deserialize)]
pub struct Mode {
    mode: Option<String>,
}

async fn act(
    app: &App,
    id: &str,
    action: Action,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Value, Failure> {
    security::check_forgery(method, headers)?;
    let feed = super::feed(app, id)?;
    let response = actions::perform(app, &feed.key, action, headers, &[]).await?;
    let body = to_bytes(response.into_body(), MAX_ANSWER)
        .await
        .unwrap_or_default();
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

/// `PATCH /jobs/{job}?mode=cancel`: suspends the feed.
pub async fn cancel(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(Mode { mode }): Query<Mode>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if mode.as_deref().is_some_and(|mode| mode != "cancel") {
        return Err(super::bad_request("The termination mode is cancel".to_owned()));
    }
    act(&app, &id, Action::Suspend, &method, &headers).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}

/// `POST /jobs/{job}/stop`: suspends the feed, which drains it.
pub async fn stop(
    State(app): State<App>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    _body: Body,
) -> Result<Response, Failure> {
    act(&app, &id, Action::Drain, &method, &headers).await?;
    let request = app
        .operations
        .remember(&id, json!({"location": "the feed's schema"}));
    Ok((StatusCode::ACCEPTED, Json(json!({"request-id": request}))).into_response())
}

/// `POST /jobs/{job}/checkpoints` and `/savepoints`: waits until everything that is held is committed.
pub async fn checkpoint(
    State(app): State<App>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
    _body: Body,
) -> Result<Response, Failure> {
    let done = act(&app, &id, Action::Checkpoint, &method, &headers).await?;
    let numbers = done["checkpoints"].as_array().into_iter().flatten();
    let newest = numbers
        .filter_map(|partition| partition["checkpoint"].as_i64())
        .max();
    let result = json!({"checkpointId": newest, "location": "the feed's schema"});
    let request = app.operations.remember(&id, result);
    Ok((StatusCode::ACCEPTED, Json(json!({"request-id": request}))).into_response())
}

/// `GET /jobs/{job}/checkpoints/{request}` and `/savepoints/{request}`. What has an id was done.
pub async fn status(State(app): State<App>, Path((id, request)): Path<(String, String)>) -> Answer {
    let result = app.operations.find(&id, &request);
    let result =
        result.ok_or_else(|| super::not_found(format!("There is no operation {request} of job {id}.")))?;
    Ok(Json(json!({"status": {"id": "COMPLETED"}, "operation": result})))
}
