//! An etcd and a kube-apiserver on loopback, in a folder of their own.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

/// How long the servers may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// The operator's account: the one that the chart's rules are given to.
pub(crate) const OPERATOR: &str = "system:serviceaccount:stockfeed-system:stockfeed-operator";
/// Tokens are worth something on this loopback address only, for as long as the server lives.
const ADMINISTRATOR_TOKEN: &str = "administrator";
const OPERATOR_TOKEN: &str = "operator";

/// A running API server. It ends with this value.
pub struct ApiServer {
    folder: PathBuf,
    port: u16,
    etcd: Child,
    server: Child,
}

impl ApiServer {
    /// Starts both and waits until they answer. `program` holds all programs of Kubernetes.
    ///
    /// # Errors
    /// When a program does not start, or does not answer in time: its log lies in `folder`.
    pub async fn start(program: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let at = |name: &str| folder.join(name).display().to_string();
        fs::write(
            folder.join("tokens.csv"),
            format!(
                "{ADMINISTRATOR_TOKEN},administrator,1,\"system:masters\"\n{OPERATOR_TOKEN},{OPERATOR},2,\"system:serviceaccounts,system:authenticated\"\n"
            ),
        )?;
        // What the operator does, and nothing of what others do.
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata", "users": [OPERATOR]}, {"level": "None"}],
        });
        fs::write(folder.join("audit.yaml"), policy.to_string())?;
        key_pair(folder)?;

        let url = format!("http://127.0.0.1:{etcd_port}");
        let peers = format!("http://127.0.0.1:{peer_port}");
        let etcd = spawn(
            program,
            &folder.join("etcd.log"),
            &[
                "etcd",
                &format!("--data-dir={}", at("etcd")),
                &format!("--listen-client-urls={url}"),
                &format!("--advertise-client-urls={url}"),
                &format!("--listen-peer-urls={peers}"),
                &format!("--initial-advertise-peer-urls={peers}"),
                &format!("--initial-cluster=default={peers}"),
                // Thrown away with the folder.
                "--unsafe-no-fsync=true",
                "--quota-backend-bytes=4294967296",
            ],
        )?;
        let server = spawn(
            program,
            &folder.join("apiserver.log"),
            &[
                "kube-apiserver",
                &format!("--etcd-servers={url}"),
                &format!("--secure-port={port}"),
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                &format!("--cert-dir={}", at("certificates")),
                &format!("--token-auth-file={}", at("tokens.csv")),
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/12",
                "--service-account-issuer=https://kubernetes.default.svc",
                &format!("--service-account-key-file={}", at("sa.pub")),
                &format!("--service-account-signing-key-file={}", at("sa.key")),
                &format!("--audit-policy-file={}", at("audit.yaml")),
                &format!("--audit-log-path={}", at("audit.log")),
                // There is no controller that would make it.
                "--disable-admission-plugins=ServiceAccount",
            ],
        )?;
        let started = Self {
            folder: folder.to_owned(),
            port,
            etcd,
            server,
        };
        started.wait_until_ready().await?;
        Ok(started)
    }

    /// A client of the administrator.
    ///
    /// # Errors
    /// When no client can be made.
    pub async fn administrator(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig_of(ADMINISTRATOR_TOKEN))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// A kubeconfig of the operator's account.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn operator_kubeconfig(&self) -> Result<PathBuf> {
        let path = self.folder.join("operator.kubeconfig");
        fs::write(&path, self.kubeconfig_of(OPERATOR_TOKEN))?;
        Ok(path)
    }

    /// Where every call of the operator is written down.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn kubeconfig_of(&self, token: &str) -> String {
        // Its certificate is made anew with each start, and signed by nobody.
        let cluster =
            json!({"server": format!("https://127.0.0.1:{}", self.port), "insecure-skip-tls-verify": true});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        })
        .to_string()
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let client = self.administrator().await?;
        let ready = async {
            loop {
                let answer = client.apiserver_version().await;
                let roles = kube::Api::<k8s_openapi::api::rbac::v1::ClusterRole>::all(client.clone());
                if answer.is_ok()
                    && roles
                        .get_opt("cluster-admin")
                        .await
                        .is_ok_and(|role| role.is_some())
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let waited = tokio::time::timeout(READY_WITHIN, ready).await;
        waited.with_context(|| format!("the API server does not answer; see {}", self.folder.display()))
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.etcd] {
            // It may have ended by itself, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(program: &Path, log: &Path, arguments: &[&str]) -> Result<Child> {
    let file = File::create(log)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))
}

/// What service accounts' tokens would be signed with; the server does not start without.
fn key_pair(folder: &Path) -> Result<()> {
    let openssl = |arguments: &[&str]| -> Result<()> {
        let status = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .stderr(Stdio::null())
            .status()
            .context("failed to start openssl")?;
        if !status.success() {
            bail!("openssl ended with {status}");
        }
        Ok(())
    };
    openssl(&["genrsa", "-out", "sa.key", "2048"])?;
    openssl(&["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"])
}

/// Ports that are free now. All are held until the last is known, so that they differ.
fn free_ports() -> Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind(("127.0.0.1", 0)));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        let listener = listener
            .as_ref()
            .map_err(|error| anyhow::anyhow!("no free port: {error}"))?;
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
