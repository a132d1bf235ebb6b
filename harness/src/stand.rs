//! Everything that one run needs: an API server with the definition and the rules of the chart, a database, a virtual host.

use std::path::Path;

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Secret},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use operator::api::{StockFeed, status::StockFeedStatus};
use serde_json::json;
use test_servers::{TestBroker, TestDatabase};

use crate::{ApiServer, api_server::OPERATOR};

/// Where the feeds are.
pub const NAMESPACE: &str = "markets";

/// What one run needs. The API server ends with this value; database and virtual host go with their servers.
pub struct Stand {
    /// The API server.
    pub api_server: ApiServer,
    /// A client of its administrator.
    pub client: Client,
    /// The broker.
    pub broker: TestBroker,
    /// The database.
    pub database: TestDatabase,
}

impl Stand {
    /// Makes all of it. `kube` is the program that holds those of Kubernetes, `definition` and `rules` are files of the
    /// repository.
    ///
    /// # Errors
    /// When a server does not start or refuses.
    pub async fn make(kube: &Path, folder: &Path) -> Result<Self> {
        let api_server = ApiServer::start(kube, folder).await?;
        let client = api_server.administrator().await?;
        let (broker, database) = (TestBroker::create().await?, TestDatabase::create().await?);
        let definition: CustomResourceDefinition =
            serde_yaml::from_str(include_str!("../../crds/stockfeeds.yaml"))?;
        let definitions = Api::<CustomResourceDefinition>::all(client.clone());
        definitions.create(&PostParams::default(), &definition).await?;
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let stand = Self {
            api_server,
            client,
            broker,
            database,
        };
        stand.give_rights().await?;
        stand.write_secrets().await?;
        stand.wait_for_definition().await?;
        Ok(stand)
    }

    /// The operator gets what the chart gives it, and nothing else.
    async fn give_rights(&self) -> Result<()> {
        let manifest = include_str!("../../manifests/install.yaml");
        let mut given = 0;
        for document in manifest.split("\n---\n") {
            // Parsed twice: as what it says it is.
            let Ok(value) = serde_yaml::from_str::<serde_json::Value>(document) else {
                continue;
            };
            let is_operators = value["metadata"]["labels"]["app.kubernetes.io/component"] == "operator";
            if value["kind"] != "ClusterRole" || !is_operators || !value["aggregationRule"].is_null() {
                continue;
            }
            let role: ClusterRole = serde_json::from_value(value)?;
            let name = role.metadata.name.clone().unwrap_or_default();
            Api::all(self.client.clone())
                .create(&PostParams::default(), &role)
                .await?;
            let binding: ClusterRoleBinding = serde_json::from_value(json!({
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPERATOR}],
            }))?;
            Api::all(self.client.clone())
                .create(&PostParams::default(), &binding)
                .await?;
            given += 1;
        }
        anyhow::ensure!(given > 0, "manifests/install.yaml has no role of the operator");
        Ok(())
    }

    async fn write_secrets(&self) -> Result<()> {
        let (broker, database) = (&self.broker, &self.database);
        let management = broker
            .management
            .rsplit(':')
            .next()
            .context("the management API has no port")?;
        let options = &database.options;
        let contents = [
            ("fmp", json!({"apiKey": "a-key"})),
            (
                "installation-broker",
                json!({
                    "host": broker.host, "port": broker.port.to_string(), "username": broker.username,
                    "password": broker.password, "vhost": broker.vhost, "managementPort": management,
                }),
            ),
            (
                "installation-database",
                json!({
                    "host": options.get_host(), "port": options.get_port().to_string(), "dbname": database.name,
                    "username": "postgres", "password": "postgres", "sslmode": "disable",
                }),
            ),
        ];
        let api = Api::<Secret>::namespaced(self.client.clone(), NAMESPACE);
        for (name, content) in contents {
            let secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": content}))?;
            api.create(&PostParams::default(), &secret).await?;
        }
        Ok(())
    }

    async fn wait_for_definition(&self) -> Result<()> {
        let api = self.feeds();
        let served = async {
            while api.list(&ListParams::default().limit(1)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), served).await;
        waited.context("StockFeeds are not served")
    }

    /// The feeds.
    #[must_use]
    pub fn feeds(&self) -> Api<StockFeed> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// How many feeds have everything outside the cluster.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn converged(&self) -> Result<usize> {
        let feeds = self.feeds().list(&ListParams::default()).await?;
        let statuses = feeds.items.iter().filter_map(|feed| feed.status.as_ref());
        Ok(statuses.filter(|status| is_converged(status)).count())
    }
}

/// Whether queues and schema are there.
fn is_converged(status: &StockFeedStatus) -> bool {
    let is_true = |kind: &str| {
        let of_kind = status.conditions.iter().find(|condition| condition.type_ == kind);
        of_kind.is_some_and(|condition| condition.status == "True")
    };
    status.queue_generation.is_some() && is_true("BrokerReady") && is_true("SchemaReady")
}
