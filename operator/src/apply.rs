//! Step 4: makes the cluster, the broker and the database as built.
//!
//! Each object is read first and written only when it differs, so that a feed at rest causes no writes. Broker and
//! database are judged by themselves: trouble with one stops neither the other nor the status. Workers come last, and are
//! first made when what they need is there; after that they are kept up to date whatever the others do.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use snafu::{ResultExt, Snafu, ensure};
use tracing::{Instrument as _, trace_span};

use crate::{
    api::{
        StockFeed,
        status::{ConditionType, StockFeedStatus, reason},
    },
    broker,
    build::{Applied, Optional, Prepared, Resources, WorkloadPlan, WorkloadState},
    children::Child,
    context::{Context, Moment},
    database,
    dereference::hex,
    labels::{APPLIED_HASH, MANAGED_BY, MANAGER},
    status::{Verdict, find},
};

mod difference;

use difference::{covers, differences};

/// How often ticks older than the retention are dropped.
const RETENTION_PERIOD: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Why something could not be applied.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The API server refused or did not answer.
    #[snafu(display("failed to {verb} {kind} {name}"))]
    Kubernetes {
        /// `read`, `apply` or `remove`.
        verb: &'static str,
        /// Of what kind.
        kind: String,
        /// Which.
        name: String,
        /// Why.
        #[snafu(source(from(kube::Error, Box::new)))]
        source: Box<kube::Error>,
    },
    /// The object cannot be written as JSON.
    #[snafu(display("failed to render {kind} {name}"))]
    Render {
        /// Of what kind.
        kind: String,
        /// Which.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An object of this name belongs to something else.
    #[snafu(display("{kind} {name} exists and does not belong to this feed"))]
    NameTaken {
        /// Of what kind.
        kind: String,
        /// Which.
        name: String,
    },
}

impl Error {
    /// As a condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NameTaken { .. } => reason::NAME_TAKEN,
            Self::Kubernetes { .. } | Self::Render { .. } => reason::APPLY_FAILED,
        }
    }
}

/// What applying did to Kubernetes objects.
#[derive(Debug, Default)]
pub struct Changes {
    /// Objects that were written.
    pub written: usize,
    /// Those that somebody else had changed or removed.
    pub healed: Vec<String>,
}

/// Applies everything of a feed, and counts in `changes` what that took, even when something later fails.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn apply(
    ctx: &Context,
    feed: &StockFeed,
    prepared: Resources<Prepared>,
    changes: &mut Changes,
) -> Result<Resources<Applied>, Error> {
    // Taken apart completely: a kind that is not applied does not compile.
    let Resources {
        service_accounts,
        secrets,
        config_maps,
        services,
        network_policies,
        disruption_budgets,
        broker,
        database,
        producer,
        processor,
    } = prepared;
    let mut applier = Applier::new(ctx, feed, changes);

    let made = Made::before(feed.status.as_ref());
    let service_accounts = applier
        .all::<ServiceAccount>(service_accounts, made.objects)
        .await?;
    // Secrets and configurations before the pods that mount them.
    let secrets = applier.all::<Secret>(secrets, made.secrets).await?;
    let config_maps = applier.all::<ConfigMap>(config_maps, made.config_maps).await?;
    let services = applier.all::<Service>(services, made.objects).await?;
    // Before the pods, which are so never without.
    let network_policies = applier
        .optional::<NetworkPolicy>(network_policies, made.objects)
        .await?;
    let disruption_budgets = applier
        .all::<PodDisruptionBudget>(disruption_budgets, made.objects)
        .await?;

    let uid = feed.uid().unwrap_or_default();
    let last = ctx.memory.since(&uid, Moment::RetentionRan);
    let clean_up = last.is_none_or(|elapsed| elapsed >= RETENTION_PERIOD);
    let (broker, database) = tokio::join!(
        broker::reconcile(&ctx.brokers, broker).instrument(trace_span!(target: traces::TARGET, "broker")),
        database::reconcile(&ctx.databases, database, clean_up)
            .instrument(trace_span!(target: traces::TARGET, "database"))
    );
    if clean_up && database.verdict.is_true() {
        ctx.memory.mark(&uid, Moment::RetentionRan);
    }

    let for_producer = [&broker.verdict];
    let for_processor = [&broker.verdict, &database.verdict];
    let producer = applier.workload(producer, &for_producer, made.producer).await?;
    let processor = applier
        .workload(processor, &for_processor, made.processor)
        .await?;
    Ok(Resources {
        service_accounts,
        secrets,
        config_maps,
        services,
        network_policies,
        disruption_budgets,
        broker,
        database,
        producer,
        processor,
    })
}

/// What was made before: what of it is missing now was removed by somebody.
struct Made {
    objects: bool,
    config_maps: bool,
    secrets: bool,
    producer: bool,
    processor: bool,
}

impl Made {
    /// As the status tells it.
    fn before(status: Option<&StockFeedStatus>) -> Self {
        let reason_of = |kind| {
            status
                .and_then(|status| find(status, kind))
                .map(|condition| condition.reason.as_str())
        };
        let beyond = |kind, before: &[&str]| reason_of(kind).is_some_and(|reason| !before.contains(&reason));
        let not_made = [reason::PENDING, reason::WAITING];
        Self {
            objects: beyond(ConditionType::BrokerReady, &not_made),
            // They name queues, and wait until it is known which there are.
            config_maps: status.is_some_and(|status| status.queue_generation.is_some()),
            // Both are known only after their Secrets were written.
            secrets: status
                .is_some_and(|status| status.queue_generation.is_some() && status.schema_version.is_some()),
            producer: beyond(ConditionType::ProducerReady, &not_made),
            processor: beyond(ConditionType::ProcessorReady, &not_made),
        }
    }
}

struct Applier<'a> {
    ctx: &'a Context,
    namespace: String,
    uid: String,
    changes: &'a mut Changes,
}

impl<'a> Applier<'a> {
    fn new(ctx: &'a Context, feed: &StockFeed, changes: &'a mut Changes) -> Self {
        Self {
            ctx,
            namespace: feed.namespace().unwrap_or_default(),
            uid: feed.uid().unwrap_or_default(),
            changes,
        }
    }

    async fn all<K>(&mut self, wanted: Vec<K>, made: bool) -> Result<Vec<K>, Error>
    where
        K: Child,
    {
        let mut applied = Vec::with_capacity(wanted.len());
        for object in wanted {
            let live = self.known::<K>(&object.name_any()).await?;
            applied.push(self.one(object, live, made).await?);
        }
        Ok(applied)
    }

    /// As [`Self::all`]; and removes what the feed has no longer. Where none is there, they were never made: the installation has just
    /// decided for them.
    async fn optional<K>(&mut self, objects: Optional<K>, made: bool) -> Result<Optional<K>, Error>
    where
        K: Child,
    {
        let Optional { wanted, unwanted } = objects;
        let watched = |name: &str| K::cache(&self.ctx.children)?.unpacked(&self.namespace, name);
        // The watch suffices: what it does not see has not our label, and is none of our business.
        let ours = |name: &&String| watched(name).is_some_and(|live| belongs_to(&live, &self.uid));
        let made = made && wanted.iter().any(|object| watched(&object.name_any()).is_some());
        let leftover: Vec<_> = unwanted.iter().filter(ours).cloned().collect();
        for name in &leftover {
            self.remove::<K>(name).await?;
        }
        let wanted = self.all::<K>(wanted, made).await?;
        Ok(Optional { wanted, unwanted })
    }

    async fn remove<K: Child>(&mut self, name: &str) -> Result<(), Error> {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            removed => {
                self.changes.written += 1;
                removed.map(drop).context(KubernetesSnafu {
                    verb: "remove",
                    kind: K::kind(&()),
                    name,
                })
            }
        }
    }

    async fn workload(
        &mut self,
        plan: WorkloadPlan,
        prerequisites: &[&Verdict],
        made: bool,
    ) -> Result<WorkloadState, Error> {
        let live = self.known::<Deployment>(&plan.name).await?;
        let missing = prerequisites.iter().find(|verdict| !verdict.is_true());
        let (deployment, missing) = match (plan.deployment, missing) {
            (Err(waiting), _) => (None, Some(waiting)),
            (Ok(_), Some(missing)) if live.is_none() => (None, Some(missing.message.clone())),
            (Ok(deployment), _) => (Some(deployment), None),
        };
        let observed = match deployment {
            Some(deployment) => Some(self.one(*deployment, live, made).await?),
            None => live,
        };
        Ok(WorkloadState {
            observed,
            waiting: missing,
        })
    }

    /// An object as the watch has it. The API server is asked where there is none: the watch sees only what has our label.
    async fn known<K: Child>(&self, name: &str) -> Result<Option<K>, Error> {
        match K::cache(&self.ctx.children).and_then(|cache| cache.unpacked(&self.namespace, name)) {
            Some(object) => Ok(Some(object)),
            None => self.read(name).await,
        }
    }

    async fn read<K: Child>(&self, name: &str) -> Result<Option<K>, Error> {
        let read = match K::secret(&self.ctx.secrets, &self.namespace, name) {
            Some(remembered) => remembered.await,
            None => self.api::<K>().get_opt(name).await,
        };
        read.context(KubernetesSnafu {
            verb: "read",
            kind: K::kind(&()),
            name,
        })
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(self.ctx.client.clone(), &self.namespace)
    }

    /// Applies one object, if it differs from what is there. One that was `made` before and is missing was removed by somebody.
    async fn one<K>(&mut self, wanted: K, live: Option<K>, made: bool) -> Result<K, Error>
    where
        K: Child,
    {
        let kind = K::kind(&()).into_owned();
        let name = wanted.name_any();
        let render = |object: &K| {
            serde_json::to_value(object).context(RenderSnafu {
                kind: &kind,
                name: &name,
            })
        };
        let hash = hash(&render(&wanted)?);
        let mut wanted = wanted;
        wanted
            .annotations_mut()
            .insert(APPLIED_HASH.to_owned(), hash.clone());
        let rendered = render(&wanted)?;

        let live = match live {
            Some(live) if belongs_to(&live, &self.uid) && covers(&render(&live)?, &rendered) => {
                return Ok(live);
            }
            // The watch may be behind: what is written now has to follow from what is there now.
            Some(_) => self.api::<K>().get_opt(&name).await.context(KubernetesSnafu {
                verb: "read",
                kind: &kind,
                name: &name,
            })?,
            None => None,
        };
        let mut drift = None;
        let existed = live.is_some();
        match live {
            Some(live) => {
                ensure!(
                    belongs_to(&live, &self.uid),
                    NameTakenSnafu {
                        kind: &kind,
                        name: &name
                    }
                );
                let found = render(&live)?;
                if covers(&found, &rendered) {
                    return Ok(live);
                }
                // The same as was applied last, and yet different: somebody changed it.
                if live.annotations().get(APPLIED_HASH) == Some(&hash) {
                    let what = differences(&found, &rendered, !K::IS_SECRET);
                    drift = Some(format!("{kind} {name} had been changed: {what}"));
                }
            }
            None if made => drift = Some(format!("{kind} {name} had been removed")),
            None => {}
        }

        let applied = self
            .send::<K>(&name, &rendered, existed)
            .await
            .context(KubernetesSnafu {
                verb: "apply",
                kind: &kind,
                name: &name,
            })?;
        tracing::debug!(kind, name, "Applied an object");
        self.changes.written += 1;
        applied.wrote(&self.ctx.secrets, &self.namespace);
        if let Some(drift) = drift {
            // What the API server will not take as we write it is not healed by writing it: no Event for that, ever again.
            if covers(&render(&applied)?, &rendered) {
                self.changes.healed.push(drift);
            }
        }
        Ok(applied)
    }

    async fn send<K: Child>(&self, name: &str, rendered: &Value, existed: bool) -> Result<K, kube::Error> {
        let api = self.api::<K>();
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = api.patch(name, &parameters, &Patch::Apply(rendered)).await;
        match applied {
            // Entries of a list are told apart by a key. Where somebody changed a key, ours would come beside theirs, which
            // the API server refuses. A merge replaces lists as a whole; then ours can be applied.
            Err(kube::Error::Api(status)) if existed && status.is_invalid() => {
                let merge = PatchParams {
                    field_manager: Some(MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api.patch(name, &merge, &Patch::Merge(rendered)).await?;
                api.patch(name, &parameters, &Patch::Apply(rendered)).await
            }
            applied => applied,
        }
    }
}

/// Whether an object is this feed's: it names the feed as its owner, or somebody took the owner away but left our label.
fn belongs_to(object: &impl Resource, uid: &str) -> bool {
    let meta = object.meta();
    match meta.owner_references.as_deref() {
        Some(owners) if !owners.is_empty() => owners.iter().any(|owner| owner.uid == uid),
        _ => {
            let labels = meta.labels.as_ref();
            labels
                .and_then(|labels| labels.get(MANAGED_BY))
                .is_some_and(|manager| manager == MANAGER)
        }
    }
}

fn hash(rendered: &Value) -> String {
    // Keys of a JSON object are sorted, so the same object has the same bytes.
    hex(&Sha256::digest(rendered.to_string())[..16])
}

#[cfg(test)]
mod tests;
