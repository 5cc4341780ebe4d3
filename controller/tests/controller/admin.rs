//! The admin port: alive at once, ready when the API server answered, leader or not, with metrics.

use std::net::SocketAddr;

use connectors_controller::prober::fake::FakeProber;
use connectors_testenv::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{World, settings};

/// A free port, found by taking and leaving it.
pub async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
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
        eventually("ready", async || match get(*address, "/readyz").await {
            Ok(text) if text.starts_with("HTTP/1.1 200") => Ok(()),
            other => Err(other),
        })
        .await;
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
