//! Many feeds at rest: the operator looks, and writes nothing.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use harness::{NAMESPACE, OperatorProcess, Stand, calls, create, wait_for_quiet};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

const FEEDS: usize = 200;
/// For how long nothing may be written.
const WATCHED: Duration = Duration::from_secs(300);
/// How often every feed is reconciled by force.
const FORCED: usize = 10;
/// How often broker and database may be asked in that time. A look at a virtual host takes six requests for all feeds and is made every
/// two seconds at most. The feeds wait for workers, which no node runs, so each is looked at every 15 seconds; its schema takes one session
/// then, and one more a minute to compare what is in it.
const ASKED_AT_MOST: [(&str, u64); 2] = [("Broker", 1_000), ("Database", 5_500)];

/// Requests that the operator has counted.
fn requests(metrics: &str, server: &str) -> u64 {
    let of_server = format!("server=\"{server}\"");
    metrics
        .lines()
        .filter(|line| line.starts_with("stockfeed_operator_requests_total{") && line.contains(&of_server))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn program(variable: &str) -> Result<PathBuf> {
    let path =
        std::env::var_os(variable).with_context(|| format!("{variable} is not set; run cargo xtask test"))?;
    Ok(path.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_feeds_at_rest_cause_no_write_and_forced_reconciles_none_either() -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let folder = tempfile::tempdir()?;
    let stand = Stand::make(&program("STOCKFEED_TEST_KUBE")?, folder.path()).await?;
    let operator = OperatorProcess::start(
        &program("STOCKFEED_TEST_OPERATOR")?,
        &stand.api_server,
        folder.path(),
        &[],
    )?;
    operator.wait_until_ready().await?;
    create(&stand.client, FEEDS).await?;
    let converged = async {
        while stand.converged().await? < FEEDS {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(600), converged)
        .await
        .context("the feeds do not settle")??;

    // An annotation wakes a feed without changing what it asks for.
    for round in 0..FORCED {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {"example.com/round": round.to_string()}}}));
        for number in 0..FEEDS {
            let name = format!("feed-{number:04}");
            stand
                .feeds()
                .patch_metadata(&name, &PatchParams::default(), &patch)
                .await?;
        }
    }
    // What of that is still to be written is written while nothing is counted.
    let log = stand.api_server.audit_log();
    ensure!(
        wait_for_quiet(&log, Duration::from_secs(40), Duration::from_secs(400)).await?,
        "the feeds do not come to rest"
    );
    let before = calls(&log)?.len();
    let asked_before = operator.get("/metrics").await?;
    tokio::time::sleep(WATCHED).await;
    let asked_after = operator.get("/metrics").await?;
    let all = calls(&log)?.split_off(before);
    let writes: Vec<_> = all.iter().filter(|call| call.is_write()).collect();
    assert!(
        writes.is_empty(),
        "{} writes, as {:?}",
        writes.len(),
        writes.first()
    );
    assert!(!all.is_empty(), "the operator looked at nothing");
    for (server, most) in ASKED_AT_MOST {
        let asked = requests(&asked_after, server) - requests(&asked_before, server);
        println!("{asked} requests to {server}, at most {most}");
        assert!(asked > 0, "{server} was not looked at");
        assert!(asked <= most, "{asked} requests to {server}, more than {most}");
    }

    let generations = |metadata: &kube::core::ObjectMeta| metadata.generation.unwrap_or(1);
    let deployments = Api::<Deployment>::namespaced(stand.client.clone(), NAMESPACE);
    let deployments = deployments.list(&ListParams::default()).await?;
    assert_eq!(deployments.items.len(), 2 * FEEDS);
    for deployment in &deployments {
        assert_eq!(generations(&deployment.metadata), 1, "{}", deployment.name_any());
    }
    let maps = Api::<ConfigMap>::namespaced(stand.client.clone(), NAMESPACE);
    assert_eq!(maps.list(&ListParams::default()).await?.items.len(), 2 * FEEDS);
    operator.kill()
}
