//! Health and probes as kubelet and the controller ask for them. The target of the probes is the control plane's own API
//! server.

use std::sync::Arc;

use connectors_api::connector::{Connector, Pin, PinKind};
use connectors_api::names::{ACCEPT_CERTIFICATE_ANNOTATION, AUDIENCE, PROBE_AUDIENCE};
use connectors_api::probe::{self, OutcomeStatus, ProbeReport, ProbeRequest};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_testenv::eventually;
use connectors_testenv::pki::Identity;
use kube::Api;
use serde_json::{Value, json};

use crate::ports::{admin, ask, http, probe_port};
use crate::world::{World, connector, installed, manifests, run, secret_role};

/// Of the API server itself, which is the target here.
const TARGET_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

struct Probing {
    world: World,
    address: String,
    issuing: Identity,
    token: String,
}

impl Probing {
    async fn new() -> Probing {
        let world = World::new().await;
        let token = world
            .plane
            .service_account_token("connectors-system", "connectors-controller", PROBE_AUDIENCE, 600)
            .await
            .unwrap();
        let (address, issuing) = probe_port(&world).await;
        Probing { address, issuing, world, token }
    }

    /// Asks as the controller does, until the gateway has seen the connector; `accepted` is what its operator
    /// annotates it with.
    async fn report(&self, of: &ConnectorRef, pins: Vec<Pin>, accepted: Vec<String>) -> ProbeReport {
        let connectors: Api<Connector> = Api::namespaced(self.world.plane.client(), &of.namespace);
        if !accepted.is_empty() {
            let annotation = format!("{ACCEPT_CERTIFICATE_ANNOTATION}={}", accepted.join(","));
            self.world.kubectl(&["annotate", "connector", &of.name, "-n", &of.namespace, &annotation]).await;
        }
        let asked = request(&connectors.get(&of.name).await.unwrap(), pins);
        loop {
            let (code, body) = self.ask(&asked).await;
            match code {
                200 => return serde_json::from_str(&body).unwrap(),
                503 => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                _ => panic!("{code}: {body}"),
            }
        }
    }

    async fn ask(&self, asked: &ProbeRequest) -> (u16, String) {
        let body = serde_json::to_string(asked).unwrap();
        ask(&self.address, &self.issuing, Some(&self.token), &body).await
    }

    async fn connect(&self, namespace: &str, address: &str, token: &str) -> ConnectorRef {
        let k8s = connector(namespace, "k8s");
        self.world.plane.apply(&manifests(&k8s, address, token)).await.unwrap();
        self.world.plane.apply(&secret_role(&k8s)).await.unwrap();
        k8s
    }
}

/// What the controller would ask of this version of the connector.
pub fn request(connector: &Connector, pins: Vec<Pin>) -> ProbeRequest {
    ProbeRequest {
        namespace: connector.metadata.namespace.clone().unwrap(),
        name: connector.metadata.name.clone().unwrap(),
        uid: connector.metadata.uid.clone().unwrap(),
        generation: connector.metadata.generation.unwrap(),
        class_generation: 1,
        annotations: probe::annotations(&connector.metadata),
        pins,
    }
}

/// Whoever has the controller's token names a connector; where it leads, nobody tells the gateway but the API server.
#[test]
fn only_what_the_gateway_itself_has_seen_is_probed() {
    run(async {
        let probing = Probing::new().await;
        let k8s = probing.connect("probe-seen", "https://127.0.0.1:1", "t").await;
        probing.report(&k8s, Vec::new(), Vec::new()).await;
        let connectors: Api<Connector> = Api::namespaced(probing.world.plane.client(), &k8s.namespace);
        let known = request(&connectors.get(&k8s.name).await.unwrap(), Vec::new());
        for (what, asked, code) in [
            ("itself", known.clone(), 200),
            ("another's uid", ProbeRequest { uid: "u".into(), ..known.clone() }, 503),
            ("a later spec", ProbeRequest { generation: known.generation + 1, ..known.clone() }, 503),
            ("a later class", ProbeRequest { class_generation: 99, ..known.clone() }, 503),
            ("other annotations", ProbeRequest { annotations: "a".into(), ..known.clone() }, 503),
            ("none", ProbeRequest { name: "absent".into(), ..known.clone() }, 503),
            ("no name", ProbeRequest { name: "../k8s".into(), ..known }, 503),
        ] {
            let (got, body) = probing.ask(&asked).await;
            assert_eq!(got, code, "{what}: {body}");
        }
    });
}

#[test]
fn only_the_controllers_own_token_may_ask_for_a_probe() {
    run(async {
        let probing = Probing::new().await;
        let plane = &probing.world.plane;
        let client = plane
            .service_account_token("connectors-system", "connectors-controller", AUDIENCE, 600)
            .await
            .unwrap();
        let other = plane.service_account_token("probe-other", "default", PROBE_AUDIENCE, 600).await.unwrap();
        for (token, code) in [
            (None, 401),
            (Some("garbage"), 401),
            (Some(client.as_str()), 401),
            (Some(&other), 403),
            (Some(&probing.token), 400),
        ] {
            let (got, body) = ask(&probing.address, &probing.issuing, token, "{}").await;
            assert_eq!(got, code, "{body}");
        }
    });
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs().cast_signed()
}

#[test]
fn a_first_contact_is_pinned_and_the_credential_is_tried() {
    run(async {
        let probing = Probing::new().await;
        let url = probing.world.plane.url().to_owned();
        let good = probing
            .world
            .plane
            .service_account_token("probe-first", "robot", TARGET_AUDIENCE, 600)
            .await
            .unwrap();
        let k8s = probing.connect("probe-first", &url, &good).await;
        let report = probing.report(&k8s, Vec::new(), Vec::new()).await;
        assert_eq!(
            (report.trust.status, report.trust.reason.as_str()),
            (OutcomeStatus::True, "Pinned"),
            "{report:?}"
        );
        assert_eq!(
            (report.liveness.status, report.auth.status),
            (OutcomeStatus::True, OutcomeStatus::True),
            "{report:?}"
        );
        assert_eq!(report.pins.len(), 1);
        assert_eq!(report.pins[0].origin, url);
        let again = probing.report(&k8s, report.pins.clone(), Vec::new()).await;
        assert_eq!(again.pins, report.pins);
        assert_eq!(again.auth.status, OutcomeStatus::True, "{again:?}");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "connectors.cpaas.io/bearer-token",
            "metadata": {"namespace": k8s.namespace, "name": "k8s"},
            "stringData": {"token": good, "ca.crt": probing.world.plane.ca_pem()}});
        probing.world.plane.apply(&secret.to_string()).await.unwrap();
        let given = probing.report(&k8s, report.pins.clone(), Vec::new()).await;
        assert_eq!((given.trust.reason.as_str(), given.pins.len()), ("Valid", 0), "{given:?}");
        for report in [&report, &again] {
            let remarks = &report.remarks;
            assert_eq!(remarks.identity.as_deref(), Some("system:serviceaccount:probe-first:robot"));
            let left = remarks.expires.unwrap() - now();
            assert!((500..=4000).contains(&left), "the token ends in {left} s");
            assert!(remarks.warnings.is_empty(), "{remarks:?}");
        }
    });
}

#[test]
fn a_wrong_credential_is_told_by_its_status_code_alone() {
    run(async {
        let probing = Probing::new().await;
        let k8s = probing.connect("probe-wrong", probing.world.plane.url(), "not-a-token").await;
        let report = probing.report(&k8s, Vec::new(), Vec::new()).await;
        assert_eq!(report.liveness.status, OutcomeStatus::True, "{report:?}");
        assert_eq!(report.auth.reason, "AuthenticationFailed");
        assert_eq!(report.auth.message, "Authentication failed: status code 401");
    });
}

#[test]
fn a_changed_target_is_not_asked_anything_until_the_operator_accepts_it() {
    run(async {
        let probing = Probing::new().await;
        let url = probing.world.plane.url().to_owned();
        let good = probing
            .world
            .plane
            .service_account_token("probe-changed", "robot", TARGET_AUDIENCE, 600)
            .await
            .unwrap();
        let k8s = probing.connect("probe-changed", &url, &good).await;
        let stale = Pin { origin: url, kind: PinKind::PublicKey, sha256: "00".repeat(32), certificate: None };
        let report = probing.report(&k8s, vec![stale.clone()], Vec::new()).await;
        assert_eq!(
            (report.trust.status, report.trust.reason.as_str()),
            (OutcomeStatus::False, "TargetCertificateChanged")
        );
        assert_eq!(
            (report.liveness.status, report.auth.status),
            (OutcomeStatus::Unknown, OutcomeStatus::Unknown)
        );
        assert_eq!(report.pins, std::slice::from_ref(&stale), "what is pinned stays pinned");
        let fingerprint = report.trust.message.rsplit_once('=').unwrap().1.to_owned();
        let accepted = probing.report(&k8s, vec![stale], vec![fingerprint.clone()]).await;
        assert_eq!(accepted.auth.status, OutcomeStatus::True, "{accepted:?}");
        assert_eq!(
            accepted.pins.iter().map(|pin| pin.sha256.as_str()).collect::<Vec<_>>(),
            [fingerprint.as_str()]
        );
    });
}

#[test]
fn what_is_down_or_denied_is_named_and_nothing_after_it_is_tried() {
    run(async {
        let probing = Probing::new().await;
        for (namespace, address, reason) in [
            ("probe-down", "https://127.0.0.1:1", "ConnectionFailed"),
            ("probe-name", "https://no-such-host.invalid", "ConnectionFailed"),
            ("probe-denied", "https://169.254.169.254", "TargetDenied"),
        ] {
            let k8s = probing.connect(namespace, address, "t").await;
            let report = probing.report(&k8s, Vec::new(), Vec::new()).await;
            assert_eq!(
                (report.liveness.status, report.liveness.reason.as_str()),
                (OutcomeStatus::False, reason),
                "{report:?}"
            );
            assert_eq!(
                (report.trust.status, report.auth.status),
                (OutcomeStatus::Unknown, OutcomeStatus::Unknown)
            );
            let host = address.trim_start_matches("https://").split(':').next().unwrap();
            assert!(report.liveness.message.contains(host), "{}", report.liveness.message);
        }
    });
}

#[test]
fn it_is_ready_once_the_table_is_synced_and_the_issuing_ca_is_there() {
    run(async {
        // Of its own: other tests make the same Secret.
        let world = World::beside(Arc::new(installed().await), |_| {});
        let address = admin(&world).await;
        world.synced().await;
        let ready = async || {
            let (code, body) = http(&address, "GET", "/readyz", None, "").await;
            (code, serde_json::from_str::<Value>(&body).unwrap())
        };
        let (code, detail) = ready().await;
        assert_eq!((code, &detail["table"]), (503, &json!("synced")));
        assert!(detail["issuingCA"].as_str().unwrap().contains("connectors-gateway-ca"), "{detail}");

        let issuing = connectors_testenv::pki::Identity::root("issuing");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"namespace": "connectors-system", "name": "connectors-gateway-ca"},
            "stringData": {"tls.crt": issuing.pem(), "tls.key": issuing.key_pem()}});
        world.plane.apply(&secret.to_string()).await.unwrap();
        eventually("it is ready", async || ready().await.0 == 200).await;
        world.readiness.draining.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(ready().await.0, 503, "draining");
        assert_eq!(http(&address, "GET", "/healthz", None, "").await.0, 200);
        let (_, metrics) = http(&address, "GET", "/metrics", None, "").await;
        assert!(metrics.contains("connectors_gateway_routes_usable"), "{metrics}");
    });
}
