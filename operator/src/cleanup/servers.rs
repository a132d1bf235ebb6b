//! Takes away what a deleted feed has in the broker and the database, and says for how long a server that is away is waited for.

use std::time::Duration;

use snafu::ResultExt as _;

use super::{
    DRAIN_TIME, Deletion, DereferenceSnafu, Error,
    plan::{Queues, Server, Used},
};
use crate::{
    broker::{self, COUNT_LAG, Publishing, Topology},
    clock,
    connection::BrokerConnection,
    context::Moment,
    database, dereference,
    events::Reason,
    generations::Generations,
    status::chain,
};

/// What there was in the broker, and what follows.
#[derive(Default)]
pub(super) struct Seen {
    /// What was counted; `None` when the broker did not answer.
    pub queues: Option<Queues>,
    /// What follows.
    pub step: Step,
}

/// One step of the broker's or database's side.
#[derive(Default)]
pub(super) enum Step {
    /// Everything is gone that had to go.
    Done,
    /// It was only looked at.
    #[default]
    Looked,
    /// The processors have to end before it can go on.
    ProcessorsFirst,
    /// Something is waited for.
    Wait(String),
    /// The server cannot be reached or used.
    Stuck(String),
}

impl Deletion<'_> {
    /// Counts what is in the broker and changes nothing.
    pub(super) async fn look_at_broker(&self) -> Result<Seen, Error> {
        let connection = match self.broker_connection().await? {
            Ok(connection) => connection,
            Err(stuck) => return Ok(stuck),
        };
        Ok(seen(self.count(&connection).await))
    }

    /// The broker's side. Under `Retain` it waits until processors have drained the queues.
    pub(super) async fn clean_broker(&self, processors: usize) -> Result<Seen, Error> {
        let connection = match self.broker_connection().await? {
            Ok(connection) => connection,
            Err(stuck) => return Ok(stuck),
        };
        Ok(seen(self.remove_from(&connection, processors).await))
    }

    /// The database's side: it is asked only when something has to go.
    pub(super) async fn clean_database(&self) -> Result<Step, Error> {
        let namespace = self.name.namespace();
        let own = self.feed.spec.database.as_ref();
        let found = dereference::database(&self.ctx.secrets, &self.ctx.defaults, namespace, own)
            .await
            .context(DereferenceSnafu)?;
        Ok(match found {
            // Without a connection nothing was made there, unless the status tells so.
            Err(_) if !self.used().database => Step::Done,
            Err(problem) => Step::Stuck(problem.to_string()),
            Ok(admin) => match database::drop(&self.ctx.databases, &admin, &self.name).await {
                Ok(()) => Step::Done,
                Err(error) => Step::Stuck(chain(&error)),
            },
        })
    }

    /// What the plan says of a server. One that is away is waited for as long as `--orphan-after` says, from when it was first missed.
    pub(super) fn server(&self, step: &Step, lost: Moment) -> Server {
        let memory = &self.ctx.memory;
        match step {
            Step::Stuck(why) => {
                let waited = memory.since_first(&self.uid, lost);
                let left = self.ctx.defaults.orphan_after.checked_sub(waited);
                let until = left
                    .filter(|left| !left.is_zero())
                    .and_then(|left| clock::now().checked_add(left).ok());
                Server::Lost {
                    why: why.clone(),
                    until,
                }
            }
            step => {
                memory.unmark(&self.uid, lost);
                match step {
                    Step::Done => Server::Done,
                    _ => Server::Answers,
                }
            }
        }
    }

    async fn broker_connection(&self) -> Result<Result<BrokerConnection, Seen>, Error> {
        let namespace = self.name.namespace();
        let own = self.feed.spec.broker.as_ref();
        let found = dereference::broker(&self.ctx.secrets, &self.ctx.defaults, namespace, own)
            .await
            .context(DereferenceSnafu)?;
        Ok(found.map_err(|problem| Seen {
            queues: None,
            step: match self.used().broker {
                true => Step::Stuck(problem.to_string()),
                // Without a connection nothing was made there.
                false => Step::Done,
            },
        }))
    }

    fn used(&self) -> Used {
        Used::of(self.feed.status.as_ref())
    }

    /// It names everything that is looked for here, whatever the generations are.
    fn topology(&self) -> Topology {
        Topology::new(&self.name, None, Publishing::default(), String::new().into())
    }

    async fn count(&self, connection: &BrokerConnection) -> Result<Seen, broker::Error> {
        let client = broker::Client::new(&self.ctx.http, connection, &self.ctx.metrics.requests)?;
        let topology = self.topology();
        let found = client.queues(&topology).await?;
        Ok(Seen {
            queues: Some(Queues::new(&found, &topology)),
            step: Step::Looked,
        })
    }

    async fn remove_from(
        &self,
        connection: &BrokerConnection,
        processors: usize,
    ) -> Result<Seen, broker::Error> {
        let memory = &self.ctx.memory;
        let client = broker::Client::new(&self.ctx.http, connection, &self.ctx.metrics.requests)?;
        let topology = self.topology();
        client.delete_exchange(&topology.exchange).await?;

        // A count is only believed when it is newer than the last change.
        let quiet = memory.since_first(&self.uid, Moment::PublishingEnded);
        let found = client.queues(&topology).await?;
        let queues = Queues::new(&found, &topology);
        let and = |step| Seen {
            queues: Some(queues.clone()),
            step,
        };
        let counting = || Step::Wait("counting what is left in the queues".to_owned());
        if self.retain && processors > 0 {
            if quiet < COUNT_LAG {
                return Ok(and(counting()));
            }
            let left = queues.consumed(self.consumed_generation());
            if left != Some(0) && self.elapsed < DRAIN_TIME {
                let left = left.map_or_else(|| "uncounted".to_owned(), |left| left.to_string());
                return Ok(and(Step::Wait(format!(
                    "waiting for the processors to store {left} queued messages"
                ))));
            }
            // Drained, or out of time: now the processors go, and this comes again without them.
            return Ok(and(Step::ProcessorsFirst));
        }
        if self.retain {
            let ended = memory.since_first(&self.uid, Moment::ProcessingEnded);
            if ended < COUNT_LAG {
                return Ok(and(counting()));
            }
        } else if processors > 0 {
            return Ok(and(Step::ProcessorsFirst));
        }

        let kept = match self.retain {
            true => queues.kept(&found, &topology),
            false => Default::default(),
        };
        for queue in found.values().filter(|queue| !kept.contains(queue.name.as_str())) {
            client.delete_queue(&queue.name).await?;
        }
        client.delete_user(&topology.user).await?;
        let holding: Vec<_> = found
            .values()
            .filter(|queue| kept.contains(queue.name.as_str()) && queue.messages() != Some(0))
            .map(|queue| match queue.messages() {
                Some(messages) => format!("queue {} ({messages} messages)", queue.name),
                None => format!("queue {} (not counted)", queue.name),
            })
            .collect();
        if !holding.is_empty() {
            let note = format!(
                "kept {} with messages that nothing has processed: a StockFeed of the same name takes them up",
                holding.join(", ")
            );
            let events = &self.ctx.events;
            events.publish(self.feed, Reason::MessagesKept, &note).await;
        }
        Ok(and(Step::Done))
    }

    /// The generation of queues that processors consume.
    fn consumed_generation(&self) -> Option<u32> {
        let status = self.feed.status.as_ref();
        status
            .and_then(Generations::of_status)
            .map(|generations| generations.first().generation)
    }

    /// For people: what may be left behind.
    pub(super) fn left_behind(&self, stuck: &str) -> String {
        let waited: Duration = self.ctx.defaults.orphan_after;
        format!(
            "gave up after {}: {stuck}. Left behind may be: exchange and queues {}*, user {}, schema and roles {}*",
            contract::duration::format(waited),
            self.name.queue_prefix(),
            self.name.broker_user(),
            self.name.schema()
        )
    }
}

fn seen(answer: Result<Seen, broker::Error>) -> Seen {
    answer.unwrap_or_else(|error| Seen {
        queues: None,
        step: Step::Stuck(chain(&error)),
    })
}
