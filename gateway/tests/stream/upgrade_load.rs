//! Many upgrades against a target that answers at once: none may be lost, no byte may be wrong. `make
//! test-upgrades` is the long run.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::H1;
use crate::target::{Target, Tls, field, read_head};
use crate::world::World;

pub const WEBSOCKET: &str = "websocket";
pub const SPDY: &str = "SPDY/3.1";
/// Ends what the target sends, after the end of what it has received.
const FAREWELL: &[u8] = b"farewell";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub struct Outcome {
    pub done: usize,
    /// Upgrades that failed, with the reason of each.
    pub failed: Vec<String>,
}

/// The request of a client, as client-go sends it.
pub fn request(protocol: &str, path: &str, authority: &str) -> String {
    let (method, fields) = match protocol {
        WEBSOCKET => (
            "GET",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n",
        ),
        _ => ("POST", "X-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n"),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer fake-token\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{fields}\r\n"
    )
}

/// The 101 to such a request.
pub fn agreement(head: &str) -> String {
    let protocol = field(head, "upgrade").unwrap_or("none");
    let mut answer =
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n");
    if protocol == WEBSOCKET {
        answer.push_str("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n");
    } else {
        answer.push_str("X-Stream-Protocol-Version: v4.channel.k8s.io\r\n");
    }
    answer + "\r\n"
}

/// Agrees to every upgrade, with its first bytes in the same write or right behind it, and sends back what it
/// gets.
pub async fn target(world: &World) -> Target {
    Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        let head = read_head(&mut tls).await;
        let case = case_of(&head);
        let agreed = agreement(&head).into_bytes();
        let first = greeting(case);
        match case % 3 {
            0 => drop(tls.write_all(&[agreed, first].concat()).await),
            1 => {
                let _ = tls.write_all(&agreed).await;
                let _ = tls.write_all(&first).await;
            }
            _ => {
                // Cut in the middle of the head.
                let all = [agreed, first].concat();
                let _ = tls.write_all(&all[..40]).await;
                let _ = tls.write_all(&all[40..]).await;
            }
        }
        let mut buf = vec![0; 8192];
        while let Ok(n) = tls.read(&mut buf).await {
            if n == 0 {
                let _ = tls.write_all(FAREWELL).await;
                break;
            }
            if tls.write_all(&buf[..n]).await.is_err() {
                return;
            }
        }
        let _ = tls.shutdown().await;
    })
    .await
}

fn case_of(head: &str) -> usize {
    head.split(' ')
        .nth(1)
        .and_then(|path| path.rsplit_once('='))
        .and_then(|(_, case)| case.parse().ok())
        .unwrap_or(0)
}

fn greeting(case: usize) -> Vec<u8> {
    pattern(case, case * 37 % 3000 + 1)
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i * 7 + seed) % 251) as u8).collect()
}

/// `count` upgrades through connector `demo/target`, `at_once` at a time.
pub async fn run(
    world: &Arc<World>,
    target: &Target,
    protocol: &'static str,
    count: usize,
    at_once: usize,
) -> Outcome {
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let (world, next, authority) = (world.clone(), next.clone(), target.authority());
            tokio::spawn(async move { work(&world, &authority, protocol, count, &next).await })
        })
        .collect();
    let mut all = Outcome::default();
    for worker in workers {
        let one = worker.await.unwrap();
        all.done += one.done;
        all.failed.extend(one.failed);
    }
    all
}

async fn work(world: &World, authority: &str, protocol: &str, count: usize, next: &AtomicUsize) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        let case = next.fetch_add(1, Ordering::SeqCst);
        if case >= count {
            return outcome;
        }
        let tls = world.tunnel("target", authority, H1).await;
        match tokio::time::timeout(PATIENCE, upgrade(tls, authority, protocol, case)).await {
            Ok(Ok(())) => outcome.done += 1,
            Ok(Err(why)) => outcome.failed.push(format!("{protocol} {case}: {why}")),
            Err(_) => outcome.failed.push(format!("{protocol} {case}: nothing came any more")),
        }
    }
}

/// One upgrade with bytes behind the request, bytes later, and a half-close; all must come back in order.
async fn upgrade(mut tls: Tls, authority: &str, protocol: &str, case: usize) -> Result<(), String> {
    let (early, later) = (pattern(case + 1, case * 53 % 5000), pattern(case + 2, case * 101 % 40_000 + 1));
    let mut sent = request(protocol, &format!("/exec?case={case}"), authority).into_bytes();
    if case.is_multiple_of(2) {
        sent.extend_from_slice(&early);
        tls.write_all(&sent).await.map_err(|error| error.to_string())?;
    } else {
        tls.write_all(&sent).await.map_err(|error| error.to_string())?;
        tls.write_all(&early).await.map_err(|error| error.to_string())?;
    }
    let head = read_head(&mut tls).await;
    if !head.starts_with("HTTP/1.1 101 ") || field(&head, "upgrade") != Some(protocol) {
        return Err(format!("answered {head:?}"));
    }
    tls.write_all(&later).await.map_err(|error| error.to_string())?;
    tls.shutdown().await.map_err(|error| error.to_string())?;
    let mut got = Vec::new();
    let read = tls.read_to_end(&mut got).await;
    let expected = [greeting(case), early, later, FAREWELL.to_vec()].concat();
    match read {
        Ok(_) if got == expected => Ok(()),
        Ok(_) => Err(differs(&got, &expected)),
        Err(error) => Err(format!("{error}; {}", differs(&got, &expected))),
    }
}

fn differs(got: &[u8], expected: &[u8]) -> String {
    let mut text = format!("{} bytes of {}", got.len(), expected.len());
    if let Some(at) = got.iter().zip(expected).position(|(one, other)| one != other) {
        let _ = write!(text, ", wrong from {at} on");
    }
    text
}
