//! What a virtual host holds, read once for all feeds in it.
//!
//! A look takes six requests, however many feeds there are. How old it may be grows with what it costs, so that looking
//! takes the broker at most a tenth of its time.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Client, Error,
    topology::{Binding, Exchange, Observed, Permissions, Queue, Topology, User},
};
use crate::{connection::BrokerConnection, metrics::requests::Requests, status::Verdict};

/// How old a look may be that cost nothing.
const MIN_AGE: Duration = Duration::from_secs(2);
/// How old a look may ever be.
const MAX_AGE: Duration = Duration::from_secs(15);
/// A broker that no feed has used for this long is forgotten, with its password.
const UNUSED: Duration = Duration::from_secs(600);

/// All brokers that feeds use.
pub struct Brokers {
    http: reqwest::Client,
    requests: Requests,
    brokers: Mutex<HashMap<String, (Instant, Arc<Broker>)>>,
}

/// One virtual host of a broker, as one user may see it.
pub struct Broker {
    /// With the right to manage.
    pub client: Client,
    latest: tokio::sync::Mutex<Option<Look>>,
    wrote: Mutex<HashMap<String, Instant>>,
}

/// The last attempt. That it failed is shared as well: a broker that does not answer is not asked by each feed in turn.
struct Look {
    began: Instant,
    took: Duration,
    outcome: Result<Arc<Snapshot>, Verdict>,
}

/// What a virtual host held.
#[derive(Debug)]
pub struct Snapshot {
    /// When it was asked for.
    pub read_at: Instant,
    /// By name.
    pub exchanges: HashMap<String, Exchange>,
    /// By name.
    pub queues: BTreeMap<String, Queue>,
    /// By the exchange that they lead from.
    pub bindings: HashMap<String, Vec<Binding>>,
    /// By name.
    pub users: HashMap<String, User>,
    /// By user.
    pub permissions: HashMap<String, Permissions>,
}

impl Brokers {
    /// None is known yet. `http` is used for those that name neither an authority nor a certificate of their own.
    #[must_use]
    pub fn new(http: reqwest::Client, requests: Requests) -> Self {
        Self {
            http,
            requests,
            brokers: Mutex::default(),
        }
    }

    /// The broker of a connection.
    ///
    /// # Errors
    /// When the connection names an authority or a certificate that is none, or a host that is none.
    pub fn of(&self, connection: &BrokerConnection) -> Result<Arc<Broker>, Error> {
        let key = connection.fingerprint();
        let now = Instant::now();
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        brokers.retain(|_, (used, _)| now.saturating_duration_since(*used) < UNUSED);
        if let Some((used, broker)) = brokers.get_mut(&key) {
            *used = now;
            return Ok(Arc::clone(broker));
        }
        let broker = Arc::new(Broker {
            client: Client::new(&self.http, connection, &self.requests)?,
            latest: tokio::sync::Mutex::default(),
            wrote: Mutex::default(),
        });
        brokers.insert(key, (now, Arc::clone(&broker)));
        Ok(broker)
    }
}

impl Broker {
    /// What the virtual host holds, newer than the last write to this exchange and its queues.
    ///
    /// # Errors
    /// What is to be said of a broker that cannot be asked.
    pub async fn look(&self, exchange: &str) -> Result<Arc<Snapshot>, Verdict> {
        let mut latest = self.latest.lock().await;
        if let Some(look) = latest.as_ref() {
            let newer = self.wrote(exchange).is_none_or(|wrote| look.began > wrote);
            if newer && look.began.elapsed() < lifetime(look.took) {
                return look.outcome.clone();
            }
        }
        let began = Instant::now();
        let read = self.client.snapshot().await;
        let outcome = read
            .map(Arc::new)
            .map_err(|error| Verdict::no(error.reason(), crate::status::chain(&error)));
        *latest = Some(Look {
            began,
            took: began.elapsed(),
            outcome: outcome.clone(),
        });
        outcome
    }

    /// Something of this exchange, its queues or its user is written now: what was seen before says nothing of it.
    pub fn writes(&self, exchange: &str) {
        let mut wrote = self.wrote.lock().unwrap_or_else(PoisonError::into_inner);
        wrote.retain(|_, when| when.elapsed() < MAX_AGE * 2);
        wrote.insert(exchange.to_owned(), Instant::now());
    }

    fn wrote(&self, exchange: &str) -> Option<Instant> {
        let wrote = self.wrote.lock().unwrap_or_else(PoisonError::into_inner);
        wrote.get(exchange).copied()
    }
}

/// How long a look is good for that took so long.
fn lifetime(took: Duration) -> Duration {
    (took * 10).clamp(MIN_AGE, MAX_AGE)
}

impl Snapshot {
    /// What is there of a feed.
    #[must_use]
    pub fn of(&self, topology: &Topology) -> Observed {
        let mut queues: BTreeMap<String, Queue> = self
            .queues
            .range(topology.queue_prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&topology.queue_prefix))
            .map(|(name, queue)| (name.clone(), queue.clone()))
            .collect();
        let dead = &topology.dead_letters.name;
        if let Some(queue) = self.queues.get(dead) {
            queues.insert(dead.clone(), queue.clone());
        }
        Observed {
            exchange: self.exchanges.get(&topology.exchange).cloned(),
            queues,
            bindings: self.bindings.get(&topology.exchange).cloned().unwrap_or_default(),
            user: self.users.get(&topology.user).cloned(),
            permissions: self.permissions.get(&topology.user).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::names::FeedName;
    use serde_json::json;

    use super::{super::Publishing, *};

    #[test]
    fn a_look_lives_ten_times_as_long_as_it_took_within_bounds() {
        let seconds = |seconds| lifetime(Duration::from_secs_f64(seconds)).as_secs_f64();
        assert!((seconds(0.01) - 2.0).abs() < 1e-9);
        assert!((seconds(0.5) - 5.0).abs() < 1e-9);
        assert!((seconds(60.0) - 15.0).abs() < 1e-9);
    }

    #[test]
    fn a_feed_sees_what_is_its_own_and_nothing_of_one_with_a_longer_name() {
        let tech = FeedName::new("markets", "tech").unwrap();
        let technology = FeedName::new("markets", "technology").unwrap();
        let names = [
            tech.queue(1, 0),
            tech.dead_letter_queue(),
            technology.queue(1, 0),
            technology.dead_letter_queue(),
        ];
        let queue = |name: &String| -> (String, Queue) {
            (
                name.clone(),
                serde_json::from_value(json!({"name": name})).unwrap(),
            )
        };
        let snapshot = Snapshot {
            read_at: Instant::now(),
            exchanges: HashMap::new(),
            queues: names.iter().map(queue).collect(),
            bindings: HashMap::new(),
            users: HashMap::new(),
            permissions: HashMap::new(),
        };
        let topology = Topology::new(&tech, None, Publishing::default(), String::new().into());
        let found: Vec<_> = snapshot.of(&topology).queues.into_keys().collect();
        assert_eq!(found, [tech.dead_letter_queue(), tech.queue(1, 0)]);
    }
}
