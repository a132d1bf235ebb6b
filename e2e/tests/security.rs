//! Nothing of ours runs as root, and no key or password stands where somebody might read it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    feed::{self, Feed},
    namespace::run_in,
    process, say,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Secret};
use kube::{ResourceExt as _, api::ListParams};
use serde_json::json;

/// Keys of Secrets that are no secret.
const PUBLIC: [&str; 13] = [
    "host",
    "port",
    "managementPort",
    "managementScheme",
    "vhost",
    "username",
    "adminUsername",
    "operatorUsername",
    "user",
    "dbname",
    "type",
    "provider",
    "sslmode",
];
/// The shortest text that is looked for.
const SHORTEST: usize = 6;
/// The namespaces where our programs run, beside the test's own.
const NAMESPACES: [&str; 2] = [SYSTEM, "markets"];

#[tokio::test]
async fn nothing_runs_as_root_and_no_secret_shows() -> Result<()> {
    run_in("e2e-security", async |cluster, namespace| {
        let outcome = look(cluster, namespace).await;
        let right = put_right(cluster, namespace).await;
        outcome.and(right)
    })
    .await
}

async fn look(cluster: &Cluster, namespace: &str) -> Result<()> {
    wrong_feeds(cluster, namespace).await?;
    let mut namespaces = NAMESPACES.to_vec();
    namespaces.push(namespace);
    let mut pods = Vec::new();
    for namespace in &namespaces {
        pods.extend(cluster.api::<Pod>(namespace).list(&ListParams::default()).await?);
    }
    ensure!(pods.len() >= 7, "only {} pods run", pods.len());
    nothing_runs_as_root(cluster, &pods).await?;
    no_secret_shows(cluster, &namespaces, &pods).await
}

/// Feeds whose credentials are refused: errors are where secrets show most easily.
async fn wrong_feeds(cluster: &Cluster, namespace: &str) -> Result<()> {
    let broker = cluster.secret(SYSTEM, &format!("{RELEASE}-rabbitmq")).await?;
    let database = cluster.secret(SYSTEM, &format!("{RELEASE}-postgresql")).await?;
    let texts = |of: &BTreeMap<String, String>, password: &str| -> BTreeMap<String, String> {
        let mut texts = of.clone();
        texts.retain(|key, _| PUBLIC.contains(&key.as_str()));
        texts.insert("password".to_owned(), password.to_owned());
        texts
    };
    let secrets = [
        ("broker", texts(&broker, "wrong-broker-password")),
        ("database", texts(&database, "wrong-database-password")),
    ];
    for (name, texts) in &secrets {
        let texts: Vec<(&str, &str)> = texts
            .iter()
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect();
        cluster.put_secret(namespace, name, &texts).await?;
    }
    cluster
        .put_secret(namespace, "fmp", &[("apiKey", "wrong-key-of-the-security-test")])
        .await?;

    let refused_key = Feed::new(cluster, namespace, "refused-key")?;
    refused_key.apply(&feed::spec()).await?;
    let locked_out = Feed::new(cluster, namespace, "locked-out")?;
    let mut spec = feed::spec();
    spec["broker"] = json!({"secretRef": {"name": "broker"}});
    spec["database"] = json!({"secretRef": {"name": "database"}});
    locked_out.apply(&spec).await?;
    let within = Duration::from_secs(90);
    locked_out.await_condition("BrokerReady", "False", within).await?;
    locked_out.await_condition("SchemaReady", "False", within).await?;
    refused_key
        .await_condition("SourceReady", "False", within)
        .await?;
    Ok(())
}

/// So that the feeds can be deleted, broker and database included.
async fn put_right(cluster: &Cluster, namespace: &str) -> Result<()> {
    for (name, component) in [("broker", "rabbitmq"), ("database", "postgresql")] {
        let texts = cluster.secret(SYSTEM, &format!("{RELEASE}-{component}")).await?;
        let texts: Vec<(&str, &str)> = texts
            .iter()
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect();
        cluster.put_secret(namespace, name, &texts).await?;
    }
    let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
    cluster
        .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
        .await
}

async fn nothing_runs_as_root(cluster: &Cluster, pods: &[Pod]) -> Result<()> {
    for pod in pods {
        let spec = pod.spec.as_ref().context("a pod has no spec")?;
        for container in spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
        {
            let problems = privileges(spec, container);
            ensure!(
                problems.is_empty(),
                "{}, container {}: {problems:?}",
                pod.name_any(),
                container.name
            );
        }
    }
    let processes: Vec<_> = pods
        .iter()
        .flat_map(|pod| {
            process::of_pod(pod)
                .into_iter()
                .map(|process| (pod.name_any(), process))
        })
        .collect();
    let nodes = cluster.kubectl_text(&["get", "nodes", "--output=name"]).await?;
    if nodes.trim() == "node/testbed" {
        ensure!(
            processes.len() >= pods.len(),
            "only {} processes of {} pods are seen",
            processes.len(),
            pods.len()
        );
    }
    for (pod, process) in &processes {
        ensure!(
            !process.users.is_empty() && !process.users.contains(&0),
            "{pod}: {} runs as {:?}",
            process.command,
            process.users
        );
    }
    say(format!(
        "{} pods and {} of their processes have no privileges",
        pods.len(),
        processes.len()
    ));
    Ok(())
}

/// What a container may that it need not.
fn privileges(pod: &PodSpec, container: &Container) -> Vec<&'static str> {
    let (pod_context, context) = (
        pod.security_context.clone().unwrap_or_default(),
        container.security_context.clone().unwrap_or_default(),
    );
    let dropped = context
        .capabilities
        .and_then(|capabilities| capabilities.drop)
        .unwrap_or_default();
    let seccomp = context
        .seccomp_profile
        .or(pod_context.seccomp_profile)
        .map(|profile| profile.type_);
    let checks = [
        (
            context.run_as_non_root.or(pod_context.run_as_non_root) == Some(true),
            "may run as root",
        ),
        (
            context
                .run_as_user
                .or(pod_context.run_as_user)
                .is_some_and(|user| user > 0),
            "has no user number",
        ),
        (
            context.allow_privilege_escalation == Some(false),
            "may gain privileges",
        ),
        (
            context.read_only_root_filesystem == Some(true),
            "may write to its image's files",
        ),
        (!context.privileged.unwrap_or(false), "is privileged"),
        (dropped == ["ALL"], "keeps capabilities"),
        (
            seccomp.as_deref() == Some("RuntimeDefault"),
            "has no seccomp profile",
        ),
        (
            pod.host_network != Some(true) && pod.host_pid != Some(true),
            "shares the node's namespaces",
        ),
    ];
    checks
        .into_iter()
        .filter(|(right, _)| !right)
        .map(|(_, problem)| problem)
        .collect()
}

async fn no_secret_shows(cluster: &Cluster, namespaces: &[&str], pods: &[Pod]) -> Result<()> {
    let secrets = secrets(cluster, namespaces).await?;
    ensure!(
        secrets.len() >= 10,
        "only {} secrets are there to look for",
        secrets.len()
    );
    let places = places(cluster, namespaces, pods).await?;
    let mut found = Vec::new();
    for (place, text) in &places {
        for (secret, forms) in &secrets {
            if forms.iter().any(|form| text.contains(form.as_str())) {
                found.push(format!("{secret} shows in {place}"));
            }
        }
    }
    ensure!(found.is_empty(), "{}", found.join("\n"));
    let size: usize = places.iter().map(|(_, text)| text.len()).sum();
    say(format!(
        "none of {} secrets is in {} places ({size} bytes)",
        secrets.len(),
        places.len()
    ));
    Ok(())
}

/// Where each secret comes from, and the forms it might have elsewhere.
async fn secrets(cluster: &Cluster, namespaces: &[&str]) -> Result<Vec<(String, Vec<String>)>> {
    let mut found = Vec::new();
    for namespace in namespaces {
        for secret in cluster
            .api::<Secret>(namespace)
            .list(&ListParams::default())
            .await?
        {
            // Helm keeps a release as one compressed text, which is a Secret for this very reason.
            if secret.type_.as_deref() == Some("helm.sh/release.v1") {
                continue;
            }
            let name = secret.name_any();
            for (key, bytes) in secret.data.unwrap_or_default() {
                let text = String::from_utf8_lossy(&bytes.0).trim().to_owned();
                if text.len() >= SHORTEST && !PUBLIC.contains(&key.as_str()) {
                    let encoded = STANDARD.encode(&text);
                    found.push((
                        format!("{namespace}/{name} {key}"),
                        vec![text, encoded.trim_end_matches('=').to_owned()],
                    ));
                }
            }
        }
    }
    Ok(found)
}

/// Everything that may be read without the right to read Secrets.
async fn places(cluster: &Cluster, namespaces: &[&str], pods: &[Pod]) -> Result<Vec<(String, String)>> {
    let mut places = Vec::new();
    for namespace in namespaces {
        for kind in [
            "events",
            "events.events.k8s.io",
            "stockfeeds",
            "configmaps",
            "services",
            "deployments,statefulsets,replicasets",
            "pods",
        ] {
            let text = cluster
                .kubectl_text(&["get", kind, "--namespace", namespace, "--output=json"])
                .await?;
            places.push((format!("{kind} of {namespace}"), text));
        }
    }
    for pod in pods {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        // A pod may have gone meanwhile; one that has not started has no log.
        let log = cluster
            .kubectl(
                &["logs", "--all-containers", "--namespace", &namespace, &name],
                None,
            )
            .await?;
        places.push((
            format!("log of {namespace}/{name}"),
            String::from_utf8_lossy(&log.stdout).into_owned(),
        ));
        let log = cluster
            .kubectl(
                &[
                    "logs",
                    "--all-containers",
                    "--previous",
                    "--namespace",
                    &namespace,
                    &name,
                ],
                None,
            )
            .await?;
        places.push((
            format!("earlier log of {namespace}/{name}"),
            String::from_utf8_lossy(&log.stdout).into_owned(),
        ));
        for process in process::of_pod(pod) {
            places.push((
                format!("arguments of process {} of {namespace}/{name}", process.id),
                process.command,
            ));
            places.push((
                format!("environment of process {} of {namespace}/{name}", process.id),
                process.environment,
            ));
        }
    }
    let logs = places
        .iter()
        .filter(|(place, text)| place.starts_with("log of") && !text.is_empty())
        .count();
    ensure!(logs >= 6, "only {logs} logs could be read");
    Ok(places)
}
