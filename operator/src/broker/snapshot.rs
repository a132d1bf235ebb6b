//! What a virtual host holds, read once for all feeds in it.
//!
//! A look takes six requests, however many feeds there are. How old it may be grows with what it costs, so that looking
//! takes the broker at most a seventh of its time.

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
/// The share of that after which the next look begins, so that with many feeds nobody waits for it.
const AHEAD: f64 = 0.75;
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
    latest: Mutex<Option<Look>>,
    /// Held by who asks the broker.
    asking: tokio::sync::Mutex<()>,
    wrote: Mutex<HashMap<String, Instant>>,
}

/// The last attempt. That it failed is shared as well: a broker that does not answer is not asked by each feed in turn.
#[derive(Clone)]
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
            latest: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
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
    pub async fn look(self: &Arc<Self>, exchange: &str) -> Result<Arc<Snapshot>, Verdict> {
        if let Some(look) = self.usable(exchange) {
            if look.age() >= AHEAD {
                self.look_ahead();
            }
            return look.outcome;
        }
        let _asking = self.asking.lock().await;
        // Somebody else may have asked meanwhile.
        match self.usable(exchange) {
            Some(look) => look.outcome,
            None => self.ask().await,
        }
    }

    /// The last look, when it still says how things are.
    fn usable(&self, exchange: &str) -> Option<Look> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let look = latest.as_ref()?;
        let newer = self.wrote(exchange).is_none_or(|wrote| look.began > wrote);
        (newer && look.age() < 1.0).then(|| look.clone())
    }

    /// Begins the next look, if nobody does. Who looks meanwhile has the last one.
    fn look_ahead(self: &Arc<Self>) {
        let broker = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(_asking) = broker.asking.try_lock() {
                // The outcome is kept for who comes next.
                broker.ask().await.ok();
            }
        });
    }

    async fn ask(&self) -> Result<Arc<Snapshot>, Verdict> {
        let began = Instant::now();
        let read = self.client.snapshot().await;
        let outcome = read
            .map(Arc::new)
            .map_err(|error| Verdict::no(error.reason(), crate::status::chain(&error)));
        let look = Look {
            began,
            took: began.elapsed(),
            outcome: outcome.clone(),
        };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
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

impl Look {
    /// How much of its life is over: 1 when it is too old.
    fn age(&self) -> f64 {
        self.began.elapsed().div_duration_f64(lifetime(self.took))
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
    use tokio::net::TcpListener;

    use super::{super::Publishing, *};
    use crate::{connection::Scheme, http_client};

    fn empty() -> Snapshot {
        Snapshot {
            read_at: Instant::now(),
            exchanges: HashMap::new(),
            queues: BTreeMap::new(),
            bindings: HashMap::new(),
            users: HashMap::new(),
            permissions: HashMap::new(),
        }
    }

    #[tokio::test]
    async fn who_looks_shortly_before_a_look_is_too_old_has_it_and_the_next_one_begins() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = BrokerConnection {
            host: "127.0.0.1".to_owned(),
            port: 1,
            username: "a".to_owned(),
            password: String::new().into(),
            vhost: "/".to_owned(),
            management_port: nobody.local_addr().unwrap().port(),
            management_scheme: Scheme::Http,
            tls: false,
            authority: None,
            client: None,
            worker_client: None,
        };
        let http = http_client::build(None, Duration::from_secs(5)).unwrap();
        let broker = Brokers::new(http, Requests::default()).of(&connection).unwrap();
        let before = Arc::new(empty());
        let seen = async |share: f64| {
            // So that the test's own time does not count.
            let took = MAX_AGE;
            let began = Instant::now().checked_sub(MAX_AGE.mul_f64(share)).unwrap();
            let outcome = Ok(Arc::clone(&before));
            *broker.latest.lock().unwrap() = Some(Look { began, took, outcome });
            broker.look("x").await.unwrap()
        };
        assert!(Arc::ptr_eq(&seen(0.1).await, &before));
        assert!(
            tokio::time::timeout(Duration::from_millis(200), nobody.accept())
                .await
                .is_err()
        );
        assert!(
            Arc::ptr_eq(&seen(0.8).await, &before),
            "nobody waits for the broker"
        );
        let asked = tokio::time::timeout(Duration::from_secs(60), nobody.accept()).await;
        assert!(asked.is_ok(), "the next look began");
    }

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
            queues: names.iter().map(queue).collect(),
            ..empty()
        };
        let topology = Topology::new(&tech, None, Publishing::default(), String::new().into());
        let found: Vec<_> = snapshot.of(&topology).queues.into_keys().collect();
        assert_eq!(found, [tech.dead_letter_queue(), tech.queue(1, 0)]);
    }
}
