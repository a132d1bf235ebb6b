//! Runs last: of all that the operator may do, it has done everything in the tests before. A rule that nothing needs is a right too
//! many. The API server's audit log says what was done (`docs/testbed.md`).

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{RELEASE, SYSTEM, cluster::Cluster, say, wait};
use k8s_openapi::api::{
    coordination::v1::Lease,
    rbac::v1::{ClusterRole, PolicyRule, Role},
};
use kube::{Api, ResourceExt as _, api::DeleteParams};
use serde::Deserialize;

/// A verb, the API group and the resource with its subresource.
type Right = (String, String, String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

/// What the operator did. Server-side apply of what is not there is a patch that creates, and needs both rights.
fn done(log: &str) -> BTreeSet<Right> {
    let mut done = BTreeSet::new();
    for line in log.lines() {
        // The last line may be half written.
        let Ok(line) = serde_json::from_str::<Line>(line) else {
            continue;
        };
        let Some(object) = line.object_ref else { continue };
        let code = line.response_status.and_then(|status| status.code);
        if code == Some(403) {
            continue;
        }
        let resource = match object.subresource.as_str() {
            "" => object.resource,
            subresource => format!("{}/{subresource}", object.resource),
        };
        let verbs: &[&str] = match (line.verb.as_str(), code) {
            ("patch", Some(201)) => &["patch", "create"],
            (verb, _) => &[verb],
        };
        for verb in verbs {
            done.insert(((*verb).to_owned(), object.api_group.clone(), resource.clone()));
        }
    }
    done
}

fn rights(rules: &[PolicyRule]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    rights.insert((verb.clone(), group.clone(), resource.clone()));
                }
            }
        }
    }
    rights
}

/// The Lease is made once for all time, which may have been before anything was written down.
async fn make_the_lease_anew(cluster: &Cluster) -> Result<()> {
    let leases = cluster.api::<Lease>(SYSTEM);
    let name = format!("{RELEASE}-operator");
    let before = leases.get(&name).await?.uid();
    leases.delete(&name, &DeleteParams::default()).await?;
    wait::until("there is another Lease", Duration::from_secs(90), async || {
        let now = leases.get(&name).await?.uid();
        ensure!(now != before, "it is the old one");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_right_of_the_operator_is_used_and_none_is_missing() -> Result<()> {
    let Some(path) = std::env::var_os("STOCKFEED_AUDIT_LOG") else {
        say("not looked at: this cluster keeps no audit log that could be read");
        return Ok(());
    };
    let cluster = Cluster::connect().await?;
    make_the_lease_anew(&cluster).await?;
    let log = std::fs::read_to_string(&path).context("failed to read the audit log")?;
    let done = done(&log);
    let operator = format!("{RELEASE}-operator");
    let wide: ClusterRole = Api::all(cluster.client.clone()).get(&operator).await?;
    let connections: Role = cluster
        .api(SYSTEM)
        .get(&format!("{operator}-connections"))
        .await?;
    let election: Role = cluster.api(SYSTEM).get(&format!("{operator}-election")).await?;
    let mut held = rights(&wide.rules.unwrap_or_default());
    held.extend(rights(&connections.rules.unwrap_or_default()));
    held.extend(rights(&election.rules.unwrap_or_default()));
    for (verb, group, resource) in &done {
        say(format!("done: {verb} {resource}.{group}"));
    }
    let unused: Vec<_> = held.difference(&done).collect();
    ensure!(unused.is_empty(), "rights that nothing used: {unused:?}");
    let refused: Vec<_> = log
        .lines()
        // In a namespace that goes nobody may make anything, whatever the rights.
        .filter(|line| line.contains("\"code\":403") && !line.contains("is being terminated"))
        .take(3)
        .collect();
    ensure!(refused.is_empty(), "refused for want of a right: {refused:?}");
    Ok(())
}
