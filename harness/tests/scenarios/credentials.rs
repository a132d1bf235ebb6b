//! Passwords and certificates that are renewed.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret, events::v1::Event};
use kube::api::{DeleteParams, ListParams, PostParams};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use test_servers::tls::{TestAuthority, TestCertificate};

use crate::{
    scenarios,
    world::{AT_REST, Scene, World},
};

scenarios! {
    passwords_are_renewed_when_an_annotation_asks,
    an_administrators_new_password_is_taken_without_a_restart,
    a_renewed_certificate_reaches_the_workers_and_half_a_pair_does_not,
}

/// The passwords of the feed's three Secrets, and of the broker's user what the broker keeps.
async fn passwords(scene: &Scene<'_>) -> Result<BTreeMap<&'static str, String>> {
    let mut found = BTreeMap::new();
    for secret in ["broker", "database", "database-reader"] {
        let name = format!("{}-{secret}", scene.name);
        let data = scene
            .world
            .api::<Secret>()
            .get(&name)
            .await?
            .data
            .unwrap_or_default();
        let password = data.get("password").context("no password")?.0.clone();
        found.insert(secret, String::from_utf8(password)?);
    }
    let user = scene
        .world
        .broker(Method::GET, &format!("users/markets.{}", scene.name), None)
        .await?;
    found.insert("hash", user["password_hash"].to_string());
    Ok(found)
}

/// What makes the processors' pods new ones.
async fn template(scene: &Scene<'_>) -> Result<Option<String>> {
    let name = format!("{}-processor", scene.name);
    let deployment = scene.world.api::<Deployment>().get(&name).await?;
    let annotations = deployment
        .spec
        .and_then(|spec| spec.template.metadata?.annotations)
        .unwrap_or_default();
    Ok(annotations.get("stockfeed.dev/config-hash").cloned())
}

async fn passwords_are_renewed_when_an_annotation_asks(world: Arc<World>) -> Result<()> {
    let scene = Scene::at_rest(&world, "rotation").await?;
    let (before, pods) = (passwords(&scene).await?, template(&scene).await?);
    scene
        .annotate("stockfeed.dev/rotate-credentials", json!("2026-11-28"))
        .await?;
    let others = async || {
        let now = passwords(&scene).await?;
        Ok(now
            .iter()
            .all(|(secret, password)| before.get(secret) != Some(password)))
    };
    scene.until("every password is another one", others).await?;
    scene.event("CredentialsRotated", "new passwords").await?;
    scene.expect("renewed", AT_REST).await?;
    ensure!(
        template(&scene).await? != pods,
        "the workers keep the old passwords"
    );
    for (role, secret) in [("writer", "database"), ("reader", "database-reader")] {
        let password = passwords(&scene).await?.remove(secret).unwrap_or_default();
        let role = format!("{}_{role}", scene.schema());
        let options = world
            .stand
            .database
            .options
            .clone()
            .username(&role)
            .password(&password);
        let session = PgConnection::connect_with(&options).await;
        session
            .with_context(|| format!("{role} cannot log in"))?
            .close()
            .await?;
    }
    // It is no drift.
    let events = world.api::<Event>().list(&ListParams::default()).await?;
    let healed = events.items.iter().any(|event| {
        let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
        let reason = event.reason.as_deref().unwrap_or_default();
        regarding == Some("rotation") && reason.ends_with("Healed")
    });
    ensure!(!healed, "it was told as drift");
    Ok(())
}

async fn an_administrators_new_password_is_taken_without_a_restart(world: Arc<World>) -> Result<()> {
    world
        .sql("CREATE ROLE scenario_administrator SUPERUSER LOGIN PASSWORD 'first'")
        .await?;
    let administrator = |password: &str| json!({"username": "scenario_administrator", "password": password});
    world
        .connection("database", "rotated-connection", administrator("first"))
        .await?;
    let own = json!({"database": {"secretRef": {"name": "rotated-connection"}}});
    let scene = Scene::create(&world, "rotated", own).await?;
    scene.expect("made", AT_REST).await?;
    world
        .sql(
            "ALTER ROLE scenario_administrator PASSWORD 'second';
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'scenario_administrator'",
        )
        .await?;
    scene.nudge().await?;
    scene
        .expect(
            "the old one",
            &[
                ("SchemaReady", "False", "AuthenticationFailed"),
                ("Stalled", "True", "AuthenticationFailed"),
            ],
        )
        .await?;
    world
        .connection("database", "rotated-connection", administrator("second"))
        .await?;
    scene.expect("the new one", AT_REST).await
}

/// Writes a Secret as cert-manager does; without the key it is half of one.
async fn write_certificate(
    world: &World,
    name: &str,
    client: &TestCertificate,
    with_key: bool,
) -> Result<()> {
    let mut data = json!({"tls.crt": client.certificate});
    if with_key {
        data["tls.key"] = json!(client.key);
    }
    let api = world.api::<Secret>();
    api.delete(name, &DeleteParams::default()).await.ok();
    let secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data}))?;
    api.create(&PostParams::default(), &secret).await?;
    Ok(())
}

async fn a_renewed_certificate_reaches_the_workers_and_half_a_pair_does_not(world: Arc<World>) -> Result<()> {
    let authority = TestAuthority::unknown()?;
    let (first, second) = (authority.client("first")?, authority.client("second")?);
    write_certificate(&world, "certified-tls", &first, true).await?;
    let reference = json!({"tlsSecretRef": {"name": "certified-tls"}});
    let own = json!({"broker": reference, "database": reference});
    let scene = Scene::create(&world, "certified", own).await?;
    scene.expect("made", AT_REST).await?;
    let pods = template(&scene).await?;
    let holds = async |secret: &str, client: &TestCertificate| -> Result<bool> {
        let name = format!("certified-{secret}");
        let data = world.api::<Secret>().get(&name).await?.data.unwrap_or_default();
        // The newline at the end of a text of a Secret is not copied.
        let is = |key: &str, text: &str| {
            data.get(key)
                .is_some_and(|value| value.0 == text.trim_end().as_bytes())
        };
        Ok(is("tls.crt", &client.certificate) && is("tls.key", &client.key))
    };
    for secret in ["broker", "database", "database-reader"] {
        ensure!(
            holds(secret, &first).await?,
            "the workers have no certificate for the {secret}"
        );
    }

    write_certificate(&world, "certified-tls", &second, false).await?;
    scene.nudge().await?;
    let half = [
        ("BrokerReady", "False", "SecretInvalid"),
        ("SchemaReady", "False", "SecretInvalid"),
        ("Stalled", "True", "SecretInvalid"),
    ];
    scene.expect("half a pair", &half).await?;
    let conditions = scene.conditions().await?;
    let message = conditions
        .get("BrokerReady")
        .map(|[_, _, message]| message.as_str());
    ensure!(
        message.is_some_and(|message| message.contains("certified-tls has no tls.key beside it")),
        "{message:?}"
    );
    ensure!(holds("broker", &first).await?, "the workers lost what they had");

    write_certificate(&world, "certified-tls", &second, true).await?;
    scene.nudge().await?;
    scene.expect("renewed", AT_REST).await?;
    for secret in ["broker", "database"] {
        ensure!(
            holds(secret, &second).await?,
            "the workers have the old certificate for the {secret}"
        );
    }
    ensure!(
        template(&scene).await? == pods,
        "the workers were replaced for it"
    );
    Ok(())
}
