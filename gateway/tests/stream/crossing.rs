//! What must hold whichever protocols the two legs speak: trailers, interim answers, early answers, peers
//! that die in the middle.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use connectors_gateway::http::wire::Frame;
use connectors_testenv::eventually;
use futures::future::join_all;
use http::StatusCode;
use tokio::sync::Notify;

use crate::both::{Answer, COMBINATIONS, Call, In, target};
use crate::target::Seen;
use crate::world::World;

const SUM: (&str, &str) = ("x-sum", "7");

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    for (client, server) in COMBINATIONS {
        let world = World::new().await;
        let target = target(&world, server, |mut incoming, seen| async move {
            let (body, trailers) = incoming.body.all().await.unwrap();
            let ok = body == b"question" && trailers.get("x-sum").is_some_and(|sum| sum == "7");
            seen.bytes.store(if ok && trailers.len() == 1 { 1 } else { 2 }, Ordering::SeqCst);
            let mut answer = incoming.reply.head(200, &[("trailer", "x-sum")]).await;
            answer.data(b"answer").await.unwrap();
            answer.end(&[SUM, ("x-more", "8")]).await.unwrap();
        })
        .await;
        let mut call =
            Call::start(&world, client, &target, &[("te", "trailers"), ("trailer", "x-sum")]).await;
        call.body.data(b"question").await.unwrap();
        // A token among trailers goes no further than one among headers.
        call.body
            .end(&[SUM, ("authorization", "Bearer fake-token"), ("x-remote-user", "admin")])
            .await
            .unwrap();
        let (status, _, mut body) = soon("an answer", call.answer.head()).await.unwrap();
        let (body, trailers) = soon("the whole answer", body.all()).await.unwrap();
        assert_eq!((status, body.as_slice()), (StatusCode::OK, b"answer".as_slice()), "{client} {server}");
        assert_eq!((&trailers["x-sum"], &trailers["x-more"]), (&"7".parse().unwrap(), &"8".parse().unwrap()));
        assert_eq!(target.seen.bytes.load(Ordering::SeqCst), 1, "the request's trailers: {client} {server}");
    }
}

/// HTTP/2 knows none of them (RFC 9113, 8.2.2), and old proxies write some.
#[tokio::test]
async fn fields_of_one_connection_stay_with_it() {
    for client in [false, true] {
        let world = World::new().await;
        let target = target(&world, false, |mut incoming, _| async move {
            let fields = [("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive"), ("x-own", "1")];
            let mut answer = incoming.reply.head(200, &fields).await;
            answer.end(&[]).await.unwrap();
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[]).await;
        call.body.end(&[]).await.unwrap();
        let (status, fields, _) = soon("an answer", call.answer.head()).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{client}");
        let of_one = ["keep-alive", "proxy-connection"].map(|name| fields.contains_key(name));
        assert!(of_one == [false, false] && fields.contains_key("x-own"), "{client}: {fields:?}");
    }
}

#[tokio::test]
async fn trailers_of_15_kib_pass_and_those_of_20_end_the_answer() {
    let large: &'static str = "x".repeat(5 << 10).leak();
    for (client, server) in COMBINATIONS {
        for (count, whole) in [(3, true), (4, false)] {
            let world = World::new().await;
            let target = target(&world, server, move |mut incoming, _| async move {
                incoming.body.all().await.unwrap();
                let mut answer = incoming.reply.head(200, &[]).await;
                answer.data(b"answer").await.unwrap();
                let names = ["x-a", "x-b", "x-c", "x-d"];
                let trailers: Vec<_> = names.into_iter().map(|name| (name, large)).collect();
                // Who ends it may be faster.
                let _ = answer.end(&trailers[..count]).await;
            })
            .await;
            let mut call = Call::start(&world, client, &target, &[("te", "trailers")]).await;
            call.body.end(&[]).await.unwrap();
            // What ends it may overtake the head.
            let all = soon("its end", async {
                let (_, _, mut body) = call.answer.head().await?;
                body.all().await
            })
            .await;
            assert_eq!(all.is_ok(), whole, "{count} of 5 KiB, {client} {server}: {:?}", all.err());
        }
    }
}

#[tokio::test]
async fn a_target_hears_that_the_client_takes_trailers() {
    for (client, server) in COMBINATIONS {
        for asks in [false, true] {
            let world = World::new().await;
            let target = target(&world, server, |mut incoming, seen| async move {
                let te = incoming.headers.get("te").is_some_and(|te| te == "trailers");
                let connection = incoming.headers.get("connection").is_some_and(|named| named == "te");
                seen.bytes.store(usize::from(te) + 2 * usize::from(connection), Ordering::SeqCst);
                incoming.reply.head(200, &[]).await.end(&[]).await.unwrap();
            })
            .await;
            let mut call =
                Call::start(&world, client, &target, if asks { &[("te", "trailers")] } else { &[] }).await;
            call.body.end(&[]).await.unwrap();
            assert_eq!(soon("an answer", call.answer.head()).await.unwrap().0, StatusCode::OK);
            let expected = match (asks, server) {
                (false, _) => 0,
                (true, true) => 1,
                (true, false) => 3,
            };
            assert_eq!(target.seen.bytes.load(Ordering::SeqCst), expected, "{client} {server}");
        }
    }
}

#[tokio::test]
async fn early_hints_pass_between_any_two_protocols() {
    for (client, server) in COMBINATIONS {
        let world = World::new().await;
        let target = target(&world, server, |mut incoming, _| async move {
            incoming.reply.interim(103, &[("link", "</a>")]).await;
            incoming.reply.head(200, &[]).await.end(&[]).await.unwrap();
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[]).await;
        call.body.end(&[]).await.unwrap();
        let (status, headers) = soon("hints", call.answer.interim()).await.expect("no hints");
        assert_eq!(
            (status, &headers["link"]),
            (StatusCode::EARLY_HINTS, &"</a>".parse().unwrap()),
            "{client} {server}"
        );
        assert_eq!(
            soon("an answer", call.answer.head()).await.unwrap().0,
            StatusCode::OK,
            "{client} {server}"
        );
    }
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_gets_it() {
    for (client, server) in COMBINATIONS {
        let world = World::new().await;
        let target = target(&world, server, |mut incoming, _| async move {
            if incoming.headers.contains_key("expect") {
                incoming.reply.interim(100, &[]).await;
            }
            let (body, _) = incoming.body.all().await.unwrap();
            let mut answer = incoming.reply.head(200, &[]).await;
            answer.data(&body).await.unwrap();
            answer.end(&[]).await.unwrap();
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[("expect", "100-continue")]).await;
        let (status, _) = soon("leave to send", call.answer.interim()).await.expect("another answer");
        assert_eq!(status, StatusCode::CONTINUE, "{client} {server}");
        call.body.data(b"body").await.unwrap();
        call.body.end(&[]).await.unwrap();
        let (_, _, mut body) = soon("an answer", call.answer.head()).await.unwrap();
        assert_eq!(soon("the whole answer", body.all()).await.unwrap().0, b"body", "{client} {server}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_leave_and_is_refused_has_its_answer() {
    for (client, server) in [(false, false), (true, false)] {
        let world = World::new().await;
        let target = target(&world, server, |mut incoming, _| async move {
            incoming.reply.head(403, &[]).await.end(&[]).await.unwrap();
            // Keeps the connection open, as one that could be used again.
            std::future::pending::<()>().await;
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[("expect", "100-continue")]).await;
        let (status, _, mut body) = soon("an answer", call.answer.head()).await.unwrap();
        assert_eq!(status, StatusCode::FORBIDDEN);
        soon("the end", body.all()).await.unwrap();
        eventually("the request is over", async || world.gateway.parts.metrics.requests.open() == 0).await;
    }
}

/// Gives the answer that comes while the body is sent, and goes on sending until nobody takes more.
async fn refused_upload(call: &mut Call) -> (StatusCode, Vec<u8>) {
    let mut answer = std::mem::replace(&mut call.answer, Answer::H1(None));
    let answered = async {
        let (status, _, mut body) = answer.head().await.unwrap();
        (status, body.all().await.unwrap().0)
    };
    let upload = async {
        let patience = Duration::from_millis(500);
        while matches!(tokio::time::timeout(patience, call.body.data(&[0; 16 << 10])).await, Ok(Ok(()))) {}
    };
    tokio::join!(soon("the early answer", answered), upload).0
}

#[tokio::test]
async fn a_target_that_refuses_early_and_reads_no_more_is_heard_and_holds_nothing_for_long() {
    let refused = |(client, server)| async move {
        let world = World::new().await;
        let target = target(&world, server, |mut incoming, _| async move {
            let mut answer = incoming.reply.head(413, &[]).await;
            answer.data(b"too large").await.unwrap();
            answer.end(&[]).await.unwrap();
            // HTTP/2: dropping the body resets the stream with NO_ERROR, as servers do. HTTP/1.1: neither
            // reads nor closes.
            if matches!(incoming.body, In::H1 { .. }) {
                std::future::pending::<()>().await;
            }
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[]).await;
        let (status, body) = refused_upload(&mut call).await;
        assert_eq!(
            (status, body.as_slice()),
            (StatusCode::PAYLOAD_TOO_LARGE, b"too large".as_slice()),
            "{client} {server}"
        );
        drop(call);
        let over = async {
            while world.gateway.parts.metrics.requests.open() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), over).await.expect("the request is held for ever");
    };
    join_all(COMBINATIONS.map(refused)).await;
}

#[tokio::test]
async fn a_target_that_answers_early_and_reads_on_gets_the_whole_body() {
    for (client, server) in COMBINATIONS {
        let world = World::new().await;
        let target = target(&world, server, |mut incoming, seen| async move {
            let mut answer = incoming.reply.head(200, &[]).await;
            answer.data(b"early").await.unwrap();
            answer.end(&[]).await.unwrap();
            if let Ok((body, _)) = incoming.body.all().await {
                seen.bytes.store(body.len(), Ordering::SeqCst);
            }
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[]).await;
        call.body.data(b"first").await.unwrap();
        let (_, _, mut body) = soon("the early answer", call.answer.head()).await.unwrap();
        assert_eq!(soon("all of it", body.all()).await.unwrap().0, b"early", "{client} {server}");
        // More than every window and buffer on the way.
        for _ in 0..64 {
            soon("room for more", call.body.data(&[0; 64 << 10])).await.expect("the target is cut off");
        }
        call.body.end(&[]).await.unwrap();
        let whole = 5 + 64 * (64 << 10);
        eventually("the target has the body", async || target.seen.bytes.load(Ordering::SeqCst) == whole)
            .await;
    }
}

#[tokio::test]
async fn a_client_that_dies_in_the_middle_of_its_body_leaves_the_target_a_broken_one() {
    for (client, server) in COMBINATIONS {
        let world = World::new().await;
        let target = target(&world, server, |mut incoming, seen| async move {
            let broken = incoming.body.all().await.is_err();
            seen.bytes.store(if broken { 1 } else { 2 }, Ordering::SeqCst);
        })
        .await;
        let mut call = Call::start(&world, client, &target, &[]).await;
        call.body.data(b"half").await.unwrap();
        eventually("the target has the request", async || target.seen.heads().len() == 1).await;
        drop(call);
        eventually("the target is told", async || target.seen.bytes.load(Ordering::SeqCst) != 0).await;
        assert_eq!(
            target.seen.bytes.load(Ordering::SeqCst),
            1,
            "a short body is taken for whole: {client} {server}"
        );
        eventually("the request is over", async || world.gateway.parts.metrics.requests.open() == 0).await;
    }
}

/// `before`: the target dies before it has answered.
async fn target_dies(
    client: bool,
    server: bool,
    before: bool,
) -> Result<(StatusCode, Result<Vec<u8>, String>), String> {
    let world = World::new().await;
    let seen_half = Arc::new(Notify::new());
    let seen = seen_half.clone();
    let target = target(&world, server, move |mut incoming, _: Arc<Seen>| {
        let seen = seen.clone();
        async move {
            assert!(matches!(incoming.body.next().await, Ok(Frame::Data(data)) if data == "half"));
            if before {
                return incoming.die();
            }
            let mut answer = incoming.reply.head(200, &[]).await;
            answer.data(b"half an answer").await.unwrap();
            seen.notified().await;
            incoming.die();
        }
    })
    .await;
    let mut call = Call::start(&world, client, &target, &[]).await;
    call.body.data(b"half").await.unwrap();
    let (status, _, mut body) = soon("an answer", call.answer.head()).await?;
    if before {
        return Ok((status, soon("all of it", body.all()).await.map(|(body, _)| body)));
    }
    assert!(
        matches!(soon("half an answer", body.next()).await, Ok(Frame::Data(data)) if data == "half an answer")
    );
    seen_half.notify_one();
    Ok((status, soon("the end", body.all()).await.map(|(body, _)| body)))
}

#[tokio::test]
async fn a_target_that_dies_in_the_middle_is_told_to_the_client() {
    for (client, server) in COMBINATIONS {
        let (status, body) = target_dies(client, server, true).await.unwrap();
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{client} {server}");
        assert!(
            String::from_utf8(body.unwrap()).unwrap().contains("closed the connection before it answered")
        );
        let (status, body) = target_dies(client, server, false).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{client} {server}");
        assert!(body.is_err(), "half an answer is taken for whole: {client} {server}");
    }
}
