//! Of two operators one leads. The other takes over when that one dies, is asked to end, or is stopped; feeds notice nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    database::{self, count},
    feed::{self, Feed, condition},
    namespace::run_in,
    process, say, wait,
    workload::{await_available, first_container},
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::api::DeleteParams;

/// How long a Lease lasts from when its last renewal was seen.
const LEASE: Duration = Duration::from_secs(15);
/// The next look at it, its requests, and a machine that has other things to do.
const LOOK: Duration = Duration::from_secs(6);
/// Without the Lease having to run out.
const AT_ONCE: Duration = Duration::from_secs(6);
/// How soon a new feed works, whoever looks after it.
const READY: Duration = Duration::from_secs(150);

/// Who leads.
struct Leader {
    identity: String,
    pod: String,
    transitions: i32,
}

/// Who leads, as the Lease says.
async fn leader(cluster: &Cluster) -> Result<Leader> {
    let name = format!("{RELEASE}-operator");
    let lease = cluster.api::<Lease>(SYSTEM).get(&name).await?;
    let spec = lease.spec.context("the Lease is empty")?;
    let identity = spec.holder_identity.unwrap_or_default();
    let (pod, _) = identity.rsplit_once('_').context("nobody leads")?;
    Ok(Leader {
        pod: pod.to_owned(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        identity,
    })
}

/// Waits until another leads, and says who, and how long that took. After a kill that may be the same pod with a new process, which
/// waits for the Lease as the other pod does.
async fn another_leads(
    cluster: &Cluster,
    before: &Leader,
    since: Instant,
    within: Duration,
) -> Result<Leader> {
    let next = wait::until("another operator leads", within, async || {
        let now = leader(cluster).await?;
        ensure!(now.identity != before.identity, "{} still leads", now.pod);
        Ok(now)
    })
    .await?;
    say(format!(
        "{} leads, {:.1}s after",
        next.pod,
        since.elapsed().as_secs_f64()
    ));
    ensure!(
        next.transitions == before.transitions + 1,
        "the Lease changed hands {} times",
        next.transitions - before.transitions
    );
    Ok(next)
}

/// Waits until both operators are there, one of which leads.
async fn both(cluster: &Cluster) -> Result<Leader> {
    let name = format!("{RELEASE}-operator");
    await_available(cluster, SYSTEM, &name, Duration::from_secs(180)).await?;
    wait::until("one of them leads", LEASE + LOOK, async || leader(cluster).await).await
}

async fn pod_of(cluster: &Cluster, leader: &Leader) -> Result<Pod> {
    Ok(cluster.api::<Pod>(SYSTEM).get(&leader.pod).await?)
}

/// A feed with a Secret that it needs; it is just made, and far from ready.
async fn begin(cluster: &Cluster, namespace: &str, name: &str) -> Result<Feed> {
    let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
    cluster
        .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
        .await?;
    let feed = Feed::new(cluster, namespace, name)?;
    feed.apply(&feed::spec()).await?;
    wait::until("its first reconciliation is seen", LOOK * 5, async || {
        let object = feed.get().await?;
        let ready = condition(&object, "Ready").context("there is no condition yet")?;
        ensure!(ready.status != "True", "it is ready already");
        Ok(())
    })
    .await?;
    Ok(feed)
}

#[tokio::test]
async fn when_the_leader_is_killed_in_mid_work_the_other_goes_on_and_no_condition_flaps() -> Result<()> {
    run_in("e2e-leader-killed", async |cluster, namespace| {
        let first = both(cluster).await?;
        let feed = begin(cluster, namespace, "orphaned").await?;
        let killed = Instant::now();
        process::kill(cluster, &pod_of(cluster, &first).await?).await?;
        let second = another_leads(cluster, &first, killed, LEASE + LOOK).await?;
        feed.await_ready(READY).await?;

        // Once more, while all is well: ticks go on to be stored meanwhile, and the feed says so throughout.
        both(cluster).await?;
        let mut reader = database::reader(cluster, &feed.name).await?;
        let ready_since = ready_since(&feed).await?;
        let stored = count(&mut reader, &feed.name, "stock_data").await?;
        let killed = Instant::now();
        process::kill(cluster, &pod_of(cluster, &second).await?).await?;
        let alone = count(&mut reader, &feed.name, "stock_data").await?;
        another_leads(cluster, &second, killed, LEASE + LOOK).await?;
        let taken_over = count(&mut reader, &feed.name, "stock_data").await?;
        ensure!(
            stored <= alone && alone < taken_over,
            "{stored}, {alone}, {taken_over} ticks: nothing was stored while nobody led"
        );
        let watched = Instant::now();
        while watched.elapsed() < Duration::from_secs(30) {
            let since = self::ready_since(&feed).await?;
            ensure!(since == ready_since, "Ready changed at {since}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }

        // The new leader works.
        let mut spec = feed::spec();
        spec["symbols"] = serde_json::json!(["AAPL", "MSFT"]);
        feed.apply(&spec).await?;
        feed.await_ready(READY).await
    })
    .await
}

/// When the feed became ready; an error when it is not.
async fn ready_since(feed: &Feed) -> Result<String> {
    let ready = condition(&feed.get().await?, "Ready").context("there is no condition Ready")?;
    ensure!(
        ready.status == "True",
        "Ready is {}: {}: {}",
        ready.status,
        ready.reason,
        ready.message
    );
    Ok(ready.last_transition_time.0.to_string())
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_hands_over_at_once() -> Result<()> {
    run_in("e2e-leader-ends", async |cluster, namespace| {
        let first = both(cluster).await?;
        let feed = begin(cluster, namespace, "handed-over").await?;
        let asked = Instant::now();
        let pods = cluster.api::<Pod>(SYSTEM);
        pods.delete(&first.pod, &DeleteParams::default()).await?;
        // What is under way is finished first, and waits for a broker or database at most a few seconds.
        another_leads(cluster, &first, asked, AT_ONCE).await?;
        feed.await_ready(READY).await?;
        both(cluster).await.map(|_| ())
    })
    .await
}

#[tokio::test]
async fn a_leader_that_was_stopped_past_its_lease_writes_nothing_and_ends() -> Result<()> {
    run_in("e2e-leader-stopped", async |cluster, namespace| {
        let first = both(cluster).await?;
        let feed = begin(cluster, namespace, "frozen").await?;
        let pod = pod_of(cluster, &first).await?;
        let container = first_container(&pod).and_then(|status| status.container_id.clone());
        let processes = process::of_pod(&pod);
        let stopped = Instant::now();
        if !process::stop(&processes, true).await? {
            say("the operator's process cannot be reached from here: this cannot be seen on this cluster");
            return Ok(());
        }
        // Let go on whatever comes of this, and before the kubelet kills it for not answering.
        let taken_over = another_leads(cluster, &first, stopped, LEASE + LOOK).await;
        process::stop(&processes, false).await?;
        let second = taken_over?;

        let pods = cluster.api::<Pod>(SYSTEM);
        let code = wait::until("its process has ended by itself", LOOK * 5, async || {
            let pod = pods.get(&first.pod).await?;
            let status = first_container(&pod).context("it has no container yet")?;
            let mut ended = [&status.state, &status.last_state]
                .into_iter()
                .flatten()
                .filter_map(|state| state.terminated.as_ref());
            let of_this = ended.find(|ended| ended.container_id == container);
            let ended = of_this.context("it has not ended")?;
            Ok(ended.exit_code)
        })
        .await?;
        ensure!(code == 1, "exit code {code}");
        let now = leader(cluster).await?;
        ensure!(now.identity == second.identity, "{} leads", now.identity);
        // It had begun with a feed that was far from ready, and another has made it ready meanwhile.
        feed.await_ready(READY).await?;
        let since = ready_since(&feed).await?;
        tokio::time::sleep(LEASE).await;
        ensure!(ready_since(&feed).await? == since, "Ready changed");
        both(cluster).await.map(|_| ())
    })
    .await
}
