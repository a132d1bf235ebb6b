//! Events of feeds: what was done, healed, kept or given up. Reasons are stable.

use kube::{
    Client, Resource as _,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use strum::IntoStaticStr;
use tracing::warn;

use crate::{api::StockFeed, labels::MANAGER};

/// The longest note that an Event may have.
const MAX_NOTE: usize = 1000;
/// The longest action that an Event may have.
const MAX_ACTION: usize = 128;

/// Reasons of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Reason {
    /// Something in the broker was not as declared, and is again.
    BrokerHealed,
    /// Something in the database was not as declared, and is again.
    DatabaseHealed,
    /// A Kubernetes object was not as declared, and is again.
    ObjectHealed,
    /// Messages stay in queues that a deleted feed leaves behind.
    MessagesKept,
    /// A schema stays that a deleted feed leaves behind.
    SchemaKept,
    /// Something could not be removed, and is left behind.
    Orphaned,
    /// Everything that had to go is gone.
    CleanedUp,
    /// The spec cannot be used.
    InvalidSpec,
    /// The number of partitions changes: new queues are made.
    RepartitionStarted,
    /// The old queues are drained, and processors go on with the new ones.
    RepartitionFinished,
    /// More messages than before were published and never arrived.
    GapDetected,
    /// The workers get other images.
    RolloutStarted,
    /// Data flows on the new images.
    RolloutSucceeded,
    /// No data flowed on a new image in time, and the last good one was put back.
    RolledBack,
    /// A suspended feed is drained: everything that was published is committed.
    Drained,
    /// A feed that was suspended is not any more.
    Resumed,
    /// What may be asked of the source does not suffice for the interval.
    QuotaInsufficient,
    /// An annotation asks that the feed is left as it is.
    Paused,
    /// The feed has new passwords.
    CredentialsRotated,
    /// There are to be more processors.
    ScaledOut,
    /// There are to be fewer processors.
    ScaledIn,
    /// A consumer did not work though messages waited: its pod is replaced.
    ConsumerRestarted,
    /// Something of the dashboards in Superset was not as made, and is again.
    DashboardsHealed,
    /// Something of the dashboards in Superset is not as made, and is left so.
    DashboardsDrifted,
}

impl Reason {
    const fn kind(self) -> EventType {
        match self {
            Self::BrokerHealed
            | Self::DatabaseHealed
            | Self::ObjectHealed
            | Self::SchemaKept
            | Self::CleanedUp
            | Self::Paused
            | Self::CredentialsRotated
            | Self::RepartitionStarted
            | Self::RepartitionFinished
            | Self::RolloutStarted
            | Self::RolloutSucceeded
            | Self::Drained
            | Self::Resumed
            | Self::ScaledOut
            | Self::ScaledIn
            | Self::DashboardsHealed => EventType::Normal,
            Self::MessagesKept
            | Self::RolledBack
            | Self::Orphaned
            | Self::InvalidSpec
            | Self::GapDetected
            | Self::QuotaInsufficient
            | Self::ConsumerRestarted
            | Self::DashboardsDrifted => EventType::Warning,
        }
    }
}

/// Publishes Events.
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// A publisher.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            recorder: Recorder::new(client, Reporter::from(MANAGER)),
        }
    }

    /// Publishes an Event about a feed. A failure is logged and nothing more: in a namespace that is being deleted there
    /// can be no new Events, and that must not hold up the deletion.
    pub async fn publish(&self, feed: &StockFeed, reason: Reason, note: &str) {
        let event = Event {
            type_: reason.kind(),
            reason: <&str>::from(reason).to_owned(),
            note: Some(shortened(note, MAX_NOTE)),
            // Events of the same reason and action are counted as one and keep their first note: the note is the action.
            action: shortened(note, MAX_ACTION),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &feed.object_ref(&())).await {
            warn!(error = %error, reason = event.reason, "Could not publish an Event");
        }
    }
}

/// The text, cut off at a character so that it has at most `limit` bytes.
fn shortened(text: &str, limit: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit - ELLIPSIS.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, _) = text.split_at(end);
    format!("{kept}{ELLIPSIS}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_cut_off_at_a_character() {
        assert_eq!(shortened("short", 10), "short");
        let long = "ä".repeat(100);
        let note = shortened(&long, 20);
        assert!(note.len() <= 20 && note.ends_with('…'), "{note}");
    }
}
