//! Targets without TLS, and with an old one: what the settings and the connector say of them.

use std::process::Stdio;
use std::sync::Arc;

use connectors_gateway::error::Error;
use connectors_gateway::probe::fetch::FirstContact;
use connectors_gateway::settings::{Plaintext, Settings, TargetRule};
use connectors_testenv::eventually;
use connectors_testenv::pki::Identity;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::forward::{plain_target, proxy};
use crate::http::{self, H1};
use crate::trust::route;
use crate::world::{SECRET, TOKEN, World, connector};

fn settings(world: &World, change: impl FnOnce(&mut Settings)) {
    let mut settings = Settings::clone(&world.gateway.parts.settings.load());
    change(&mut settings);
    world.gateway.parts.settings.store(Arc::new(settings));
}

async fn first_contact(world: &World) -> Result<FirstContact, Error> {
    let route = route(world);
    world.gateway.first_contact(&route, &route.targets[0]).await
}

#[tokio::test]
async fn what_is_not_encrypted_is_told_or_denied_as_the_settings_say_also_over_open_connections() {
    let world = World::new().await;
    let (port, seen) = plain_target().await;
    world.apply(&connector("target", &format!("http://localhost:{port}"), "", SECRET, ""));
    let url = format!("http://localhost:{port}/a");
    let rule = |hosts: &[&str], namespaces: &[&str]| TargetRule {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
        ..TargetRule::default()
    };
    for (plaintext, allow, passes, told) in [
        (Plaintext::Warn, vec![], true, Some(FirstContact::Plain)),
        (Plaintext::Deny, vec![], false, None),
        (Plaintext::Deny, vec![rule(&["localhost"], &["other"])], false, None),
        (Plaintext::Deny, vec![rule(&["localhost"], &["demo"])], true, Some(FirstContact::Verified)),
        (Plaintext::Warn, vec![rule(&["*.example"], &[])], true, Some(FirstContact::Plain)),
        (Plaintext::Warn, vec![rule(&["localhost"], &[])], true, Some(FirstContact::Verified)),
    ] {
        settings(&world, |settings| {
            (settings.upstream.plaintext, settings.upstream.plaintext_allow) = (plaintext, allow.clone());
        });
        let before = seen.lock().unwrap().len();
        let answer = world.curl_by(&proxy(&world, "demo/target", TOKEN), &[&url]).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(answer.contains("sends nothing to localhost over http"), !passes, "{allow:?}: {answer}");
        assert_eq!(seen.lock().unwrap().len() - before, usize::from(passes), "{plaintext:?} {allow:?}");
        match (first_contact(&world).await, told) {
            (Ok(contact), Some(told)) => assert_eq!(contact, told, "{plaintext:?} {allow:?}"),
            (Err(Error::Plaintext { .. }), None) => {}
            (contact, told) => panic!("{plaintext:?} {allow:?}: {contact:?}, not {told:?}"),
        }
    }
}

#[tokio::test]
async fn a_class_may_forbid_http_and_that_is_for_its_own_connectors() {
    let world = World::new().await;
    let (port, seen) = plain_target().await;
    let manifests = connector("target", &format!("http://localhost:{port}"), "", SECRET, "");
    let strict = manifests.replace(
        "metadata: {name: k8s}",
        "metadata: {name: k8s, annotations: {connectors.cpaas.io/plaintext: deny}}",
    );
    world.apply(&strict);
    let login = format!("Authorization: Bearer {TOKEN}");
    let (status, answer) = world.direct("http://c-target.demo.svc/a", &["-H", &login]).await;
    assert!(status == 503 && answer.contains("does not allow") && answer.contains("use https"), "{answer}");
    assert!(seen.lock().unwrap().is_empty());
}

/// Of GnuTLS: it can leave out the answer to RFC 5746, as servers of before 2010 do.
async fn server_without_secure_renegotiation(leaf: &Identity) -> (Child, u16) {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
    std::fs::write(&certificate, leaf.pem()).unwrap();
    std::fs::write(&key, leaf.key_pem()).unwrap();
    let server = Command::new("gnutls-serv")
        .args(["--http", "--quiet", "--disable-client-cert", "--port", &port.to_string()])
        .args(["--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:%DISABLE_SAFE_RENEGOTIATION"])
        .arg("--x509certfile")
        .arg(&certificate)
        .arg("--x509keyfile")
        .arg(&key)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("gnutls-serv is missing: apt-get install gnutls-bin");
    eventually("the server listens", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    (server, port)
}

#[tokio::test]
async fn a_target_without_secure_renegotiation_is_talked_to_only_where_its_connector_says_so() {
    let world = World::new().await;
    let (_server, port) = server_without_secure_renegotiation(&world.leaf()).await;
    let authority = format!("localhost:{port}");
    let ca = "caCertSecretRef: {name: target-ca}";
    let plain = connector("target", &format!("https://{authority}"), ca, SECRET, &world.target_ca.pem());
    let unannotated = "metadata: {namespace: demo, name: target}\nspec:\n  connectorClassName";
    for (value, status, words) in [
        ("false", "502", "has no secure renegotiation (RFC 5746)"),
        ("false", "502", "connectors.cpaas.io/legacy-tls=true"),
        ("true", "200", ""),
        ("yes", "503", "must be \\\"true\\\" or \\\"false\\\""),
    ] {
        let annotated = format!(
            "metadata: {{namespace: demo, name: target, annotations: {{connectors.cpaas.io/legacy-tls: '{value}'}}}}\nspec:\n  connectorClassName"
        );
        world.apply(&plain.replace(unannotated, &annotated));
        let mut tls = world.tunnel("target", &authority, H1).await;
        let (head, body) = http::exchange(&mut tls, &http::get("/", &authority)).await;
        let answer = format!("{head}{}", String::from_utf8_lossy(&body));
        assert!(head.contains(&format!(" {status} ")) && answer.contains(words), "{value}: {answer}");
    }
}
