//! kubectl and a real kube-apiserver at the two ends.

use std::process::Output;
use std::time::Duration;

use connectors_gateway::probe::fetch::FirstContact;
use connectors_testenv::ControlPlane;
use tokio::process::Command;

use crate::world::{TOKEN, World, connector};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_gateway::table::route::Entry;

struct Kubectl {
    config: tempfile::NamedTempFile,
}

impl Kubectl {
    /// The kubeconfig that the CSI driver would mount.
    fn new(world: &World, server: &str) -> Kubectl {
        let ca = openssl::base64::encode_block(world.root.pem().as_bytes());
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: k8s\nclusters:\n- name: k8s\n  cluster:\n    server: {server}\n    proxy-url: http://demo%2Ftarget:{TOKEN}@127.0.0.1:{}\n    certificate-authority-data: {ca}\ncontexts:\n- name: k8s\n  context: {{cluster: k8s, user: k8s}}\nusers:\n- name: k8s\n  user: {{token: fake-token}}\n",
            world.port
        );
        let config = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(config.path(), kubeconfig).unwrap();
        Kubectl { config }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let kubectl = connectors_testenv::tool("kubectl").unwrap();
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(self.config.path()).args(arguments).kill_on_drop(true);
        command.env_remove("NO_PROXY").env_remove("no_proxy");
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A world whose connector reaches the API server as its administrator, default/remote.
async fn administered(plane: &ControlPlane) -> World {
    plane
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "remote",
            "--clusterrole=cluster-admin",
            "--serviceaccount=default:remote",
        ])
        .await
        .unwrap();
    let token = plane
        .service_account_token("default", "remote", "https://kubernetes.default.svc.cluster.local", 3600)
        .await;
    let token = match token {
        Ok(token) => token,
        Err(error) => panic!("{error:#}"),
    };
    let world = World::new().await;
    world.apply(&connector(
        "target",
        plane.url(),
        "caCertSecretRef: {name: target-ca}",
        &token,
        plane.ca_pem(),
    ));
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_lists_creates_watches_and_deletes_through_the_gateway() {
    let plane = ControlPlane::start().await.unwrap();
    let world = administered(&plane).await;
    let kubectl = Kubectl::new(&world, plane.url());
    assert!(kubectl.ok(&["get", "namespaces"]).await.contains("kube-system"));
    kubectl.ok(&["create", "configmap", "first", "--from-literal=a=b"]).await;
    let mut watch = kubectl.command(&["get", "configmaps", "--watch", "-o", "name"]);
    let watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(watch.stdout.unwrap()));
    watched(lines, &kubectl).await;
    kubectl.ok(&["patch", "configmap", "first", "-p", r#"{"data":{"a":"c"}}"#]).await;
    assert_eq!(kubectl.ok(&["get", "configmap", "first", "-o", "jsonpath={.data.a}"]).await, "c");
    kubectl.ok(&["delete", "configmap", "first"]).await;
    let refused = kubectl.run(&["--as", "nobody", "get", "namespaces"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && said.contains("annotate it with connectors.cpaas.io/allow-impersonation=true"),
        "{said}"
    );
    let whoami = kubectl.ok(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await;
    assert_eq!(whoami, "system:serviceaccount:default:remote");
}

/// kubectl asks over WebSocket, falls back to SPDY, and shows what the API server said to that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_is_told_why_the_api_server_refuses_an_upgrade() {
    let plane = ControlPlane::start().await.unwrap();
    let world = administered(&plane).await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: nowhere, namespace: default}\nspec:\n  serviceAccountName: remote\n  automountServiceAccountToken: false\n  containers: [{name: c, image: none}]\n";
    plane.apply(pod).await.unwrap();
    let kubectl = Kubectl::new(&world, plane.url());
    let refused = kubectl.run(&["exec", "nowhere", "--", "true"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("pod nowhere does not have a host assigned"),
        "{said}"
    );
}

/// An object that is made while the watch is open shows up in it.
async fn watched(
    mut lines: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
    kubectl: &Kubectl,
) {
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(10), lines.next_line())
            .await
            .expect("no event")
            .unwrap()
            .unwrap()
    };
    while next().await != "configmap/first" {}
    kubectl.ok(&["create", "configmap", "second"]).await;
    while next().await != "configmap/second" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_with_a_private_ca_is_pinned_at_first_contact() {
    let plane = ControlPlane::start().await.unwrap();
    let world = World::new().await;
    world.apply(&connector("target", plane.url(), "", "not-a-token", ""));
    let key = ConnectorRef { namespace: "demo".into(), name: "target".into() };
    let table = world.gateway.parts.table.load();
    let Some(Entry::Usable(route)) = table.lookup(&key) else { panic!("no route") };
    let contact = world.gateway.first_contact(route, &route.targets[0]).await.unwrap();
    assert!(matches!(contact, FirstContact::Pin { .. }), "{contact:?}");
}
