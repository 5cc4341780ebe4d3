//! The binary beside a real API server, with the rights of its ServiceAccount: probe as the controller, then
//! kubectl as a Pod would. Home and target are the same API server here, told apart by the tokens.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_api::cluster_ranges::ClusterRanges;
use connectors_api::connector::Connector;
use connectors_api::names::{CLUSTER_RANGES_CONFIGMAP, PROBE_AUDIENCE, SYSTEM_NAMESPACE};
use connectors_api::probe::ProbeReport;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_testenv::eventually;
use kube::Api;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::ports::{ask, http};
use crate::probes::request;
use crate::process::{Process, ended, free_address, terminate, write};
use crate::tokens::signed_again;
use crate::world::{PATIENCE, World, connector, installed, manifests, run, secret_role};
use connectors_testenv::pki::Identity;

const API_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

/// `drain`: how long streams may go on after SIGTERM. Its log is in the file `log` of its folder.
async fn gateway(world: &World, drain: &str) -> Process {
    let plane = &world.plane;
    let token = plane
        .service_account_token(SYSTEM_NAMESPACE, "connectors-gateway", API_AUDIENCE, 3600)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cluster =
        json!({"server": plane.url(), "certificate-authority-data": STANDARD.encode(plane.ca_pem())});
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "c", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    let kubeconfig = write(folder.path(), "kubeconfig", &kubeconfig.to_string());
    let (http, admin, probe) = (free_address().await, free_address().await, free_address().await);
    let listeners = json!({
        "http": http, "https": "127.0.0.1:0", "admin": admin, "health": "127.0.0.1:0", "probe": probe});
    let settings = json!({"threads": 1, "listeners": listeners, "targets": {"allow": [{"cidrs": ["127.0.0.0/8"]}]}, "timeouts": {"drain": drain}});
    write(folder.path(), "gateway.yaml", &settings.to_string());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_connectors-gateway"));
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    command
        .arg("--settings-dir")
        .arg(folder.path())
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stderr(log);
    Process { child: command.spawn().unwrap(), http, admin, probe, files: folder }
}

/// Does the controller's part: asks for the probe and writes what it found.
async fn probed(world: &World, gateway: &Process, issuing: &Identity, k8s: &ConnectorRef) {
    let connector =
        Api::<Connector>::namespaced(world.plane.client(), &k8s.namespace).get(&k8s.name).await.unwrap();
    let asked = serde_json::to_string(&request(&connector, Vec::new())).unwrap();
    let token = world
        .plane
        .service_account_token(SYSTEM_NAMESPACE, "connectors-controller", PROBE_AUDIENCE, 600)
        .await
        .unwrap();
    let report =
        eventually("a report", async || match ask(&gateway.probe, issuing, Some(&token), &asked).await {
            (200, body) => Ok(body),
            other => Err(other),
        });
    let body = report.await;
    let report: ProbeReport = serde_json::from_str(&body).unwrap();
    let status = json!({"credential": {"secretName": k8s.name, "resourceVersion": "1"}, "trust": {"pins": report.pins}});
    world.patch_status(k8s, status).await;
}

/// Everything up to the point where a user could begin.
struct Demo {
    world: World,
    gateway: Process,
    /// What the Pod has.
    kubeconfig: tempfile::NamedTempFile,
}

impl Demo {
    async fn new(namespace: &str, drain: &str) -> Demo {
        // Of its own: the issuing CA's Secret and the robot's rights are of a whole cluster.
        let world = World::beside(Arc::new(installed().await), |_| {});
        let k8s = connector(namespace, "k8s");
        let robot = world.plane.service_account_token("target", "robot", API_AUDIENCE, 3600).await.unwrap();
        // Nothing aggregates into `view` without a controller manager.
        let role = "--clusterrole=system:aggregate-to-view";
        world
            .kubectl(&["create", "clusterrolebinding", "robot", role, "--serviceaccount=target:robot"])
            .await;
        world.plane.apply(&manifests(&k8s, world.plane.url(), &robot)).await.unwrap();
        world.plane.apply(&secret_role(&k8s)).await.unwrap();
        let issuing = Identity::root("issuing");
        let (certificate, key) = (issuing.pem(), issuing.key_pem());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"namespace": SYSTEM_NAMESPACE, "name": "connectors-gateway-ca"},
            "stringData": {"tls.crt": certificate, "tls.key": key}});
        world.plane.apply(&secret.to_string()).await.unwrap();
        let ranges = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": SYSTEM_NAMESPACE, "name": CLUSTER_RANGES_CONFIGMAP},
            "data": ClusterRanges::default().to_data()});
        world.plane.apply(&ranges.to_string()).await.unwrap();
        let gateway = gateway(&world, drain).await;
        eventually("it is ready", async || http(&gateway.admin, "GET", "/readyz", None, "").await.0 == 200)
            .await;
        probed(&world, &gateway, &issuing, &k8s).await;
        eventually("the route is there", async || {
            world.route(&k8s).is_some_and(|route| !route.trust.pins.is_empty())
        })
        .await;
        let token = world.pod_token(namespace, "client").await;
        let kubeconfig = kubeconfig(&world, &gateway, &k8s, &token, &certificate);
        Demo { world, gateway, kubeconfig }
    }

    fn flag(&self) -> String {
        format!("--kubeconfig={}", self.kubeconfig.path().display())
    }

    /// Standard output and standard error.
    async fn kubectl(&self, args: &[&str]) -> (String, String) {
        let output = self.world.plane.kubectl(&[&[self.flag().as_str()], args].concat()).await.unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// A watch that has shown its first Pod, and the lines that follow.
    async fn watch(&self) -> (Child, Lines<BufReader<ChildStdout>>) {
        self.granted("demo").await;
        self.watch_by(&self.flag()).await
    }

    async fn watch_by(&self, flag: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
        let kubectl =
            tokio::task::spawn_blocking(|| connectors_testenv::tool("kubectl")).await.unwrap().unwrap();
        let mut watch = Command::new(kubectl)
            .args([flag, "get", "pods", "--namespace=demo", "--watch", "--output=name"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut seen = BufReader::new(watch.stdout.take().unwrap()).lines();
        assert_eq!(seen.next_line().await.unwrap().as_deref(), Some("pod/client"));
        (watch, seen)
    }

    /// A kubeconfig as the volume has it after a while: the login of the proxy's URL is an old one,
    /// `tokenFile` is kept fresh.
    fn aged(&self, login: &str, token_file: &Path) -> tempfile::NamedTempFile {
        let text = std::fs::read_to_string(self.kubeconfig.path()).unwrap();
        let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
        let cluster = &mut kubeconfig["clusters"][0]["cluster"];
        cluster["proxy-url"] = json!(format!("http://demo%2Fk8s:{login}@{}", self.gateway.http));
        kubeconfig["users"][0]["user"]["tokenFile"] = json!(token_file);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
        file
    }

    async fn granted(&self, namespace: &str) {
        self.world.bind_user(namespace, "default").await;
        eventually("the grant counts", async || {
            self.kubectl(&["get", "pods", "-n", namespace]).await.0.contains("client")
        })
        .await;
    }
}

/// As the CSI driver writes it: the login of the proxy and nothing of the target's.
fn kubeconfig(
    world: &World,
    gateway: &Process,
    k8s: &ConnectorRef,
    token: &str,
    ca: &str,
) -> tempfile::NamedTempFile {
    let proxy = format!("http://{}%2F{}:{token}@{}", k8s.namespace, k8s.name, gateway.http);
    let cluster = json!({"server": world.plane.url(), "proxy-url": proxy, "certificate-authority-data": STANDARD.encode(ca)});
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "k8s",
        "clusters": [{"name": "k8s", "cluster": cluster}], "users": [{"name": "k8s", "user": {"token": "fake-token"}}],
        "contexts": [{"name": "k8s", "context": {"cluster": "k8s", "user": "k8s"}}]});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
    file
}

#[test]
fn kubectl_uses_a_target_whose_token_it_never_sees_and_is_told_what_is_missing() {
    run(async {
        let demo = Demo::new("demo", "30s").await;
        let (_, refused) = demo.kubectl(&["get", "pods", "--all-namespaces"]).await;
        let sentence = r#"serviceaccount demo/default may not use connector "k8s" in namespace "demo": bind ClusterRole connectors-user"#;
        assert!(refused.contains(sentence), "{refused}");
        demo.granted("demo").await;
        let (user, _) = demo.kubectl(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await;
        assert_eq!(user, "system:serviceaccount:target:robot");
    });
}

#[test]
fn a_watch_outlives_the_order_to_end_and_the_process_ends_with_it() {
    run(async {
        let mut demo = Demo::new("demo", "30s").await;
        let (mut watch, mut seen) = demo.watch().await;
        terminate(&demo.gateway);
        eventually("it is not ready any more", async || {
            http(&demo.gateway.admin, "GET", "/readyz", None, "").await.0 == 503
        })
        .await;
        demo.world.pod_token("demo", "latecomer").await;
        let event =
            tokio::time::timeout(PATIENCE, seen.next_line()).await.expect("the watch was cut").unwrap();
        assert_eq!(event.as_deref(), Some("pod/latecomer"));
        assert!(demo.gateway.child.try_wait().unwrap().is_none(), "it ended before the watch");
        watch.kill().await.unwrap();
        let told = Instant::now();
        assert!(ended(&mut demo.gateway).await.success());
        assert!(told.elapsed().as_secs() < 10, "it took {:?} of a drain of 30 s", told.elapsed());
    });
}

#[test]
fn a_watch_that_outlasts_the_drain_is_cut_and_recorded() {
    run(async {
        let mut demo = Demo::new("demo", "300ms").await;
        let (_watch, _seen) = demo.watch().await;
        terminate(&demo.gateway);
        assert!(ended(&mut demo.gateway).await.success());
        let log = std::fs::read_to_string(demo.gateway.files.path().join("log")).unwrap();
        let recorded = log.lines().any(|line| {
            line.contains("\"target\":\"access\"")
                && line.contains("watch=true")
                && line.contains("\"cut\":true")
        });
        assert!(recorded, "{log}");
    });
}

/// kubelet renews the file, but nobody renews what a client has read of a proxy's URL.
#[test]
fn a_login_that_ends_cuts_no_watch_and_the_token_file_speaks_for_new_requests() {
    run(async {
        let demo = Demo::new("demo", "30s").await;
        demo.granted("demo").await;
        let fresh = demo.world.pod_token("demo", "client").await;
        let strangers = demo.world.pod_token("demo", "stranger").await;
        let ends = SystemTime::now() + Duration::from_secs(8);
        let seconds = ends.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let short = signed_again(&demo.world, &fresh, |claims| claims["exp"] = json!(seconds), true);
        let token_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token_file.path(), &short).unwrap();
        let kubeconfig = demo.aged(&short, token_file.path());
        let flag = format!("--kubeconfig={}", kubeconfig.path().display());
        let (mut watch, mut seen) = demo.watch_by(&flag).await;
        eventually("the login has ended", async || SystemTime::now() > ends + Duration::from_secs(1)).await;
        let reviews = async || {
            let (_, metrics) = http(&demo.gateway.admin, "GET", "/metrics", None, "").await;
            metrics
                .lines()
                .filter(|line| line.starts_with("connectors_gateway_token_reviews_total"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = reviews().await;
        for (token, whose) in
            [(&short, "the ended login's"), (&strangers, "another Pod's"), (&"opaque".to_owned(), "nobody's")]
        {
            std::fs::write(token_file.path(), token).unwrap();
            let answer = demo.world.plane.kubectl(&[&flag, "get", "pods", "-n", "demo"]).await.unwrap();
            let told = String::from_utf8_lossy(&answer.stderr).into_owned();
            assert!(
                !answer.status.success() && told.contains("the token of this tunnel has expired"),
                "{whose}: {told}"
            );
        }
        assert_eq!(reviews().await, before, "nobody is asked of a token that cannot be the Pod's");
        std::fs::write(token_file.path(), &fresh).unwrap();
        let listed =
            demo.world.plane.kubectl(&[&flag, "get", "pods", "-n", "demo", "-o", "name"]).await.unwrap();
        assert!(
            String::from_utf8_lossy(&listed.stdout).contains("pod/client"),
            "{}",
            String::from_utf8_lossy(&listed.stderr)
        );
        demo.world.pod_token("demo", "latecomer").await;
        let event = async {
            while let Some(line) = seen.next_line().await.unwrap() {
                if line == "pod/latecomer" {
                    return;
                }
            }
            panic!("the watch was cut");
        };
        tokio::time::timeout(PATIENCE, event).await.expect("no event");
        watch.kill().await.unwrap();
    });
}
