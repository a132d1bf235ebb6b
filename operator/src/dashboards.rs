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
use secrecy::{ExposeSecret as _, SecretString};
use superset::Connection;
use tokio::sync::{Notify, broadcast};

use crate::{
    api::{
        DriftPolicy, StockFeed,
        status::{ConditionType, reason},
    },
    build::{Applied, Resources},
    connection::DatabaseConnection,
    status::{Truth, Verdict, find},
    validate::ValidatedFeed,
};

pub mod access;
pub mod options;

/// How many changes may wait for a feed's controller. Who lags further behind looks at all of its feeds soon anyway.
const CHANGES: usize = 4_096;

/// What feeds want of Superset, and what came of it. Reconciliations and the loop share it.
#[derive(Debug)]
pub struct Dashboards {
    feeds: Mutex<BTreeMap<FeedName, Entry>>,
    wake: Notify,
    changes: broadcast::Sender<FeedName>,
}

#[derive(Debug)]
struct Entry {
    wanted: Arc<Wanted>,
    verdict: Option<Verdict>,
}

/// The dashboards that a feed wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is in them.
    pub feed: superset::Feed,
    /// Of the role that Superset reads as.
    pub password: SecretString,
    /// What becomes of changes.
    pub policy: DriftPolicy,
    /// Whether they lie in the installation's database, so that the dashboard of all feeds can read them.
    pub in_default_database: bool,
}

impl PartialEq for Wanted {
    fn eq(&self, other: &Self) -> bool {
        let all = |wanted: &Self| (wanted.feed.clone(), wanted.policy, wanted.in_default_database);
        all(self) == all(other) && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Default for Dashboards {
    fn default() -> Self {
        Self {
            feeds: Mutex::default(),
            wake: Notify::new(),
            changes: broadcast::channel(CHANGES).0,
        }
    }
}

impl Dashboards {
    /// A reconciliation tells what a feed wants, and gets what is to be said of its dashboards.
    pub fn want(&self, feed: &StockFeed, validated: &ValidatedFeed, applied: &Resources<Applied>) -> Verdict {
        let name = &validated.name;
        if !feed.spec.dashboards.enabled {
            self.forget(name);
            return Verdict::no(reason::NOT_ENABLED, "spec.dashboards.enabled is false");
        }
        let database = match &validated.database {
            Ok(database) if applied.database.verdict.is_true() => Ok(database),
            Ok(_) => Err("the feed's schema is not as it should be"),
            Err(_) => Err("the feed has no database"),
        };
        let mut feeds = self.lock();
        match (database, feeds.get_mut(name)) {
            (Ok(database), known) => {
                let wanted = wanted(feed, validated, database);
                match known {
                    Some(entry) if *entry.wanted == wanted => {}
                    Some(entry) => {
                        entry.wanted = Arc::new(wanted);
                        self.wake.notify_one();
                    }
                    None => {
                        let entry = Entry {
                            wanted: Arc::new(wanted),
                            verdict: None,
                        };
                        feeds.insert(name.clone(), entry);
                        self.wake.notify_one();
                    }
                }
            }
            // The tables are made first. Those of a feed that had dashboards before keep them.
            (Err(why), None) => return known(feed).unwrap_or_else(|| Verdict::no(reason::WAITING, why)),
            (Err(_), Some(_)) => {}
        }
        let verdict = feeds.get(name).and_then(|entry| entry.verdict.clone());
        verdict
            .or_else(|| known(feed))
            .unwrap_or_else(|| Verdict::unknown(reason::PENDING, "not looked at yet"))
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
        policy: feed.spec.dashboards.drift_policy,
        in_default_database: feed
            .spec
            .database
            .as_ref()
            .is_none_or(|connection| connection.secret_ref.is_none()),
    }
}

/// What was said before this operator began: it holds until it is looked at.
fn known(feed: &StockFeed) -> Option<Verdict> {
    let condition = find(feed.status.as_ref()?, ConditionType::DashboardsReady)?;
    let of_before = [reason::WAITING, reason::NOT_ENABLED].contains(&condition.reason.as_str());
    let truth = match condition.status.as_str() {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    };
    (!of_before).then(|| Verdict {
        truth,
        reason: condition.reason.clone().into(),
        message: condition.message.clone(),
    })
}
