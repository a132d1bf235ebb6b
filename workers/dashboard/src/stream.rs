//! Server-sent events: what changed, as it changes.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{interval, sleep},
};

use crate::{
    api::{App, too_many},
    detail::detail,
    error::{ApiError, Code},
    feeds::Key,
    observe::{Look, Observation},
    summary::Totals,
};

/// Streams at once.
pub const MAX_STREAMS: usize = 200;
/// Changes of feeds are gathered for so long.
const GATHER: Duration = Duration::from_secs(1);
/// Keeps proxies from closing a stream that is quiet.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a stream says that somebody looks.
const TOUCH: Duration = Duration::from_secs(20);

/// What is listened to.
#[derive(Deserialize)]
pub struct Wanted {
    feed: Option<String>,
    #[serde(default)]
    feeds: bool,
}

/// `/api/v1/stream`
pub async fn stream(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        ApiError::new(Code::TooMany, format!("{MAX_STREAMS} streams are open already"))
            .remedy("close other pages")
    })?;
    let one = match &wanted.feed {
        None => None,
        Some(text) => {
            let key = Key::parse(text)
                .ok_or_else(|| ApiError::new(Code::BadRequest, "feed is not of the form namespace/name"))?;
            let feed = app.feed(&key)?;
            let look = app.watchers.look(&key, &feed.uid).ok_or_else(too_many)?;
            Some(one(app.clone(), key, feed.uid.clone(), look).boxed())
        }
    };
    let all = (one.is_none() || wanted.feeds).then(|| all(app).boxed());
    let events = stream::select_all(one.into_iter().chain(all));
    // It ends, and the place is free again, when the browser goes away.
    let events = events.map(move |event| held(&permit, event));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn held(_permit: &OwnedSemaphorePermit, event: Event) -> Result<Event, Infallible> {
    Ok(event)
}

fn event(name: &str, data: &impl Serialize) -> Event {
    // What cannot be written as JSON is none of ours.
    Event::default()
        .event(name)
        .json_data(data)
        .unwrap_or_else(|_| Event::default().comment("an event could not be written"))
}

/// Where a stream of all feeds is.
struct All {
    app: App,
    news: watch::Receiver<u64>,
    seen: Option<u64>,
    keys: BTreeSet<Key>,
}

fn all(app: App) -> impl Stream<Item = Event> + Send {
    let state = All {
        news: app.feeds.news(),
        app,
        seen: None,
        keys: BTreeSet::new(),
    };
    stream::unfold(state, async |mut state| {
        loop {
            if state.seen.is_some() {
                state.news.changed().await.ok()?;
                sleep(GATHER).await;
            }
            let newest = *state.news.borrow_and_update();
            let feeds = state.app.feeds.all();
            let now = service::clock::now();
            let full = state.seen.is_none();
            let seen = state.seen.replace(newest).unwrap_or_default();
            let keys: BTreeSet<Key> = feeds.iter().map(|feed| feed.key.clone()).collect();
            let removed: Vec<String> = state.keys.difference(&keys).map(ToString::to_string).collect();
            state.keys = keys;
            let every: Vec<_> = feeds
                .iter()
                .map(|feed| (feed.change, state.app.summary(feed, now)))
                .collect();
            let changed: Vec<_> = every
                .iter()
                .filter(|(change, _)| full || *change > seen)
                .map(|(_, summary)| summary)
                .collect();
            if changed.is_empty() && removed.is_empty() && !full {
                continue;
            }
            let summaries: Vec<_> = every.iter().map(|(_, summary)| summary.clone()).collect();
            let data = json!({"at": now, "full": full, "feeds": changed, "removed": removed, "totals": Totals::of(&summaries)});
            return Some((event("feeds", &data), state));
        }
    })
}

/// Where a stream of one feed is.
struct One {
    app: App,
    key: Key,
    uid: String,
    look: Look,
    touch: tokio::time::Interval,
    gone: bool,
    waiting: Option<Event>,
    first: bool,
}

fn one(app: App, key: Key, uid: String, look: Look) -> impl Stream<Item = Event> + Send {
    let state = One {
        app,
        key,
        uid,
        look,
        touch: interval(TOUCH),
        gone: false,
        waiting: None,
        first: true,
    };
    stream::unfold(state, async |mut state| {
        if let Some(point) = state.waiting.take() {
            return Some((point, state));
        }
        if state.gone {
            return None;
        }
        let seen = state.next().await;
        let feed = state
            .app
            .feeds
            .get(&state.key)
            .filter(|feed| feed.uid == state.uid);
        let Some(feed) = feed else {
            state.gone = true;
            return Some((event("gone", &json!({"feed": state.key.to_string()})), state));
        };
        let said = detail(&feed, seen.as_deref(), service::clock::now());
        state.waiting = state
            .app
            .watchers
            .last_point(&state.key)
            .map(|point| event("point", &point.json()));
        Some((event("feed", &said), state))
    })
}

impl One {
    /// The next observation; meanwhile it is said that somebody looks.
    async fn next(&mut self) -> Option<Arc<Observation>> {
        if std::mem::take(&mut self.first) {
            return self.look.borrow_and_update().clone();
        }
        loop {
            tokio::select! {
                changed = self.look.changed() => {
                    if changed.is_err() {
                        // The feed is gone, or is another one of the same name.
                        return None;
                    }
                    return self.look.borrow_and_update().clone();
                }
                _ = self.touch.tick() => match self.app.watchers.look(&self.key, &self.uid) {
                    Some(look) if !look.same_channel(&self.look) => self.look = look,
                    _ => {}
                },
            }
        }
    }
}
