//! How a feed begins.

use std::sync::Arc;

use anyhow::{Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    a_new_feed_gets_everything,
    a_feed_without_its_key_waits_and_goes_on,
    a_key_under_another_name_is_named,
    a_name_that_is_taken_is_left_alone,
    a_feed_made_again_finds_its_queues_and_schema,
    a_feed_that_is_made_suspended_does_not_poll,
    an_older_feed_in_the_virtual_host_is_left_alone,
}

async fn a_new_feed_gets_everything(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "newfeed").await?;
    for queue in ["ticks.1.0", "dead"] {
        ensure!(
            scene.has(&scene.path("queues", &scene.of_broker(queue))).await?,
            "queue {queue}"
        );
    }
    ensure!(
        scene
            .has(&scene.path("exchanges", &scene.of_broker("ticks")))
            .await?,
        "the exchange"
    );
    let schema = scene.schema();
    ensure!(
        world
            .sql_is(&format!("SELECT to_regclass('{schema}.stock_data') IS NOT NULL"))
            .await?,
        "the table"
    );
    for role in ["writer", "reader"] {
        let query = format!(
            "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = '{schema}_{role}' AND NOT rolsuper)"
        );
        ensure!(world.sql_is(&query).await?, "role {role}");
    }
    for worker in ["newfeed-producer", "newfeed-processor"] {
        world.api::<Deployment>().get(worker).await?;
        world.api::<ConfigMap>().get(worker).await?;
        world.api::<Service>().get(worker).await?;
        world.api::<ServiceAccount>().get(worker).await?;
    }
    for secret in ["broker", "database", "database-reader", "api-token"] {
        world.api::<Secret>().get(&format!("newfeed-{secret}")).await?;
    }
    let policies = world.api::<NetworkPolicy>().list(&Default::default()).await?;
    ensure!(
        policies.items.iter().any(|policy| policy
            .metadata
            .name
            .as_deref()
            .is_some_and(|name| name.starts_with("newfeed-"))),
        "policies"
    );
    Ok(())
}

async fn a_feed_without_its_key_waits_and_goes_on(world: Arc<World>) -> Result<()> {
    let key = json!({"source": {"fmp": {"apiKeySecretRef": {"name": "late-key"}}}});
    let scene = Scene::create(&world, "latekey", key).await?;
    let waiting = [
        ("SourceReady", "False", "SecretNotFound"),
        ("Stalled", "True", "SecretNotFound"),
        ("Ready", "False", "SecretNotFound"),
        ("BrokerReady", "True", "AsDeclared"),
        ("ProducerReady", "False", "WaitingForPrerequisites"),
    ];
    scene.expect("no Secret", &waiting).await?;
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "late-key"}, "stringData": {"apiKey": "x"}}))?;
    world
        .api::<Secret>()
        .create(&PostParams::default(), &secret)
        .await?;
    scene.expect("the Secret is there", AT_REST).await
}

async fn a_key_under_another_name_is_named(world: Arc<World>) -> Result<()> {
    let key = json!({"source": {"fmp": {"apiKeySecretRef": {"name": "fmp", "key": "other"}}}});
    let scene = Scene::create(&world, "otherkey", key).await?;
    scene
        .expect(
            "no such key",
            &[
                ("SourceReady", "False", "KeyNotFound"),
                ("Stalled", "True", "KeyNotFound"),
            ],
        )
        .await?;
    let message = scene.conditions().await?["SourceReady"][2].clone();
    ensure!(message.contains("other") && message.contains("fmp"), "{message}");
    scene
        .patch(json!({"source": {"fmp": {"apiKeySecretRef": {"key": "apiKey"}}}}))
        .await?;
    scene.expect("the right key", AT_REST).await
}

async fn a_name_that_is_taken_is_left_alone(world: Arc<World>) -> Result<()> {
    let theirs: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "taken-processor"}, "data": {"theirs": "yes"}}))?;
    let api = world.api::<ConfigMap>();
    api.create(&PostParams::default(), &theirs).await?;
    let scene = Scene::create(&world, "taken", json!({})).await?;
    scene
        .expect(
            "taken",
            &[("Ready", "False", "NameTaken"), ("Stalled", "True", "NameTaken")],
        )
        .await?;
    let data = api.get("taken-processor").await?.data.unwrap_or_default();
    ensure!(
        data.contains_key("theirs") && data.len() == 1,
        "it was changed: {data:?}"
    );
    api.delete("taken-processor", &Default::default()).await?;
    scene.expect("free again", AT_REST).await
}

async fn a_feed_made_again_finds_its_queues_and_schema(world: Arc<World>) -> Result<()> {
    let scene = Scene::create(&world, "again", json!({"deletionPolicy": "Retain"})).await?;
    scene.expect("first", AT_REST).await?;
    let schema = scene.schema();
    world.sql(&format!("CREATE TABLE {schema}.kept (i int)")).await?;
    scene.delete().await?;
    scene.gone().await?;
    // What the garbage collector of a cluster does.
    let children = ListParams::default().labels("app.kubernetes.io/instance=again");
    let delete = DeleteParams::default();
    world
        .api::<ServiceAccount>()
        .delete_collection(&delete, &children)
        .await?;
    world
        .api::<Secret>()
        .delete_collection(&delete, &children)
        .await?;
    world
        .api::<ConfigMap>()
        .delete_collection(&delete, &children)
        .await?;
    world
        .api::<Service>()
        .delete_collection(&delete, &children)
        .await?;
    world
        .api::<NetworkPolicy>()
        .delete_collection(&delete, &children)
        .await?;
    world
        .api::<PodDisruptionBudget>()
        .delete_collection(&delete, &children)
        .await?;
    let scene = Scene::create(&world, "again", json!({"deletionPolicy": "Delete"})).await?;
    scene.expect("again", AT_REST).await?;
    ensure!(
        world
            .sql_is(&format!("SELECT to_regclass('{schema}.kept') IS NOT NULL"))
            .await?,
        "the schema is another one"
    );
    Ok(())
}

async fn a_feed_that_is_made_suspended_does_not_poll(world: Arc<World>) -> Result<()> {
    let scene = Scene::create(&world, "asleep", json!({"suspend": true})).await?;
    scene.no_producer_runs().await?;
    scene
        .expect(
            "made suspended",
            &[
                ("BrokerReady", "True", "AsDeclared"),
                ("Suspended", "True", "Drained"),
            ],
        )
        .await?;
    Ok(())
}

async fn an_older_feed_in_the_virtual_host_is_left_alone(world: Arc<World>) -> Result<()> {
    // Its name begins as that of the other.
    let long = Scene::at_rest(&world, "prefixlong").await?;
    let short = Scene::at_rest(&world, "prefix").await?;
    short.delete().await?;
    short.gone().await?;
    ensure!(
        long.has(&long.path("queues", &long.of_broker("ticks.1.0")))
            .await?,
        "its queue went too"
    );
    long.expect("still there", AT_REST).await
}
