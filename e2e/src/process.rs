//! Processes of pods, as the machine sees them that the node runs on.
//!
//! On the testbed the node is this machine. Under kind the processes may be those of another machine (Docker Desktop), or of
//! another user: then only what Kubernetes itself offers is left.

use std::{collections::BTreeSet, fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::DeleteParams};
use tokio::process::Command;

use crate::{cluster::Cluster, say, wait, workload::first_container};

/// What a process of SIGKILL ends with.
const EXIT_KILLED: i32 = 137;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number on this machine.
    pub id: u32,
    /// Real, effective, saved and file system user ids.
    pub users: BTreeSet<u32>,
    /// Its command line.
    pub command: String,
    /// Its environment; empty when it cannot be read.
    pub environment: String,
}

/// The processes of a pod that can be seen from here, without the one that holds its network.
#[must_use]
pub fn of_pod(pod: &Pod) -> Vec<Process> {
    let Some(uid) = pod.metadata.uid.as_deref() else {
        return Vec::new();
    };
    // With systemd's cgroup driver the id has underscores.
    let forms = [uid.to_owned(), uid.replace('-', "_")];
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| read(id, &forms))
        .filter(|process| process.command != "/pause")
        .collect()
}

fn read(id: u32, pods: &[String]) -> Option<Process> {
    let folder = Path::new("/proc").join(id.to_string());
    let cgroup = fs::read_to_string(folder.join("cgroup")).ok()?;
    if !pods.iter().any(|pod| cgroup.contains(pod)) {
        return None;
    }
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let words = |file: &str| {
        let bytes = fs::read(folder.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes)
            .replace('\0', " ")
            .trim_end()
            .to_owned()
    };
    let command = words("cmdline");
    // A zombie has none any more.
    (!command.is_empty()).then(|| Process {
        id,
        users: users
            .split_whitespace()
            .filter_map(|user| user.parse().ok())
            .collect(),
        command,
        environment: words("environ"),
    })
}

/// Kills a pod with SIGKILL, all its processes at once: nothing is flushed, nothing is said to anyone. Where its processes
/// cannot be reached it is deleted. Returns when it is dead.
///
/// # Errors
/// When it does not die.
pub async fn kill(cluster: &Cluster, pod: &Pod) -> Result<()> {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let pods = cluster.api::<Pod>(&namespace);
    let container = first_container(pod).and_then(|status| status.container_id.clone());
    let processes = of_pod(pod);
    if signal(&processes).await {
        say(format!(
            "SIGKILL to {} process(es) of {namespace}/{name}",
            processes.len()
        ));
        return wait::until(
            &format!("{namespace}/{name} was killed"),
            Duration::from_secs(30),
            async || {
                let pod = pods.get(&name).await?;
                let status = first_container(&pod).context("it has no container yet")?;
                let ended = [&status.state, &status.last_state];
                let mut ended = ended
                    .into_iter()
                    .flatten()
                    .filter_map(|state| state.terminated.as_ref());
                let killed =
                    ended.any(|ended| ended.container_id == container && ended.exit_code == EXIT_KILLED);
                ensure!(killed, "Kubernetes has not noticed");
                Ok(())
            },
        )
        .await;
    }
    say(format!(
        "the processes of {namespace}/{name} cannot be reached from here: it is deleted, with a grace period of 1 s"
    ));
    remove(cluster, pod).await
}

/// Kills a pod as [`kill`] does and removes what is left, so that its controller makes a new one: Kubernetes lets the container
/// of a pod that died before wait, and longer each time.
///
/// # Errors
/// When it does not die.
pub async fn kill_and_remove(cluster: &Cluster, pod: &Pod) -> Result<()> {
    kill(cluster, pod).await?;
    remove(cluster, pod).await
}

async fn remove(cluster: &Cluster, pod: &Pod) -> Result<()> {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let pods = cluster.api::<Pod>(&namespace);
    let same = |found: &Pod| found.metadata.uid == pod.metadata.uid;
    if pods.get_opt(&name).await?.is_some_and(|found| same(&found)) {
        // Not zero, with which Kubernetes forgets a pod while its processes may still be there: the next one of a StatefulSet
        // would share its volume with them.
        let soon = DeleteParams {
            grace_period_seconds: Some(1),
            ..DeleteParams::default()
        };
        pods.delete(&name, &soon).await?;
    }
    wait::until(
        &format!("{namespace}/{name} is gone"),
        Duration::from_secs(30),
        async || {
            ensure!(
                !pods.get_opt(&name).await?.is_some_and(|found| same(&found)),
                "it is still there"
            );
            Ok(())
        },
    )
    .await
}

/// Stops a pod's processes where they stand, or lets them go on. Returns whether they could be reached.
///
/// # Errors
/// When there is no program `kill`.
pub async fn stop(processes: &[Process], stopped: bool) -> Result<bool> {
    let name = if stopped { "-STOP" } else { "-CONT" };
    let sent = send(name, processes).await?;
    if sent {
        let ids: Vec<_> = processes.iter().map(|process| process.id).collect();
        say(format!("SIG{} to {ids:?}", &name[1..]));
    }
    Ok(sent)
}

/// Sends a signal. Returns whether all processes could be reached.
async fn send(name: &str, processes: &[Process]) -> Result<bool> {
    if processes.is_empty() {
        return Ok(false);
    }
    let ids = processes.iter().map(|process| process.id.to_string());
    let sent = Command::new("kill")
        .arg(name)
        .args(ids)
        .stderr(Stdio::null())
        .status()
        .await
        .context("failed to run `kill`")?;
    Ok(sent.success())
}

async fn signal(processes: &[Process]) -> bool {
    if processes.is_empty() {
        return false;
    }
    // Those that ended with their parent make `kill` fail; whether the pod died is seen in its status.
    let _ = send("-9", processes).await;
    let lives = |process: &Process| {
        let now = fs::read(format!("/proc/{}/cmdline", process.id)).unwrap_or_default();
        String::from_utf8_lossy(&now).replace('\0', " ").trim_end() == process.command
    };
    let dead = wait::until("the processes are dead", Duration::from_secs(5), async || {
        ensure!(!processes.iter().any(lives), "they live");
        Ok(())
    });
    dead.await.is_ok()
}
