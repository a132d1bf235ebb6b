//! Who may speak with a feed's pods, how many may be taken away at once, and what a feed may have otherwise in them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    feed::{self, Feed},
    namespace::run_in,
    operator, say, wait, workload,
};
use k8s_openapi::api::{
    apps::v1::StatefulSet, core::v1::Pod, networking::v1::NetworkPolicy, policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// How soon a feed must be ready.
const READY: Duration = Duration::from_secs(120);
/// How soon something that was changed must be as it was.
const HEALED: Duration = Duration::from_secs(90);
/// How soon a probe must have come to an end.
const PROBED: Duration = Duration::from_secs(60);

/// A feed of two processors from the chart's simulator, ready.
async fn ready_feed(cluster: &Cluster, namespace: &str, name: &str) -> Result<(Feed, Value)> {
    let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
    cluster
        .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
        .await?;
    let feed = Feed::new(cluster, namespace, name)?;
    let mut spec = feed::spec();
    spec["processing"]["replicas"] = json!({"min": 2});
    feed.apply(&spec).await?;
    feed.await_ready(READY).await?;
    Ok((feed, spec))
}

#[tokio::test]
async fn policies_are_healed_and_go_when_they_are_switched_off() -> Result<()> {
    run_in("e2e-policies", async |cluster, namespace| {
        ready_feed(cluster, namespace, "walled").await?;
        let policies = cluster.api::<NetworkPolicy>(namespace);
        let names = async || -> Result<Vec<String>> {
            let list = policies.list(&ListParams::default()).await?;
            Ok(list.iter().map(ResourceExt::name_any).collect())
        };
        let all = ["walled-default-deny", "walled-processor", "walled-producer"];
        ensure!(names().await? == all, "there are {:?}", names().await?);
        let allowed = policies.get("walled-producer").await?.spec;

        // Everybody is let in.
        let opened = Patch::Merge(json!({"spec": {"ingress": [{}]}}));
        policies
            .patch("walled-producer", &PatchParams::default(), &opened)
            .await?;
        wait::until("the rule is taken out again", HEALED, async || {
            let found = policies.get("walled-producer").await?.spec;
            ensure!(found == allowed, "it is {found:?}");
            Ok(())
        })
        .await?;
        // One rule more, at the end, is as bad.
        let more = Patch::Json::<()>(serde_json::from_value(
            json!([{"op": "add", "path": "/spec/egress/-", "value": {}}]),
        )?);
        policies
            .patch("walled-processor", &PatchParams::default(), &more)
            .await?;
        wait::until("and one that was added", HEALED, async || {
            let spec = policies.get("walled-processor").await?.spec;
            let rules = spec.and_then(|spec| spec.egress).unwrap_or_default().len();
            ensure!(rules == 3, "there are {rules} rules");
            Ok(())
        })
        .await?;
        policies
            .delete("walled-default-deny", &DeleteParams::default())
            .await?;
        let complete = async || {
            let found = names().await?;
            ensure!(found == all, "there are {found:?}");
            Ok(())
        };
        wait::until("the denial is back", HEALED, complete).await?;

        operator::with_options(cluster, &[("network-policies", "false")], async || {
            wait::until("no policy is left", HEALED, async || {
                let found = names().await?;
                ensure!(found.is_empty(), "there are {found:?}");
                Ok(())
            })
            .await
        })
        .await?;
        wait::until("all policies are back", HEALED, complete).await
    })
    .await
}

#[tokio::test]
async fn processors_are_taken_away_one_by_one() -> Result<()> {
    run_in("e2e-eviction", async |cluster, namespace| {
        let (feed, _) = ready_feed(cluster, namespace, "two").await?;
        let budgets = cluster.api::<PodDisruptionBudget>(namespace);
        wait::until("one processor may be taken away", HEALED, async || {
            let status = budgets
                .get("two-processor")
                .await?
                .status
                .context("not counted")?;
            // As long as only one is counted, that one may go.
            let counted = (status.expected_pods, status.current_healthy);
            ensure!(counted == (2, 2), "{counted:?} are counted");
            let allowed = status.disruptions_allowed;
            ensure!(allowed == 1, "{allowed} may be");
            Ok(())
        })
        .await?;
        let pods = cluster.api::<Pod>(namespace);
        let selector = feed.selector("processor");
        let list = pods.list(&ListParams::default().labels(&selector)).await?;
        let names: Vec<_> = list.iter().map(ResourceExt::name_any).collect();
        ensure!(names.len() == 2, "there are {names:?}");
        // At the same time, and each once: a successor is ready within seconds, and then another one may go.
        let eager = Api::<Pod>::namespaced(cluster.impatient().await?, namespace);
        let options = EvictParams::default();
        let (first, second) =
            tokio::join!(eager.evict(&names[0], &options), eager.evict(&names[1], &options));
        let refused =
            |answer: &kube::Result<_>| matches!(answer, Err(kube::Error::Api(status)) if status.code == 429);
        let one_went = (first.is_ok() && refused(&second)) || (refused(&first) && second.is_ok());
        ensure!(one_went, "not one of two: {first:?} {second:?}");
        say("the second eviction is refused while the first one's successor is not ready");
        workload::await_available(cluster, namespace, "two-processor", READY).await?;
        feed.await_ready(READY).await
    })
    .await
}

#[tokio::test]
async fn a_pod_is_as_the_feed_has_it() -> Result<()> {
    run_in("e2e-template", async |cluster, namespace| {
        let (feed, mut spec) = ready_feed(cluster, namespace, "tailored").await?;
        let producer = pods(cluster, namespace, &feed.selector("producer")).await?;
        spec["template"] = json!({"processor": {
            "labels": {"team": "data"},
            "annotations": {"example.com/note": "any text"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "resources": {"limits": {"memory": "384Mi"}},
        }});
        feed.apply(&spec).await?;
        feed.await_ready(READY).await?;
        let processors = wait::until("all processors are of the new form", READY, async || {
            let found = pods(cluster, namespace, &feed.selector("processor")).await?;
            let new = found.values().filter(|pod| pod.labels().contains_key("team"));
            ensure!(found.len() == 2 && new.count() == 2, "there are {}", found.len());
            Ok(found)
        })
        .await?;
        for pod in processors.values() {
            let spec = pod.spec.as_ref().context("a pod has no spec")?;
            let limits = spec.containers[0]
                .resources
                .as_ref()
                .and_then(|resources| resources.limits.as_ref());
            let limits = limits.context("a container has no limits")?;
            ensure!(
                limits["memory"].0 == "384Mi" && limits["cpu"].0 == "2",
                "{limits:?}"
            );
            ensure!(pod.annotations()["example.com/note"] == "any text");
            ensure!(spec.node_selector.as_ref().is_some_and(|nodes| nodes.len() == 1));
        }
        let same = pods(cluster, namespace, &feed.selector("producer")).await?;
        ensure!(
            same.keys().eq(producer.keys()),
            "the producer was replaced as well"
        );

        // What only the operator can find wrong is said, and everything goes on.
        let right = spec.clone();
        spec["template"]["processor"]["resources"]["requests"] = json!({"memory": "1Gi"});
        feed.apply(&spec).await?;
        let ready = feed.await_condition("Ready", "False", READY).await?;
        ensure!(
            ready.reason == "InvalidSpec"
                && ready
                    .message
                    .contains("spec.template.processor.resources.requests.memory is 1Gi"),
            "{}: {}",
            ready.reason,
            ready.message
        );
        let same = pods(cluster, namespace, &feed.selector("processor")).await?;
        ensure!(same.keys().eq(processors.keys()), "processors were replaced");
        feed.apply(&right).await?;
        feed.await_ready(READY).await
    })
    .await
}

/// The pods of a worker by their UID, without those on their way out.
async fn pods(cluster: &Cluster, namespace: &str, selector: &str) -> Result<BTreeMap<String, Pod>> {
    let list = cluster
        .api::<Pod>(namespace)
        .list(&ListParams::default().labels(selector))
        .await?;
    let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    Ok(list
        .into_iter()
        .filter(stays)
        .map(|pod| (pod.uid().unwrap_or_default(), pod))
        .collect())
}

/// On a cluster whose network enforces policies. The testbed's does not: there the way is seen to be open without them, which shows
/// that the probe can tell.
#[tokio::test]
async fn nobody_from_another_namespace_reaches_the_workers() -> Result<()> {
    run_in("e2e-outside", async |_, outside| {
        run_in("e2e-inside", async |cluster, inside| {
            ready_feed(cluster, inside, "walled").await?;
            let nodes = cluster.kubectl_text(&["get", "nodes", "--output=name"]).await?;
            let enforced = nodes.trim() != "node/testbed";
            for (worker, port) in [("producer", "8000"), ("processor", "8001")] {
                let host = format!("walled-{worker}.{inside}.svc");
                let neighbour = probe(cluster, inside, worker, &host, port).await?;
                ensure!(neighbour, "a pod of the feed's namespace does not reach the {worker}");
                let stranger = probe(cluster, outside, worker, &host, port).await?;
                ensure!(
                    stranger != enforced,
                    "a pod of another namespace reaches the {worker}: {stranger}; policies are enforced: {enforced}"
                );
            }
            say(format!("policies are enforced here: {enforced}"));
            Ok(())
        })
        .await
    })
    .await
}

/// Whether a pod of a namespace can open a connection. It runs the chart's PostgreSQL image, which has a shell.
async fn probe(cluster: &Cluster, namespace: &str, name: &str, host: &str, port: &str) -> Result<bool> {
    let database = cluster
        .api::<StatefulSet>(SYSTEM)
        .get(&format!("{RELEASE}-postgresql"))
        .await?;
    let image = database
        .spec
        .and_then(|spec| spec.template.spec)
        .and_then(|pod| pod.containers.into_iter().next())
        .and_then(|container| container.image)
        .context("the chart's PostgreSQL has no image")?;
    let name = format!("probe-{name}");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "probe",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/$0/$1", host, port],
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    }))?;
    let pods = cluster.api::<Pod>(namespace);
    pods.create(&PostParams::default(), &pod).await?;
    wait::until(
        &format!("{name} of {namespace} has come to an end"),
        PROBED,
        async || {
            let phase = pods.get(&name).await?.status.and_then(|status| status.phase);
            match phase.as_deref() {
                Some("Succeeded") => Ok(true),
                Some("Failed") => Ok(false),
                phase => anyhow::bail!("it is {phase:?}"),
            }
        },
    )
    .await
}
