//! A Secret that is missing or wrong shows as a condition that says so, and the feed heals by itself when it is put right.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    cluster::value,
    feed::{self, Feed},
    namespace::run_in,
    say,
};
use serde_json::json;

/// How soon a feed must have healed.
const HEALED: Duration = Duration::from_secs(30);
/// How soon a problem must show: a feed that was well is looked at every minute.
const SHOWN: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_missing_and_a_refused_api_key_show_and_heal() -> Result<()> {
    run_in("e2e-api-key", async |cluster, namespace| {
        let feed = Feed::new(cluster, namespace, "keyless")?;
        feed.apply(&feed::spec()).await?;
        let missing = feed.await_condition("SourceReady", "False", SHOWN).await?;
        ensure!(
            missing.reason == "SecretNotFound",
            "the reason is {}",
            missing.reason
        );
        ensure!(
            missing.message.contains(&format!("{namespace}/fmp")),
            "the message does not name the Secret: {}",
            missing.message
        );
        let ready = feed.await_condition("Ready", "False", SHOWN).await?;
        ensure!(
            ready.reason == "SecretNotFound",
            "Ready is False because of {}",
            ready.reason
        );

        let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
        let key = value(&key, "apiKey")?;
        cluster.put_secret(namespace, "fmp", &[("apiKey", key)]).await?;
        let corrected = Instant::now();
        feed.await_condition("SourceReady", "True", HEALED).await?;
        feed.await_ready(HEALED).await?;
        say(format!(
            "healed {:.1}s after the Secret was made",
            corrected.elapsed().as_secs_f64()
        ));

        cluster
            .put_secret(namespace, "fmp", &[("apiKey", "another-key-than-it-accepts")])
            .await?;
        let refused = feed.await_condition("SourceReady", "False", SHOWN).await?;
        ensure!(
            !refused.message.contains("another-key"),
            "the message holds the key"
        );
        say(format!("refused: {}: {}", refused.reason, refused.message));
        cluster.put_secret(namespace, "fmp", &[("apiKey", key)]).await?;
        let corrected = Instant::now();
        feed.await_condition("SourceReady", "True", HEALED).await?;
        feed.await_ready(HEALED).await?;
        say(format!(
            "healed {:.1}s after the key was put right",
            corrected.elapsed().as_secs_f64()
        ));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wrong_broker_password_shows_and_heals() -> Result<()> {
    run_in("e2e-broker-password", async |cluster, namespace| {
        let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
        cluster
            .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
            .await?;
        let broker = cluster.secret(SYSTEM, &format!("{RELEASE}-rabbitmq")).await?;
        let connection = |password: &'static str| -> Result<Vec<(&str, &str)>> {
            let mut texts = Vec::new();
            for key in ["host", "port", "managementPort", "username"] {
                texts.push((key, value(&broker, key)?));
            }
            texts.push(("password", password));
            Ok(texts)
        };
        cluster
            .put_secret(namespace, "broker", &connection("not-the-password")?)
            .await?;
        let feed = Feed::new(cluster, namespace, "locked-out")?;
        let mut spec = feed::spec();
        spec["broker"] = json!({"secretRef": {"name": "broker"}});
        feed.apply(&spec).await?;
        let refused = feed.await_condition("BrokerReady", "False", SHOWN).await?;
        ensure!(
            refused.reason == "AuthenticationFailed",
            "the reason is {}: {}",
            refused.reason,
            refused.message
        );
        ensure!(
            !refused.message.contains("not-the-password"),
            "the message holds the password"
        );
        say(format!("refused: {}", refused.message));
        let ready = feed.await_condition("Ready", "False", SHOWN).await?;
        ensure!(
            ready.reason == "AuthenticationFailed",
            "Ready is False because of {}",
            ready.reason
        );

        let mut right = connection("")?;
        right.retain(|(key, _)| *key != "password");
        right.push(("password", value(&broker, "password")?));
        cluster.put_secret(namespace, "broker", &right).await?;
        let corrected = Instant::now();
        feed.await_condition("BrokerReady", "True", HEALED).await?;
        feed.await_ready(HEALED).await?;
        say(format!(
            "healed {:.1}s after the password was put right",
            corrected.elapsed().as_secs_f64()
        ));
        Ok(())
    })
    .await
}
