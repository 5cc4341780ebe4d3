//! Requests of an HTTP/1.1 client inside of a tunnel, against a target of either protocol. The tables are in
//! `h1/`.

mod fields;
mod framing;
mod targets;

use super::witness::Witness;
use super::{Row, Stage};
use crate::records::Log;
use crate::world::World;

/// A request with its `Host`: line without version, further fields, what follows the head.
macro_rules! request {
    ($line:literal) => {
        request!($line, "", "")
    };
    ($line:literal, $fields:literal) => {
        request!($line, $fields, "")
    };
    ($line:literal, $fields:literal, $rest:literal) => {
        concat!($line, " HTTP/1.1\r\nHost: {host}\r\n", $fields, "\r\n", $rest).as_bytes()
    };
}
pub(super) use request;

/// Each row against both protocols; `prefix` is the path of the connector's address.
async fn run(rows: &[Row], prefix: &str) {
    for h2 in [false, true] {
        let log = Log::of_access();
        let world = World::of_one_worker().await;
        let witness = Witness::start(&world, h2).await;
        world.connect("target", &format!("{}{prefix}", witness.target.url()));
        Stage::new(&world, &witness, log).run(rows).await;
    }
}

#[tokio::test]
async fn a_body_ends_where_the_target_says_it_does_or_the_request_is_refused() {
    run(&framing::ROWS, "").await;
}

#[tokio::test]
async fn fields_reach_the_target_as_one_reading_only_and_identities_not_at_all() {
    run(&fields::ROWS, "").await;
}

#[tokio::test]
async fn a_request_line_has_one_reading() {
    run(&targets::LINES, "").await;
}

#[tokio::test]
async fn no_spelling_of_a_path_leaves_the_address() {
    run(&targets::PATHS, "/base").await;
}

#[tokio::test]
async fn heads_are_bounded() {
    let long = |unit: &str, count: usize| {
        format!("GET /base/a HTTP/1.1\r\nHost: {{host}}\r\n{}\r\n", unit.repeat(count)).into_bytes().leak()
            as &'static [u8]
    };
    let value = format!("X-Long: {}\r\n", "a".repeat(70_000));
    let name = format!("X-{}: 1\r\n", "a".repeat(70_000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: {{host}}\r\n\r\n", "a".repeat(70_000)).into_bytes().leak();
    use super::Expect::Refused;
    run(
        &[
            ("a value of 70 KB", long(&value, 1), Refused(431)),
            ("a name of 70 KB", long(&name, 1), Refused(431)),
            ("a path of 70 KB", path, Refused(431)),
            ("200 fields", long("X-Many: 1\r\n", 200), Refused(431)),
            ("10,000 fields", long("a:\r\n", 10_000), Refused(431)),
            ("a head without end", &[b'a'; 70_000], Refused(431)),
        ],
        "",
    )
    .await;
}
