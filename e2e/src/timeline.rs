//! How a feed's processors and its backlog went, second by second.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::{
    broker::Broker,
    cluster::Cluster,
    feed::{Feed, condition},
    say,
};

/// How often to look.
const PERIOD: Duration = Duration::from_secs(1);

/// One look.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Since the recording began.
    pub seconds: f64,
    /// Processors that are ready.
    pub processors: i32,
    /// Processors that there are to be.
    pub wanted: i64,
    /// Messages in the feed's queues, as the broker counts them.
    pub backlog: u64,
    /// Whether the feed is ready.
    pub ready: bool,
    /// Why there are to be so many.
    pub reason: String,
}

/// Looks every second until it is dropped.
pub struct Recorder {
    moments: Arc<Mutex<Vec<Moment>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Begins.
    ///
    /// # Errors
    /// When there is no way to the broker.
    pub async fn begin(cluster: &Cluster, feed: &Feed) -> Result<Self> {
        let broker = Broker::open(cluster).await?;
        let (cluster, feed) = (cluster.clone(), feed.clone());
        let moments = Arc::<Mutex<Vec<Moment>>>::default();
        let record = Arc::clone(&moments);
        let task = tokio::spawn(async move {
            let start = Instant::now();
            let mut ticks = tokio::time::interval(PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut last = (0, String::new());
            loop {
                ticks.tick().await;
                // A look that fails is left out.
                let Ok(moment) = look(&cluster, &broker, &feed, start).await else {
                    continue;
                };
                let now = (moment.wanted, moment.reason.clone());
                if now != last {
                    say(format!(
                        "{} processors of {} run, {} messages wait: {}",
                        moment.processors, moment.wanted, moment.backlog, moment.reason
                    ));
                    last = now;
                }
                record.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
            }
        });
        Ok(Self { moments, task })
    }

    /// What was seen so far.
    #[must_use]
    pub fn moments(&self) -> Vec<Moment> {
        self.moments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes what was seen so far to a file in `STOCKFEED_ARTEFACTS`, or the folder for temporary files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str) -> Result<()> {
        let folder = std::env::var_os("STOCKFEED_ARTEFACTS").map_or_else(std::env::temp_dir, PathBuf::from);
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        let mut writer =
            csv::Writer::from_path(&path).with_context(|| format!("failed to write {}", path.display()))?;
        for moment in self.moments() {
            writer.serialize(moment)?;
        }
        writer.flush()?;
        say(format!("the timeline: {}", path.display()));
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(cluster: &Cluster, broker: &Broker, feed: &Feed, start: Instant) -> Result<Moment> {
    let seconds = (start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    let object = feed.get().await?;
    let scaling = &object.data["status"]["scaling"];
    let deployment = format!("{}-processor", feed.name.name());
    let deployment = cluster
        .api::<Deployment>(feed.name.namespace())
        .get(&deployment)
        .await?;
    let queues = broker.queues(&feed.name).await?;
    let prefix = feed.name.queue_prefix();
    Ok(Moment {
        seconds,
        processors: deployment
            .status
            .and_then(|status| status.ready_replicas)
            .unwrap_or(0),
        wanted: scaling["wanted"].as_i64().unwrap_or(0),
        backlog: queues
            .iter()
            .filter(|queue| queue.name.starts_with(&prefix))
            .map(|queue| queue.messages)
            .sum(),
        ready: condition(&object, "Ready").is_some_and(|ready| ready.status == "True"),
        reason: scaling["reason"].as_str().unwrap_or_default().to_owned(),
    })
}
