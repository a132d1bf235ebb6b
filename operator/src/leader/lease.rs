//! The Lease at the API server: read, taken, renewed and given back, each write on the condition that it is still as it was
//! found (its resourceVersion).

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use rand::Rng as _;
use snafu::{ResultExt, Snafu};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    election::{Election, JITTER, Move, Record},
    fence::{Leadership, Moment},
    options::Candidacy,
};
use crate::{clock, labels::MANAGER, status::chain};

/// The longest that one request may take; a leader gives up earlier when its Lease runs out.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often giving the Lease back is tried. Without success the others wait until it runs out.
const RELEASES: u32 = 3;

/// Why the Lease is not held any more.
#[derive(Debug, PartialEq, Eq, Snafu)]
pub enum Loss {
    /// It could not be renewed in time.
    #[snafu(display("the Lease could not be renewed in time; another operator may lead"))]
    RanOut,
    /// Somebody else has it.
    #[snafu(display("the Lease was taken by {holder:?}"))]
    Taken {
        /// Who; nobody when it is empty.
        holder: String,
    },
}

/// The API server refused or did not answer.
#[derive(Debug, Snafu)]
#[snafu(display("failed to {action} Lease {name}"))]
struct Error {
    action: &'static str,
    name: String,
    #[snafu(source(from(kube::Error, Box::new)))]
    source: Box<kube::Error>,
}

/// What a try came to.
#[derive(Debug)]
enum Attempt {
    Held,
    /// Somebody else wrote it meanwhile.
    Conflict,
    Waiting {
        holder: String,
        left: Duration,
    },
    Lost {
        holder: String,
    },
}

/// Takes part in the election.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    election: Election,
    leadership: Leadership,
    /// The Lease as this operator wrote it last: it is renewed without being read.
    own: Option<Lease>,
    /// Whether a write was sent, with an answer or without.
    wrote: bool,
}

impl Elector {
    /// A candidate. The client must be one that lets a candidate write.
    #[must_use]
    pub fn new(client: Client, candidacy: Candidacy, leadership: Leadership) -> Self {
        let Candidacy {
            name,
            namespace,
            identity,
            terms,
        } = candidacy;
        let api = match &namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        };
        Self {
            api,
            name,
            election: Election::new(identity, terms),
            leadership,
            own: None,
            wrote: false,
        }
    }

    /// Who this is.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.election.identity()
    }

    /// Waits until the Lease is held. Returns false when the operator shall end instead.
    pub async fn acquire(&mut self, ending: &CancellationToken) -> bool {
        let mut told = None;
        while !ending.is_cancelled() {
            let mut pause = self.pause();
            match timeout(REQUEST_TIMEOUT, self.attempt()).await {
                Ok(Ok(Attempt::Held)) => return true,
                // Somebody was quicker; their name is known at the next look.
                Ok(Ok(Attempt::Conflict)) => {}
                Ok(Ok(Attempt::Waiting { holder, left })) => {
                    pause = pause.min(left);
                    if told.as_ref() != Some(&holder) {
                        info!(leader = holder, "Another operator leads; standing by");
                        told = Some(holder);
                    }
                }
                // Only a leader can lose it.
                Ok(Ok(Attempt::Lost { .. })) => {}
                Ok(Err(error)) => warn!(error = %chain(&error), "Could not ask for the Lease"),
                Err(_) => warn!("The API server does not answer; the Lease cannot be asked for"),
            }
            tokio::select! {
                () = ending.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
        // What a try wrote whose answer did not come must not keep the others waiting.
        if self.wrote {
            self.release().await;
        }
        false
    }

    /// Renews the Lease for as long as that succeeds.
    pub async fn hold(&mut self) -> Loss {
        let loss = self.renew().await;
        self.leadership.end();
        loss
    }

    async fn renew(&mut self) -> Loss {
        let retry = self.election.terms().retry_period;
        let mut conflicts = 0;
        loop {
            // After a conflict at once: whoever wrote it may lead.
            if conflicts == 0 || conflicts > 2 {
                sleep(retry.min(self.left())).await;
            }
            // One that ran out is not renewed: somebody else may have had it in between.
            let left = self.left();
            if left.is_zero() {
                return Loss::RanOut;
            }
            match timeout(left.min(REQUEST_TIMEOUT), self.attempt()).await {
                Ok(Ok(Attempt::Held)) => conflicts = 0,
                Ok(Ok(Attempt::Conflict)) => conflicts += 1,
                Ok(Ok(Attempt::Lost { holder } | Attempt::Waiting { holder, .. })) => {
                    return Loss::Taken { holder };
                }
                Ok(Err(error)) => warn!(error = %chain(&error), "Could not renew the Lease"),
                Err(_) => warn!("The API server does not answer; the Lease cannot be renewed"),
            }
        }
    }

    /// Gives the Lease back, so that the next operator takes over at once.
    pub async fn release(&mut self) {
        // First of all this one works no more.
        self.leadership.end();
        for _ in 0..RELEASES {
            match timeout(REQUEST_TIMEOUT, self.give_back()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => debug!("The Lease was written meanwhile"),
                Ok(Err(error)) => warn!(error = %chain(&error), "Could not give the Lease back"),
                Err(_) => warn!("The API server does not answer; the Lease is not given back"),
            }
        }
    }

    fn left(&self) -> Duration {
        self.leadership.left(&Moment::now()).unwrap_or_default()
    }

    fn pause(&self) -> Duration {
        let jitter = rand::rng().random_range(0.0..=JITTER);
        self.election.terms().retry_period.mul_f64(1.0 + jitter)
    }

    /// Looks at the Lease, and takes or renews it if that is this operator's turn.
    async fn attempt(&mut self) -> Result<Attempt, Error> {
        // Counted from before anything is sent: whoever sees the write sees it later.
        let begun = Moment::now();
        let found = match self.own.take() {
            Some(own) => Some(own),
            None => self.read().await?,
        };
        let known = found.as_ref().map(|lease| record_of(lease, &self.election));
        let decided = self.election.decide(known.as_ref(), Instant::now(), clock::now());
        let (record, written) = match decided {
            Move::Wait { holder, left } => return Ok(Attempt::Waiting { holder, left }),
            Move::Lost { holder } => return Ok(Attempt::Lost { holder }),
            Move::Create(record) => {
                let lease = lease_of(&self.name, None, &record);
                self.wrote = true;
                let created = self.api.create(&parameters(), &lease).await;
                (record, self.unless_conflict("create", created)?)
            }
            Move::Replace(record) => {
                let lease = lease_of(&self.name, found, &record);
                self.wrote = true;
                (record, self.replace("renew", &lease).await?)
            }
        };
        let Some(written) = written else {
            return Ok(Attempt::Conflict);
        };
        self.own = Some(written);
        self.election.confirm(record, Instant::now());
        self.leadership.renewed(begun);
        Ok(Attempt::Held)
    }

    /// Returns whether there is nothing more to be given back.
    async fn give_back(&mut self) -> Result<bool, Error> {
        let found = match self.own.take() {
            Some(own) => Some(own),
            None => self.read().await?,
        };
        let Some(found) = found else { return Ok(true) };
        let record = record_of(&found, &self.election);
        if record.holder != self.election.identity() {
            return Ok(true);
        }
        let released = self.election.released(&record, clock::now());
        let lease = lease_of(&self.name, Some(found), &released);
        let written = self.replace("give back", &lease).await?;
        if written.is_some() {
            info!("Gave the Lease back");
        }
        Ok(written.is_some())
    }

    async fn read(&self) -> Result<Option<Lease>, Error> {
        self.api.get_opt(&self.name).await.context(Snafu {
            action: "read",
            name: &self.name,
        })
    }

    async fn replace(&self, action: &'static str, lease: &Lease) -> Result<Option<Lease>, Error> {
        let replaced = self.api.replace(&self.name, &parameters(), lease).await;
        self.unless_conflict(action, replaced)
    }

    /// `None` when it is not as it was found: changed, made or removed by somebody else.
    fn unless_conflict(
        &self,
        action: &'static str,
        written: kube::Result<Lease>,
    ) -> Result<Option<Lease>, Error> {
        match written {
            Err(kube::Error::Api(status))
                if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
            {
                // A namespace that is not there is "not found" as well.
                debug!(reason = status.reason, "The Lease is not as it was found");
                Ok(None)
            }
            written => written.map(Some).context(Snafu {
                action,
                name: &self.name,
            }),
        }
    }
}

fn parameters() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// What a Lease says. What is missing is taken for what this operator would write.
fn record_of(lease: &Lease, election: &Election) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.map(i64::from);
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: match seconds.map(u64::try_from) {
            Some(Ok(seconds)) => Duration::from_secs(seconds),
            _ => election.terms().duration,
        },
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

/// The Lease with another record in it; what else it has, its resourceVersion among it, stays.
fn lease_of(name: &str, found: Option<Lease>, record: &Record) -> Lease {
    let mut lease = found.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let kept = lease.spec.take().unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(record.holder.clone()),
        lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: record.renewed.map(MicroTime),
        lease_transitions: Some(record.transitions),
        ..kept
    });
    lease
}
