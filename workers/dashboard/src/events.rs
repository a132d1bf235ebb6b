//! Kubernetes Events of a feed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, Client, api::ListParams};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    error::{ApiError, Code},
    feeds::Feed,
    observe::ask::plain,
};

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// Events that are shown.
const SHOWN: usize = 200;
/// Events that are read.
const READ: u32 = 500;

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    pub at: Option<Timestamp>,
    pub first_at: Option<Timestamp>,
    pub count: i32,
    #[serde(rename = "type")]
    pub kind: String,
    pub reason: String,
    pub action: Option<String>,
    pub message: String,
    pub regarding: String,
}

/// The newest Events of a feed, newest first.
///
/// # Errors
/// When the API server does not answer, or refuses.
pub async fn of_feed(client: &Client, feed: &Feed) -> Result<Vec<EventView>, ApiError> {
    let api: Api<Event> = Api::namespaced(client.clone(), &feed.key.namespace);
    let selector = format!("regarding.kind=StockFeed,regarding.name={}", feed.key.name);
    let parameters = ListParams::default().fields(&selector).limit(READ);
    let listed = timeout(PATIENCE, api.list(&parameters))
        .await
        .map_err(|_| ApiError::new(Code::Timeout, "the API server did not answer in time"))?
        .map_err(|error| ApiError::new(Code::Unavailable, plain(&error)))?;
    // Those of a feed of the same name that was there before are of another UID.
    let own = |event: &&Event| {
        let regarding = event.regarding.as_ref();
        regarding
            .and_then(|regarding| regarding.uid.as_ref())
            .is_none_or(|uid| *uid == feed.uid)
    };
    let mut events: Vec<_> = listed.items.iter().filter(own).map(EventView::of).collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    events.truncate(SHOWN);
    Ok(events)
}

impl EventView {
    /// From the object. Who reports again counts in a series.
    fn of(event: &Event) -> Self {
        let first = event.event_time.as_ref().map(|time| time.0);
        let first = first.or_else(|| event.deprecated_first_timestamp.as_ref().map(|time| time.0));
        let series = event.series.as_ref();
        let last = series.map(|series| series.last_observed_time.0);
        let last = last.or_else(|| event.deprecated_last_timestamp.as_ref().map(|time| time.0));
        let regarding = event.regarding.as_ref();
        let part = |part: Option<&String>| part.cloned().unwrap_or_default();
        Self {
            at: last.or(first),
            first_at: first,
            count: series.map_or(1, |series| series.count),
            kind: event.type_.clone().unwrap_or_default(),
            reason: event.reason.clone().unwrap_or_default(),
            action: event.action.clone(),
            message: event.note.clone().unwrap_or_default(),
            regarding: format!(
                "{}/{}",
                part(regarding.and_then(|regarding| regarding.kind.as_ref())),
                part(regarding.and_then(|regarding| regarding.name.as_ref()))
            ),
        }
    }
}
