//! Images of the workers change on a live feed: a bad one is put back while data goes on flowing, a good one is taken, and every
//! tick that was published is stored once, in order.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    broker::Broker,
    cluster::Cluster,
    database,
    feed::{Feed, condition},
    live::{self, all_is_stored_once, await_more_ticks, notes, nothing_was_put_aside},
    namespace::run_in,
    operator::{self, Options},
    say, wait, workload,
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

/// Each has another quote every second.
const SYMBOLS: usize = 20;
/// A change of both images: two rollouts, each with a look at the counts of the broker.
const ROLLED: Duration = Duration::from_secs(180);
/// Short, so that a bad image is given up soon.
const DEADLINE: &str = "45s";
/// A bad image until it is given up, and the way back.
const PUT_BACK: Duration = Duration::from_secs(150);
/// No node has it.
const BAD: &str = "localhost/stockfeed/none:bad";

#[tokio::test]
async fn a_bad_image_is_put_back_while_data_flows_and_a_good_one_is_taken_without_a_tick_lost() -> Result<()>
{
    run_in("e2e-upgrade", async |cluster, namespace| {
        operator::with_options(cluster, &[("rollout-deadline", DEADLINE)], async || {
            upgrade(cluster, namespace).await
        })
        .await
    })
    .await
}

async fn upgrade(cluster: &Cluster, namespace: &str) -> Result<()> {
    live::put_key(cluster, namespace).await?;
    let options = Options::read(cluster).await?;
    let (processor, producer) = (
        options.value("processor-image")?,
        options.value("producer-image")?,
    );
    let feed = Feed::new(cluster, namespace, "upgraded")?;
    let broker = Broker::open(cluster).await?;
    let mut spec = live::spec(SYMBOLS);
    spec["suspend"] = json!(true);
    feed.apply(&spec).await?;
    feed.await_ready(Duration::from_secs(120)).await?;
    broker.tap(&feed.name).await?;
    spec["suspend"] = json!(false);
    feed.apply(&spec).await?;
    await_release(
        &feed,
        "Good",
        ROLLED,
        &[("processor", processor), ("producer", producer)],
    )
    .await?;
    let mut reader = database::reader(cluster, &feed.name).await?;

    // Processors that cannot start: the old ones go on, and nothing is waited for without end.
    spec["template"] = json!({"processor": {"image": BAD}});
    feed.apply(&spec).await?;
    let rolling = feed
        .await_condition("Reconciling", "True", Duration::from_secs(60))
        .await?;
    say(format!("{}: {}", rolling.reason, rolling.message));
    await_more_ticks(&mut reader, &feed, SYMBOLS).await?;
    await_release(
        &feed,
        "RolledBack",
        PUT_BACK,
        &[("processor", processor), ("producer", producer)],
    )
    .await?;
    let stalled = feed
        .await_condition("Stalled", "True", Duration::from_secs(30))
        .await?;
    say(format!("{}: {}", stalled.reason, stalled.message));
    ensure!(
        stalled.reason == "RolledBack" && stalled.message.contains(BAD),
        "it does not say what was put back"
    );
    feed.await_ready(Duration::from_secs(60)).await?;
    await_more_ticks(&mut reader, &feed, SYMBOLS).await?;

    // A producer that cannot start: polling stops meanwhile, and goes on.
    spec["template"] = json!({"producer": {"image": BAD}});
    feed.apply(&spec).await?;
    await_release(
        &feed,
        "Progressing",
        Duration::from_secs(60),
        &[("producer", BAD)],
    )
    .await?;
    await_release(
        &feed,
        "RolledBack",
        PUT_BACK,
        &[("processor", processor), ("producer", producer)],
    )
    .await?;
    feed.await_ready(Duration::from_secs(90)).await?;
    await_more_ticks(&mut reader, &feed, SYMBOLS).await?;

    // Other names of the images that there are: both roll, and data flows all the way.
    let other_processor = image_id(cluster, &feed, "processor").await?;
    let other_producer = image_id(cluster, &feed, "producer").await?;
    ensure!(other_processor != processor && other_producer != producer);
    spec["template"] = json!({
        "processor": {"image": other_processor}, "producer": {"image": other_producer},
    });
    feed.apply(&spec).await?;
    await_release(
        &feed,
        "Good",
        ROLLED,
        &[("processor", &other_processor), ("producer", &other_producer)],
    )
    .await?;
    let object = feed.get().await?;
    let stalled = condition(&object, "Stalled").context("there is no condition Stalled")?;
    ensure!(stalled.status == "False", "Stalled: {}", stalled.message);
    await_more_ticks(&mut reader, &feed, SYMBOLS).await?;
    events_tell_of_it(cluster, &feed).await?;

    spec["suspend"] = json!(true);
    feed.apply(&spec).await?;
    feed.await_condition("Suspended", "True", Duration::from_secs(120))
        .await?;
    all_is_stored_once(&feed, &broker, &mut reader, &mut Vec::new(), SYMBOLS).await?;
    nothing_was_put_aside(&feed, &mut reader).await
}

/// What the node calls the image that a worker runs: another name for the same, which a pod may give as well.
async fn image_id(cluster: &Cluster, feed: &Feed, worker: &str) -> Result<String> {
    let pods = cluster.api::<Pod>(feed.name.namespace());
    let pod = workload::running_pod(&pods, &feed.selector(worker)).await?;
    let status = workload::first_container(&pod).context("the pod has no container yet")?;
    Ok(status.image_id.clone())
}

/// Waits until the release is in this state, with these images, and the Deployments have them.
async fn await_release(feed: &Feed, state: &str, within: Duration, images: &[(&str, &str)]) -> Result<()> {
    let mut said = String::new();
    wait::until(
        &format!("{}: {state} with {images:?}", feed.name),
        within,
        async || {
            let release = feed.get().await?.data["status"]["release"].clone();
            let text = format!("{}: {}", release["state"], release["message"]);
            if text != said {
                say(&text);
                said = text;
            }
            ensure!(release["state"] == state, "it is {release}");
            for (worker, image) in images {
                ensure!(release[worker]["image"] == *image, "{worker}: {release}");
            }
            Ok(())
        },
    )
    .await
}

async fn events_tell_of_it(cluster: &Cluster, feed: &Feed) -> Result<()> {
    for reason in ["RolloutStarted", "RolloutSucceeded", "RolledBack"] {
        let note = notes(cluster, feed, reason).await?.pop();
        say(format!("Event {reason}: {note:?}"));
        ensure!(note.is_some(), "no Event tells of {reason}");
    }
    Ok(())
}
