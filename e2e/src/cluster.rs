//! The cluster under test.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    process::{Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, Config, api::PostParams};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// A client, and kubectl.
#[derive(Clone)]
pub struct Cluster {
    /// The client, with the rights of the kubeconfig.
    pub client: Client,
    kubectl: OsString,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("kubectl", &self.kubectl)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects as kubectl does: `KUBECONFIG`, or the user's own. `STOCKFEED_KUBECTL` names kubectl if it is not on the path.
    ///
    /// # Errors
    /// When there is no cluster.
    pub async fn connect() -> Result<Self> {
        // The second test of a program finds the provider installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_default()
            .await
            .context("failed to find a cluster: run `cargo xtask up` and set KUBECONFIG as it says")?;
        client
            .apiserver_version()
            .await
            .context("the cluster does not answer: run `cargo xtask up`")?;
        let kubectl = std::env::var_os("STOCKFEED_KUBECTL").unwrap_or_else(|| "kubectl".into());
        Ok(Self { client, kubectl })
    }

    /// A client that reports a refusal at once. The other one asks again after 429, 503 and 504, as kube's clients do.
    ///
    /// # Errors
    /// When there is no cluster.
    pub async fn impatient(&self) -> Result<Client> {
        let mut config = Config::infer().await.context("failed to find a cluster")?;
        config.default_retry = false;
        Client::try_from(config).context("failed to make a client")
    }

    /// Objects of a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Runs kubectl and returns whatever comes of it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<Output> {
        let mut child = Command::new(&self.kubectl)
            .args(arguments)
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start kubectl: put it on the path, or name it in STOCKFEED_KUBECTL")?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            pipe.write_all(input.as_bytes())
                .await
                .context("failed to write to kubectl")?;
        }
        child.wait_with_output().await.context("failed to run kubectl")
    }

    /// Runs kubectl, which must succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub async fn kubectl_text(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl(arguments, None).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {} failed: {errors}",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The texts of a Secret.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>> {
        let secret = self.api::<Secret>(namespace).get(name).await;
        let secret = secret.with_context(|| format!("failed to read Secret {namespace}/{name}"))?;
        let text = |ByteString(bytes): ByteString| String::from_utf8_lossy(&bytes).into_owned();
        Ok(secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, text(value)))
            .collect())
    }

    /// Makes a Secret, or replaces the texts of one.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn put_secret(&self, namespace: &str, name: &str, texts: &[(&str, &str)]) -> Result<()> {
        let data: BTreeMap<_, _> = texts.iter().copied().collect();
        let secret: Secret = serde_json::from_value(
            json!({"metadata": {"name": name}, "type": "Opaque", "stringData": data}),
        )?;
        let api = self.api::<Secret>(namespace);
        if api.get_opt(name).await?.is_some() {
            api.replace(name, &PostParams::default(), &secret).await?;
        } else {
            api.create(&PostParams::default(), &secret).await?;
        }
        Ok(())
    }
}

/// A value of a Secret's texts.
///
/// # Errors
/// When the key is not there.
pub fn value<'a>(texts: &'a BTreeMap<String, String>, key: &str) -> Result<&'a str> {
    texts
        .get(key)
        .map(String::as_str)
        .with_context(|| format!("the Secret has no key {key}"))
}
