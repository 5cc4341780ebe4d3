//! Reverse mode: the connector's own host or a path names the connector, `Authorization` brings the
//! ServiceAccount's token. On both ports, in both protocols.

mod https;
mod kept;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::H1;
use crate::target::{Target, field, read_head};
use crate::upgrade_load::{WEBSOCKET, agreement, request};
use crate::world::{SECRET, STRANGER, TOKEN, UNANSWERED, VIEWER, World, connector};

const HOST: &str = "c-target.demo.svc";

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[tokio::test]
async fn a_connectors_host_or_path_leads_to_its_target_with_its_credential() {
    for h2 in [false, true] {
        let (world, target) = World::with_target(h2).await;
        let basic =
            |user: &str| format!("Authorization: Basic {}", STANDARD.encode(format!("{user}:{TOKEN}")));
        for url in [
            "http://c-target.demo.svc/head",
            "http://c-target.demo.svc.cluster.local/head",
            "http://C-Target.demo.svc./head",
            "https://c-target.demo.svc/head",
            "https://c-target.demo.svc.cluster.local/head",
            "http://connectors-gateway.connectors-system.svc/namespaces/demo/connectors/target/head",
            "https://connectors-gateway.connectors-system.svc/namespaces/demo/connectors/target/head",
            "http://gateway.example/namespaces/demo/connectors/target/head",
        ] {
            for login in [bearer(TOKEN), basic(""), basic("anybody")] {
                for version in ["--http1.1", "--http2"] {
                    let (status, seen) = world.direct(url, &[version, "-H", &login]).await;
                    assert_eq!(status, 200, "{url} {version}: {seen}");
                    assert_eq!(
                        field(&seen, "authorization"),
                        Some(format!("Bearer {SECRET}").as_str()),
                        "{url}: {seen}"
                    );
                    assert!(!seen.contains(TOKEN) && seen.contains(&target.authority()), "{url}: {seen}");
                    assert!(
                        !seen.contains("demo"),
                        "{url}: the target learns nothing of the gateway's names: {seen}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_path_is_joined_to_the_connectors_address() {
    let (world, target) = World::with_target(false).await;
    world.connect("target", &format!("{}/kubernetes/global", target.url()));
    for (path, expected) in [
        ("/api/v1/pods?limit=1", "/kubernetes/global/api/v1/pods?limit=1"),
        ("/kubernetes/global/api", "/kubernetes/global/api"),
        ("/", "/kubernetes/global/"),
        ("/kubernetes/globally", "/kubernetes/global/kubernetes/globally"),
    ] {
        for url in
            [format!("https://{HOST}{path}"), format!("http://any/namespaces/demo/connectors/target{path}")]
        {
            let (status, text) = world.direct(&url, &["-H", &bearer(TOKEN)]).await;
            assert_eq!(status, 200, "{url}: {text}");
            let heads = target.seen.heads();
            let line = heads.last().unwrap().lines().next().unwrap().to_owned();
            assert_eq!(line, format!("GET {expected} HTTP/1.1"), "{url}");
        }
    }
    let sent = target.seen.heads().len();
    for path in ["/../etc", "/kubernetes/global/%2e%2e/x", "/a/..%2F/b", "/a\\..\\b"] {
        let url = format!("https://{HOST}{path}");
        let (status, text) = world.direct(&url, &["--path-as-is", "-H", &bearer(TOKEN)]).await;
        assert_eq!(status, 400, "{path}: {text}");
    }
    assert_eq!(target.seen.heads().len(), sent);
}

#[tokio::test]
async fn who_is_refused_is_told_why_and_the_target_sees_nothing() {
    let (world, target) = World::with_target(false).await;
    world.apply(
        &connector("broken", &target.url(), "", SECRET, "")
            .replace("connectorClassName: k8s", "connectorClassName: none"),
    );
    let own = "https://c-target.demo.svc/head";
    let old = format!("old-{TOKEN}");
    for (what, url, token, expected, words) in [
        ("no token", own, "", 401, "no Authorization was sent"),
        ("a token that nobody knows", own, "guessed", 401, "refused by the cluster"),
        ("an expired token", own, &old, 401, "has expired"),
        ("an outage", own, UNANSWERED, 503, "try again"),
        ("a principal without a grant", own, STRANGER, 403, "bind ClusterRole connectors-user"),
        ("an unusable connector", "http://c-broken.demo.svc/", TOKEN, 503, "is not usable"),
        ("a host that no connector has", "http://c-other.demo.svc/", TOKEN, 503, "no connector has the host"),
        (
            "a path of a connector that does not exist",
            "http://any/namespaces/demo/connectors/no/",
            STRANGER,
            403,
            "may not use",
        ),
        (
            "the same, for who may see connectors",
            "http://any/namespaces/demo/connectors/no/",
            VIEWER,
            503,
            "not found",
        ),
    ] {
        let login = bearer(token);
        let arguments: &[&str] = if token.is_empty() { &["-i"] } else { &["-i", "-H", &login] };
        let (status, text) = world.direct(url, arguments).await;
        assert_eq!(status, expected, "{what}: {text}");
        assert!(text.contains(words) && text.contains(r#""kind":"Status""#), "{what}: {text}");
        assert_eq!(
            text.to_lowercase().contains("www-authenticate: basic"),
            expected == 401,
            "{what}: {text}"
        );
        assert!(token.is_empty() || !text.contains(token), "{what}: {text}");
    }
    assert_eq!(target.seen.connections(), 0);
}

#[tokio::test]
async fn two_authorizations_are_no_login() {
    let (world, target) = World::with_target(false).await;
    let head = format!(
        "GET / HTTP/1.1\r\nConnection: close\r\nHost: {HOST}\r\n{}\r\n{}\r\n\r\n",
        bearer(TOKEN),
        bearer(STRANGER)
    );
    let answer = world.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(target.seen.connections(), 0);
}

#[tokio::test]
async fn redirects_and_cookies_of_the_target_lead_back_to_the_gateway() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], b"\x08http/1.1", |mut tls, _| async move {
        let host = field(&read_head(&mut tls).await, "host").unwrap().to_owned();
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: https://{host}/base/next?x=1\r\nSet-Cookie: a=1; Path=/base; Secure\r\n\
             Set-Cookie: b=2; Domain=localhost\r\nContent-Length: 0\r\n\r\n"
        );
        tls.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    world.connect("target", &format!("{}/base", target.url()));
    for (url, location, cookie) in [
        ("http://c-target.demo.svc/start", "http://c-target.demo.svc/next?x=1", "a=1; Path=/"),
        (
            "https://c-target.demo.svc/base/start",
            "https://c-target.demo.svc/base/next?x=1",
            "a=1; Path=/base; Secure",
        ),
        (
            "http://any/namespaces/demo/connectors/target/start",
            "http://any/namespaces/demo/connectors/target/next?x=1",
            "a=1; Path=/namespaces/demo/connectors/target/",
        ),
    ] {
        let (status, head) = world.direct(url, &["-i", "-H", &bearer(TOKEN)]).await;
        assert_eq!((status, field(&head, "location")), (302, Some(location)), "{head}");
        let cookies: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).collect();
        assert_eq!(cookies, [cookie, "b=2"], "{url}");
    }
}

#[tokio::test]
async fn an_upgrade_passes_in_reverse_mode_on_both_ports() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], b"\x08http/1.1", |mut tls, seen| async move {
        let head = read_head(&mut tls).await;
        tls.write_all(agreement(&head).as_bytes()).await.unwrap();
        seen.heads.lock().unwrap().push(head);
        let mut said = [0; 5];
        while tls.read_exact(&mut said).await.is_ok() {
            tls.write_all(&said).await.unwrap();
        }
    })
    .await;
    world.connect("target", &target.url());
    let asked = request(WEBSOCKET, "/exec", HOST).replace("Authorization: Bearer fake-token", &bearer(TOKEN));
    let plain = TcpStream::connect(("127.0.0.1", world.port)).await.unwrap();
    converse(plain, &asked).await;
    let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
    converse(world.tls(stream, HOST, H1).await.unwrap(), &asked).await;
    for head in target.seen.heads() {
        assert_eq!(field(&head, "authorization"), Some(format!("Bearer {SECRET}").as_str()), "{head}");
    }
}

async fn converse(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &str) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for _ in 0..2 {
        stream.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
    }
}

/// Names that come to one Service name: whose it is the controller says, and nobody's requests go elsewhere.
#[tokio::test]
async fn a_connector_whose_service_is_anothers_has_no_host() {
    let (world, target) = World::with_target(false).await;
    let other = Target::http(&world.leaf(), false).await;
    let host = connectors_api::names::service_name("tar.get");
    let twin = host.strip_prefix("c-").unwrap();
    let ca = "caCertSecretRef: {name: target-ca}";
    let status = |service: &str| format!("status: {{{service}}}\n");
    let served = status("proxy: {httpAddress: {url: http://x}}");
    let taken = status("conditions: [{type: ProxyServiceReady, status: 'False', reason: NameTaken}]");
    let make = |name: &str, address: &str, status: &str| {
        let manifests = connector("target", address, ca, SECRET, &world.target_ca.pem());
        let named = manifests.replace(
            "metadata: {namespace: demo, name: target}\nspec:\n  connectorClassName",
            &format!("metadata: {{namespace: demo, name: {name}}}\nspec:\n  connectorClassName"),
        );
        format!("{named}{status}")
    };
    // Nobody of this world may use either: who is asked about shows which connector the host means.
    for (first, second, owner) in [
        (&served, &String::new(), Some("tar.get")),
        (&served, &taken, Some("tar.get")),
        (&String::new(), &String::new(), None),
    ] {
        world.apply(&make("tar.get", &target.url(), first));
        world.apply(&make(twin, &other.url(), second));
        for _ in 0..5 {
            let (status, said) =
                world.direct(&format!("http://{host}.demo.svc/api/v1"), &["-H", &bearer(TOKEN)]).await;
            match owner {
                Some(name) => assert!(
                    status == 403 && said.contains(&format!("{name:?}").replace('"', "\\\"")),
                    "{said}"
                ),
                None => assert!(status == 503 && said.contains("no connector has the host"), "{said}"),
            }
        }
    }
    assert_eq!(target.seen.connections() + other.seen.connections(), 0);
}
