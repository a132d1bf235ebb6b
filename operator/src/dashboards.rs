//! The dashboards of feeds in Apache Superset: imported, compared, healed, and removed with their feeds.
//!
//! ```text
//!  reconciliation of a feed ──wants──► [Dashboards] ◄──asks and tells── loop ──REST──► Superset
//!                           ◄─verdict─              ──wakes the feed──►
//! ```
//!
//! A reconciliation only says what it wants, and reads what came of it last: Superset is spoken with in a loop of its own, so that one
//! which is away, slow or wrong holds up no feed. What is known is in memory; after a restart all of it is found out again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contract::names::FeedName;
use jiff::Timestamp;
use options::Superset;
use secrecy::{ExposeSecret as _, SecretString};
use superset::Connection;
use tokio::sync::{Notify, broadcast};

use crate::{
    api::{
        DriftPolicy, StockFeed,
        status::{ConditionType, DashboardsStatus, reason},
    },
    build::{Applied, Resources},
    connection::DatabaseConnection,
    status::{Truth, Verdict, find},
    validate::ValidatedFeed,
};

pub mod access;
mod client;
mod inventory;
mod look;
pub mod options;
mod removal;
mod rights;
pub mod round;
pub mod run;
mod subject;

/// How many changes may wait for a feed's controller. Who lags further behind looks at all of its feeds soon anyway.
const CHANGES: usize = 4_096;

/// What feeds want of Superset, and what came of it. Reconciliations and the loop share it.
#[derive(Debug)]
pub struct Dashboards {
    settings: Superset,
    feeds: Mutex<BTreeMap<FeedName, Entry>>,
    wake: Notify,
    changes: broadcast::Sender<FeedName>,
}

#[derive(Debug)]
struct Entry {
    wanted: Arc<Wanted>,
    /// The revision that was there before this operator began.
    before: Option<String>,
    said: Option<Said>,
}

/// What is to be said of a feed's dashboards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether they are as they should be.
    pub verdict: Verdict,
    /// Where they are; `None`: they are not.
    pub status: Option<DashboardsStatus>,
}

/// The dashboards that a feed wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is in them.
    pub feed: superset::Feed,
    /// Of the role that Superset reads as.
    pub password: SecretString,
    /// When the password was made, as far as is known.
    pub made: Timestamp,
    /// What becomes of changes.
    pub policy: DriftPolicy,
    /// Whether they lie in the installation's database, so that the dashboard of all feeds can read them.
    pub in_default_database: bool,
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Self) -> bool {
        let rest = |wanted: &Self| (wanted.made, wanted.policy, wanted.in_default_database);
        self.feed == other.feed
            && rest(self) == rest(other)
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Dashboards {
    /// Nothing is wanted yet.
    #[must_use]
    pub fn new(settings: Superset) -> Self {
        Self {
            settings,
            feeds: Mutex::default(),
            wake: Notify::new(),
            changes: broadcast::channel(CHANGES).0,
        }
    }

    /// A reconciliation tells what a feed wants, and gets what is to be said of its dashboards.
    pub fn want(&self, feed: &StockFeed, validated: &ValidatedFeed, applied: &Resources<Applied>) -> Said {
        let name = &validated.name;
        if !feed.spec.dashboards.enabled {
            self.forget(name);
            return Said::nothing(Verdict::no(
                reason::NOT_ENABLED,
                "spec.dashboards.enabled is false",
            ));
        }
        let database = match &validated.database {
            Ok(database) if applied.database.verdict.is_true() => Ok(database),
            Ok(_) => Err("the feed's schema is not as it should be"),
            Err(_) => Err("the feed has no database"),
        };
        match database {
            Ok(database) => {
                let status = feed.status.as_ref();
                let before = status.and_then(|status| Some(status.dashboards.as_ref()?.revision.clone()));
                self.request(name, wanted(feed, validated, database), before);
            }
            // The tables are made first. A feed that had dashboards before keeps them.
            Err(why) if !self.lock().contains_key(name) => {
                return known(feed).unwrap_or_else(|| Said::nothing(Verdict::no(reason::WAITING, why)));
            }
            Err(_) => {}
        }
        self.said(name)
            .or_else(|| known(feed))
            .unwrap_or_else(|| Said::nothing(Verdict::unknown(reason::PENDING, "not looked at yet")))
    }

    /// A feed wants these dashboards. `before`: the revision that it had before this operator began.
    pub fn request(&self, name: &FeedName, wanted: Wanted, before: Option<String>) {
        let mut feeds = self.lock();
        match feeds.get_mut(name) {
            Some(entry) if *entry.wanted == wanted => return,
            Some(entry) => entry.wanted = Arc::new(wanted),
            None => {
                let entry = Entry {
                    wanted: Arc::new(wanted),
                    before,
                    said: None,
                };
                feeds.insert(name.clone(), entry);
            }
        }
        self.wake.notify_one();
    }

    /// What is to be said of a feed's dashboards; `None`: they were not looked at yet.
    #[must_use]
    pub fn said(&self, name: &FeedName) -> Option<Said> {
        self.lock().get(name).and_then(|entry| entry.said.clone())
    }

    /// A feed has no dashboards any more.
    pub fn forget(&self, name: &FeedName) {
        if self.lock().remove(name).is_some() {
            self.wake.notify_one();
        }
    }

    /// Feeds of which something else is to be said from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<FeedName> {
        self.changes.subscribe()
    }

    /// What feeds want, each with the revision that it had before this operator began.
    fn wanted(&self) -> Vec<(FeedName, Arc<Wanted>, Option<String>)> {
        let feeds = self.lock();
        feeds
            .iter()
            .map(|(name, entry)| (name.clone(), Arc::clone(&entry.wanted), entry.before.clone()))
            .collect()
    }

    /// What is to be said of a feed's dashboards from now on.
    fn tell(&self, name: &FeedName, said: Said) {
        let mut feeds = self.lock();
        let Some(entry) = feeds
            .get_mut(name)
            .filter(|entry| entry.said.as_ref() != Some(&said))
        else {
            return;
        };
        entry.said = Some(said);
        // While no controller runs nobody listens.
        let _: Result<usize, _> = self.changes.send(name.clone());
    }

    /// What is to be said of all of them: Superset itself cannot be used.
    fn tell_all(&self, verdict: &Verdict) {
        let names: Vec<FeedName> = self.lock().keys().cloned().collect();
        for name in names {
            let status = {
                let feeds = self.lock();
                let said = feeds.get(&name).and_then(|entry| entry.said.as_ref());
                said.and_then(|said| said.status.clone())
            };
            let verdict = verdict.clone();
            self.tell(&name, Said { verdict, status });
        }
    }

    /// Whether something else is said of a feed than what was seen of it: that Superset cannot be used.
    fn is_in_trouble(&self, name: &FeedName, seen: &Verdict) -> bool {
        let feeds = self.lock();
        let said = feeds.get(name).and_then(|entry| entry.said.as_ref());
        said.is_none_or(|said| said.verdict.reason != seen.reason)
    }

    /// Returns when somebody wants something else.
    async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FeedName, Entry>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wanted(feed: &StockFeed, validated: &ValidatedFeed, database: &DatabaseConnection) -> Wanted {
    let name = &validated.name;
    // As the reader's Secret has it: other programs know no rule of ours.
    let said = database.sslmode.is_some() || database.authority.is_some();
    let mode = database.mode().ok().filter(|_| said);
    Wanted {
        feed: superset::Feed {
            namespace: name.namespace().to_owned(),
            name: name.name().to_owned(),
            schema: name.schema(),
            calls_per_day: validated
                .quota()
                .calls_per_day
                .and_then(|calls| u64::try_from(calls).ok()),
            connection: Connection {
                host: database.host.clone(),
                port: database.port,
                database: database.dbname.clone(),
                user: name.reader_role(),
                ssl_mode: mode.map(|mode| mode.name().to_owned()),
                certificate_authority: database.authority.clone(),
            },
        },
        password: validated.reader_secret.credential.password.clone(),
        made: validated.reader_secret.credential.made,
        policy: feed.spec.dashboards.drift_policy,
        in_default_database: feed
            .spec
            .database
            .as_ref()
            .is_none_or(|connection| connection.secret_ref.is_none()),
    }
}

impl Said {
    const fn nothing(verdict: Verdict) -> Self {
        Self {
            verdict,
            status: None,
        }
    }
}

/// What was said before this operator began: it holds until it is looked at.
fn known(feed: &StockFeed) -> Option<Said> {
    let status = feed.status.as_ref()?;
    let condition = find(status, ConditionType::DashboardsReady)?;
    let of_before = [reason::WAITING, reason::NOT_ENABLED].contains(&condition.reason.as_str());
    let truth = match condition.status.as_str() {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    };
    (!of_before).then(|| Said {
        verdict: Verdict {
            truth,
            reason: condition.reason.clone().into(),
            message: condition.message.clone(),
        },
        status: status.dashboards.clone(),
    })
}
