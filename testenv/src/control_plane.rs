//! etcd and kube-apiserver: the least that is a real Kubernetes for a client. No root, no namespace, a few
//! seconds.
//!
//! `server` writes the files and starts the two; this file is what tests do with them.

mod server;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::io::AsyncWriteExt;

use crate::eventually::within;
use crate::say::say;
use crate::scratch::Scratch;
use crate::tools::tools;
pub(crate) use server::{Place, Server, write};

/// A running etcd and kube-apiserver on loopback. Both are killed when this is dropped and when the process
/// dies in any way. There are no controllers: nothing collects garbage, finishes the deletion of a namespace
/// or makes `default` ServiceAccounts.
///
/// If starting fails or the test panics, the logs stay and their folder is named on stderr.
pub struct ControlPlane {
    server: Server,
    config: Config,
    client: Client,
    kubectl: PathBuf,
    // Last: the processes above write into it until they are dropped.
    scratch: Scratch,
}

impl ControlPlane {
    /// Starts one and waits until it is ready. Builds the binaries first on a machine that does not have
    /// them.
    pub async fn start() -> Result<ControlPlane> {
        let kubectl =
            tokio::task::spawn_blocking(|| tools(&["kube-apiserver", "etcd", "kubectl"])).await??.pop();
        let kubectl = kubectl.context("kubectl is one of the three")?;
        let mut scratch = Scratch::new()?;
        match Server::start(scratch.path(), &scratch.logs(), Place::loopback()).await {
            Ok(server) => {
                let (config, client) = connect(server.kubeconfig()).await?;
                Ok(ControlPlane { server, config, client, kubectl, scratch })
            }
            Err(error) => Err(error
                .context(format!("start a control plane; logs are in {}", scratch.keep_logs().display()))),
        }
    }

    /// The same with the project's own CRDs (`config/crd`) applied and established.
    pub async fn with_crds() -> Result<ControlPlane> {
        let plane = ControlPlane::start().await?;
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/crd");
        plane.done(&["apply", "--server-side", "-k", folder]).await?;
        plane.established().await?;
        Ok(plane)
    }

    /// Waits until the kinds of all CRDs are served. kubectl's own wait fails where a CRD has no conditions yet.
    pub async fn established(&self) -> Result<()> {
        let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
        within(Duration::from_secs(60), "all CRDs are Established", async || {
            Ok(self.kubectl(&wait).await?.status.success().then_some(()))
        })
        .await
    }

    /// `https://127.0.0.1:<port>`
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// The authority of the API server's certificate.
    pub fn ca_pem(&self) -> &str {
        self.server.ca_pem()
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        self.server.kubeconfig()
    }

    /// An administrator's client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client that acts as this user, by impersonation. Without groups the API server gives a
    /// ServiceAccount its own.
    ///
    /// # Panics
    /// If called outside of a Tokio runtime.
    pub fn client_for(&self, user: &str, groups: &[&str]) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups =
            (!groups.is_empty()).then(|| groups.iter().map(|g| (*g).to_owned()).collect());
        #[allow(
            clippy::expect_used,
            reason = "a client was made of this configuration before, and only tests call this"
        )]
        Client::try_from(config).expect("a client for an impersonated user")
    }

    /// Server-side apply of YAML with any number of documents.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        self.feed(
            &["apply", "--server-side", "--force-conflicts", "--field-manager=testenv", "-f", "-"],
            yaml,
        )
        .await
    }

    /// kubectl that must succeed, with a text as its input.
    pub async fn feed(&self, args: &[&str], text: &str) -> Result<()> {
        let mut command = self.command(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes()).await?;
        }
        succeeded(&format!("kubectl {}", args.join(" ")), &child.wait_with_output().await?)
    }

    /// Runs kubectl as an administrator; an exit status other than 0 is not an error here.
    pub async fn kubectl(&self, args: &[&str]) -> Result<Output> {
        self.command(args).output().await.context("run kubectl")
    }

    /// A token of this ServiceAccount for one audience. Namespace and ServiceAccount are made if they are
    /// missing; the API server refuses less than 600 seconds.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        audience: &str,
        seconds: u64,
    ) -> Result<String> {
        let space = Namespace { metadata: named(namespace), ..Namespace::default() };
        unless_there(Api::all(self.client()).create(&PostParams::default(), &space).await)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let account = ServiceAccount { metadata: named(name), ..ServiceAccount::default() };
        unless_there(accounts.create(&PostParams::default(), &account).await)?;
        let spec = TokenRequestSpec {
            audiences: Some(vec![audience.to_owned()]),
            expiration_seconds: Some(seconds.try_into()?),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await?;
        answer.status.and_then(|status| status.token).context("the API server answered without a token")
    }

    /// Kills the API server, as in an outage. Its address and everything stored stay.
    pub async fn stop_api_server(&mut self) {
        self.server.stop();
    }

    /// Starts it again on the same port and waits until it is ready.
    pub async fn start_api_server(&mut self) -> Result<()> {
        self.server.restart().await
    }

    /// kubectl that must succeed.
    async fn done(&self, args: &[&str]) -> Result<()> {
        succeeded(&format!("kubectl {}", args.join(" ")), &self.kubectl(args).await?)
    }

    fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.kubectl);
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.scratch.path().join("kubectl"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(format_args!(
                "logs of etcd and kube-apiserver are in {}",
                self.scratch.keep_logs().display()
            ));
        }
    }
}

/// Reads a kubeconfig file.
pub(crate) async fn connect(kubeconfig: &Path) -> Result<(Config, Client)> {
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default())
            .await?;
    let client = Client::try_from(config.clone())?;
    Ok((config, client))
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn unless_there<T>(created: kube::Result<T>) -> Result<()> {
    match created {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

fn succeeded(what: &str, output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
