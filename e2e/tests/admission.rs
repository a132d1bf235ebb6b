//! What is wrong with a StockFeed is said by `kubectl apply`, and names the field.

use anyhow::{Result, ensure};
use e2e::{cluster::Cluster, feed, namespace::run_in, say};
use kube::api::ListParams;
use serde_json::{Value, json};

/// What is changed in a valid resource, to what (`None` removes it), and what the refusal must say.
type Case = (&'static str, Option<Value>, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let many: Vec<String> = (0..501).map(|number| format!("S{number}")).collect();
    vec![
        ("/spec/symbols", Some(json!([])), &["spec.symbols"]),
        ("/spec/symbols", Some(json!(many)), &["spec.symbols", "500"]),
        (
            "/spec/symbols",
            Some(json!(["AAPL", "IBM", "AAPL"])),
            &["spec.symbols", "AAPL"],
        ),
        ("/spec/symbols", Some(json!(["aapl"])), &["spec.symbols[0]"]),
        ("/spec/symbols", None, &["spec.symbols"]),
        ("/spec/interval", Some(json!("0s")), &["spec.interval", "100ms"]),
        ("/spec/interval", Some(json!("99ms")), &["spec.interval", "100ms"]),
        ("/spec/interval", Some(json!("soon")), &["spec.interval"]),
        ("/spec/interval", Some(json!(60)), &["spec.interval"]),
        ("/spec/source", None, &["spec.source"]),
        (
            "/spec/source/fmp/apiKeySecretRef",
            None,
            &["spec.source.fmp.apiKeySecretRef"],
        ),
        (
            "/spec/source/fmp/baseUrl",
            Some(json!("ftp://example.com")),
            &["spec.source.fmp.baseUrl"],
        ),
        (
            "/spec/source/fmp/baseUrl",
            Some(json!("https://example.com/stable?apikey=x")),
            &["spec.source.fmp.baseUrl"],
        ),
        (
            "/spec/source/fmp/plan",
            Some(json!("Gold")),
            &["spec.source.fmp.plan", "Ultimate"],
        ),
        (
            "/spec/source/fmp/callsPerDay",
            Some(json!(0)),
            &["spec.source.fmp.callsPerDay"],
        ),
        (
            "/spec/processing/windows",
            Some(json!(["1m", "2m"])),
            &["spec.processing.windows[1]", "2m", "5m"],
        ),
        (
            "/spec/processing/windows",
            Some(json!(["1m", "1m"])),
            &["spec.processing.windows", "1m"],
        ),
        (
            "/spec/processing/windows",
            Some(json!([])),
            &["spec.processing.windows"],
        ),
        (
            "/spec/processing/partitions",
            Some(json!(0)),
            &["spec.processing.partitions"],
        ),
        (
            "/spec/processing/partitions",
            Some(json!(65)),
            &["spec.processing.partitions"],
        ),
        (
            "/spec/processing/replicas",
            Some(json!({"min": 3, "max": 2})),
            &[
                "spec.processing.replicas",
                "replicas.min must be at most replicas.max",
            ],
        ),
        (
            "/spec/processing/replicas",
            Some(json!({"max": 3})),
            &["spec.processing", "replicas.max must be at most partitions"],
        ),
        (
            "/spec/processing/replicas",
            Some(json!({"scaleDownStabilizationSeconds": 4})),
            &["spec.processing.replicas.scaleDownStabilizationSeconds"],
        ),
        (
            "/spec/processing/replicas",
            Some(json!({"targetCatchUpSeconds": 0})),
            &["spec.processing.replicas.targetCatchUpSeconds"],
        ),
        (
            "/spec/processing/allowedLateness",
            Some(json!("-1h")),
            &["spec.processing.allowedLateness"],
        ),
        (
            "/spec/processing/maxFuture",
            Some(json!("999ms")),
            &["spec.processing.maxFuture", "1s"],
        ),
        (
            "/spec/processing/maxFuture",
            Some(json!("1d")),
            &["spec.processing.maxFuture"],
        ),
        (
            "/spec/processing/maxAge",
            Some(json!("59s")),
            &["spec.processing.maxAge", "1m"],
        ),
        (
            "/spec/processing/maxAge",
            Some(json!("0d")),
            &["spec.processing.maxAge"],
        ),
        (
            "/spec/storage",
            Some(json!({"retention": "0d"})),
            &["spec.storage.retention"],
        ),
        ("/spec/broker", Some(json!({})), &["spec.broker", "secretRef"]),
        (
            "/spec/deletionPolicy",
            Some(json!("Forget")),
            &["spec.deletionPolicy", "Retain"],
        ),
        (
            "/spec/template",
            Some(json!({"processor": {"labels": {"app.kubernetes.io/name": "x"}}})),
            &["spec.template.processor.labels", "cannot be changed"],
        ),
        (
            "/spec/template",
            Some(json!({"producer": {"annotations": {"stockfeed.dev/config-hash": "x"}}})),
            &["spec.template.producer.annotations", "stockfeed.dev/"],
        ),
        (
            "/spec/template",
            Some(json!({"producer": {"image": "stockfeed/producer@sha256:abc"}})),
            &["spec.template.producer.image"],
        ),
        (
            "/spec/template",
            Some(json!({"processor": {"tolerations": [{"value": "x"}]}})),
            &["spec.template.processor.tolerations[0]", "Exists"],
        ),
        (
            "/spec/template",
            Some(json!({"processor": {"resources": {"limits": {"memory": "1GB"}}}})),
            &["spec.template.processor.resources.limits.memory"],
        ),
        (
            "/spec/template",
            Some(json!({"processor": {"hostNetwork": true}})),
            &["spec.template.processor.hostNetwork"],
        ),
        ("/spec/simbols", Some(json!(["AAPL"])), &["spec.simbols"]),
        ("/metadata/name", Some(json!("a.b")), &["metadata.name"]),
        (
            "/metadata/name",
            Some(json!("a".repeat(41))),
            &["metadata.name", "40"],
        ),
    ]
}

#[tokio::test]
async fn a_wrong_feed_is_refused_with_a_message_that_names_the_field() -> Result<()> {
    run_in("e2e-admission", async |cluster, namespace| {
        let mut problems = Vec::new();
        for (pointer, replacement, words) in cases() {
            let mut manifest = feed::manifest(namespace, "wrong", &feed::spec());
            set(&mut manifest, pointer, replacement.clone());
            let (accepted, message) = apply(cluster, &manifest).await?;
            let silent: Vec<_> = words.iter().filter(|word| !message.contains(**word)).collect();
            if accepted || !silent.is_empty() {
                problems.push(format!(
                    "{pointer}: accepted: {accepted}, does not say {silent:?}: {message}"
                ));
            }
        }
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        say(format!("{} wrong feeds were refused", cases().len()));
        let made = feed::api(cluster, namespace)
            .list(&ListParams::default())
            .await?
            .items
            .len();
        ensure!(made == 0, "{made} of them were made all the same");

        let right = feed::manifest(namespace, "right", &feed::spec());
        let (accepted, message) = apply(cluster, &right).await?;
        ensure!(
            accepted,
            "the feed that the wrong ones were made from is refused: {message}"
        );
        for (pointer, value) in [
            ("/spec/processing/partitions", json!(3)),
            ("/spec/processing/maxAge", json!("7d")),
            ("/spec/processing/maxAge", json!("36h")),
            (
                "/spec/template",
                json!({"producer": {"labels": {"team": "data"}}}),
            ),
        ] {
            let mut changed = right.clone();
            set(&mut changed, pointer, Some(value));
            let (accepted, message) = apply(cluster, &changed).await?;
            ensure!(accepted, "a change of {pointer} is refused: {message}");
        }
        Ok(())
    })
    .await
}

async fn apply(cluster: &Cluster, manifest: &Value) -> Result<(bool, String)> {
    let output = cluster
        .kubectl(&["apply", "--filename=-"], Some(&manifest.to_string()))
        .await?;
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

/// Sets, adds or removes a member of an object.
fn set(manifest: &mut Value, pointer: &str, replacement: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let Some(Value::Object(parent)) = manifest.pointer_mut(parent) else {
        return;
    };
    match replacement {
        Some(value) => parent.insert(key.to_owned(), value),
        None => parent.remove(key),
    };
}
