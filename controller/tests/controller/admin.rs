//! The admin port: alive at once, ready when the API server answered, leader or not, with metrics. A leader is
//! ready once it works.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use connectors_controller::prober::fake::FakeProber;
use connectors_testenv::{ControlPlane, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{GATEWAY_SERVICE, World, config, done, settings};

/// A free port, found by taking and leaving it.
/// A host of loopback for each: a port that was free may be given to the next who asks.
pub async fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    TcpListener::bind(format!("127.9.{high}.{low}:0")).await.unwrap().local_addr().unwrap()
}

pub async fn get(address: SocketAddr, path: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Until `/readyz` says this.
async fn until(address: SocketAddr, words: &str) -> String {
    eventually(&format!("/readyz says {words:?}"), async || match get(address, "/readyz").await {
        Ok(text) if text.contains(words) => Ok(text),
        other => Err(other),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_replicas_are_ready_and_one_leads() {
    let world = World::new().await;
    let mut running = Vec::new();
    let mut addresses = Vec::new();
    for identity in ["one", "two"] {
        let mut settings = settings(identity);
        settings.admin_address = free_address().await;
        addresses.push(settings.admin_address);
        running.push(world.controller(settings, std::sync::Arc::new(FakeProber::healthy())));
    }
    for address in &addresses {
        until(*address, "HTTP/1.1 200").await;
        assert!(get(*address, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(get(*address, "/else").await.unwrap().starts_with("HTTP/1.1 404"));
    }
    eventually("exactly one leader", async || {
        let mut leaders = 0;
        for address in &addresses {
            leaders += usize::from(
                get(*address, "/metrics")
                    .await
                    .unwrap_or_default()
                    .contains("\nconnectors_controller_leader 1\n"),
            );
        }
        if leaders == 1 { Ok(()) } else { Err(leaders) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_the_crds_says_so_is_not_ready_and_works_once_they_are_there() {
    let plane = ControlPlane::start().await.unwrap();
    for folder in ["namespaces", "rbac"] {
        done(&plane, &["apply", "-k", &config(folder)]).await;
    }
    let world = World { client: plane.client(), plane };
    let mut settings = settings("one");
    settings.admin_address = free_address().await;
    let address = settings.admin_address;
    let running = world.controller(settings, std::sync::Arc::new(FakeProber::healthy()));
    let said = until(address, "install the CRDs (config/crd)").await;
    assert!(said.starts_with("HTTP/1.1 503"), "{said}");
    assert!(get(address, "/healthz").await.unwrap().starts_with("HTTP/1.1 200"), "kubelet leaves it alone");

    done(&world.plane, &["apply", "-k", &config("crd")]).await;
    until(address, "HTTP/1.1 200").await;
    world.apply(GATEWAY_SERVICE).await;
    world.apply(&std::fs::read_to_string(config("classes/k8s.yaml")).unwrap()).await;
    world.demo("demo", "k8s").await;
    world.until_ready("demo", "k8s").await;
    assert!(!running.task.is_finished());
}
