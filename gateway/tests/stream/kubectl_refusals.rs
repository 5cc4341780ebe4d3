//! What somebody at a terminal reads when the gateway refuses: real kubectl with an empty cache, so that it
//! asks for discovery first, over both kinds of kubeconfig. The table of docs/troubleshooting.md is held against it.

use connectors_gateway::settings::Plaintext;
use connectors_testenv::pki::Identity;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::target::Target;
use crate::world::{SECRET, STRANGER, TOKEN, VIEWER, World, connector};

const SYMPTOMS: &str = include_str!("../../../docs/troubleshooting.md");

/// One refusal: whose login, to which connector and address, and what kubectl prints.
struct Case {
    what: &'static str,
    token: &'static str,
    connector: &'static str,
    address: String,
    arguments: &'static [&'static str],
    /// Both kubeconfigs: by proxy-url, and in reverse mode.
    printed: [&'static str; 2],
    /// The words of docs/troubleshooting.md for it.
    symptom: &'static str,
}

/// In place of the cluster's DNS and Services: whatever is asked for is the gateway's https port (RFC 1928).
async fn services(https: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 2];
                client.read_exact(&mut head).await?;
                client.read_exact(&mut vec![0; usize::from(head[1])]).await?;
                client.write_all(&[5, 0]).await?;
                let mut asked = [0; 5];
                client.read_exact(&mut asked).await?;
                client.read_exact(&mut vec![0; usize::from(asked[4]) + 2]).await?;
                client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
                let mut gateway = TcpStream::connect(("127.0.0.1", https)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut gateway).await
            });
        }
    });
    port
}

fn kubeconfig(world: &World, socks: u16, case: &Case, reverse: bool) -> String {
    let ca = openssl::base64::encode_block(world.root.pem().as_bytes());
    let (cluster, user) = match reverse {
        false => (
            format!(
                "server: {}, proxy-url: \"http://demo%2F{}:{}@127.0.0.1:{}\"",
                case.address, case.connector, case.token, world.port
            ),
            "fake-token",
        ),
        true => (
            format!(
                "server: https://c-{}.demo.svc, proxy-url: \"socks5://127.0.0.1:{socks}\"",
                case.connector
            ),
            case.token,
        ),
    };
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: k8s\nclusters:\n- name: k8s\n  cluster: {{{cluster}, certificate-authority-data: {ca}}}\ncontexts:\n- name: k8s\n  context: {{cluster: k8s, user: k8s}}\nusers:\n- name: k8s\n  user: {{token: {user}}}\n"
    )
}

async fn kubectl(kubeconfig: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    let output = Command::new(connectors_testenv::tool("kubectl").unwrap())
        .arg("--kubeconfig")
        .arg(&file)
        .arg("--cache-dir")
        .arg(folder.path().join("cache"))
        .args(arguments)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(!output.status.success(), "kubectl was not refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Nothing listens there.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn case(
    what: &'static str,
    login: (&'static str, &'static str),
    address: String,
    printed: [&'static str; 2],
    symptom: &'static str,
) -> Case {
    let (token, connector) = login;
    Case { what, token, connector, address, arguments: &["get", "pods"], printed, symptom }
}

fn same(printed: &'static str) -> [&'static str; 2] {
    [printed, printed]
}

/// What is wrong with whoever asks. `good`: the address of a target at which nothing is.
fn askers(good: &str) -> Vec<Case> {
    let case = |what, login, printed, symptom| case(what, login, good.to_owned(), printed, symptom);
    let login = "You must be logged in to the server";
    let proxy = "proxy authentication required";
    let absent = ["not found in namespace", "tls: unrecognized name"];
    let itself = same("does not let its users act as this one");
    vec![
        case("no binding", (STRANGER, "target"), same("may not use connector"), "… may not use connector …"),
        case(
            "absent",
            (VIEWER, "absent"),
            absent,
            "… not found in namespace …`, `… tls: unrecognized name …",
        ),
        case("an ended token", ("old-token-of-demo", "target"), same(login), login),
        case("a wrong token", ("guessed", "target"), [proxy, login], proxy),
        Case {
            arguments: &["get", "pods", "--as", "jane"],
            ..case("impersonation", (TOKEN, "target"), itself, "… act as this one …")
        },
    ]
}

/// What is wrong with a connector: each in a world of its own, since the token may use few names.
async fn connectors(good: &str, stranger: &str, ca: &str) -> Vec<(World, Case)> {
    let mut all = Vec::new();
    let closed = format!("https://localhost:{}", closed_port().await);
    let plain = format!("http://localhost:{}", closed_port().await);
    for (what, address, printed, symptom) in [
        ("down", closed.as_str(), "connection refused", "… connection refused …"),
        (
            "untrusted",
            stranger,
            "is not trusted: its certificate is signed by",
            "… is not trusted: its certificate …",
        ),
        (
            "denied",
            "https://169.254.169.254",
            "the gateway may not connect to",
            "… the gateway may not connect to …",
        ),
        ("broken", "ftp://localhost", "is not usable", "… is not usable …"),
        ("http", &plain, "sends nothing to localhost over http", "… sends nothing to … over http …"),
    ] {
        let world = World::with(|settings| settings.upstream.plaintext = Plaintext::Deny).await;
        world.apply(&connector("target", address, "caCertSecretRef: {name: target-ca}", SECRET, ca));
        // No kubeconfig has the address that is none.
        let server = if what == "broken" { good } else { address };
        all.push((world, case(what, (TOKEN, "target"), server.to_owned(), same(printed), symptom)));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_with_an_empty_cache_prints_the_sentence_of_each_refusal_and_the_readme_knows_it() {
    let world = World::new().await;
    let good = Target::http(&world.leaf(), false).await;
    let stranger = Target::http(&Identity::root("stranger").leaf(&["localhost"]), false).await;
    let cases = askers(&good.url());
    let others = connectors(&good.url(), &stranger.url(), &world.target_ca.pem()).await;
    world.connect("target", &good.url());
    let all = cases.iter().map(|case| (&world, case)).chain(others.iter().map(|(world, case)| (world, case)));
    let runs = all.flat_map(|(world, case)| [(world, case, false), (world, case, true)]);
    let outcomes = join_all(runs.map(async |(world, case, reverse)| {
        let socks = services(world.https).await;
        let said = kubectl(&kubeconfig(world, socks, case, reverse), case.arguments).await;
        (case, reverse, said)
    }))
    .await;
    for (case, reverse, said) in outcomes {
        let printed = case.printed[usize::from(reverse)];
        assert!(said.contains(printed), "{}, reverse {reverse}: {said}", case.what);
        assert!(!said.contains("unknown"), "{}, reverse {reverse}: {said}", case.what);
        let row = SYMPTOMS.lines().find(|line| line.starts_with('|') && line.contains(case.symptom));
        assert!(
            row.is_some(),
            "docs/troubleshooting.md has no row for {:?}, which kubectl prints as {said}",
            case.symptom
        );
    }
}
