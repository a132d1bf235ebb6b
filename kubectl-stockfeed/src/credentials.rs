//! The feed's own database roles, as their Secrets have them, and the way to their server.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use operator::{connection::DatabaseConnection, labels};

use crate::{
    cluster::Cluster,
    forward::Forward,
    route::{self, plain},
};

/// A role of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May read.
    Reader,
    /// May change what is stored.
    Writer,
}

/// A database with a role of a feed, and the port-forward to it.
pub struct Access {
    /// Server, database, role and password.
    pub connection: DatabaseConnection,
    /// The port-forward; without, the server is reached as it is.
    pub forward: Option<Forward>,
}

impl Access {
    /// Reads a role's Secret, and no other, and opens the way.
    ///
    /// # Errors
    /// When the feed has none yet, or it or the pods may not be read.
    pub async fn open(cluster: &Cluster, name: &str, role: Role) -> Result<Self> {
        // For the better error: without the feed there are no Secrets.
        cluster.feed(name).await?;
        let secret = match role {
            Role::Reader => labels::reader_secret(name),
            Role::Writer => labels::database_secret(name),
        };
        let namespace = cluster.namespace();
        let found = cluster.api::<Secret>(namespace).get_opt(&secret).await;
        let data = found
            .map_err(plain)?
            .and_then(|secret| secret.data)
            .with_context(|| {
                format!("Secret {namespace}/{secret} does not exist yet: `kubectl stockfeed explain {name} -n {namespace}` says why")
            })?;
        let connection = DatabaseConnection::read(&format!("{namespace}/{secret}"), &data)?;
        let backend = route::to_host(cluster, namespace, &connection.host, connection.port).await?;
        let forward = match backend {
            Some(backend) => Some(Forward::open(backend, 0).await?),
            None => None,
        };
        Ok(Self { connection, forward })
    }
}
