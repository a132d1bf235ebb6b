//! Processors follow the load, and every message is stored once; a consumer that is stuck is replaced.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contract::symbol::Symbol;
use e2e::{
    RELEASE, SYSTEM,
    amqp::Amqp,
    broker::Broker,
    cluster::{Cluster, value},
    database::{self, Session, count},
    feed::{self, Feed},
    live::notes,
    namespace::run_in,
    say,
    timeline::{Moment, Recorder},
    wait, workload,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

/// Three times as many as there may be processors: they spread over them.
const PARTITIONS: u16 = 12;
/// The exchange that ticks of the burst claim to come from.
const BURST: &str = "BURST";
/// Less than one in a thousand of what is published.
const REDELIVERED: u64 = 60;
/// So many messages take one processor two minutes as it is slowed down here.
const MESSAGES: u32 = 60_000;
/// A processor's rows take so many milliseconds each.
const ROW: u32 = 2;

#[tokio::test]
async fn a_burst_makes_it_go_from_one_to_four_and_back_and_every_message_is_stored_once() -> Result<()> {
    run_in("e2e-scaling", async |cluster, namespace| {
        let feed = Feed::new(cluster, namespace, "scaled")?;
        let (symbols, mut spec) = spec(
            json!({"min": 1, "max": 4, "targetCatchUpSeconds": 20, "scaleDownStabilizationSeconds": 15}),
        )?;
        make(cluster, &feed, &spec).await?;
        let broker = Broker::open(cluster).await?;
        let mut admin = database::admin(cluster).await?;
        slow_down(&mut admin, &feed).await?;
        let recorder = Recorder::begin(cluster, &feed).await?;

        let amqp = Amqp::connect(cluster, &feed.name).await?;
        amqp.burst(&symbols, PARTITIONS, BURST, now(&mut admin).await?, MESSAGES)
            .await?;
        amqp.close().await?;
        say(format!("{MESSAGES} messages are published"));

        let outcome = out_and_in(cluster, &feed, &mut admin).await;
        recorder.write("scaling.csv")?;
        outcome?;
        let moments = recorder.moments();
        steps_are_as_documented(&moments)?;

        let redelivered: u64 = broker
            .queues(&feed.name)
            .await?
            .iter()
            .map(e2e::broker::Queue::redelivered)
            .sum();
        say(format!("{redelivered} messages were delivered a second time"));
        // The aim is none. None is stored twice, however many there are.
        ensure!(
            redelivered < REDELIVERED,
            "{redelivered} messages were delivered twice"
        );
        let (rows, different) = stored(&mut admin, &feed).await?;
        ensure!(
            (rows, different) == (i64::from(MESSAGES), i64::from(MESSAGES)),
            "{rows} rows of {different} messages are stored, {MESSAGES} were published"
        );
        for table in ["gaps", "quarantine"] {
            let rows = count(&mut admin, &feed.name, table).await?;
            ensure!(rows == 0, "table {table} has {rows} rows");
        }
        let (out, back) = (
            notes(cluster, &feed, "ScaledOut").await?,
            notes(cluster, &feed, "ScaledIn").await?,
        );
        say(format!("out: {out:#?}; in: {back:#?}"));
        ensure!(
            out.len() >= 2 && back.len() >= 3,
            "Events do not tell of it: {out:?} {back:?}"
        );

        by_hand(cluster, &feed, &mut spec).await
    })
    .await
}

/// Waits until there were four processors, everything is stored, and one is left.
async fn out_and_in(cluster: &Cluster, feed: &Feed, admin: &mut Session) -> Result<()> {
    let minutes = |number: u64| Duration::from_secs(60 * number);
    await_processors(cluster, feed, 4, minutes(4)).await?;
    wait::until("the burst is stored", minutes(8), async || {
        let (rows, _) = stored(admin, feed).await?;
        ensure!(rows >= i64::from(MESSAGES), "{rows} rows are");
        Ok(())
    })
    .await?;
    await_processors(cluster, feed, 1, minutes(5)).await
}

/// At most twice as many at once, one less at a time, never back and forth.
fn steps_are_as_documented(moments: &[Moment]) -> Result<()> {
    let mut numbers: Vec<i64> = moments.iter().map(|moment| moment.wanted).collect();
    numbers.dedup();
    say(format!("processors that were wanted: {numbers:?}"));
    ensure!(numbers == [1, 2, 4, 3, 2, 1], "other steps: {numbers:?}");
    let not_ready = moments.iter().filter(|moment| !moment.ready).count();
    say(format!(
        "the feed was ready in {} of {} seconds",
        moments.len() - not_ready,
        moments.len()
    ));
    Ok(())
}

/// Without a maximum `kubectl scale` says how many there are.
async fn by_hand(cluster: &Cluster, feed: &Feed, spec: &mut Value) -> Result<()> {
    spec["processing"]["replicas"] = json!({});
    feed.apply(spec).await?;
    let name = format!("stockfeeds/{}", feed.name.name());
    let namespace = feed.name.namespace();
    cluster
        .kubectl_text(&["scale", &name, "--replicas=2", "--namespace", namespace])
        .await?;
    await_processors(cluster, feed, 2, Duration::from_secs(90)).await?;
    wait::until(
        "the scale subresource says so",
        Duration::from_secs(60),
        async || {
            let scale = cluster
                .kubectl_text(&[
                    "get",
                    &name,
                    "--subresource=scale",
                    "--output=json",
                    "--namespace",
                    namespace,
                ])
                .await?;
            let scale: Value = serde_json::from_str(&scale)?;
            let status = &scale["status"];
            ensure!(status["replicas"] == 2, "it says {status}");
            let selector = status["selector"].as_str().context("there is no selector")?;
            let pods = cluster
                .api::<Pod>(namespace)
                .list(&ListParams::default().labels(selector))
                .await?;
            ensure!(pods.items.len() == 2, "it selects {} pods", pods.items.len());
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn a_consumer_that_does_not_work_is_replaced_and_not_scaled() -> Result<()> {
    run_in("e2e-stalled", async |cluster, namespace| {
        let feed = Feed::new(cluster, namespace, "stalled")?;
        let (_, spec) = spec(json!({"min": 1, "max": 4}))?;
        make(cluster, &feed, &spec).await?;
        let selector = feed.selector("processor");
        let pod = workload::await_ready_pod(cluster, namespace, &selector, Duration::from_secs(60)).await?;
        let stuck = pod.name_any();

        // What the broker sees of a processor that takes messages and does nothing with them.
        let amqp = Amqp::connect(cluster, &feed.name).await?;
        let queue = feed.name.queue(1, 0);
        let holder = amqp.hold(&queue, &format!("{stuck} stuck")).await?;
        say(format!("{queue} is taken from {stuck}"));
        wait::until("the pod is replaced", Duration::from_secs(240), async || {
            let notes = notes(cluster, &feed, "ConsumerRestarted").await?;
            let note = notes.first().context("there is no Event")?;
            ensure!(note.contains("partition 1.0") && note.contains(&stuck), "{note}");
            let now = workload::running_pod(&cluster.api::<Pod>(namespace), &selector).await?;
            ensure!(now.name_any() != stuck, "it is still there");
            say(note);
            Ok(())
        })
        .await?;
        let out = notes(cluster, &feed, "ScaledOut").await?;
        ensure!(out.is_empty(), "more processors were made: {out:?}");
        drop(holder);
        amqp.close().await?;

        let broker = Broker::open(cluster).await?;
        wait::until("what waited is processed", Duration::from_secs(120), async || {
            let queues = broker.queues(&feed.name).await?;
            let left = queues
                .iter()
                .find(|one| one.name == queue)
                .map(|one| one.messages);
            // The source goes on.
            ensure!(left.is_some_and(|left| left < 5), "{left:?} messages are left");
            Ok(())
        })
        .await?;
        feed.await_ready(Duration::from_secs(120)).await
    })
    .await
}

/// Forty symbols, one of them at least in every partition.
fn spec(replicas: Value) -> Result<(Vec<Symbol>, Value)> {
    let names: Vec<String> = (0..40).map(|number| format!("S{number:03}")).collect();
    let symbols = names
        .iter()
        .map(|name| Ok(name.parse::<Symbol>()?))
        .collect::<Result<_>>()?;
    let mut spec = feed::spec();
    spec["symbols"] = json!(names);
    spec["processing"]["partitions"] = json!(PARTITIONS);
    spec["processing"]["replicas"] = replicas;
    Ok((symbols, spec))
}

async fn make(cluster: &Cluster, feed: &Feed, spec: &Value) -> Result<()> {
    let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
    cluster
        .put_secret(
            feed.name.namespace(),
            "fmp",
            &[("apiKey", value(&key, "apiKey")?)],
        )
        .await?;
    feed.apply(spec).await?;
    feed.await_ready(Duration::from_secs(180)).await
}

/// Makes a row of the burst take its time, and a processor store one after the other whatever its partitions: what bounds it is then its own,
/// and another processor is a help, on however small a machine. A session's address is its pod's.
async fn slow_down(admin: &mut Session, feed: &Feed) -> Result<()> {
    let schema = feed.name.schema();
    let statements = format!(
        "CREATE FUNCTION {schema}.slow() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM pg_advisory_xact_lock(hashtext('{schema}'), hashtext(inet_client_addr()::text));
             PERFORM pg_sleep({ROW} / 1000.0);
             RETURN NEW;
         END $$;
         GRANT EXECUTE ON FUNCTION {schema}.slow() TO PUBLIC;
         CREATE TRIGGER slow BEFORE INSERT ON {schema}.stock_data FOR EACH ROW WHEN (NEW.exchange = '{BURST}')
             EXECUTE FUNCTION {schema}.slow()"
    );
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut **admin)
        .await?;
    Ok(())
}

/// The database's time.
async fn now(admin: &mut Session) -> Result<Timestamp> {
    let microseconds: i64 =
        sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            .fetch_one(&mut **admin)
            .await?;
    Ok(Timestamp::from_microsecond(microseconds)?)
}

/// Rows of the burst, and how many different messages they are of.
async fn stored(admin: &mut Session, feed: &Feed) -> Result<(i64, i64)> {
    let query = format!(
        "SELECT count(*), count(DISTINCT volume) FROM {}.stock_data WHERE exchange = '{BURST}'",
        feed.name.schema()
    );
    Ok(sqlx::query_as(AssertSqlSafe(query))
        .fetch_one(&mut **admin)
        .await?)
}

/// Waits until so many processors are there, all ready, and none that is on its way out.
async fn await_processors(cluster: &Cluster, feed: &Feed, number: usize, within: Duration) -> Result<()> {
    let pods = cluster.api::<Pod>(feed.name.namespace());
    let list = ListParams::default().labels(&feed.selector("processor"));
    wait::until(&format!("{number} processors run"), within, async || {
        let pods = pods.list(&list).await?.items;
        let ready = pods.iter().filter(|pod| workload::is_ready(pod)).count();
        let scaling = feed.get().await?.data["status"]["scaling"]["message"].clone();
        ensure!(
            pods.len() == number && ready == number,
            "{ready} of {} are ready: {scaling}",
            pods.len()
        );
        Ok(())
    })
    .await
}
