//! Port-forwards into pods.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{cluster::Cluster, workload};

/// A local port that leads to a port of whichever pod runs when a connection is made, so that it survives the pod.
/// It ends with this value.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    /// Listens on a free local port for a port of the pods of a selector.
    ///
    /// # Errors
    /// When no local port can be had.
    pub async fn open(cluster: &Cluster, namespace: &str, selector: &str, port: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("failed to listen on a local port")?;
        let address = listener.local_addr()?;
        let (pods, selector) = (cluster.api::<Pod>(namespace), selector.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pods, selector) = (pods.clone(), selector.clone());
                // A connection that cannot be made is closed; whoever made it asks again.
                tokio::spawn(async move { connect(&pods, &selector, port, stream).await });
            }
        });
        Ok(Self { address, task })
    }

    /// The local address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The local address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(pods: &Api<Pod>, selector: &str, port: u16, mut local: TcpStream) -> Result<()> {
    let pod = workload::running_pod(pods, selector).await?;
    let name = pod.metadata.name.unwrap_or_default();
    let mut forwarder = pods.portforward(&name, &[port]).await?;
    let mut remote = forwarder.take_stream(port).context("the port is not forwarded")?;
    let copied = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
    drop(remote);
    forwarder.abort();
    copied.map(|_| ()).context("the connection broke")
}
