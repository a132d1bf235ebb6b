//! Processors as task managers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use operator::labels::{Component, MANAGED_SELECTOR};
use serde_json::{Map, Value, json};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    Answer, Failure,
    metrics::{self, Asked, Values},
};
use crate::{
    api::App,
    error::{ApiError, Code},
    feeds::Key,
    observe::{
        Observation,
        ask::plain,
        pods::{PodSeen, cores},
        processor::ProcessorSeen,
        rates::Rates,
    },
};

/// A list is good for so long.
const FRESH: Duration = Duration::from_secs(10);
/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Pods that are read at once.
const PAGE: u32 = 250;

/// A processor, and whose.
pub type TaskManager = (Key, PodSeen);
/// All of them, by id.
pub type TaskManagers = Arc<BTreeMap<String, TaskManager>>;

/// Every processor of the installation, listed when somebody asks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Mutex<Option<(Instant, TaskManagers)>>>);

impl Cache {
    /// Every processor. Who asks meanwhile waits for the same list.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub async fn all(&self, client: &Client, namespaces: &[String]) -> Result<TaskManagers, ApiError> {
        let mut kept = self.0.lock().await;
        if let Some((_, all)) = kept.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Ok(Arc::clone(all));
        }
        let listed = timeout(PATIENCE, list(client, namespaces))
            .await
            .map_err(|_| ApiError::new(Code::Timeout, "the API server did not answer in time"))?
            .map_err(|error| ApiError::new(Code::Unavailable, plain(&error)))?;
        let all = Arc::new(listed);
        *kept = Some((Instant::now(), Arc::clone(&all)));
        Ok(all)
    }
}

async fn list(client: &Client, namespaces: &[String]) -> kube::Result<BTreeMap<String, TaskManager>> {
    let apis: Vec<Api<Pod>> = match namespaces {
        [] => vec![Api::all(client.clone())],
        some => some
            .iter()
            .map(|namespace| Api::namespaced(client.clone(), namespace))
            .collect(),
    };
    let selector = format!(
        "{MANAGED_SELECTOR},app.kubernetes.io/component={}",
        Component::Processor.name()
    );
    let mut all = BTreeMap::new();
    for api in apis {
        let mut parameters = ListParams::default().labels(&selector).limit(PAGE);
        loop {
            // A page at a time, of which little is kept.
            let page = api.list(&parameters).await?;
            all.extend(page.items.iter().filter_map(task_manager));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(all)
}

fn task_manager(pod: &Pod) -> Option<(String, TaskManager)> {
    let labels = pod.metadata.labels.as_ref()?;
    let key = Key {
        namespace: pod.metadata.namespace.clone()?,
        name: labels.get("app.kubernetes.io/instance")?.clone(),
    };
    let mut seen = PodSeen::of(pod)?;
    // What is not shown of thousands is not kept.
    seen.image = None;
    seen.last_exit = None;
    seen.waiting = None;
    Some((id(&key.namespace, &seen.name), (key, seen)))
}

/// As Flink's ids are: without a slash, so that it is one part of a path.
#[must_use]
pub fn id(namespace: &str, pod: &str) -> String {
    format!("{namespace}:{pod}")
}

/// Of a processor, in its metrics.
fn values(owned: usize, seen: Option<&ProcessorSeen>, pod: &PodSeen) -> Values {
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats in Flink")]
    let whole = |value: u64| value as f64;
    let rates = seen.and_then(|seen| Rates::sum(seen.rates.values()));
    let time = seen.and_then(ProcessorSeen::time);
    let known = [
        ("Status.Slots.Used", u64::try_from(owned).ok().map(whole)),
        (
            "Status.Container.Restarts",
            u64::try_from(pod.restarts).ok().map(whole),
        ),
        ("Status.Container.Memory.Limit", pod.memory_limit.map(whole)),
        (
            "Status.Container.CPU.Request",
            pod.cpu_request.as_deref().and_then(cores),
        ),
        (
            "numRecordsInPerSecond",
            rates.map(|rates| rates.messages_per_second),
        ),
        ("numBytesInPerSecond", rates.map(|rates| rates.bytes_per_second)),
        ("busyTimeMsPerSecond", time.map(|time| time.busy * 1000.0)),
        ("idleTimeMsPerSecond", time.map(|time| time.idle * 1000.0)),
        (
            "backPressuredTimeMsPerSecond",
            time.map(|time| time.backpressured * 1000.0),
        ),
    ];
    let known = known
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

/// A task manager with what was observed of it, if its feed is looked at.
struct View<'a> {
    id: &'a str,
    pod: &'a PodSeen,
    observation: Option<Arc<Observation>>,
    now: i64,
}

impl<'a> View<'a> {
    fn of(app: &App, id: &'a str, (key, pod): &'a TaskManager) -> Self {
        Self {
            id,
            pod,
            observation: app.watchers.last(key),
            now: service::clock::now().as_millisecond(),
        }
    }

    fn seen(&self) -> Option<&ProcessorSeen> {
        self.observation.as_ref()?.processors.get(&self.pod.name)
    }

    /// Partitions that it owns, and may own. Each is a slot.
    fn slots(&self) -> (usize, usize) {
        self.seen()
            .map_or((0, 0), |seen| (seen.state.partitions.len(), seen.state.queues))
    }

    fn values(&self) -> Values {
        values(self.slots().0, self.seen(), self.pod)
    }

    /// As Flink lists it. There is no heap and no memory of Flink's kinds: these are its zeros.
    fn json(&self) -> Value {
        let (owned, slots) = self.slots();
        let cpu = self
            .pod
            .cpu_limit
            .as_deref()
            .or(self.pod.cpu_request.as_deref())
            .and_then(cores);
        let memory = self.pod.memory_limit.unwrap_or(0);
        let address = self
            .pod
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        let port = Component::Processor.port();
        let none = json!({"cpuCores": 0.0, "taskHeapMemory": 0, "taskOffHeapMemory": 0, "managedMemory": 0, "networkMemory": 0, "extendedResources": {}});
        let mut total = none.clone();
        total["cpuCores"] = json!(cpu.unwrap_or(0.0));
        let heard = self.seen().map_or(self.now, |seen| seen.at.as_millisecond());
        json!({
            "id": self.id, "path": format!("http://{address}:{port}/state"), "dataPort": port, "jmxPort": -1, "timeSinceLastHeartbeat": heard,
            "slotsNumber": slots, "freeSlots": slots.saturating_sub(owned), "totalResource": total, "freeResource": none,
            "hardware": {"cpuCores": cpu.unwrap_or(0.0).ceil(), "physicalMemory": memory, "freeMemory": 0, "managedMemory": 0},
            "memoryConfiguration": {
                "frameworkHeap": 0, "taskHeap": 0, "frameworkOffHeap": 0, "taskOffHeap": 0, "networkMemory": 0, "managedMemory": 0,
                "jvmMetaspace": 0, "jvmOverhead": 0, "totalFlinkMemory": 0, "totalProcessMemory": memory,
            },
        })
    }
}

async fn all(app: &App) -> Result<TaskManagers, Failure> {
    Ok(app.task_managers.all(&app.client, &app.namespaces).await?)
}

/// `/taskmanagers`
pub async fn list_all(State(app): State<App>) -> Answer {
    let all = all(&app).await?;
    let managers: Vec<_> = all
        .iter()
        .map(|(id, manager)| View::of(&app, id, manager).json())
        .collect();
    Ok(Json(json!({"taskmanagers": managers})))
}

async fn find(app: &App, id: &str) -> Result<(TaskManagers, String), Failure> {
    let all = all(app).await?;
    match all.contains_key(id) {
        true => Ok((all, id.to_owned())),
        false => Err(super::not_found(format!("TaskExecutor {id} not found"))),
    }
}

/// `/taskmanagers/{id}`: looks at its feed, so that there is something to tell.
pub async fn one(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let (all, id) = find(&app, &id).await?;
    let manager = &all[&id];
    let feed = app.feed(&manager.0)?;
    app.look(&feed).await?;
    let view = View::of(&app, &id, manager);
    let mut answer = view.json();
    let resource = json!({"cpuCores": 0.0, "taskHeapMemory": 0, "taskOffHeapMemory": 0, "managedMemory": 0, "networkMemory": 0, "extendedResources": {}});
    let slot = |_| json!({"jobId": feed.id(), "resource": resource});
    answer["allocatedSlots"] = (0..view.slots().0).map(slot).collect();
    let zeros = [
        "heapUsed",
        "heapCommitted",
        "heapMax",
        "nonHeapUsed",
        "nonHeapCommitted",
        "nonHeapMax",
        "directCount",
        "directUsed",
        "directMax",
        "mappedCount",
        "mappedUsed",
        "mappedMax",
        "memorySegmentsAvailable",
        "memorySegmentsTotal",
        "nettyShuffleMemorySegmentsAvailable",
        "nettyShuffleMemorySegmentsUsed",
        "nettyShuffleMemorySegmentsTotal",
        "nettyShuffleMemoryAvailable",
        "nettyShuffleMemoryUsed",
        "nettyShuffleMemoryTotal",
    ];
    let mut metrics: Map<String, Value> = zeros.iter().map(|name| ((*name).to_owned(), json!(0))).collect();
    metrics.insert("garbageCollectors".to_owned(), json!([]));
    answer["metrics"] = Value::Object(metrics);
    Ok(Json(answer))
}

/// `/taskmanagers/{id}/metrics`
pub async fn metrics(State(app): State<App>, Path(id): Path<String>, Query(asked): Query<Asked>) -> Answer {
    let (all, id) = find(&app, &id).await?;
    Ok(Json(metrics::plain(
        &View::of(&app, &id, &all[&id]).values(),
        &asked,
    )))
}

/// `/taskmanagers/metrics`
pub async fn metrics_together(State(app): State<App>, Query(asked): Query<Asked>) -> Answer {
    let all = all(&app).await?;
    let values: Vec<_> = all
        .iter()
        .map(|(id, manager)| View::of(&app, id, manager).values())
        .collect();
    Ok(Json(metrics::aggregated(&values, &asked)))
}

/// `/taskmanagers/{id}/logs`: there are none; the cluster keeps them.
pub async fn logs(State(app): State<App>, Path(id): Path<String>) -> Answer {
    find(&app, &id).await?;
    Ok(Json(json!({"logs": []})))
}

/// `/taskmanagers/{id}/log` and `/stdout`: where they are.
pub async fn log(State(app): State<App>, Path(id): Path<String>) -> Result<String, Failure> {
    let (all, id) = find(&app, &id).await?;
    let (key, pod) = &all[&id];
    Ok(format!(
        "The cluster keeps the log: kubectl logs {} -n {}\n",
        pod.name, key.namespace
    ))
}

/// `/taskmanagers/{id}/thread-dump`: there are no threads to tell of.
pub async fn thread_dump(State(app): State<App>, Path(id): Path<String>) -> Answer {
    find(&app, &id).await?;
    Ok(Json(json!({"threadInfos": []})))
}

/// `/taskmanagers/{id}/profiler`: there is none.
pub async fn profiler(State(app): State<App>, Path(id): Path<String>) -> Answer {
    find(&app, &id).await?;
    Ok(Json(json!({"profilingList": []})))
}
