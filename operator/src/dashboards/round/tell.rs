//! What is said of a round: conditions of feeds, Events, metrics, the log.

use tracing::{info, warn};

use super::{
    super::{
        Dashboards, Said,
        look::{Done, Seen},
        subject::Subject,
    },
    Round,
};
use crate::{api::status::DashboardsStatus, events::Reason, metrics::Heal};

impl Round {
    /// Says what came of it, where it is to be seen.
    pub(super) async fn tell(&self, dashboards: &Dashboards, seen: Vec<(Subject, Seen)>, missing: &[String]) {
        for (subject, Seen { verdict, done, .. }) in seen {
            if let Some(done) = &done {
                self.announce(&subject, done).await;
            }
            let Subject::Feed(name) = &subject else {
                if !verdict.is_true() {
                    warn!(reason = %verdict.reason, detail = verdict.message, "Not as it should be: {subject}");
                }
                continue;
            };
            let Some((target, memory)) = self.subjects.get(&subject) else {
                continue;
            };
            let mut verdict = verdict;
            if verdict.is_true() && !missing.is_empty() {
                verdict.message.push_str("; Superset has no role ");
                verdict.message.push_str(&missing.join(", "));
            }
            let status = memory.held().map(|held| DashboardsStatus {
                path: target.path.clone(),
                revision: held.revision.clone(),
            });
            dashboards.tell(name, Said { verdict, status });
        }
        // Those that were not looked at again are as they were, whatever was said of all of them meanwhile.
        for (subject, (target, memory)) in &self.subjects {
            let (Subject::Feed(name), Some(verdict), Some(held)) = (subject, memory.verdict(), memory.held())
            else {
                continue;
            };
            if dashboards.is_in_trouble(name, verdict) {
                let status = Some(DashboardsStatus {
                    path: target.path.clone(),
                    revision: held.revision.clone(),
                });
                let verdict = verdict.clone();
                dashboards.tell(name, Said { verdict, status });
            }
        }
    }

    async fn announce(&self, subject: &Subject, done: &Done) {
        let (reason, note) = match done {
            Done::Imported => {
                info!("Imported {subject}");
                return;
            }
            Done::Healed(what) => {
                self.ctx.metrics.healed(Heal::Dashboards);
                info!(differences = what, "Healed {subject}");
                (Reason::DashboardsHealed, what.as_str())
            }
            Done::Drifted(what) => {
                warn!(differences = what, "Somebody changed {subject}");
                (Reason::DashboardsDrifted, what.as_str())
            }
        };
        self.publish(subject, reason, note).await;
    }

    /// Others saw a dashboard than are to see it, and those see it again.
    pub(super) async fn shown_again(&self, subject: &Subject) {
        self.ctx.metrics.healed(Heal::DashboardAccess);
        info!("Said again who sees {subject}");
        let note = "the dashboard was shown to other roles";
        self.publish(subject, Reason::DashboardsHealed, note).await;
    }

    /// An Event of the feed; all feeds together have none.
    async fn publish(&self, subject: &Subject, reason: Reason, note: &str) {
        if let Subject::Feed(name) = subject
            && let Some(feed) = self.ctx.children.feeds.get(name.namespace(), name.name())
            && let Ok(feed) = &feed.0
        {
            self.ctx.events.publish(feed, reason, note).await;
        }
    }
}
