//! What happens when the operator itself ends.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    an_operator_killed_at_any_moment_of_a_creation_leaves_what_the_next_one_completes,
    an_operator_killed_in_a_deletion_leaves_what_the_next_one_completes,
    what_changed_while_no_operator_ran_is_healed_when_one_does,
}

async fn an_operator_killed_at_any_moment_of_a_creation_leaves_what_the_next_one_completes(
    world: Arc<World>,
) -> Result<()> {
    for round in 0..8_u64 {
        let scene = Scene::create(&world, &format!("killed{round}"), json!({})).await?;
        // From the first moment to well after the last.
        tokio::time::sleep(Duration::from_millis(round * 150)).await;
        world.kill_operator()?;
        world.start_operator().await?;
        scene.expect("completed", AT_REST).await?;
        let feed = scene
            .feed()
            .await?
            .unwrap_or_else(|| unreachable!("expected above"));
        let queues = feed.status.map(|status| status.queues).unwrap_or_default();
        ensure!(
            queues.len() == 1 && queues[0].generation == 1,
            "queues {queues:?}"
        );
    }
    Ok(())
}

async fn an_operator_killed_in_a_deletion_leaves_what_the_next_one_completes(
    world: Arc<World>,
) -> Result<()> {
    for round in 0..5_u64 {
        let scene = Scene::at_rest(&world, &format!("killedgone{round}")).await?;
        scene.delete().await?;
        tokio::time::sleep(Duration::from_millis(round * 100)).await;
        world.kill_operator()?;
        world.start_operator().await?;
        scene.gone().await?;
        let schema = scene.schema();
        let query = format!("SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}')");
        ensure!(world.sql_is(&query).await?, "the schema is left");
        ensure!(
            !scene
                .has(&scene.path("queues", &scene.of_broker("ticks.1.0")))
                .await?,
            "a queue is left"
        );
    }
    Ok(())
}

async fn what_changed_while_no_operator_ran_is_healed_when_one_does(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "meanwhile").await?;
    world.kill_operator()?;
    let queue = scene.path("queues", &scene.of_broker("ticks.1.0"));
    world.broker(Method::DELETE, &queue, None).await?;
    let schema = scene.schema();
    world.sql(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    scene.patch(json!({"interval": "8s"})).await?;
    world.start_operator().await?;
    scene.expect("healed", AT_REST).await?;
    scene.event("BrokerHealed", "ticks.1.0 was missing").await?;
    scene.event("DatabaseHealed", "was missing").await
}
