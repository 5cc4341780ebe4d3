//! HTTP/2 clients that make the gateway work without doing work themselves. Their connection is ended, or its
//! next request is answered; the gateway keeps nothing of them, and others go on.

use std::time::Duration;

use connectors_testenv::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frames::*;
use super::{PATIENCE, Stage};
use crate::http::H2;
use crate::records::Log;
use crate::target::{Target, Tls};
use crate::world::World;

/// A head without body on a stream.
fn get(stream: u32, authority: &str) -> Vec<u8> {
    head(stream, authority, WHOLE)
}

fn head(stream: u32, authority: &str, flags: u8) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/watch"), (":authority", authority)];
    frame(HEADERS, flags, stream, &block(&pseudo))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// The code of the GOAWAY that ends the connection, if one does; reads until then.
async fn goaway(tls: &mut Tls) -> Option<u32> {
    let mut code = None;
    let ended = async {
        while let Some((kind, _, _, payload)) = next(tls).await {
            if kind == GOAWAY {
                code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the connection stays open");
    code
}

/// Takes a request back as soon as it is on its way to a target that does not answer, with few open at a
/// time.
#[tokio::test]
async fn a_client_that_takes_back_what_it_asks_for_is_told_to_calm_down() {
    let world = World::new().await;
    let silent = Target::script(&world.leaf(), &[], b"\x02h2", |mut tls, _| async move {
        let _ = tls.write_all(&frame(SETTINGS, 0, 0, &[])).await;
        let mut sink = [0; 4096];
        while matches!(tls.read(&mut sink).await, Ok(1..)) {}
    })
    .await;
    world.connect("target", &silent.url());
    let authority = silent.authority();
    let mut tls = world.tunnel("target", &authority, H2).await;
    greet(&mut tls).await;
    // One connection to the target, there for all to use.
    tls.write_all(&get(1, &authority)).await.unwrap();
    eventually("the target is connected", async || silent.seen.connections() == 1).await;
    let open = || world.gateway.parts.metrics.requests.open();
    let mut stream = 3;
    for _ in 0..200 {
        let ids: Vec<u32> = (0..10).map(|i| stream + 2 * i).collect();
        stream += 20;
        let asked: Vec<u8> = ids.iter().flat_map(|id| get(*id, &authority)).collect();
        let back: Vec<u8> = ids.iter().flat_map(|id| reset(*id)).collect();
        if tls.write_all(&asked).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        if tls.write_all(&back).await.is_err() {
            break;
        }
    }
    assert_eq!(goaway(&mut tls).await, Some(ENHANCE_YOUR_CALM));
    eventually("all streams end", async || open() == 0).await;
    // The dials of a round, before the connection is there for all to use.
    assert!(silent.seen.connections() < 50, "{} connections to the target", silent.seen.connections());
}

#[tokio::test]
async fn resets_in_one_breath_end_the_connection() {
    let (world, target) = World::with_target(true).await;
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H2).await;
    greet(&mut tls).await;
    let flood: Vec<u8> =
        (0..5000).flat_map(|i| [get(2 * i + 1, &authority), reset(2 * i + 1)].concat()).collect();
    let _ = tls.write_all(&flood).await;
    assert_eq!(goaway(&mut tls).await, Some(ENHANCE_YOUR_CALM));
    eventually("all streams end", async || world.gateway.parts.metrics.requests.open() == 0).await;
}

/// The gateway resets the streams itself, for an error of the client (CVE-2025-8671).
#[tokio::test]
async fn a_client_that_makes_us_reset_its_streams_is_told_to_calm_down() {
    let (world, target) = World::with_target(true).await;
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H2).await;
    greet(&mut tls).await;
    for i in 0..5000 {
        let opened = head(2 * i + 1, &authority, END_HEADERS);
        let overflow = frame(WINDOW_UPDATE, 0, 2 * i + 1, &[0x7f, 255, 255, 255]).repeat(2);
        if tls.write_all(&[opened, overflow].concat()).await.is_err() {
            break;
        }
    }
    assert_eq!(goaway(&mut tls).await, Some(ENHANCE_YOUR_CALM));
    eventually("all streams end", async || world.gateway.parts.metrics.requests.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_takes_back_its_watches_is_no_nuisance() {
    let (world, target) = World::with_target(true).await;
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H2).await;
    greet(&mut tls).await;
    for i in 0..600 {
        tls.write_all(&get(2 * i + 1, &authority)).await.unwrap();
        loop {
            let (kind, _, stream, _) = tokio::time::timeout(PATIENCE, next(&mut tls))
                .await
                .unwrap()
                .expect("the connection goes on");
            assert_ne!(kind, GOAWAY, "after {i} watches");
            if kind == HEADERS && stream == 2 * i + 1 {
                break;
            }
        }
        tls.write_all(&reset(2 * i + 1)).await.unwrap();
    }
}

/// Name, what is sent 20,000 times, and the code with which the connection ends; none if the next request is
/// answered.
type Flood = (&'static str, fn() -> Vec<u8>, Option<u32>);

const FLOODS: [Flood; 8] = [
    ("SETTINGS", || frame(SETTINGS, 0, 0, &[]), None),
    ("SETTINGS of a table size", || frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 16, 0]), None),
    ("PING", || frame(PING, 0, 0, &[7; 8]), None),
    ("PRIORITY", || frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9]), None),
    ("WINDOW_UPDATE", || frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), None),
    ("frames of an unknown type", || frame(0xfa, 0, 0, b"hello"), None),
    ("empty DATA", || frame(DATA, 0, 1, &[]), Some(ENHANCE_YOUR_CALM)),
    ("padding", || frame(DATA, PADDED, 1, &[4, 0, 0, 0, 0]), Some(ENHANCE_YOUR_CALM)),
];

#[tokio::test]
async fn floods_of_frames_end_the_connection_or_do_not_keep_the_next_request_from_its_answer() {
    let log = Log::of_access();
    let world = World::new().await;
    let witness = super::witness::Witness::start(&world, true).await;
    world.connect("target", &witness.target.url());
    let stage = Stage::new(&world, &witness, log);
    let authority = witness.authority();
    for (name, flood, expected) in FLOODS {
        let tls = world.tunnel("target", &authority, H2).await;
        let (mut read, mut write) = tokio::io::split(tls);
        greet(&mut write).await;
        // A body on stream 1 for those that need one, the request on stream 3.
        let before = head(1, &authority, END_HEADERS);
        let all = [before, flood().repeat(20_000), get(3, &authority)].concat();
        let sent = tokio::spawn(async move {
            let _ = write.write_all(&all).await;
            write
        });
        let ended = async {
            loop {
                match next(&mut read).await {
                    Some((HEADERS, _, 3, _)) => return None,
                    Some((GOAWAY, _, _, payload)) => {
                        return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
                    }
                    None => panic!("{name}: an end without GOAWAY"),
                    Some(_) => {}
                }
            }
        };
        let ended =
            tokio::time::timeout(2 * PATIENCE, ended).await.unwrap_or_else(|_| panic!("{name}: no answer"));
        assert_eq!(ended, expected, "{name}");
        drop((read, sent.await.unwrap()));
        eventually("all streams end", async || world.gateway.parts.metrics.requests.open() == 0).await;
        witness.take();
        stage.good(name).await;
    }
}

/// The acknowledgements pile up in front of a client that reads none: then nothing more is read from it.
#[tokio::test]
async fn a_flood_that_is_never_read_stops_at_the_sockets_buffers() {
    let (world, target) = World::with_target(true).await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let tls = world.tunnel("target", &target.authority(), H2).await;
        let (_read, mut write) = tokio::io::split(tls);
        greet(&mut write).await;
        let flood = flood.repeat(1000);
        let sent = async {
            for _ in 0..5000 {
                if write.write_all(&flood).await.is_err() {
                    return;
                }
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(1), sent).await.is_err(),
            "tens of megabytes were taken"
        );
    }
}

/// More streams than `limits.streams`.
#[tokio::test]
async fn streams_over_the_limit_are_refused_one_by_one() {
    let world = World::with(|settings| settings.limits.streams = 10).await;
    let target = Target::http(&world.leaf(), true).await;
    world.connect("target", &target.url());
    let authority = target.authority();
    let mut tls = world.tunnel("target", &authority, H2).await;
    greet(&mut tls).await;
    let heads: Vec<u8> = (0..30).flat_map(|i| get(2 * i + 1, &authority)).collect();
    tls.write_all(&heads).await.unwrap();
    let (mut answered, mut refused) = (0, 0);
    while answered + refused < 30 {
        match tokio::time::timeout(PATIENCE, next(&mut tls)).await.unwrap() {
            Some((HEADERS, ..)) => answered += 1,
            Some((RST_STREAM, .., code)) => {
                assert_eq!(code, [0, 0, 0, 7], "REFUSED_STREAM");
                refused += 1;
            }
            Some(_) => {}
            None => panic!("closed after {answered} answers and {refused} refusals"),
        }
    }
    assert_eq!((answered, refused), (10, 20));
}
