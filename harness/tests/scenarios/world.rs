//! What all scenarios share, and what each does with its feed.

use std::{
    collections::BTreeMap,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use harness::{NAMESPACE, OperatorProcess, Stand, feed};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::Deployment, core::v1::Secret, events::v1::Event},
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use operator::api::StockFeed;
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _};

/// How long something may take to come true. The longest is that a queue has no consumer: believed after 30 s, by a count that lags
/// 12 s, seen 15 s later at most; on a busy machine each takes longer. It says when to give up, not how fast the operator is.
const WITHIN: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(250);
/// How long the operator waits for a broker or database that is gone.
pub const ORPHAN_AFTER: Duration = Duration::from_secs(10);

/// What all scenarios share.
pub struct Shared {
    pub stand: Stand,
    operator: Mutex<Option<OperatorProcess>>,
    folder: tempfile::TempDir,
}

/// What one scenario works with.
pub struct World {
    shared: Arc<Shared>,
    /// Feeds that it has made.
    made: Mutex<Vec<String>>,
}

impl Deref for World {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl World {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            made: Mutex::default(),
        }
    }

    /// Marks every feed that it has made for deletion: what is not looked at any more should cost nothing.
    pub async fn leave(&self) -> Result<()> {
        let made = std::mem::take(&mut *self.made.lock().map_err(|_| anyhow::anyhow!("poisoned"))?);
        for name in made {
            let deleted = self.stand.feeds().delete(&name, &DeleteParams::default()).await;
            ensure!(
                deleted.is_ok() || self.stand.feeds().get_opt(&name).await?.is_none(),
                "{name} cannot be deleted"
            );
        }
        Ok(())
    }
}

impl Shared {
    pub async fn make() -> Result<Self> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let folder = tempfile::tempdir()?;
        let stand = Stand::make(&program("STOCKFEED_TEST_KUBE")?, folder.path()).await?;
        let shared = Self {
            stand,
            operator: Mutex::default(),
            folder,
        };
        shared.start_operator().await?;
        Ok(shared)
    }

    /// Starts an operator; the one before has ended.
    pub async fn start_operator(&self) -> Result<()> {
        let operator = OperatorProcess::start(
            &program("STOCKFEED_TEST_OPERATOR")?,
            &self.stand.api_server,
            self.folder.path(),
            &[
                "--resync-period=10s",
                &format!("--orphan-after={}s", ORPHAN_AFTER.as_secs()),
                "--rollout-deadline=10s",
            ],
        )?;
        operator.wait_until_ready().await?;
        *self.operator.lock().map_err(|_| anyhow::anyhow!("poisoned"))? = Some(operator);
        Ok(())
    }

    /// Kills the operator.
    pub fn kill_operator(&self) -> Result<()> {
        let operator = self
            .operator
            .lock()
            .map_err(|_| anyhow::anyhow!("poisoned"))?
            .take();
        operator.context("no operator runs")?.kill()
    }

    /// The end of the operator's log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("operator.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Asks RabbitMQ's management API.
    pub async fn broker(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        self.stand.broker.management(method, path, body).await
    }

    /// Executes SQL as the superuser.
    pub async fn sql(&self, statement: &str) -> Result<()> {
        let mut connection = self.stand.database.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(())
    }

    /// Asks SQL for one value that is true or false.
    pub async fn sql_is(&self, query: &str) -> Result<bool> {
        let mut connection = self.stand.database.connect().await?;
        let answer = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(answer)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.stand.client.clone(), NAMESPACE)
    }

    /// A copy of the installation's Secret `of` ("broker" or "database") with some keys changed or, with null, removed.
    pub async fn connection(&self, of: &str, name: &str, changes: Value) -> Result<()> {
        let api = self.api::<Secret>();
        let mut data = api
            .get(&format!("installation-{of}"))
            .await?
            .data
            .unwrap_or_default();
        for (key, value) in changes.as_object().into_iter().flatten() {
            match value.as_str() {
                Some(text) => data.insert(key.clone(), k8s_openapi::ByteString(text.as_bytes().to_vec())),
                None => data.remove(key),
            };
        }
        let secret = Secret {
            metadata: kube::core::ObjectMeta {
                name: Some(name.to_owned()),
                ..Default::default()
            },
            data: Some(data),
            ..Secret::default()
        };
        match api.get_opt(name).await? {
            Some(_) => api.replace(name, &PostParams::default(), &secret).await?,
            None => api.create(&PostParams::default(), &secret).await?,
        };
        Ok(())
    }
}

/// A condition as it is expected: type, status, reason.
pub type Expected<'a> = (&'a str, &'a str, &'a str);

/// What a feed says when everything that can be there without a node is there.
pub const AT_REST: &[Expected<'static>] = &[
    ("Ready", "False", "Progressing"),
    ("Reconciling", "True", "Progressing"),
    ("Stalled", "False", "Settled"),
    ("BrokerReady", "True", "AsDeclared"),
    ("SchemaReady", "True", "AsDeclared"),
    ("SourceReady", "Unknown", "Pending"),
    ("ProducerReady", "False", "Progressing"),
    ("ProcessorReady", "False", "Progressing"),
    ("Suspended", "False", "NotSuspended"),
];

/// One feed.
pub struct Scene<'a> {
    pub world: &'a World,
    pub name: String,
}

impl<'a> Scene<'a> {
    /// Creates a feed whose spec is the ordinary one, changed.
    pub async fn create(world: &'a World, name: &str, changes: Value) -> Result<Self> {
        let mut value = serde_json::to_value(feed(0)?)?;
        value["metadata"]["name"] = json!(name);
        merge(&mut value["spec"], &changes);
        let feed: StockFeed = serde_json::from_value(value)?;
        world.stand.feeds().create(&PostParams::default(), &feed).await?;
        Ok(Self {
            world,
            name: name.to_owned(),
        })
    }

    /// Creates the ordinary feed and waits until it is at rest.
    pub async fn at_rest(world: &'a World, name: &str) -> Result<Self> {
        let scene = Self::create(world, name, json!({})).await?;
        scene.expect("creation", AT_REST).await?;
        Ok(scene)
    }

    /// Changes the spec.
    pub async fn patch(&self, spec: Value) -> Result<i64> {
        let patch = Patch::Merge(json!({"spec": spec}));
        let changed = self
            .world
            .stand
            .feeds()
            .patch(&self.name, &PatchParams::default(), &patch)
            .await?;
        changed.metadata.generation.context("no generation")
    }

    /// Sets an annotation, or with null removes it.
    pub async fn annotate(&self, key: &str, value: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        self.world
            .stand
            .feeds()
            .patch_metadata(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Replaces the finalizers.
    pub async fn finalizers(&self, finalizers: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        self.world
            .stand
            .feeds()
            .patch_metadata(&self.name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Makes the operator look now, as a change would.
    pub async fn nudge(&self) -> Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        self.annotate("example.com/nudge", json!(count.to_string())).await
    }

    /// Says of the producer's Deployment, as its controller would, that it has no pod.
    pub async fn no_producer_runs(&self) -> Result<()> {
        let name = format!("{}-producer", self.name);
        let api = self.world.api::<Deployment>();
        let has_none = async || -> Result<bool> {
            let deployment = api.get_opt(&name).await?;
            let spec = deployment.and_then(|deployment| deployment.spec);
            Ok(spec.is_some_and(|spec| spec.replicas == Some(0)))
        };
        self.until("the producer has no replicas", has_none).await?;
        let generation = api.get(&name).await?.metadata.generation;
        let status =
            json!({"status": {"observedGeneration": generation, "replicas": 0, "updatedReplicas": 0}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
            .await?;
        Ok(())
    }

    /// Marks the feed for deletion.
    pub async fn delete(&self) -> Result<()> {
        self.world
            .stand
            .feeds()
            .delete(&self.name, &DeleteParams::default())
            .await?;
        Ok(())
    }

    /// Waits until the feed is gone.
    pub async fn gone(&self) -> Result<()> {
        self.until("the feed is gone", async || Ok(self.feed().await?.is_none()))
            .await
    }

    pub async fn feed(&self) -> Result<Option<StockFeed>> {
        Ok(self.world.stand.feeds().get_opt(&self.name).await?)
    }

    /// Conditions by their type: status, reason, message.
    pub async fn conditions(&self) -> Result<BTreeMap<String, [String; 3]>> {
        let feed = self.feed().await?.context("the feed is gone")?;
        let status = feed.status.unwrap_or_default();
        let conditions = status.conditions.into_iter();
        Ok(conditions
            .map(|condition| {
                (
                    condition.type_,
                    [condition.status, condition.reason, condition.message],
                )
            })
            .collect())
    }

    /// Waits until these conditions hold, all at once and for the spec as it is.
    pub async fn expect(&self, step: &str, expected: &[Expected<'_>]) -> Result<()> {
        let began = Instant::now();
        loop {
            let feed = self
                .feed()
                .await?
                .with_context(|| format!("{step}: the feed is gone"))?;
            let generation = feed.metadata.generation;
            let status = feed.status.clone().unwrap_or_default();
            let holds = |(kind, truth, reason): &Expected<'_>| {
                status.conditions.iter().any(|condition| {
                    condition.type_ == *kind && condition.status == *truth && condition.reason == *reason
                })
            };
            if status.observed_generation == generation && expected.iter().all(holds) {
                return Ok(());
            }
            if began.elapsed() > WITHIN {
                let missing: Vec<_> = expected.iter().filter(|one| !holds(one)).collect();
                let said: Vec<_> = status
                    .conditions
                    .iter()
                    .map(|one| format!("{}={} {} ({})", one.type_, one.status, one.reason, one.message))
                    .collect();
                bail!("{step}: expected {missing:?}, found {said:#?}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until an Event of the feed has this reason and these words.
    pub async fn event(&self, reason: &str, words: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let events = self.world.api::<Event>().list(&ListParams::default()).await?;
            let own: Vec<_> = events
                .items
                .iter()
                .filter(|event| {
                    let regarding = event.regarding.as_ref();
                    regarding.and_then(|object| object.name.as_deref()) == Some(self.name.as_str())
                })
                .map(|event| {
                    let text = |text: &Option<String>| text.clone().unwrap_or_default();
                    (text(&event.reason), text(&event.note))
                })
                .collect();
            if own
                .iter()
                .any(|(said, note)| said == reason && note.contains(words))
            {
                return Ok(());
            }
            ensure!(
                began.elapsed() < WITHIN,
                "{}: no Event {reason} with {words:?} among {own:?}",
                self.name
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !is_so().await? {
            if began.elapsed() > WITHIN {
                let status = self.feed().await?.and_then(|feed| feed.status);
                bail!(
                    "{}: not so: {what}; its status: {}",
                    self.name,
                    serde_json::to_string(&status)?
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Changes a child as somebody else would, and waits until `is_healed` says of it that it is as before, with an Event.
    pub async fn heals<K>(
        &self,
        name: &str,
        change: Value,
        event: &str,
        is_healed: impl Fn(&K) -> bool,
    ) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api = self.world.api::<K>();
        let changed = api
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await?;
        ensure!(!is_healed(&changed), "{name}: the change changed nothing");
        let what = format!("{} {name} is healed", K::kind(&()));
        self.until(&what, async || {
            Ok(api.get_opt(name).await?.is_some_and(|live| is_healed(&live)))
        })
        .await?;
        self.event("ObjectHealed", event).await
    }

    /// Deletes a child, and waits until another one is there, with an Event.
    pub async fn comes_back<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api = self.world.api::<K>();
        let before = api.get(name).await?.uid();
        api.delete(name, &DeleteParams::default()).await?;
        let what = format!("{} {name} is back", K::kind(&()));
        self.until(&what, async || {
            let live = api.get_opt(name).await?;
            Ok(live.is_some_and(|live| live.uid() != before && live.meta().deletion_timestamp.is_none()))
        })
        .await?;
        self.event(
            "ObjectHealed",
            &format!("{} {name} had been removed", K::kind(&())),
        )
        .await
    }

    /// The name of a broker's thing of the feed: `markets.<feed>.<what>`.
    pub fn of_broker(&self, what: &str) -> String {
        format!("{NAMESPACE}.{}.{what}", self.name)
    }

    /// A path of the management API below the virtual host.
    pub fn path(&self, kind: &str, what: &str) -> String {
        format!("{kind}/{}/{what}", self.world.stand.broker.vhost)
    }

    /// Whether the management API has something at a path.
    pub async fn has(&self, path: &str) -> Result<bool> {
        let (kind, rest) = path.split_once('/').unwrap_or((path, ""));
        let (vhost, name) = rest.split_once('/').unwrap_or(("", rest));
        let list = match vhost {
            "" => kind.to_owned(),
            vhost => format!("{kind}/{vhost}"),
        };
        let all = self.world.broker(Method::GET, &list, None).await?;
        Ok(all
            .as_array()
            .into_iter()
            .flatten()
            .any(|one| one["name"] == name))
    }

    /// The feed's schema. Names of scenarios have no hyphen.
    pub fn schema(&self) -> String {
        format!("{NAMESPACE}_{}", self.name)
    }
}

/// JSON merge patch, as far as it is needed here.
fn merge(target: &mut Value, changes: &Value) {
    match changes {
        Value::Object(changes) if target.is_object() => {
            for (key, change) in changes {
                match change {
                    Value::Null => {
                        target.as_object_mut().map(|target| target.remove(key));
                    }
                    change => merge(&mut target[key], change),
                }
            }
        }
        changes => *target = changes.clone(),
    }
}

fn program(variable: &str) -> Result<PathBuf> {
    let path =
        std::env::var_os(variable).with_context(|| format!("{variable} is not set; run cargo xtask test"))?;
    ensure!(Path::new(&path).exists(), "{variable} names nothing");
    Ok(path.into())
}
