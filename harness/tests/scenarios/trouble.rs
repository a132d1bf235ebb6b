//! What a feed says while something outside is wrong, and that it goes on by itself.

use std::sync::Arc;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{
    scenarios,
    world::{AT_REST, Expected, Scene, World},
};

scenarios! {
    a_broker_that_refuses_the_password,
    a_broker_that_does_not_answer,
    a_broker_secret_that_is_missing,
    a_broker_secret_without_a_key,
    a_broker_user_that_may_not_manage,
    a_database_that_refuses_the_password,
    a_database_that_does_not_answer,
    a_database_secret_that_is_missing,
    trouble_with_one_server_does_not_stop_the_other,
    processors_without_a_consumer_are_not_ready,
}

/// Makes a feed with a connection of its own that has these changes, expects what it says, mends it, and expects rest.
async fn recovers(
    world: &World,
    of: &str,
    feed: &str,
    changes: serde_json::Value,
    expected: &[Expected<'_>],
) -> Result<()> {
    let secret = format!("{feed}-connection");
    world.connection(of, &secret, changes).await?;
    let scene = Scene::create(world, feed, json!({of: {"secretRef": {"name": secret}}})).await?;
    scene.expect("in trouble", expected).await?;
    let said = format!("{:?}", scene.conditions().await?);
    ensure!(!said.contains("wrong-password"), "a password is shown: {said}");
    world.connection(of, &secret, json!({})).await?;
    scene.expect("mended", AT_REST).await
}

async fn a_broker_that_refuses_the_password(world: Arc<World>) -> Result<()> {
    let expected = [
        ("BrokerReady", "False", "AuthenticationFailed"),
        ("Stalled", "True", "AuthenticationFailed"),
        ("SchemaReady", "True", "AsDeclared"),
        ("ProducerReady", "False", "WaitingForPrerequisites"),
    ];
    recovers(
        &world,
        "broker",
        "brokerpassword",
        json!({"password": "wrong-password"}),
        &expected,
    )
    .await
}

async fn a_broker_that_does_not_answer(world: Arc<World>) -> Result<()> {
    let expected = [
        ("BrokerReady", "False", "Unreachable"),
        ("Reconciling", "True", "Unreachable"),
        ("Stalled", "False", "Settled"),
        ("SchemaReady", "True", "AsDeclared"),
    ];
    recovers(
        &world,
        "broker",
        "brokeraway",
        json!({"managementPort": "1"}),
        &expected,
    )
    .await
}

async fn a_broker_secret_that_is_missing(world: Arc<World>) -> Result<()> {
    let own = json!({"broker": {"secretRef": {"name": "nosuchbroker"}}});
    let scene = Scene::create(&world, "brokersecret", own).await?;
    scene
        .expect(
            "missing",
            &[
                ("BrokerReady", "False", "SecretNotFound"),
                ("Stalled", "True", "SecretNotFound"),
            ],
        )
        .await?;
    world.connection("broker", "nosuchbroker", json!({})).await?;
    scene.expect("there", AT_REST).await
}

async fn a_broker_secret_without_a_key(world: Arc<World>) -> Result<()> {
    let expected = [
        ("BrokerReady", "False", "KeyNotFound"),
        ("Stalled", "True", "KeyNotFound"),
    ];
    recovers(&world, "broker", "brokerkey", json!({"host": null}), &expected).await
}

async fn a_broker_user_that_may_not_manage(world: Arc<World>) -> Result<()> {
    let user = json!({"password": "humble", "tags": "management"});
    world
        .broker(reqwest::Method::PUT, "users/scenario-humble", Some(user))
        .await?;
    let expected = [
        ("BrokerReady", "False", "PermissionDenied"),
        ("Stalled", "True", "PermissionDenied"),
    ];
    let humble = json!({"username": "scenario-humble", "password": "humble"});
    recovers(&world, "broker", "brokerhumble", humble, &expected).await
}

async fn a_database_that_refuses_the_password(world: Arc<World>) -> Result<()> {
    let expected = [
        ("SchemaReady", "False", "AuthenticationFailed"),
        ("Stalled", "True", "AuthenticationFailed"),
        ("BrokerReady", "True", "AsDeclared"),
        ("ProcessorReady", "False", "WaitingForPrerequisites"),
    ];
    recovers(
        &world,
        "database",
        "databasepassword",
        json!({"password": "wrong-password"}),
        &expected,
    )
    .await
}

async fn a_database_that_does_not_answer(world: Arc<World>) -> Result<()> {
    let expected = [
        ("SchemaReady", "False", "Unreachable"),
        ("Reconciling", "True", "Unreachable"),
        ("BrokerReady", "True", "AsDeclared"),
        ("DataComplete", "Unknown", "Pending"),
    ];
    recovers(
        &world,
        "database",
        "databaseaway",
        json!({"port": "1"}),
        &expected,
    )
    .await
}

async fn a_database_secret_that_is_missing(world: Arc<World>) -> Result<()> {
    let own = json!({"database": {"secretRef": {"name": "nosuchdatabase"}}});
    let scene = Scene::create(&world, "databasesecret", own).await?;
    scene
        .expect(
            "missing",
            &[
                ("SchemaReady", "False", "SecretNotFound"),
                ("Stalled", "True", "SecretNotFound"),
            ],
        )
        .await?;
    world.connection("database", "nosuchdatabase", json!({})).await?;
    scene.expect("there", AT_REST).await
}

async fn trouble_with_one_server_does_not_stop_the_other(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "oneserver").await?;
    world
        .connection("broker", "oneserver-connection", json!({"managementPort": "1"}))
        .await?;
    scene
        .patch(json!({"broker": {"secretRef": {"name": "oneserver-connection"}}}))
        .await?;
    scene
        .expect(
            "no broker",
            &[
                ("BrokerReady", "False", "Unreachable"),
                ("SchemaReady", "True", "AsDeclared"),
            ],
        )
        .await?;
    // The database is healed all the same.
    let schema = scene.schema();
    world.sql(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    scene.nudge().await?;
    let query = format!("SELECT to_regclass('{schema}.stock_data') IS NOT NULL");
    scene
        .until("the schema is back", async || world.sql_is(&query).await)
        .await?;
    world
        .connection("broker", "oneserver-connection", json!({}))
        .await?;
    scene.expect("mended", AT_REST).await
}

async fn processors_without_a_consumer_are_not_ready(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "consumer").await?;
    // A Deployment that says its pods are available, of which none consumes.
    let status = json!({"status": {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    }});
    let api = world.api::<Deployment>();
    api.patch_status(
        "consumer-processor",
        &PatchParams::default(),
        &Patch::Merge(status),
    )
    .await?;
    scene
        .expect("no consumer", &[("ProcessorReady", "False", "NoConsumer")])
        .await
}
