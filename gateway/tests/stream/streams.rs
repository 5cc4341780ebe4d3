//! Streams at their edges: watches, early answers, readers that stop, peers that leave, connections that die.

mod renewed;
mod repeated;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use connectors_testenv::eventually;
use http::Request;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::http::{self as client, H1, H2Client};
use crate::records::Log;
use crate::target::{Target, field, read_body, read_head};
use crate::world::{TOKEN, World};

#[tokio::test]
async fn events_of_a_watch_arrive_as_they_are_sent() {
    for h2 in [false, true] {
        let (world, target) = World::with_target(h2).await;
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        tls.write_all(client::get("/watch", &target.authority()).as_bytes()).await.unwrap();
        let head = read_head(&mut tls).await;
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
        for line in ["first", "event", "event", "event"] {
            let mut chunk = [0; 11];
            let read = tokio::time::timeout(Duration::from_millis(900), tls.read_exact(&mut chunk)).await;
            read.expect("an event is held back").unwrap();
            assert_eq!(&chunk, format!("6\r\n{line}\n\r\n").as_bytes());
        }
        let mut client = H2Client::open(&world, "target", &target.authority()).await;
        let (_, _, mut body) = client
            .send(Request::get(format!("{}/watch", target.url())).body(()).unwrap(), None)
            .await
            .unwrap();
        for line in ["first\n", "event\n", "event\n"] {
            let data = tokio::time::timeout(Duration::from_millis(900), body.data())
                .await
                .expect("an event is held back");
            assert_eq!(data.unwrap().unwrap(), line);
        }
    }
}

#[tokio::test]
async fn a_watch_outlives_every_deadline_of_the_gateway() {
    let world = World::with(|settings| {
        settings.timeouts.head = Duration::from_millis(100);
        settings.timeouts.handshake = Duration::from_millis(500);
        settings.timeouts.response_header = Duration::from_millis(100);
        settings.upstream.idle = Duration::from_millis(100);
    })
    .await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        tls.write_all(b"4\r\nlate\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(client::get("/watch", &target.authority()).as_bytes()).await.unwrap();
    read_head(&mut tls).await;
    let mut chunk = [0; 9];
    tokio::time::timeout(Duration::from_secs(5), tls.read_exact(&mut chunk)).await.unwrap().unwrap();
    assert_eq!(&chunk, b"4\r\nlate\r\n");
}

#[tokio::test]
async fn a_target_loses_its_watch_when_the_client_leaves() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        read_head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        seen.bytes.store(1, Ordering::SeqCst);
        while matches!(tls.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
        seen.bytes.store(2, Ordering::SeqCst);
    })
    .await;
    world.connect("target", &target.url());
    let seen = target.seen.clone();
    let at = |state| {
        let seen = seen.clone();
        move || seen.bytes.load(Ordering::SeqCst) == state
    };
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(client::get("/", &target.authority()).as_bytes()).await.unwrap();
    eventually("the watch is open", async || at(1)()).await;
    drop(tls);
    eventually("the target is told", async || at(2)()).await;
    let mut client = H2Client::open(&world, "target", &target.authority()).await;
    let (_, _, body) =
        client.send(Request::get(format!("{}/", target.url())).body(()).unwrap(), None).await.unwrap();
    eventually("the second watch is open", async || at(1)()).await;
    drop(body);
    eventually("the target is told by the stream's reset", async || at(2)()).await;
}

#[tokio::test]
async fn a_target_may_answer_before_it_has_read_the_request() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            .await
            .unwrap();
        // Reads nothing more, and does not close either.
        std::future::pending::<()>().await;
    })
    .await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let tls = world.tunnel("target", &authority, H1).await;
    let (mut read, mut write) = tokio::io::split(tls);
    let head = format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 200000000\r\n\r\n");
    let upload = async {
        let _ = write.write_all(head.as_bytes()).await;
        while write.write_all(&[0; 65536]).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = upload => {}
        answer = tokio::time::timeout(Duration::from_secs(5), async { let head = read_head(&mut read).await; let body = read_body(&mut read, &head).await; (head, body) }) => {
            let (head, body) = answer.expect("the early answer is held back");
            assert!(head.starts_with("HTTP/1.1 413"), "{head}");
            assert_eq!(body.unwrap(), b"big");
        }
    }
}

#[tokio::test]
async fn both_directions_of_a_stream_flow_at_once() {
    let world = World::new().await;
    // Sends back each byte while it reads: with one direction at a time both ends would wait for ever.
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        let head = read_head(&mut tls).await;
        let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
        tls.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut left = length;
        let mut piece = vec![0; 65536];
        while left > 0 {
            let n = tls.read(&mut piece).await.unwrap();
            tls.write_all(&piece[..n]).await.unwrap();
            left -= n;
        }
    })
    .await;
    world.connect("target", &target.url());
    let sent = Bytes::from(vec![9; 12_000_000]);
    let request =
        Request::post(format!("{}/", target.url())).header("content-length", sent.len()).body(()).unwrap();
    let mut h2 = H2Client::open(&world, "target", &target.authority()).await;
    let (_, _, body) = h2.send(request, Some(sent.clone())).await.unwrap();
    let (received, _) = tokio::time::timeout(Duration::from_secs(20), client::collect(body))
        .await
        .expect("a deadlock")
        .unwrap();
    assert_eq!(received.len(), sent.len());
}

#[tokio::test]
async fn a_client_that_stops_reading_stops_the_target() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, seen| async move {
        read_head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n").await.unwrap();
        while tls.write_all(&[0; 65536]).await.is_ok() {
            seen.bytes.fetch_add(65536, Ordering::SeqCst);
        }
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(client::get("/", &target.authority()).as_bytes()).await.unwrap();
    read_head(&mut tls).await;
    let sent = || target.seen.bytes.load(Ordering::SeqCst);
    // Until nothing has moved for half a second.
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if sent() != last {
            (last, since) = (sent(), Instant::now());
        }
        // What the kernel's socket buffers take on three sockets, not the gateway.
        assert!(last < 64 << 20, "{last} bytes were taken from the target for a client that reads none");
    }
    assert!(last > 0);
}

#[tokio::test]
async fn interim_answers_pass_and_endless_ones_are_cut() {
    let world = World::new().await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        let head = read_head(&mut tls).await;
        tls.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.unwrap();
        if head.contains("/endless") {
            while tls.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    world.connect("target", &target.url());
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(client::get("/", &target.authority()).as_bytes()).await.unwrap();
    let hints = read_head(&mut tls).await;
    assert!(hints.starts_with("HTTP/1.1 103") && field(&hints, "link") == Some("</a>"), "{hints}");
    assert!(read_head(&mut tls).await.starts_with("HTTP/1.1 200"));
    let mut tls = world.tunnel("target", &target.authority(), H1).await;
    tls.write_all(client::get("/endless", &target.authority()).as_bytes()).await.unwrap();
    let mut last = String::from("HTTP/1.1 1");
    while last.starts_with("HTTP/1.1 1") {
        last = read_head(&mut tls).await;
    }
    assert!(last.starts_with("HTTP/1.1 502"), "{last}");
}

/// Segments as small as some networks have them: the kernel's buffers hold less than sixteen such heads.
fn narrow() -> TcpSocket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpSocket::from_std_stream(socket.into())
}

#[tokio::test]
async fn a_client_that_does_not_read_its_interim_answers_is_given_up() {
    let log = Log::of_access();
    let world = World::with(|settings| settings.timeouts.response_header = Duration::from_secs(1)).await;
    let target = Target::script(&world.leaf(), &[], H1, |mut tls, _| async move {
        read_head(&mut tls).await;
        let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(60 << 10));
        for _ in 0..15 {
            tls.write_all(hints.as_bytes()).await.unwrap();
        }
        // Its answer is not late: it has just been given one after the other.
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    world.connect("target", &target.url());
    let stream = narrow().connect(([127, 0, 0, 1], world.port).into()).await.unwrap();
    let stream = world.opened_over(stream, "target", &target.authority(), TOKEN).await;
    let mut tls = world.tls(stream, "localhost", H1).await.unwrap();
    tls.write_all(client::get("/", &target.authority()).as_bytes()).await.unwrap();
    eventually("its request has ended", async || !log.access().is_empty()).await;
    let record = &log.access()[0];
    assert!(record.to_string().contains("it does not read"), "{record}");
    drop(tls);
}

#[tokio::test]
async fn a_target_that_dies_in_the_middle_leaves_the_client_a_broken_answer_not_a_short_one() {
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let world = World::new().await;
        let target = Target::script(&world.leaf(), &[], H1, move |mut tls, _| async move {
            read_head(&mut tls).await;
            tls.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n").as_bytes())
                .await
                .unwrap();
            let _ = tls.shutdown().await;
        })
        .await;
        world.connect("target", &target.url());
        let mut tls = world.tunnel("target", &target.authority(), H1).await;
        tls.write_all(client::get("/", &target.authority()).as_bytes()).await.unwrap();
        read_head(&mut tls).await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), tls.read_to_end(&mut rest))
            .await
            .expect("the connection stays open");
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{framing}");
        let mut h2 = H2Client::open(&world, "target", &target.authority()).await;
        // The reset may overtake the head.
        if let Ok((_, _, body)) =
            h2.send(Request::get(format!("{}/", target.url())).body(()).unwrap(), None).await
        {
            assert!(client::collect(body).await.is_err(), "{framing}");
        }
    }
}
