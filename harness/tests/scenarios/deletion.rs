//! How a feed ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::{ResourceExt as _, api::DeleteParams};
use operator::api::status::{DeletionAction, DeletionEntry};
use reqwest::Method;
use serde_json::json;

use crate::{
    scenarios,
    world::{AT_REST, ORPHAN_AFTER, Scene, World},
};

scenarios! {
    a_deletion_under_delete_leaves_nothing_outside_the_cluster,
    a_deletion_under_retain_keeps_the_schema_and_queues_with_messages,
    a_deletion_before_anything_was_made_ends_at_once,
    a_deletion_in_trouble_with_the_broker_is_given_up_in_time,
    a_deletion_in_trouble_with_the_database_is_given_up_in_time,
    a_deletion_without_its_secret_is_given_up_in_time,
    a_paused_feed_can_be_deleted,
    a_suspended_feed_can_be_deleted,
}

/// Somebody else's finalizer.
const HOLD: &str = "example.com/hold";

async fn leaves_nothing(scene: &Scene<'_>) -> Result<()> {
    scene.delete().await?;
    scene.gone().await?;
    ensure!(
        !scene
            .has(&scene.path("exchanges", &scene.of_broker("ticks")))
            .await?,
        "the exchange is left"
    );
    ensure!(
        !scene
            .has(&scene.path("queues", &scene.of_broker("ticks.1.0")))
            .await?,
        "a queue is left"
    );
    ensure!(
        !scene.has(&format!("users/markets.{}", scene.name)).await?,
        "the user is left"
    );
    let schema = scene.schema();
    let query = format!(
        "SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}') AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname LIKE '{schema}\\_%')"
    );
    ensure!(scene.world.sql_is(&query).await?, "schema or roles are left");
    Ok(())
}

async fn a_deletion_under_delete_leaves_nothing_outside_the_cluster(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "deleted").await?;
    leaves_nothing(&scene).await?;
    scene.event("CleanedUp", "gone").await?;
    // There is no garbage collector here; in a cluster children go through their owner. The workers went before the queues.
    ensure!(
        world
            .api::<Deployment>()
            .get_opt("deleted-producer")
            .await?
            .is_none(),
        "the producer is left"
    );
    Ok(())
}

async fn a_deletion_under_retain_keeps_the_schema_and_queues_with_messages(world: Arc<World>) -> Result<()> {
    let scene = Scene::create(&world, "retained", json!({"deletionPolicy": "Retain"})).await?;
    scene.expect("made", AT_REST).await?;
    let message = json!({
        "properties": {"delivery_mode": 2}, "routing_key": "1-0.AAPL", "payload": "[]", "payload_encoding": "string",
    });
    let path = scene.path("exchanges", &format!("{}/publish", scene.of_broker("ticks")));
    let answer = world.broker(Method::POST, &path, Some(message)).await?;
    ensure!(answer["routed"] == true, "{answer}");
    // Somebody else's finalizer keeps what the deletion says to its end.
    scene.finalizers(json!(["stockfeed.dev/cleanup", HOLD])).await?;
    scene.delete().await?;
    let generation = scene.of_broker("ticks.1.*");
    scene
        .until("the plan says what stays", async || {
            let plan = plan(&scene).await?;
            let keeps = |name: &str, words: &str| {
                plan.iter().any(|entry| {
                    entry.name == name && entry.action == DeletionAction::Keep && entry.why.contains(words)
                })
            };
            Ok(keeps(&generation, "holds 1 message, deletionPolicy Retain")
                && keeps(&scene.schema(), "deletionPolicy Retain"))
        })
        .await?;
    scene
        .until("only the other finalizer is left", async || {
            let feed = scene.feed().await?;
            Ok(feed.is_some_and(|feed| feed.finalizers() == [HOLD]))
        })
        .await?;
    scene.finalizers(json!(null)).await?;
    scene.gone().await?;
    scene.event("MessagesKept", "ticks.1.0 (1 messages)").await?;
    scene.event("SchemaKept", "stay").await?;
    ensure!(
        scene
            .has(&scene.path("queues", &scene.of_broker("ticks.1.0")))
            .await?,
        "the queue is gone"
    );
    let schema = scene.schema();
    ensure!(
        world
            .sql_is(&format!("SELECT to_regclass('{schema}.stock_data') IS NOT NULL"))
            .await?,
        "the schema is gone"
    );
    Ok(())
}

async fn a_deletion_before_anything_was_made_ends_at_once(world: Arc<World>) -> Result<()> {
    let scene = Scene::create(&world, "early", json!({})).await?;
    leaves_nothing(&scene).await
}

/// What the deletion says of what goes and what stays.
async fn plan(scene: &Scene<'_>) -> Result<Vec<DeletionEntry>> {
    let status = scene.feed().await?.and_then(|feed| feed.status);
    Ok(status.unwrap_or_default().deletion_plan)
}

/// Breaks the feed's own connection, deletes the feed, and expects that it is given up in time.
async fn is_given_up(world: &World, of: &str, feed: &str, port: &str) -> Result<()> {
    let secret = format!("{feed}-connection");
    world.connection(of, &secret, json!({})).await?;
    let scene = Scene::create(world, feed, json!({of: {"secretRef": {"name": secret}}})).await?;
    scene.expect("made", AT_REST).await?;
    world.connection(of, &secret, json!({port: "1"})).await?;
    // What was read of a Secret is used for two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    scene.delete().await?;
    scene
        .expect(
            "waiting",
            &[
                ("Ready", "False", "Deleting"),
                ("Reconciling", "True", "Deleting"),
            ],
        )
        .await?;
    let waits = format!("waiting for the {of} until");
    scene
        .until("the plan says what is waited for", async || {
            let plan = plan(&scene).await?;
            Ok(plan.iter().any(|entry| entry.why.starts_with(&waits)))
        })
        .await?;
    scene.gone().await?;
    ensure!(
        began.elapsed() + Duration::from_secs(1) >= ORPHAN_AFTER,
        "given up after {:?}",
        began.elapsed()
    );
    scene.event("Orphaned", of).await
}

async fn a_deletion_in_trouble_with_the_broker_is_given_up_in_time(world: Arc<World>) -> Result<()> {
    is_given_up(&world, "broker", "orphanbroker", "managementPort").await
}

async fn a_deletion_in_trouble_with_the_database_is_given_up_in_time(world: Arc<World>) -> Result<()> {
    is_given_up(&world, "database", "orphandatabase", "port").await
}

async fn a_deletion_without_its_secret_is_given_up_in_time(world: Arc<World>) -> Result<()> {
    world
        .connection("broker", "orphansecret-connection", json!({}))
        .await?;
    let own = json!({"broker": {"secretRef": {"name": "orphansecret-connection"}}});
    let scene = Scene::create(&world, "orphansecret", own).await?;
    scene.expect("made", AT_REST).await?;
    world
        .api::<Secret>()
        .delete("orphansecret-connection", &DeleteParams::default())
        .await?;
    // What was read of a Secret is used for two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.delete().await?;
    scene.gone().await?;
    scene.event("Orphaned", "does not exist").await
}

async fn a_paused_feed_can_be_deleted(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "pausedgone").await?;
    scene.annotate("stockfeed.dev/paused", json!("true")).await?;
    scene.expect("paused", &[("Ready", "Unknown", "Paused")]).await?;
    leaves_nothing(&scene).await?;
    scene.event("CleanedUp", "gone").await
}

async fn a_suspended_feed_can_be_deleted(world: Arc<World>) -> Result<()> {
    let scene = Scene::create(&world, "suspendedgone", json!({"suspend": true})).await?;
    scene.no_producer_runs().await?;
    scene
        .expect("suspended", &[("Suspended", "True", "Drained")])
        .await?;
    leaves_nothing(&scene).await
}
