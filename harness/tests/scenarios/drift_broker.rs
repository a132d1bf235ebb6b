//! What somebody else changes in the broker.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    a_removed_queue_comes_back,
    a_removed_exchange_comes_back_with_its_bindings,
    a_removed_binding_comes_back,
    a_removed_broker_user_comes_back,
    another_broker_password_is_set_back,
    wider_permissions_are_narrowed,
    a_queue_with_other_arguments_gives_way_to_a_new_generation,
    a_dead_letter_queue_with_other_arguments_is_reported,
    an_exchange_of_another_type_is_reported,
    a_virtual_host_that_is_recreated_empty_is_filled_again,
    a_paused_feed_is_not_healed_until_it_goes_on,
}

/// Removes something below the virtual host and waits until it is back, with an Event.
async fn comes_back(scene: &Scene<'_>, kind: &str, what: &str, words: &str) -> Result<()> {
    let path = scene.path(kind, &scene.of_broker(what));
    scene.world.broker(Method::DELETE, &path, None).await?;
    scene.nudge().await?;
    scene
        .until(&format!("{path} is back"), async || scene.has(&path).await)
        .await?;
    scene.event("BrokerHealed", words).await?;
    scene.expect("healed", AT_REST).await
}

async fn a_removed_queue_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "noqueue").await?;
    comes_back(&scene, "queues", "ticks.1.0", "ticks.1.0 was missing").await
}

async fn a_removed_exchange_comes_back_with_its_bindings(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "noexchange").await?;
    comes_back(&scene, "exchanges", "ticks", "the exchange was missing").await?;
    ensure!(is_bound(&scene).await?, "the queue is not bound");
    Ok(())
}

async fn is_bound(scene: &Scene<'_>) -> Result<bool> {
    let exchange = scene.of_broker("ticks");
    let all = scene
        .world
        .broker(
            Method::GET,
            &format!("bindings/{}", scene.world.stand.broker.vhost),
            None,
        )
        .await?;
    Ok(all
        .as_array()
        .into_iter()
        .flatten()
        .any(|binding| binding["source"] == exchange.as_str()))
}

async fn a_removed_binding_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nobinding").await?;
    let (exchange, queue) = (scene.of_broker("ticks"), scene.of_broker("ticks.1.0"));
    let path = scene.path("bindings", &format!("e/{exchange}/q/{queue}/1-0.%23"));
    world.broker(Method::DELETE, &path, None).await?;
    ensure!(!is_bound(&scene).await?, "it is still bound");
    scene.nudge().await?;
    scene
        .until("bound again", async || is_bound(&scene).await)
        .await?;
    scene.event("BrokerHealed", "the binding").await
}

async fn a_removed_broker_user_comes_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "nouser").await?;
    let user = format!("users/markets.{}", scene.name);
    world.broker(Method::DELETE, &user, None).await?;
    scene.nudge().await?;
    scene
        .until("the user is back", async || scene.has(&user).await)
        .await?;
    scene.event("BrokerHealed", "the user was missing").await
}

async fn another_broker_password_is_set_back(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "password").await?;
    let user = format!("users/markets.{}", scene.name);
    let hash =
        async || -> Result<_> { Ok(world.broker(Method::GET, &user, None).await?["password_hash"].clone()) };
    world
        .broker(
            Method::PUT,
            &user,
            Some(json!({"password": "another", "tags": ""})),
        )
        .await?;
    let theirs = hash().await?;
    scene.nudge().await?;
    scene
        .until("another hash", async || Ok(hash().await? != theirs))
        .await?;
    scene.event("BrokerHealed", "another password").await
}

async fn wider_permissions_are_narrowed(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "permissions").await?;
    let path = scene.path("permissions", &format!("markets.{}", scene.name));
    let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
    world.broker(Method::PUT, &path, Some(everything)).await?;
    scene.nudge().await?;
    scene
        .until("narrow again", async || {
            Ok(world.broker(Method::GET, &path, None).await?["write"] != ".*")
        })
        .await?;
    scene.event("BrokerHealed", "permissions").await
}

async fn a_queue_with_other_arguments_gives_way_to_a_new_generation(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "arguments").await?;
    let queue = scene.of_broker("ticks.1.0");
    let path = scene.path("queues", &queue);
    world.broker(Method::DELETE, &path, None).await?;
    let other = json!({"x-queue-type": "quorum", "x-max-length": 5});
    world
        .stand
        .broker
        .declare(&scene.of_broker("ticks"), &queue, "1-0.#", other)
        .await?;
    scene.nudge().await?;
    scene
        .until("another generation", async || {
            scene
                .has(&scene.path("queues", &scene.of_broker("ticks.2.0")))
                .await
        })
        .await?;
    scene.event("RepartitionStarted", "generation 2").await?;
    scene
        .expect(
            "draining",
            &[
                ("Reconciling", "True", "Repartitioning"),
                ("BrokerReady", "True", "AsDeclared"),
            ],
        )
        .await?;
    ensure!(
        scene.has(&path).await?,
        "the old queue was removed before it was drained"
    );
    Ok(())
}

async fn a_dead_letter_queue_with_other_arguments_is_reported(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "deadletters").await?;
    let path = scene.path("queues", &scene.of_broker("dead"));
    world.broker(Method::DELETE, &path, None).await?;
    let other = json!({"durable": true, "auto_delete": false, "arguments": {"x-queue-type": "classic"}});
    world.broker(Method::PUT, &path, Some(other)).await?;
    scene.nudge().await?;
    scene
        .expect(
            "reported",
            &[
                ("BrokerReady", "False", "DeadLetterQueueDiffers"),
                ("Stalled", "True", "DeadLetterQueueDiffers"),
            ],
        )
        .await?;
    world.broker(Method::DELETE, &path, None).await?;
    scene.expect("removed by a person", AT_REST).await
}

async fn an_exchange_of_another_type_is_reported(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "fanout").await?;
    let path = scene.path("exchanges", &scene.of_broker("ticks"));
    world.broker(Method::DELETE, &path, None).await?;
    world
        .broker(
            Method::PUT,
            &path,
            Some(json!({"type": "fanout", "durable": true})),
        )
        .await?;
    scene.nudge().await?;
    scene
        .expect(
            "reported",
            &[
                ("BrokerReady", "False", "ExchangeDiffers"),
                ("Stalled", "True", "ExchangeDiffers"),
            ],
        )
        .await?;
    world.broker(Method::DELETE, &path, None).await?;
    scene.expect("removed by a person", AT_REST).await
}

async fn a_virtual_host_that_is_recreated_empty_is_filled_again(world: Arc<World>) -> Result<()> {
    let vhost = format!("{}_own", world.stand.broker.vhost);
    let make = async || -> Result<()> {
        world
            .broker(Method::PUT, &format!("vhosts/{vhost}"), Some(json!({})))
            .await?;
        let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let path = format!("permissions/{vhost}/{}", world.stand.broker.username);
        world.broker(Method::PUT, &path, Some(everything)).await?;
        Ok(())
    };
    make().await?;
    world
        .connection("broker", "ownvhost-connection", json!({"vhost": vhost}))
        .await?;
    let own = json!({"broker": {"secretRef": {"name": "ownvhost-connection"}}});
    let scene = Scene::create(&world, "ownvhost", own).await?;
    scene.expect("made", AT_REST).await?;
    world
        .broker(Method::DELETE, &format!("vhosts/{vhost}"), None)
        .await?;
    scene.nudge().await?;
    scene
        .expect(
            "gone",
            &[
                ("BrokerReady", "False", "VirtualHostNotFound"),
                ("SchemaReady", "True", "AsDeclared"),
            ],
        )
        .await?;
    make().await?;
    scene.expect("back", AT_REST).await?;
    let queue = format!("queues/{vhost}/{}", scene.of_broker("ticks.1.0"));
    ensure!(scene.has(&queue).await?, "the queue is not back");
    scene.event("BrokerHealed", "was missing").await
}

async fn a_paused_feed_is_not_healed_until_it_goes_on(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "paused").await?;
    scene.annotate("stockfeed.dev/paused", json!("true")).await?;
    scene
        .expect(
            "paused",
            &[
                ("Ready", "Unknown", "Paused"),
                ("Reconciling", "False", "Paused"),
                ("Stalled", "False", "Paused"),
            ],
        )
        .await?;
    scene.event("Paused", "stockfeed.dev/paused").await?;
    let path = scene.path("queues", &scene.of_broker("ticks.1.0"));
    world.broker(Method::DELETE, &path, None).await?;
    let changed = scene.patch(json!({"interval": "9s"})).await?;
    // Longer than any wait of a feed that is not paused.
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    ensure!(!scene.has(&path).await?, "it was healed");
    let observed = scene
        .feed()
        .await?
        .context("gone")?
        .status
        .and_then(|status| status.observed_generation);
    ensure!(observed <= Some(changed), "{observed:?}");
    scene.annotate("stockfeed.dev/paused", json!(null)).await?;
    scene.until("healed", async || scene.has(&path).await).await?;
    scene.expect("goes on", AT_REST).await
}
