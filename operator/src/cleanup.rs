//! Takes a feed away: workers first, then what lies outside the cluster, then the finalizer.
//!
//! 1. The producer goes, then the exchange, so that nothing new comes in.
//! 2. Under `Retain`, processors finish what is queued, for at most a minute.
//! 3. The processors go; then the queues of all generations and the user. Under `Retain` a generation that still holds
//!    messages stays, with all its queues: how many there are decides which symbols are in which.
//! 4. Under `Delete` the schema goes with its two roles. Under `Retain` both stay as they are: readers that were given
//!    the reader's password go on reading. A feed of the same name finds all of it again, and sets new passwords.
//!
//! A broker or database that cannot be reached for ten minutes is given up with an Event, so that no namespace hangs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contract::names::FeedName;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;
use snafu::{ResultExt, Snafu};

use crate::{
    api::{DeletionPolicy, FINALIZER, StockFeed},
    broker::{self, COUNT_LAG, Publishing, Queue, Topology},
    clock,
    connection::BrokerConnection,
    context::{Context, Moment},
    database, dereference,
    events::Reason,
    generations::Generations,
    labels::{self, Component},
    status::{chain, of_deletion},
    update_status::{self, update_status},
};

/// How long processors may drain the queues, from the beginning of the deletion.
const DRAIN_TIME: Duration = Duration::from_secs(60);
/// How long pods may take to go, from the beginning of the deletion: draining and their own grace period.
const POD_TIME: Duration = Duration::from_secs(150);
/// How often to look while something goes on.
const POLL: Duration = Duration::from_secs(2);

/// Why a deletion could not go on.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The API server refused or did not answer.
    #[snafu(display("failed to {action}"))]
    Kubernetes {
        /// What was attempted.
        action: &'static str,
        /// Why.
        #[snafu(source(from(kube::Error, Box::new)))]
        source: Box<kube::Error>,
    },
    /// A Secret or a worker's pods could not be read.
    #[snafu(display("failed to find the feed's connections or pods"))]
    Dereference {
        /// Why.
        source: dereference::Error,
    },
    /// The status could not be written.
    #[snafu(display("failed to say how the deletion goes"))]
    Status {
        /// Why.
        source: update_status::Error,
    },
}

/// How a deletion stands.
#[derive(Debug)]
pub enum Progress {
    /// Everything is gone that had to go.
    Done,
    /// Something is waited for; look again then.
    Waiting(Action),
}

/// One step of the broker's or database's side.
enum Step {
    Done,
    /// The processors have to end before it can go on.
    ProcessorsFirst,
    Wait(String),
    /// The server cannot be reached or used.
    Stuck(String),
}

/// Goes on with a deletion.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn cleanup(ctx: &Context, feed: &StockFeed) -> Result<Progress, Error> {
    if !feed.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Progress::Done);
    }
    // A name that cannot be part of others never had anything outside the cluster.
    let Ok(name) = crate::validate::feed_name(feed) else {
        return finish(ctx, feed).await;
    };
    let deletion = Deletion {
        ctx,
        feed,
        name,
        uid: feed.uid().unwrap_or_default(),
        elapsed: elapsed(feed),
    };
    match deletion.advance().await? {
        Some((message, wait)) => {
            let generation = feed.metadata.generation.unwrap_or_default();
            let status = of_deletion(&message, generation, feed.status.as_ref(), clock::now());
            update_status(ctx, feed, &status).await.context(StatusSnafu)?;
            Ok(Progress::Waiting(Action::requeue(wait)))
        }
        None => finish(ctx, feed).await,
    }
}

struct Deletion<'a> {
    ctx: &'a Context,
    feed: &'a StockFeed,
    name: FeedName,
    uid: String,
    /// Since the deletion began.
    elapsed: Duration,
}

impl Deletion<'_> {
    /// Does what can be done now. Returns what is waited for and for how long, or `None` at the end.
    async fn advance(&self) -> Result<Option<(String, Duration)>, Error> {
        let retain = self.feed.spec.deletion_policy == DeletionPolicy::Retain;
        self.delete_worker(Component::Producer).await?;
        if !retain {
            self.delete_worker(Component::Processor).await?;
        }
        if self.wait_for_pods(Component::Producer).await? {
            return Ok(Some(("waiting for the producer to end".to_owned(), POLL)));
        }

        let broker = self.broker(retain).await?;
        if let Step::Wait(message) = broker {
            return Ok(Some((message, POLL)));
        }
        // The broker may be gone for good; the workers have to end in any case.
        self.delete_worker(Component::Processor).await?;
        // Their pods may go between two looks at them: what waited for that has still to be done.
        if matches!(broker, Step::ProcessorsFirst) || self.wait_for_pods(Component::Processor).await? {
            return Ok(Some(("waiting for the processors to end".to_owned(), POLL)));
        }
        let database = match retain {
            true => Step::Done,
            false => self.database().await?,
        };

        let mut stuck = Vec::new();
        for (what, step) in [("broker", broker), ("database", database)] {
            if let Step::Stuck(message) = step {
                stuck.push(format!("the {what} cannot be cleaned up: {message}"));
            }
        }
        if !stuck.is_empty() {
            let message = stuck.join("; ");
            if self.elapsed < self.ctx.defaults.orphan_after {
                return Ok(Some((message, self.ctx.backoff.next(&self.uid))));
            }
            let note = format!(
                "gave up after {}: {message}. Left behind may be: exchange and queues {}*, user {}, schema and roles {}*",
                contract::duration::format(self.ctx.defaults.orphan_after),
                self.name.queue_prefix(),
                self.name.broker_user(),
                self.name.schema()
            );
            self.ctx.events.publish(self.feed, Reason::Orphaned, &note).await;
        } else {
            let note = "everything outside the cluster that had to go is gone";
            self.ctx.events.publish(self.feed, Reason::CleanedUp, note).await;
        }
        if retain {
            let note = format!(
                "schema {} and its roles stay, as deletionPolicy Retain says",
                self.name.schema()
            );
            self.ctx
                .events
                .publish(self.feed, Reason::SchemaKept, &note)
                .await;
        }
        Ok(None)
    }

    /// The broker's side. Under `Retain` it waits until processors have drained the queues.
    async fn broker(&self, retain: bool) -> Result<Step, Error> {
        let namespace = self.name.namespace();
        let own = self.feed.spec.broker.as_ref();
        let found = dereference::broker(&self.ctx.secrets, &self.ctx.defaults, namespace, own)
            .await
            .context(DereferenceSnafu)?;
        let connection = match found {
            Ok(connection) => connection,
            Err(problem) => return Ok(Step::Stuck(problem.to_string())),
        };
        // Pods that do not go in time are waited for no longer.
        let processors = match self.elapsed < POD_TIME {
            true => self.pods(Component::Processor).await?,
            false => 0,
        };
        let step = self.remove_from(&connection, retain, processors).await;
        Ok(step.unwrap_or_else(|error| Step::Stuck(chain(&error))))
    }

    async fn remove_from(
        &self,
        connection: &BrokerConnection,
        retain: bool,
        processors: usize,
    ) -> Result<Step, broker::Error> {
        let memory = &self.ctx.memory;
        let client = broker::Client::new(&self.ctx.http, connection)?;
        // It names everything that is looked for here, whatever the generations are.
        let topology = Topology::new(&self.name, None, Publishing::default(), String::new().into());
        client.delete_exchange(&topology.exchange).await?;

        let quiet = memory.since_first(&self.uid, Moment::PublishingEnded);
        if retain && processors > 0 {
            // A count is only believed when it is newer than the last change.
            if quiet < COUNT_LAG {
                return Ok(Step::Wait("counting what is left in the queues".to_owned()));
            }
            let found = client.queues(&topology).await?;
            let left = self.consumed_messages(&found, &topology);
            if left != Some(0) && self.elapsed < DRAIN_TIME {
                let left = left.map_or_else(|| "uncounted".to_owned(), |left| left.to_string());
                return Ok(Step::Wait(format!(
                    "waiting for the processors to store {left} queued messages"
                )));
            }
            // Drained, or out of time: now the processors go, and this comes again without them.
            return Ok(Step::ProcessorsFirst);
        }
        if retain {
            let ended = memory.since_first(&self.uid, Moment::ProcessingEnded);
            if ended < COUNT_LAG {
                return Ok(Step::Wait("counting what is left in the queues".to_owned()));
            }
        } else if processors > 0 {
            return Ok(Step::ProcessorsFirst);
        }

        let found = client.queues(&topology).await?;
        let kept = match retain {
            true => kept(&found, &topology),
            false => BTreeSet::new(),
        };
        for queue in found.values().filter(|queue| !kept.contains(queue.name.as_str())) {
            client.delete_queue(&queue.name).await?;
        }
        client.delete_user(&topology.user).await?;
        if !kept.is_empty() {
            let not_empty =
                |queue: &&Queue| kept.contains(queue.name.as_str()) && queue.messages() != Some(0);
            let names: Vec<_> = found.values().filter(not_empty).map(described).collect();
            let note = format!(
                "kept {} with messages that nothing has processed: a StockFeed of the same name takes them up",
                names.join(", ")
            );
            self.ctx
                .events
                .publish(self.feed, Reason::MessagesKept, &note)
                .await;
        }
        Ok(Step::Done)
    }

    /// Messages in the queues that are consumed, ready and unacknowledged; `None` when one was not counted. Those of newer
    /// generations are not waited for: a feed of the same name processes them.
    fn consumed_messages(&self, queues: &BTreeMap<String, Queue>, topology: &Topology) -> Option<i64> {
        let status = self.feed.status.as_ref();
        let consumed = status
            .and_then(Generations::of_status)
            .map(|generations| generations.first().generation);
        queues
            .values()
            .filter(|queue| {
                let place = topology.place(&queue.name);
                place.is_some_and(|(generation, _)| consumed.is_none_or(|consumed| generation <= consumed))
            })
            .map(Queue::messages)
            .sum()
    }

    async fn database(&self) -> Result<Step, Error> {
        let namespace = self.name.namespace();
        let own = self.feed.spec.database.as_ref();
        let found = dereference::database(&self.ctx.secrets, &self.ctx.defaults, namespace, own)
            .await
            .context(DereferenceSnafu)?;
        Ok(match found {
            Err(problem) => Step::Stuck(problem.to_string()),
            Ok(admin) => match database::drop(&admin, &self.name).await {
                Ok(()) => Step::Done,
                Err(error) => Step::Stuck(chain(&error)),
            },
        })
    }

    async fn delete_worker(&self, component: Component) -> Result<(), Error> {
        let api = Api::<Deployment>::namespaced(self.ctx.client.clone(), self.name.namespace());
        let name = component.object_name(self.name.name());
        let action = "delete a worker's Deployment";
        let found = api.get_opt(&name).await.context(KubernetesSnafu { action })?;
        let ours = found.filter(|deployment| {
            let being_deleted = deployment.metadata.deletion_timestamp.is_some();
            let owners = deployment.owner_references();
            !being_deleted && owners.iter().any(|owner| owner.uid == self.uid)
        });
        if ours.is_some() {
            let deleted = api.delete(&name, &DeleteParams::background()).await;
            if let Err(error) = deleted
                && !matches!(&error, kube::Error::Api(status) if status.is_not_found())
            {
                return Err(error).context(KubernetesSnafu { action });
            }
        }
        Ok(())
    }

    /// Whether pods of a worker are still there and may take their time.
    async fn wait_for_pods(&self, component: Component) -> Result<bool, Error> {
        Ok(self.elapsed < POD_TIME && self.pods(component).await? > 0)
    }

    async fn pods(&self, component: Component) -> Result<usize, Error> {
        let (namespace, name) = (self.name.namespace(), self.name.name());
        let pods = dereference::living_pods(&self.ctx.client, namespace, name, component).await;
        Ok(pods.context(DereferenceSnafu)?.len())
    }
}

/// Removes the finalizer: Kubernetes takes the rest away through its owner.
async fn finish(ctx: &Context, feed: &StockFeed) -> Result<Progress, Error> {
    let uid = feed.uid().unwrap_or_default();
    let mut finalizers = feed.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    set_finalizers(ctx, feed, finalizers).await?;
    ctx.memory.forget(&uid);
    ctx.drains.forget(&uid);
    ctx.backoff.reset(&uid);
    Ok(Progress::Done)
}

/// Puts our finalizer on a feed, before anything is made that would outlive it.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn hold(ctx: &Context, feed: &StockFeed) -> Result<(), Error> {
    let mut finalizers = feed.finalizers().to_vec();
    if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    finalizers.push(FINALIZER.to_owned());
    set_finalizers(ctx, feed, finalizers).await
}

/// Replaces the list, unless somebody changed the object meanwhile.
async fn set_finalizers(ctx: &Context, feed: &StockFeed, finalizers: Vec<String>) -> Result<(), Error> {
    let namespace = feed.namespace().unwrap_or_default();
    let api = Api::<StockFeed>::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({
        "metadata": {"finalizers": finalizers, "resourceVersion": feed.resource_version()},
    });
    let parameters = PatchParams {
        field_manager: Some(labels::MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch(&feed.name_any(), &parameters, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(source).context(KubernetesSnafu {
            action: "change the feed's finalizers",
        }),
    }
}

/// Names of the queues that hold messages, and of the empty ones of the same generation. A queue that was never counted is
/// not known to be empty.
fn kept<'a>(queues: &'a BTreeMap<String, Queue>, topology: &Topology) -> BTreeSet<&'a str> {
    let generation = |queue: &Queue| topology.place(&queue.name).map(|(generation, _)| generation);
    let holds = |queue: &&Queue| queue.messages() != Some(0);
    let generations: BTreeSet<_> = queues.values().filter(holds).filter_map(generation).collect();
    queues
        .values()
        .filter(|queue| {
            let with_others = generation(queue).is_some_and(|generation| generations.contains(&generation));
            holds(queue) || with_others
        })
        .map(|queue| queue.name.as_str())
        .collect()
}

fn described(queue: &Queue) -> String {
    match queue.messages() {
        Some(messages) => format!("queue {} ({messages} messages)", queue.name),
        None => format!("queue {} (not counted)", queue.name),
    }
}

fn elapsed(feed: &StockFeed) -> Duration {
    let began = feed.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let elapsed = began.map(|began| clock::now().duration_since(began));
    // A clock that runs behind the API server's has seen no time pass.
    elapsed
        .and_then(|elapsed| Duration::try_from(elapsed).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_that_holds_messages_is_kept_whole() {
        let name = FeedName::new("markets", "tech").unwrap();
        let topology = Topology::new(&name, None, Publishing::default(), String::new().into());
        let queue = |name: String, messages: Option<i64>| {
            let queue = Queue {
                name: name.clone(),
                durable: true,
                arguments: serde_json::Map::new(),
                messages_ready: messages,
                messages_unacknowledged: Some(0),
                consumers: None,
                messages: None,
            };
            (name, queue)
        };
        let queues = BTreeMap::from([
            queue(name.queue(1, 0), Some(0)),
            queue(name.queue(1, 1), Some(0)),
            queue(name.queue(2, 0), Some(3)),
            queue(name.queue(2, 1), Some(0)),
            queue(name.queue(3, 0), Some(0)),
            queue(name.queue(3, 1), None),
            queue(name.dead_letter_queue(), Some(0)),
        ]);
        let kept: Vec<_> = kept(&queues, &topology).into_iter().collect();
        let expected =
            [(2, 0), (2, 1), (3, 0), (3, 1)].map(|(generation, partition)| name.queue(generation, partition));
        assert_eq!(kept, expected);
    }
}
