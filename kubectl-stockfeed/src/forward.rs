//! A local port that leads into a pod.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::route::{Backend, plain};

/// A local port that leads to whichever pod of a Service runs when a connection is made. It ends with this value.
pub struct Forward {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    /// Listens on a local port, 0 being a free one, for this machine only.
    ///
    /// # Errors
    /// When the port is taken, or there is no pod.
    pub async fn open(backend: Backend, port: u16) -> Result<Self> {
        // So that whoever may not, or comes too early, learns it at once.
        backend.pod().await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("failed to listen on local port {port}"))?;
        let address = listener.local_addr()?;
        let backend = std::sync::Arc::new(backend);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let backend = backend.clone();
                tokio::spawn(async move {
                    if let Err(error) = lead(&backend, stream).await {
                        eprintln!("port-forward: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, task })
    }

    /// The local address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn lead(backend: &Backend, mut local: TcpStream) -> Result<()> {
    let (pod, port) = backend.pod().await?;
    let mut forwarder = backend.pods().portforward(&pod, &[port]).await.map_err(plain)?;
    let mut remote = forwarder
        .take_stream(port)
        .context("the API server forwards no port")?;
    // That one side hangs up is how every connection ends.
    let _ = tokio::io::copy_bidirectional(&mut local, &mut remote).await;
    drop(remote);
    forwarder.abort();
    Ok(())
}
