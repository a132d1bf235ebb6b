//! Every feed, as the watch has it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use operator::api::StockFeed;
use tokio::sync::watch;
use tracing::warn;

/// An annotation that is as large as the object, and says nothing that is not in it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// When the API server was heard of so long ago, what is shown is old: a watch is renewed every few minutes.
const WATCH_TIMEOUT: u32 = 290;

/// Names a feed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

impl Key {
    /// From `namespace/name`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains('/')).then(|| Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// A feed.
#[derive(Debug)]
pub struct Feed {
    /// Its name.
    pub key: Key,
    /// Its UID.
    pub uid: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// What it is, or why that cannot be read.
    pub object: Result<Box<StockFeed>, String>,
    /// Counts changes of any feed: tells whether this one is news.
    pub change: u64,
}

impl Feed {
    /// Its id as a job of Flink: the UID without hyphens.
    #[must_use]
    pub fn id(&self) -> String {
        self.uid.replace('-', "")
    }

    fn new(guard: DeserializeGuard<StockFeed>, change: u64) -> Self {
        let meta = guard.meta();
        let key = Key {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: guard.name_any(),
        };
        Self {
            key,
            uid: meta.uid.clone().unwrap_or_default(),
            created_at: meta.creation_timestamp.as_ref().map(|time| time.0),
            object: guard.0.map(Box::new).map_err(|invalid| invalid.error),
            change,
        }
    }
}

/// All feeds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feeds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: RwLock<All>,
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct All {
    feeds: BTreeMap<Key, Arc<Feed>>,
    change: u64,
    /// Watches that have listed what there is.
    listed: usize,
    watches: usize,
}

impl Default for Feeds {
    fn default() -> Self {
        Self(Arc::new(Inner {
            all: RwLock::default(),
            news: watch::Sender::new(0),
        }))
    }
}

impl Feeds {
    /// Watches the feeds of these namespaces, or of all, until it is dropped.
    pub async fn keep(&self, client: &Client, namespaces: &[String]) {
        let namespaces: Vec<Option<String>> = match namespaces {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        self.write().watches = namespaces.len();
        stream::iter(namespaces)
            .for_each_concurrent(None, |namespace| self.watch(client.clone(), namespace))
            .await;
    }

    async fn watch(&self, client: Client, namespace: Option<String>) {
        let api: Api<DeserializeGuard<StockFeed>> = match &namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let events = watcher(api, watcher::Config::default().timeout(WATCH_TIMEOUT))
            .modify(|feed| {
                let meta = feed.meta_mut();
                // Who manages which field takes as much memory as the fields.
                meta.managed_fields = None;
                if let Some(annotations) = &mut meta.annotations {
                    annotations.remove(LAST_APPLIED);
                }
            })
            .default_backoff();
        let mut events = std::pin::pin!(events);
        let mut listing = Vec::new();
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listing.clear(),
                Ok(Event::InitApply(feed)) => listing.push(feed),
                Ok(Event::InitDone) => {
                    self.replace(namespace.as_deref(), std::mem::take(&mut listing), !listed);
                    listed = true;
                }
                Ok(Event::Apply(feed)) => self.apply(feed),
                Ok(Event::Delete(feed)) => self.remove(&feed),
                Err(error) => warn!(%error, "The watch of feeds failed and is started again"),
            }
        }
    }

    /// Whether every watch has listed what there is.
    #[must_use]
    pub fn ready(&self) -> bool {
        let all = self.read();
        all.watches > 0 && all.listed == all.watches
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Feed>> {
        self.read().feeds.values().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.read().feeds.len()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Feed>> {
        self.read().feeds.get(key).cloned()
    }

    /// The one with this id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<Arc<Feed>> {
        let same = |feed: &&Arc<Feed>| {
            let digits = feed.uid.bytes().filter(|byte| *byte != b'-');
            digits.eq(id.bytes())
        };
        self.read().feeds.values().find(same).cloned()
    }

    /// Tells the number of the last change, whenever there is one.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// What there is of a namespace, or of all.
    pub fn replace(&self, namespace: Option<&str>, found: Vec<DeserializeGuard<StockFeed>>, first: bool) {
        let mut all = self.write();
        all.feeds
            .retain(|key, _| namespace.is_some_and(|namespace| key.namespace != namespace));
        for guard in found {
            all.put(guard);
        }
        all.listed += usize::from(first);
        all.change += 1;
        self.0.news.send_replace(all.change);
    }

    fn apply(&self, guard: DeserializeGuard<StockFeed>) {
        let mut all = self.write();
        all.put(guard);
        self.0.news.send_replace(all.change);
    }

    fn remove(&self, guard: &DeserializeGuard<StockFeed>) {
        let mut all = self.write();
        let key = Key {
            namespace: guard.meta().namespace.clone().unwrap_or_default(),
            name: guard.name_any(),
        };
        all.feeds.remove(&key);
        all.change += 1;
        self.0.news.send_replace(all.change);
    }

    fn read(&self) -> RwLockReadGuard<'_, All> {
        // A panic elsewhere leaves plain data behind.
        self.0.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.0.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn put(&mut self, guard: DeserializeGuard<StockFeed>) {
        self.change += 1;
        let feed = Feed::new(guard, self.change);
        self.feeds.insert(feed.key.clone(), Arc::new(feed));
    }
}

/// Seconds from one time to another; negative when the second is earlier.
#[must_use]
pub fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// How long a request waits at most for the first list of feeds.
pub const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A feed as the API server has it.
    pub fn guard(namespace: &str, name: &str, status: &Value) -> DeserializeGuard<StockFeed> {
        // Hexadecimal digits, as a UID has them.
        let number = name
            .bytes()
            .fold(0_u64, |number, byte| (number << 8) | u64::from(byte));
        let digits = number & 0xffff_ffff_ffff;
        serde_json::from_value(json!({
            "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
            "metadata": {"namespace": namespace, "name": name, "uid": format!("0b0c8d3a-5f5b-4d6e-9a7a-{digits:012x}"),
                         "creationTimestamp": "2026-11-20T09:00:00Z", "generation": 7},
            "spec": {"symbols": ["AAPL", "MSFT"], "source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}},
                     "processing": {"partitions": 2, "windows": ["5m", "1m", "1d"], "replicas": {"min": 1, "max": 2}}},
            "status": status,
        }))
        .unwrap()
    }

    /// Feeds of a test.
    pub fn feeds(guards: Vec<DeserializeGuard<StockFeed>>) -> Feeds {
        let feeds = Feeds::default();
        feeds.write().watches = 1;
        feeds.replace(None, guards, true);
        feeds
    }

    #[test]
    fn a_list_of_one_namespace_leaves_the_others_alone() {
        let feeds = feeds(vec![guard("a", "1", &json!({})), guard("b", "2", &json!({}))]);
        feeds.replace(Some("b"), vec![guard("b", "3", &json!({}))], false);
        let keys: Vec<_> = feeds.all().iter().map(|feed| feed.key.to_string()).collect();
        assert_eq!(keys, ["a/1", "b/3"]);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_there_all_the_same() {
        let bad = serde_json::from_value(json!({
            "apiVersion": "stockfeed.dev/v1alpha1", "kind": "StockFeed",
            "metadata": {"namespace": "a", "name": "bad", "uid": "u"}, "spec": {"symbols": 3},
        }));
        let feeds = feeds(vec![bad.unwrap(), guard("a", "good", &json!({}))]);
        let all = feeds.all();
        assert!(all[0].object.is_err(), "{:?}", all[0].object);
        assert!(all[1].object.is_ok());
    }

    #[test]
    fn a_feed_is_found_by_its_job_id() {
        let feeds = feeds(vec![guard("a", "1", &json!({})), guard("a", "2", &json!({}))]);
        let id = feeds.all()[1].id();
        assert_eq!((id.len(), feeds.by_id(&id).unwrap().key.name.as_str()), (32, "2"));
        assert!(feeds.by_id("0").is_none());
    }
}
