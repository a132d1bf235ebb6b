//! Other images of the workers. No pod runs here, so none ever brings data.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use operator::api::status::{ReleaseState, ReleaseStatus};
use serde_json::{Value, json};

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    an_image_without_data_is_put_back_and_tried_again_when_asked,
    a_first_image_has_nothing_to_go_back_to,
}

/// What the operator's options name.
const PROCESSOR: &str = "stockfeed/processor:bench";
const PRODUCER: &str = "stockfeed/producer:bench";
/// What no data flows on.
const OTHER: &str = "stockfeed/processor:other";

async fn release(scene: &Scene<'_>) -> Result<Option<ReleaseStatus>> {
    let status = scene.feed().await?.and_then(|feed| feed.status);
    Ok(status.and_then(|status| status.release))
}

/// Says of the images, as an earlier look would have, that data flowed on them.
async fn data_has_flowed(scene: &Scene<'_>) -> Result<()> {
    let worker = |image: &str| json!({"image": image, "good": image});
    let good = json!({"status": {"release": {
        "state": "Good", "since": "2026-11-01T00:00:00Z",
        "processor": worker(PROCESSOR), "producer": worker(PRODUCER),
    }}});
    let feeds = scene.world.stand.feeds();
    scene
        .until("the images are good", async || {
            let now = release(scene).await?;
            let is_good = now.is_some_and(|release| release.state == ReleaseState::Good);
            if !is_good {
                feeds
                    .patch_status(&scene.name, &PatchParams::default(), &Patch::Merge(&good))
                    .await?;
            }
            Ok(is_good)
        })
        .await?;
    // The operator has looked at it as well.
    scene.nudge().await
}

async fn has_image(scene: &Scene<'_>, image: &str) -> Result<()> {
    let name = format!("{}-processor", scene.name);
    let api = scene.world.api::<Deployment>();
    scene
        .until(&format!("the processors have {image}"), async || {
            let deployment = serde_json::to_value(api.get(&name).await?)?;
            Ok(deployment["spec"]["template"]["spec"]["containers"][0]["image"] == image)
        })
        .await
}

fn processor(image: Option<&str>) -> Value {
    json!({"template": {"processor": {"image": image}}})
}

async fn an_image_without_data_is_put_back_and_tried_again_when_asked(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "putback").await?;
    data_has_flowed(&scene).await?;
    scene.patch(processor(Some(OTHER))).await?;
    has_image(&scene, OTHER).await?;
    let rolls = [
        ("Reconciling", "True", "RollingOut"),
        ("Stalled", "False", "Settled"),
    ];
    scene.expect("rolls", &rolls).await?;
    scene
        .expect("put back", &[("Stalled", "True", "RolledBack")])
        .await?;
    has_image(&scene, PROCESSOR).await?;
    scene
        .event("RolledBack", &format!("was put back to {PROCESSOR}"))
        .await?;
    let failed = release(&scene)
        .await?
        .and_then(|release| release.processor.failed);
    let failed = failed.context("it is not said what failed")?;
    anyhow::ensure!(failed.image == OTHER, "{failed:?}");

    scene
        .annotate("stockfeed.dev/retry-rollout", json!("again"))
        .await?;
    has_image(&scene, OTHER).await?;
    scene.patch(processor(None)).await?;
    has_image(&scene, PROCESSOR).await?;
    scene.expect("as it was", AT_REST).await
}

async fn a_first_image_has_nothing_to_go_back_to(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "firstimage").await?;
    scene.patch(processor(Some(OTHER))).await?;
    has_image(&scene, OTHER).await?;
    scene.expect("changed", AT_REST).await
}
