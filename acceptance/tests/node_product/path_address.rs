//! An address with a path: an API server behind a platform's reverse proxy. `kubectl proxy` without
//! credentials strips the path and passes the token on; a small TLS listener with a private certificate
//! stands in front of it, on an address that Pods reach.

use std::pin::Pin;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use connectors_testenv::pki::Identity;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod};
use tokio::io::{AsyncBufReadExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_openssl::SslStream;

use crate::connectors::{CALLER, WHO};
use connectors_acceptance::cluster::{Cluster, ON_THE_NODE};

const PATH: &str = "/kubernetes/global";

pub async fn keeps_its_path(cluster: &Cluster) -> Result<()> {
    let namespace = ON_THE_NODE;
    let (_proxy, plain) = api_server_below_path(cluster).await?;
    let node = cluster.kubectl("get nodes -o jsonpath={.items[0].status.addresses[0].address}").await?;
    let listener = TcpListener::bind((node.as_str(), 0)).await?;
    let address = format!("https://{node}:{}{PATH}", listener.local_addr()?.port());
    let front = tokio::spawn(terminate_tls(listener, acceptor(&node)?, plain));

    cluster.ready_connector(namespace, |yaml| yaml.replace("$TARGET_ADDRESS", &address)).await?;
    cluster.running_pod(namespace, |yaml| yaml).await?;
    let server = cluster.exec(namespace, "inspect-k8s-access", "grep server: /opt/kube/kubeconfig").await?;
    ensure!(server.trim() == format!("server: {address}"), "{server}");
    let who = cluster.exec(namespace, "inspect-k8s-access", WHO).await?;
    ensure!(who == CALLER, "the target saw {who:?}");
    let outside = format!("kubectl --server {} get namespaces", address.replace(PATH, "/other"));
    ensure!(
        cluster.exec(namespace, "inspect-k8s-access", &outside).await.is_err(),
        "a path beside the connector's is reachable"
    );
    front.abort();
    Ok(())
}

/// The target's API server at `http://127.0.0.1:<port>/kubernetes/global`. Callers bring their own
/// credential, which wins over the one here: it is nobody's, but without one kubectl asks for a user name.
async fn api_server_below_path(cluster: &Cluster) -> Result<(Child, String)> {
    let mut command = Command::new("kubectl");
    command.args(["--kubeconfig", "/dev/null", "--token", "nobody", "--server", &cluster.address]);
    command.args(["proxy", "--insecure-skip-tls-verify"]);
    command
        .args(["--port", "0", "--accept-hosts", ".*", "--api-prefix", PATH])
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("start kubectl proxy")?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut said).await?;
    ensure!(said.contains("Starting to serve"), "kubectl proxy: {said:?}");
    let address = said.trim().rsplit(' ').next().context("Starting to serve on <address>")?.to_owned();
    Ok((child, address))
}

async fn terminate_tls(listener: TcpListener, acceptor: SslAcceptor, plain: String) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, plain) = (acceptor.clone(), plain.clone());
        tokio::spawn(async move {
            let mut secure = SslStream::new(Ssl::new(acceptor.context())?, stream)?;
            Pin::new(&mut secure).accept().await?;
            let mut inner = TcpStream::connect(plain).await?;
            copy_bidirectional(&mut secure, &mut inner).await?;
            anyhow::Ok(())
        });
    }
}

/// Nobody vouches for its certificate: the gateway has to pin it at first contact.
fn acceptor(host: &str) -> Result<SslAcceptor> {
    let Identity { cert, key } = Identity::self_signed(host);
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    builder.set_certificate(&cert)?;
    builder.set_private_key(&key)?;
    Ok(builder.build())
}
