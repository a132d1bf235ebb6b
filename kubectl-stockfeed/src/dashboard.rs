//! A local port that leads to a processor of the feed, and a browser that shows it.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use operator::labels::Component;
use tokio::process::Command;

use crate::{cluster::Cluster, forward::Forward, route};

/// What opens a page.
const OPENER: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};

/// Leads the port until Ctrl-C.
///
/// # Errors
/// When the feed has no processor that runs, or the port is taken.
pub async fn run(cluster: &Cluster, name: &str, port: u16, open: bool) -> Result<()> {
    cluster.feed(name).await?;
    let processor = Component::Processor;
    let service = processor.object_name(name);
    let backend = route::to_service(cluster, cluster.namespace(), &service, processor.port()).await?;
    let forward = Forward::open(backend, port).await?;
    let url = format!("http://{}/state", forward.address());
    println!(
        "{url} leads to a processor of {}/{name}. Ctrl-C ends it.",
        cluster.namespace()
    );
    if open {
        let opened = Command::new(OPENER)
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if opened.is_err() {
            eprintln!("There is no {OPENER} to open a browser with: open the address yourself.");
        }
    }
    tokio::signal::ctrl_c().await.context("failed to wait for Ctrl-C")
}
