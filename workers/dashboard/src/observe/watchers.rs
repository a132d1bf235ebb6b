//! Who looks at which feed: each is observed while somebody does, and its history outlives that for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use crate::{
    feeds::{Feeds, Key},
    history::{History, Point, Series},
    observe::{MAX_LOOKED_AT, Observation, PERIOD, ask::Asker},
};

/// A feed is observed for so long after the last look.
const LINGER: Duration = Duration::from_secs(60);

/// What was seen, and whether it goes on.
pub type Look = watch::Receiver<Option<Arc<Observation>>>;

/// Observes the feeds that are looked at. Cheap to clone.
#[derive(Clone)]
pub struct Watchers(Arc<Inner>);

struct Inner {
    asker: Asker,
    feeds: Feeds,
    slots: Mutex<HashMap<Key, Slot>>,
}

#[derive(Debug)]
struct Slot {
    uid: String,
    looked: Instant,
    running: bool,
    seen: watch::Sender<Option<Arc<Observation>>>,
    history: History,
}

impl Watchers {
    /// Nobody looks yet.
    #[must_use]
    pub fn new(asker: Asker, feeds: Feeds) -> Self {
        Self(Arc::new(Inner {
            asker,
            feeds,
            slots: Mutex::default(),
        }))
    }

    /// Looks at a feed: it is observed from now on, and for a minute after. `None`: too many are looked at.
    #[must_use]
    pub fn look(&self, key: &Key, uid: &str) -> Option<Look> {
        let mut slots = self.lock();
        // A feed of the same name that was made anew has nothing to do with the old one.
        if slots.get(key).is_some_and(|slot| slot.uid != uid) {
            slots.remove(key);
        }
        if !slots.contains_key(key) && !make_room(&mut slots) {
            return None;
        }
        let slot = slots.entry(key.clone()).or_insert_with(|| Slot {
            uid: uid.to_owned(),
            looked: Instant::now(),
            running: false,
            seen: watch::Sender::new(None),
            history: History::default(),
        });
        slot.looked = Instant::now();
        if !slot.running {
            slot.running = true;
            tokio::spawn(self.clone().observe(key.clone(), uid.to_owned()));
        }
        Some(slot.seen.subscribe())
    }

    /// What was seen last, without a look.
    #[must_use]
    pub fn last(&self, key: &Key) -> Option<Arc<Observation>> {
        let slots = self.lock();
        let slot = slots.get(key).filter(|slot| slot.running)?;
        slot.seen.borrow().clone()
    }

    /// What was measured since a moment.
    #[must_use]
    pub fn history(&self, key: &Key, since: Option<Timestamp>) -> Series {
        let slots = self.lock();
        match slots.get(key) {
            Some(slot) => slot.history.series(since),
            None => History::default().series(since),
        }
    }

    /// What was measured last.
    #[must_use]
    pub fn last_point(&self, key: &Key) -> Option<Point> {
        self.lock().get(key)?.history.last().cloned()
    }

    /// Feeds that are observed now.
    #[must_use]
    pub fn observed(&self) -> usize {
        self.lock().values().filter(|slot| slot.running).count()
    }

    /// Observes until nobody looked for a while, or the feed is gone.
    async fn observe(self, key: Key, uid: String) {
        let mut before: Option<Arc<Observation>> = None;
        loop {
            let began = Instant::now();
            let now = service::clock::now();
            let seen = Arc::new(self.0.asker.observe(&key, before.as_deref(), now).await);
            if !self.put(&key, &uid, &seen) {
                return;
            }
            before = Some(seen);
            tokio::time::sleep_until(began + Duration::from_secs(u64::from(PERIOD))).await;
            if !self.goes_on(&key, &uid) {
                return;
            }
        }
    }

    /// Keeps what was seen. False: nobody wants it any more.
    fn put(&self, key: &Key, uid: &str, seen: &Arc<Observation>) -> bool {
        let feed = self.0.feeds.get(key).filter(|feed| feed.uid == uid);
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key).filter(|slot| slot.uid == uid) else {
            return false;
        };
        let Some(feed) = feed else {
            slots.remove(key);
            return false;
        };
        let status = feed
            .object
            .as_ref()
            .ok()
            .and_then(|object| object.status.as_ref());
        slot.history
            .push(Point::of(seen, status.and_then(|status| status.backlog)));
        slot.seen.send_replace(Some(Arc::clone(seen)));
        true
    }

    fn goes_on(&self, key: &Key, uid: &str) -> bool {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(key).filter(|slot| slot.uid == uid) else {
            return false;
        };
        slot.running = slot.looked.elapsed() < LINGER;
        if !slot.running {
            // The next look begins with nothing, not with what is old.
            slot.seen.send_replace(None);
        }
        slot.running
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        // A panic elsewhere leaves plain data behind.
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the history that was looked at the longest ago. False: all of them are looked at.
fn make_room(slots: &mut HashMap<Key, Slot>) -> bool {
    if slots.len() < MAX_LOOKED_AT {
        return true;
    }
    let idle = slots.iter().filter(|(_, slot)| !slot.running);
    let Some(oldest) = idle
        .min_by_key(|(_, slot)| slot.looked)
        .map(|(key, _)| key.clone())
    else {
        return false;
    };
    slots.remove(&oldest);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stand;

    fn key(number: usize) -> Key {
        Key {
            namespace: "markets".to_owned(),
            name: format!("feed-{number}"),
        }
    }

    #[tokio::test]
    async fn so_many_are_looked_at_and_no_more() {
        let watchers = stand(false).await.app.watchers;
        // None of the tasks runs before this one waits.
        for number in 0..MAX_LOOKED_AT {
            assert!(watchers.look(&key(number), "uid").is_some(), "{number}");
        }
        assert!(watchers.look(&key(MAX_LOOKED_AT), "uid").is_none());
        assert!(
            watchers.look(&key(3), "uid").is_some(),
            "who is looked at already"
        );
        assert_eq!(watchers.observed(), MAX_LOOKED_AT);
    }

    #[tokio::test]
    async fn a_feed_that_is_gone_is_not_observed_any_more() {
        let watchers = stand(false).await.app.watchers;
        let mut look = watchers.look(&key(1), "uid").unwrap();
        // Its sender goes with its place.
        assert!(look.wait_for(Option::is_some).await.is_err());
        assert_eq!(watchers.observed(), 0);
    }
}
