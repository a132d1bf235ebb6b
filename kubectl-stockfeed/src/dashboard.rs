//! A local port that leads to the dashboard, and a browser that shows the feed in it; without a dashboard, to one of the feed's
//! processors.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use kube::{ResourceExt as _, api::ListParams};
use operator::labels::Component;
use tokio::process::Command;

use crate::{cluster::Cluster, forward::Forward, route};

/// What opens a page.
const OPENER: &str = if cfg!(target_os = "macos") {
    "open"
} else {
    "xdg-open"
};
/// The labels of the dashboard's Service.
const DASHBOARD: &str = "app.kubernetes.io/name=stockfeed,app.kubernetes.io/component=dashboard";
/// The dashboard's port.
const PORT: u16 = 8081;
/// Where the installation is looked for by who may not list Services of the whole cluster.
const NAMESPACE: &str = "stockfeed-system";

/// Leads the port until Ctrl-C.
///
/// # Errors
/// When there is neither a dashboard nor a processor that runs, or the port is taken.
pub async fn run(cluster: &Cluster, name: &str, port: u16, open: bool) -> Result<()> {
    cluster.feed(name).await?;
    let namespace = cluster.namespace();
    let (backend, path, what) = match find(cluster).await {
        Some((installation, service)) => (
            route::to_service(cluster, &installation, &service, PORT).await?,
            format!("/feeds/{namespace}/{name}"),
            format!("the dashboard in {installation}"),
        ),
        None => {
            let processor = Component::Processor;
            let service = processor.object_name(name);
            (
                route::to_service(cluster, namespace, &service, processor.port()).await?,
                "/state".to_owned(),
                format!("a processor of {namespace}/{name}, since no dashboard was found"),
            )
        }
    };
    let forward = Forward::open(backend, port).await?;
    let url = format!("http://{}{path}", forward.address());
    println!("{url} leads to {what}. Ctrl-C ends it.");
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

/// Namespace and name of the dashboard's Service, wherever that is; `None` also when Services may not be listed.
async fn find(cluster: &Cluster) -> Option<(String, String)> {
    let selected = ListParams::default().labels(DASHBOARD);
    let everywhere = cluster.everywhere::<Service>().list(&selected).await;
    let listed = match everywhere {
        Ok(listed) => listed,
        Err(_) => cluster.api::<Service>(NAMESPACE).list(&selected).await.ok()?,
    };
    let service = listed.items.first()?;
    Some((service.namespace()?, service.name_any()))
}
