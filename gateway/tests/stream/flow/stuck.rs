//! Targets that take nothing of what they are sent, or little: they hold nobody's request for longer than they may.

use std::time::Duration;

use bytes::Bytes;
use connectors_testenv::eventually;
use futures::future::join_all;
use http::Request;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::both;
use crate::http::{self as client, H1, H2, H2Client};
use crate::target::{Target, Tls, read_head};
use crate::world::World;

/// More than the kernel takes for a target that reads nothing.
const LARGE: usize = 32 << 20;

/// For what is over at once or waits for ever.
const PATIENCE: Duration = Duration::from_secs(5);

async fn world(response_header: Duration) -> World {
    World::with(|settings| {
        settings.timeouts.response_header = response_header;
        settings.limits.head_bytes = LARGE;
    })
    .await
}

/// Says this at once, whatever it is asked, and reads no byte.
async fn deaf(world: &World, says: &'static [u8]) -> Target {
    let target = Target::script(&world.leaf(), &[], H1, move |mut tls, _| async move {
        let _ = tls.write_all(says).await;
        std::future::pending::<()>().await;
    })
    .await;
    world.connect("target", &target.url());
    target
}

fn post(authority: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {LARGE}\r\n\r\n")
}

async fn open(world: &World, target: &Target) -> Tls {
    world.tunnel("target", &target.authority(), H1).await
}

/// Leaves without a farewell: what it has sent last may never be read.
fn reset(tls: Tls) {
    SockRef::from(tls.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Of the gateway's own connections.
async fn is_forgotten(world: &World) {
    let open = &world.gateway.parts.metrics.connections_open;
    let forgotten = async {
        while open.get() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.expect("a client that has left has its place still");
}

#[tokio::test]
async fn a_body_of_which_the_target_takes_nothing_ends_with_504() {
    for h2 in [false, true] {
        let world = world(Duration::from_secs(1)).await;
        // In HTTP/2 the body has the room that a stream begins with.
        let target = match h2 {
            false => deaf(&world, b"").await,
            true => {
                both::target(&world, true, |incoming, _| async move {
                    let _kept = incoming;
                    std::future::pending().await
                })
                .await
            }
        };
        let (mut read, mut write) = tokio::io::split(open(&world, &target).await);
        let head = post(&target.authority());
        let upload = async {
            let _ = write.write_all(head.as_bytes()).await;
            while write.write_all(&[0; 65536]).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = upload => {}
            answer = tokio::time::timeout(PATIENCE, read_head(&mut read)) => {
                let answer = answer.expect("it waits for ever");
                assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
            }
        }
        let mut client = H2Client::open(&world, "target", &target.authority()).await;
        let request = Request::post(format!("{}/", target.url())).body(()).unwrap();
        let sent = client.send(request, Some(Bytes::from(vec![0; LARGE])));
        let answer = tokio::time::timeout(PATIENCE, sent).await.expect("it waits for ever");
        assert_eq!(answer.unwrap().0, 504);
    }
}

/// Its upload may go on when the target likes, so that no time ends it.
#[tokio::test]
async fn a_client_that_leaves_while_the_target_takes_nothing_and_answers_for_ever_is_forgotten() {
    let world = world(Duration::from_secs(1)).await;
    let begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let target = deaf(&world, begun).await;
    let mut tls = open(&world, &target).await;
    tls.write_all(post(&target.authority()).as_bytes()).await.unwrap();
    assert!(read_head(&mut tls).await.starts_with("HTTP/1.1 200 "));
    let full = async { while tls.write_all(&[0; 65536]).await.is_ok() {} };
    // More than the time in which a target without an answer would have been given up.
    let more = tokio::time::timeout(Duration::from_secs(3), full).await;
    assert!(more.is_err(), "the connection of a client that is there has ended");
    reset(tls);
    is_forgotten(&world).await;
}

#[tokio::test]
async fn a_head_of_which_the_target_takes_nothing_ends_with_504_or_with_its_client() {
    for upgrade in [false, true] {
        for leaves in [false, true] {
            let limit = if leaves { Duration::from_secs(60) } else { Duration::from_secs(1) };
            let world = world(limit).await;
            let target = deaf(&world, b"").await;
            let mut tls = open(&world, &target).await;
            let upgrade = if upgrade { "Connection: Upgrade\r\nUpgrade: websocket\r\n" } else { "" };
            let padding = "x".repeat(LARGE / 2);
            let head = client::get("/", &target.authority());
            let head = head.trim_end();
            tls.write_all(format!("{head}\r\n{upgrade}X-Padding: {padding}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            if !leaves {
                let answer = tokio::time::timeout(PATIENCE, read_head(&mut tls)).await;
                let answer = answer.expect("it waits for ever");
                assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
                continue;
            }
            eventually("it is on its way", async || world.gateway.parts.metrics.requests.open() == 1).await;
            reset(tls);
            is_forgotten(&world).await;
        }
    }
}

/// Its end stands behind what the target does not take, and nobody reads so far.
#[tokio::test]
async fn a_client_that_leaves_its_upgrade_while_the_target_takes_nothing_is_forgotten() {
    let world = world(Duration::from_secs(1)).await;
    let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let target = deaf(&world, switched).await;
    for leaves in [true, false] {
        let mut tls = open(&world, &target).await;
        let head = client::get("/", &target.authority());
        let head = format!("{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", head.trim_end());
        tls.write_all(head.as_bytes()).await.unwrap();
        assert!(read_head(&mut tls).await.starts_with("HTTP/1.1 101 "));
        let full = async { while tls.write_all(&[0; 65536]).await.is_ok() {} };
        // More than the time after which it is looked whether the client is there.
        let more = tokio::time::timeout(Duration::from_secs(4), full).await;
        assert!(more.is_err(), "the stream of a client that is there has ended");
        if leaves {
            reset(tls);
            is_forgotten(&world).await;
        }
    }
}

/// What it sends moves, however little it is.
#[tokio::test]
async fn a_client_that_has_ended_its_side_of_an_upgrade_hears_a_target_that_takes_nothing_to_its_end() {
    let world = world(Duration::from_secs(1)).await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        let switched =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        tls.write_all(switched.as_bytes()).await.unwrap();
        for _ in 0..24 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            tls.write_all(b"still here\n").await.unwrap();
        }
        tls.shutdown().await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = open(&world, &target).await;
    let head = client::get("/", &target.authority());
    let head = format!("{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", head.trim_end());
    tls.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut tls).await.starts_with("HTTP/1.1 101 "));
    // No more than until something waits, so that its end arrives at the gateway.
    let held = &world.gateway.parts.metrics.held.streams;
    let mut waits = 0;
    while waits < 10 {
        waits = if held.get() > 0 { waits + 1 } else { 0 };
        if waits == 0 {
            tls.write_all(&[0; 8192]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tls.shutdown().await.unwrap();
    let mut heard = String::new();
    let all = tokio::time::timeout(4 * PATIENCE, tls.read_to_string(&mut heard)).await;
    all.expect("its end never comes").unwrap();
    assert_eq!(heard, "still here\n".repeat(24));
}

/// It has said all that a connection needs to begin, and reads no further: what it is sent waits in one place.
#[tokio::test]
async fn requests_that_wait_behind_others_for_a_target_end_with_504_and_count_until_then() {
    const CLIENTS: usize = 12;
    let world = world(Duration::from_secs(2)).await;
    let target = Target::script(&world.leaf(), &[], H2, |mut tls, _| async move {
        let settings = [[0, 0, 0, 4, 0, 0, 0, 0, 0], [0, 0, 0, 4, 1, 0, 0, 0, 0]];
        let _ = tls.write_all(&settings.concat()).await;
        std::future::pending::<()>().await;
    })
    .await;
    world.connect("target", &target.url());
    let held = &world.gateway.parts.metrics.held.requests;
    let padding = "x".repeat(1 << 20);
    let asks = async || {
        let mut tls = open(&world, &target).await;
        let head = client::get("/", &target.authority());
        let head = format!("{}\r\nX-Padding: {padding}\r\n\r\n", head.trim_end());
        tls.write_all(head.as_bytes()).await.unwrap();
        read_head(&mut tls).await
    };
    let answers = tokio::time::timeout(2 * PATIENCE, join_all((0..CLIENTS).map(|_| asks())));
    let counted = eventually("they count", async || held.get() > (CLIENTS as i64) << 20);
    let (answers, ()) = tokio::join!(answers, counted);
    for answer in answers.expect("some wait for ever") {
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    }
}

/// It is slower than the kernel, which has megabytes for it, asks for more when a third of them is gone, and has the last
/// of them when we have none.
#[tokio::test]
async fn a_target_that_takes_a_body_slowly_is_waited_for() {
    let world = world(Duration::from_secs(2)).await;
    const BODY: usize = 6 << 20;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        let (mut left, mut piece) = (BODY, [0; 16 << 10]);
        while left > 0 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            left -= tls.read(&mut piece).await.unwrap();
        }
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    world.connect("target", &target.url());
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let request =
        Request::post(format!("{}/", target.url())).header("content-length", BODY).body(()).unwrap();
    assert_eq!(client.send(request, Some(Bytes::from(vec![0; BODY]))).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_client_that_sends_its_body_slowly_is_not_the_targets_fault() {
    let world = world(Duration::from_millis(200)).await;
    let target = Target::http(&world.leaf(), false).await;
    world.connect("target", &target.url());
    let mut tls = open(&world, &target).await;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\n\r\n", target.authority());
    tls.write_all(head.as_bytes()).await.unwrap();
    for byte in [b"o", b"k"] {
        tokio::time::sleep(Duration::from_millis(600)).await;
        tls.write_all(byte).await.unwrap();
    }
    let answer = read_head(&mut tls).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
