//! Requests of an HTTP/2 client, frame by frame: inside of a tunnel and on the https port, against a target
//! of either protocol. The tables are in `h2/`.

mod frames;
mod messages;

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::frames::{DATA, HEADERS, WHOLE, block, frame, greet, next, outcome};
use super::witness::Witness;
use super::{PATIENCE, Stage};
use crate::http::H2;
use crate::records::Log;
use crate::target::Tls;
use crate::world::{TOKEN, World};

/// What becomes of a row's frames. Unless it is `Seen`, the target sees nothing.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// A Status with this code.
    Refused(u16),
    /// An answer with this code from below us, without a body.
    Bare(u16),
    /// The stream alone ends, with this error.
    Reset(u32),
    /// The connection ends, with this error.
    Ended(u32),
    /// The target's answer; the target has seen this request, in the form of the HTTP/1.1 tables.
    Seen(&'static str),
}

/// Name, frames, outcome.
pub type Row = (&'static str, fn(&At) -> Vec<u8>, Expect);

/// Where a row is sent: the authority and the login of its requests.
pub struct At {
    pub authority: String,
    login: String,
}

impl At {
    /// The pseudo-fields and the login, then more fields.
    pub fn block(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let pseudo =
            [(":method", method), (":scheme", "https"), (":path", path), (":authority", &*self.authority)];
        self.only(&[&pseudo, more].concat())
    }

    /// These fields, then the login.
    pub fn only(&self, fields: &[(&str, &str)]) -> Vec<u8> {
        block(&[fields, &[("authorization", &*self.login)]].concat())
    }

    /// A GET without body.
    pub fn get(&self, more: &[(&str, &str)]) -> Vec<u8> {
        self.head(WHOLE, &self.block("GET", "/a", more))
    }

    /// A POST whose body follows.
    pub fn post(&self, more: &[(&str, &str)]) -> Vec<u8> {
        self.head(super::frames::END_HEADERS, &self.block("POST", "/a", more))
    }

    pub fn head(&self, flags: u8, block: &[u8]) -> Vec<u8> {
        frame(HEADERS, flags, 1, block)
    }

    pub fn data(&self, flags: u8, data: &[u8]) -> Vec<u8> {
        frame(DATA, flags, 1, data)
    }
}

#[derive(Clone, Copy, Debug)]
enum Front {
    Tunnel,
    Https,
}

impl Front {
    async fn open(self, world: &World, witness: &Witness) -> (Tls, At) {
        match self {
            Front::Tunnel => {
                let authority = witness.authority();
                let tls = world.tunnel("target", &authority, H2).await;
                (tls, At { authority, login: "Bearer fake-token".to_owned() })
            }
            Front::Https => {
                let authority = "c-target.demo.svc".to_owned();
                let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
                (
                    world.tls(stream, &authority, H2).await.unwrap(),
                    At { authority, login: format!("Bearer {TOKEN}") },
                )
            }
        }
    }
}

async fn run(rows: &[Row], fronts: &[Front], prefix: &str) {
    for h2 in [false, true] {
        let log = Log::of_access();
        let world = World::of_one_worker().await;
        let witness = Witness::start(&world, h2).await;
        world.connect("target", &format!("{}{prefix}", witness.target.url()));
        let stage = Stage::new(&world, &witness, log);
        let mut failed = Vec::new();
        for front in fronts {
            for (name, frames, expect) in rows {
                let (tls, at) = front.open(&world, &witness).await;
                let judged = async {
                    row(&stage, name, tls, &frames(&at), *expect).await;
                    stage.good(name).await;
                };
                if AssertUnwindSafe(judged).catch_unwind().await.is_err() {
                    failed.push(format!("{front:?}: {name}"));
                }
            }
        }
        assert_eq!(failed, Vec::<String>::new());
    }
}

async fn row(stage: &Stage<'_>, name: &str, mut tls: Tls, frames: &[u8], expect: Expect) {
    stage.witness.take();
    stage.log.take_access();
    greet(&mut tls).await;
    // A connection that ends early takes no more.
    let _ = tls.write_all(frames).await;
    let got = tokio::time::timeout(PATIENCE, outcome(&mut tls))
        .await
        .unwrap_or_else(|_| panic!("{name}: no answer"));
    let said = format!("{name}: {got:?}");
    match expect {
        Expect::Refused(status) => {
            let told: serde_json::Value = serde_json::from_slice(&got.body).unwrap_or_default();
            assert_eq!(
                (got.status, &told["code"], &told["kind"]),
                (Some(status), &status.into(), &"Status".into()),
                "{said}"
            );
        }
        Expect::Bare(status) => assert_eq!((got.status, got.body.len()), (Some(status), 0), "{said}"),
        Expect::Reset(code) => {
            assert_eq!((got.status, got.reset, got.goaway), (None, Some(code), None), "{said}")
        }
        Expect::Ended(code) => {
            assert_eq!((got.status, got.goaway), (None, Some(code)), "{said}");
            let end = async { while next(&mut tls).await.is_some() {} };
            tokio::time::timeout(PATIENCE, end)
                .await
                .unwrap_or_else(|_| panic!("{name}: the connection stays open"));
        }
        Expect::Seen(request) => {
            assert_eq!(got.status, Some(200), "{said}");
            let seen = stage.witness.take();
            assert_eq!(
                seen.iter().map(|seen| &*seen.text).collect::<Vec<_>>(),
                [request],
                "{name}: what the target saw"
            );
            stage.recorded(name, &seen).await;
        }
    }
    assert_eq!(stage.witness.take(), Vec::new(), "{name}: the target saw something");
}

#[tokio::test]
async fn a_message_is_refused_or_reaches_the_target_as_one_reading() {
    run(&messages::ROWS, &[Front::Tunnel, Front::Https], "").await;
}

#[tokio::test]
async fn a_message_is_for_the_tunnels_host_and_under_the_addresss_path() {
    run(&messages::OF_A_TUNNEL, &[Front::Tunnel], "/base").await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_stream_or_the_connection() {
    run(&frames::ROWS, &[Front::Tunnel, Front::Https], "").await;
}
