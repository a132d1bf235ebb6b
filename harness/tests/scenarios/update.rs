//! Every field that can be changed, on a feed that is there.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::ConfigMap},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    symbols_change_without_a_new_pod,
    the_interval_changes_without_a_new_pod,
    market_hours_and_duplicates_change,
    the_plan_and_its_calls_change,
    the_base_url_changes,
    the_api_key_reference_changes,
    another_source_takes_the_place_of_the_first,
    windows_and_lateness_change,
    bounds_of_event_time_change,
    replicas_change,
    partitions_change_by_a_new_generation,
    the_spool_changes,
    the_retention_changes,
    a_feed_is_suspended_and_resumed,
    a_feed_moves_to_another_broker,
    a_feed_moves_to_another_database,
    a_change_that_admission_refuses_changes_nothing,
    a_change_that_admission_lets_through_leaves_the_last_valid_spec_running,
}

/// The configuration of a worker.
async fn config(world: &World, name: &str) -> Result<Value> {
    let map = world.api::<ConfigMap>().get(name).await?;
    let text = map
        .data
        .unwrap_or_default()
        .remove("config.json")
        .context("no configuration")?;
    Ok(serde_json::from_str(&text)?)
}

/// Changes the spec and waits until the worker's configuration has this text and the feed is at rest.
async fn changes(world: &World, feed: &str, spec: Value, worker: &str, text: &str) -> Result<()> {
    let scene = Scene::at_rest(world, feed).await?;
    let name = format!("{feed}-{worker}");
    let before = config(world, &name).await?.to_string();
    ensure!(!before.contains(text), "{text} is there already: {before}");
    scene.patch(spec).await?;
    scene
        .until(&format!("{worker} has {text}"), async || {
            Ok(config(world, &name).await?.to_string().contains(text))
        })
        .await?;
    scene.expect("changed", AT_REST).await
}

async fn deployment_generation(world: &World, name: &str) -> Result<Option<i64>> {
    Ok(world.api::<Deployment>().get(name).await?.metadata.generation)
}

async fn symbols_change_without_a_new_pod(world: Arc<World>) -> Result<()> {
    changes(
        &world,
        "symbols",
        json!({"symbols": ["AAPL", "MSFT"]}),
        "processor",
        "MSFT",
    )
    .await?;
    ensure!(
        deployment_generation(&world, "symbols-producer").await? == Some(1),
        "a new producer"
    );
    Ok(())
}

async fn the_interval_changes_without_a_new_pod(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "interval").await?;
    let before = config(&world, "interval-producer").await?;
    scene.patch(json!({"interval": "7s"})).await?;
    scene
        .until("another configuration", async || {
            Ok(config(&world, "interval-producer").await? != before)
        })
        .await?;
    ensure!(
        deployment_generation(&world, "interval-producer").await? == Some(1),
        "a new producer"
    );
    scene.expect("changed", AT_REST).await
}

async fn market_hours_and_duplicates_change(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "hours").await?;
    let before = config(&world, "hours-producer").await?;
    scene
        .patch(json!({"marketHours": "Regular", "duplicates": "Keep"}))
        .await?;
    scene
        .until("another configuration", async || {
            Ok(config(&world, "hours-producer").await? != before)
        })
        .await?;
    scene.expect("changed", AT_REST).await
}

async fn the_plan_and_its_calls_change(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "plan").await?;
    scene
        .expect("Basic", &[("QuotaSufficient", "False", "PlanExceeded")])
        .await?;
    scene.event("QuotaInsufficient", "Basic").await?;
    scene
        .patch(json!({"source": {"fmp": {"plan": "Starter"}}}))
        .await?;
    scene
        .expect("Starter", &[("QuotaSufficient", "True", "WithinPlan")])
        .await?;
    scene
        .patch(json!({"source": {"fmp": {"callsPerDay": 10, "quotaPolicy": "Enforce"}}}))
        .await?;
    scene
        .expect("ten calls", &[("QuotaSufficient", "False", "PlanExceeded")])
        .await
}

async fn the_base_url_changes(world: Arc<World>) -> Result<()> {
    let url = json!({"source": {"fmp": {"baseUrl": "http://simulator.markets.svc:8080/stable"}}});
    changes(&world, "baseurl", url, "producer", "simulator.markets.svc").await
}

async fn the_api_key_reference_changes(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "keyref").await?;
    scene
        .patch(json!({"source": {"fmp": {"apiKeySecretRef": {"name": "nowhere"}}}}))
        .await?;
    scene
        .expect(
            "no such Secret",
            &[
                ("SourceReady", "False", "SecretNotFound"),
                ("Stalled", "True", "SecretNotFound"),
            ],
        )
        .await?;
    // The producer that runs goes on with the key that it has.
    world.api::<Deployment>().get("keyref-producer").await?;
    scene
        .patch(json!({"source": {"fmp": {"apiKeySecretRef": {"name": "fmp"}}}}))
        .await?;
    scene.expect("back", AT_REST).await
}

async fn another_source_takes_the_place_of_the_first(world: Arc<World>) -> Result<()> {
    let http = json!({"source": {"fmp": null, "http": {
        "url": "https://quotes.example.com/{symbol}", "price": "/last", "time": "/time",
    }}});
    changes(&world, "source", http, "producer", "quotes.example.com").await
}

async fn windows_and_lateness_change(world: Arc<World>) -> Result<()> {
    let spec =
        json!({"processing": {"windows": ["10s", "15m"], "allowedLateness": "2h", "outOfOrderness": "9s"}});
    changes(&world, "windows", spec, "processor", "15m").await
}

async fn bounds_of_event_time_change(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "bounds").await?;
    let before = config(&world, "bounds-processor").await?;
    scene
        .patch(json!({"processing": {"maxFuture": "2m", "maxAge": "3d"}}))
        .await?;
    scene
        .until("another configuration", async || {
            Ok(config(&world, "bounds-processor").await? != before)
        })
        .await?;
    scene.expect("changed", AT_REST).await
}

async fn replicas_change(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "replicas").await?;
    scene
        .patch(json!({"processing": {"replicas": {"min": 2}}}))
        .await?;
    scene
        .until("two replicas", async || {
            let processor = world.api::<Deployment>().get("replicas-processor").await?;
            Ok(processor.spec.and_then(|spec| spec.replicas) == Some(2))
        })
        .await?;
    scene.expect("changed", AT_REST).await
}

async fn partitions_change_by_a_new_generation(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "partitions").await?;
    scene.patch(json!({"processing": {"partitions": 3}})).await?;
    scene
        .expect(
            "under way",
            &[
                ("Reconciling", "True", "Repartitioning"),
                ("BrokerReady", "True", "AsDeclared"),
            ],
        )
        .await?;
    scene.event("RepartitionStarted", "generation 2").await?;
    for partition in 0..3 {
        let path = scene.path("queues", &scene.of_broker(&format!("ticks.2.{partition}")));
        scene.until(&path, async || scene.has(&path).await).await?;
    }
    // The Deployment of the producer is never rolled here, so that the old queues stay.
    ensure!(
        scene
            .has(&scene.path("queues", &scene.of_broker("ticks.1.0")))
            .await?,
        "the old queue is gone"
    );
    Ok(())
}

async fn the_spool_changes(world: Arc<World>) -> Result<()> {
    let spool = json!({"spool": {"maxMebibytes": 17}});
    changes(&world, "spool", spool, "producer", &(17_u64 << 20).to_string()).await
}

async fn the_retention_changes(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "retention").await?;
    scene.patch(json!({"storage": {"retention": "30d"}})).await?;
    scene.expect("changed", AT_REST).await
}

async fn a_feed_is_suspended_and_resumed(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "suspend").await?;
    let replicas = async || -> Result<Option<i32>> {
        Ok(world
            .api::<Deployment>()
            .get("suspend-producer")
            .await?
            .spec
            .and_then(|spec| spec.replicas))
    };
    scene.patch(json!({"suspend": true})).await?;
    scene.no_producer_runs().await?;
    scene
        .expect("suspended", &[("Suspended", "True", "Drained")])
        .await?;
    scene.event("Drained", "every queue is empty").await?;
    scene.patch(json!({"suspend": false})).await?;
    scene
        .until("a producer", async || Ok(replicas().await? == Some(1)))
        .await?;
    scene.expect("resumed", AT_REST).await
}

async fn a_feed_moves_to_another_broker(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "movebroker").await?;
    world
        .connection("broker", "movebroker-connection", json!({"vhost": "nowhere"}))
        .await?;
    scene
        .patch(json!({"broker": {"secretRef": {"name": "movebroker-connection"}}}))
        .await?;
    let expected = [
        ("BrokerReady", "False", "VirtualHostNotFound"),
        ("Stalled", "True", "VirtualHostNotFound"),
        ("SchemaReady", "True", "AsDeclared"),
    ];
    scene.expect("no such virtual host", &expected).await?;
    world
        .connection("broker", "movebroker-connection", json!({}))
        .await?;
    scene.expect("it is there", AT_REST).await
}

async fn a_feed_moves_to_another_database(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "movedatabase").await?;
    world
        .connection(
            "database",
            "movedatabase-connection",
            json!({"dbname": "nowhere"}),
        )
        .await?;
    scene
        .patch(json!({"database": {"secretRef": {"name": "movedatabase-connection"}}}))
        .await?;
    let expected = [
        ("SchemaReady", "False", "DatabaseNotFound"),
        ("Stalled", "True", "DatabaseNotFound"),
        ("BrokerReady", "True", "AsDeclared"),
    ];
    scene.expect("no such database", &expected).await?;
    world
        .connection("database", "movedatabase-connection", json!({}))
        .await?;
    scene.expect("it is there", AT_REST).await
}

async fn a_change_that_admission_refuses_changes_nothing(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "refused").await?;
    let Err(refusal) = scene.patch(json!({"interval": "1ms"})).await else {
        anyhow::bail!("it was taken");
    };
    ensure!(format!("{refusal:#}").contains("spec.interval"), "{refusal:#}");
    scene.expect("as before", AT_REST).await
}

async fn a_change_that_admission_lets_through_leaves_the_last_valid_spec_running(
    world: Arc<World>,
) -> Result<()> {
    let scene = Scene::at_rest(&world, "lastvalid").await?;
    let before = config(&world, "lastvalid-processor").await?;
    // An older definition, which has no such rule.
    let definitions = Api::<CustomResourceDefinition>::all(world.stand.client.clone());
    let pointer = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/processing/properties/maxFuture/x-kubernetes-validations";
    let rule = serde_json::to_value(definitions.get("stockfeeds.stockfeed.dev").await?)?
        .pointer(pointer)
        .cloned()
        .context("maxFuture has no rule")?;
    let patch =
        |operations: Value| -> Result<Patch<()>> { Ok(Patch::Json(serde_json::from_value(operations)?)) };
    let without = patch(json!([{"op": "remove", "path": pointer}]))?;
    definitions
        .patch("stockfeeds.stockfeed.dev", &PatchParams::default(), &without)
        .await?;
    let taken = scene
        .until("the change is taken", async || {
            Ok(scene
                .patch(json!({"processing": {"maxFuture": "5ms", "windows": ["1m"]}}))
                .await
                .is_ok())
        })
        .await;
    let with = patch(json!([{"op": "add", "path": pointer, "value": rule}]))?;
    definitions
        .patch("stockfeeds.stockfeed.dev", &PatchParams::default(), &with)
        .await?;
    taken?;
    let invalid = [
        ("Ready", "False", "InvalidSpec"),
        ("Stalled", "True", "InvalidSpec"),
        ("BrokerReady", "True", "AsDeclared"),
    ];
    scene.expect("invalid", &invalid).await?;
    scene.event("InvalidSpec", "spec.processing.maxFuture").await?;
    let message = scene.conditions().await?["Ready"][2].clone();
    ensure!(
        message.contains("the last valid spec goes on running"),
        "{message}"
    );
    // What the last valid spec asked for is still healed.
    scene.comes_back::<Deployment>("lastvalid-processor").await?;
    ensure!(
        config(&world, "lastvalid-processor").await? == before,
        "the workers were changed"
    );
    scene.patch(json!({"processing": {"maxFuture": "6m"}})).await?;
    scene.expect("valid again", AT_REST).await?;
    scene
        .until("the windows as well", async || {
            Ok(config(&world, "lastvalid-processor").await? != before)
        })
        .await
}
