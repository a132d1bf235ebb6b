//! The API server, and the feeds in it.

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Config,
    api::{ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use operator::api::StockFeed;
use serde_json::Value;

use crate::args::Target;

/// Who changes a feed, in its managed fields.
const MANAGER: &str = "kubectl-stockfeed";

/// A connection to a cluster, and the namespace that is meant.
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// Connects as kubectl does.
    ///
    /// # Errors
    /// When there is no usable kubeconfig.
    pub async fn connect(target: &Target) -> Result<Self> {
        let options = KubeConfigOptions {
            context: target.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &target.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("--kubeconfig: failed to read {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await?
            }
            None if target.context.is_some() => Config::from_kubeconfig(&options).await?,
            None => Config::infer()
                .await
                .context("no cluster is configured: set KUBECONFIG, or give --kubeconfig")?,
        };
        let namespace = target
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Self { client, namespace })
    }

    /// The namespace that is meant.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Objects of a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects of all namespaces.
    pub fn everywhere<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::all(self.client.clone())
    }

    /// A feed.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn feed(&self, name: &str) -> Result<StockFeed> {
        let found = self.api::<StockFeed>(&self.namespace).get_opt(name).await;
        found
            .map_err(|error| self.plain(error))?
            .ok_or_else(|| self.missing(name))
    }

    /// The feeds of the namespace, or of all.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn feeds(&self, everywhere: bool) -> Result<Vec<StockFeed>> {
        let api: Api<StockFeed> = match everywhere {
            true => Api::all(self.client.clone()),
            false => self.api(&self.namespace),
        };
        let listed = api.list(&ListParams::default()).await;
        Ok(listed.map_err(|error| self.plain(error))?.items)
    }

    /// Changes some fields of a feed, and leaves the others as they are.
    ///
    /// # Errors
    /// When it is not there, or the change is refused.
    pub async fn change(&self, name: &str, patch: &Value) -> Result<StockFeed> {
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let changed = self
            .api::<StockFeed>(&self.namespace)
            .patch(name, &parameters, &Patch::Merge(patch))
            .await;
        changed.map_err(|error| match is_not_found(&error) {
            true => self.missing(name),
            false => self.plain(error),
        })
    }

    /// What is said when there are none.
    #[must_use]
    pub fn no_feeds(&self, everywhere: bool) -> String {
        match everywhere {
            true => "There are no feeds.\n".to_owned(),
            false => format!(
                "There are no feeds in namespace {}. -n names another, -A shows all.\n",
                self.namespace
            ),
        }
    }

    fn missing(&self, name: &str) -> anyhow::Error {
        anyhow!(
            "there is no feed {name} in namespace {}; `kubectl stockfeed status -A` shows all",
            self.namespace
        )
    }

    /// An error as a sentence; kube shows the whole answer.
    fn plain(&self, error: kube::Error) -> anyhow::Error {
        match error {
            kube::Error::Api(answer) if answer.code == 404 => anyhow!(
                "the cluster does not know StockFeeds: install the chart and its custom resource definition"
            ),
            kube::Error::Api(answer) => anyhow!("{}", answer.message),
            other => anyhow::Error::new(other).context("the API server does not answer"),
        }
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.code == 404)
}
