//! h2spec, in strict mode, against both places where the gateway speaks HTTP/2: the https port, and the
//! inside of a tunnel.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::http::H2;
use crate::target::{Target, Tls, read_body, read_head};
use crate::world::World;

/// It needs a second or two; one case that hangs takes five more.
const PATIENCE: Duration = Duration::from_secs(60);
const CASES: usize = 77;

/// The connection or the stream ends as RFC 9113 asks, with PROTOCOL_ERROR for whatever the h2 crate cannot
/// decode, in place of the code for the case (`FRAME_SIZE_ERROR`, `COMPRESSION_ERROR`, `FLOW_CONTROL_ERROR`).
/// Nothing above the crate sees the frame.
const CODE: &str = "the h2 crate ends the connection with PROTOCOL_ERROR";
/// The same for a head on a stream that the client has ended: PROTOCOL_ERROR in place of `STREAM_CLOSED`.
const CLOSED: &str = "the h2 crate ends the connection with PROTOCOL_ERROR, not STREAM_CLOSED";

/// What fails, and why it may. A case that passes must not stand here.
const EXCEPTIONS: [(&str, &str); 12] = [
    ("4.3: Sends invalid header block fragment", CODE),
    ("4.3: Encodes Dynamic Table Size Update (RFC 7541, 6.3) after common header fields", CODE),
    ("5.1: half closed (remote): Sends a HEADERS frame", CLOSED),
    ("5.1: closed: Sends a HEADERS frame", CLOSED),
    ("6.3: Sends a PRIORITY frame with a length other than 5 octets", CODE),
    ("6.4: Sends a RST_STREAM frame with a length other than 4 octets", CODE),
    ("6.5: Sends a SETTINGS frame that is not a zero-length with ACK flag", CODE),
    ("6.5: Sends a SETTINGS frame with a length other than a multiple of 6 octets", CODE),
    (
        "6.5.2: SETTINGS_INITIAL_WINDOW_SIZE (0x4): Sends the value above the maximum flow control window size",
        CODE,
    ),
    ("6.7: Sends a PING frame with a length field value other than 8", CODE),
    ("6.9: Sends a WINDOW_UPDATE frame with a length other than a multiple of 4 octets", CODE),
    ("6.9.2: Sends a SETTINGS_INITIAL_WINDOW_SIZE settings with an exceeded maximum window size value", CODE),
];

/// DATA behind the end of its request: an error of the connection with PROTOCOL_ERROR while the answer is on
/// its way, which h2spec does not take, and of the stream with STREAM_CLOSED once it has ended, which it
/// does. Who is first is nobody's rule.
const RACES: [&str; 6] = [
    // Its request is refused before its body has come, and RST_STREAM with NO_ERROR then says that nobody waits
    // for that (RFC 9113, 8.1): the frame with the wrong padding may meet a stream that has ended.
    "6.1: Sends a DATA frame with invalid pad length",
    // h2spec wants no frame before the GOAWAY, and takes the WINDOW_UPDATE that opens the connection's window at
    // its start for one. That the connection ends behind each GOAWAY is asked by `hostile::h2`.
    "5.4.1: Raise a connection error",
    // The gateway ends the connection at the frame's head. What carries the rest of it closes over unread bytes, and
    // the kernel's reset may overtake the GOAWAY, which h2spec does not take for an end.
    "4.2: Sends large size frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
    "5.1: half closed (remote): Sends a DATA frame",
    "6.1: Sends a DATA frame on the stream that is not in 'open' or 'half-closed (local)' state",
    // Two frames: a refusal that comes before the second ends the stream with NO_ERROR (RFC 9113, 8.1).
    "8.1.2.6: Sends a HEADERS frame that contains the 'content-length' header field which does not equal the sum of the multiple DATA frame payload lengths",
];

/// How a stream ends on the port, where every request is refused, when the refusal comes before the frames of the case:
/// nobody waits for them (RFC 9113, 8.1). The tunnel is asked for the same cases.
const REFUSED: &str = "RST_STREAM frame (Length: 4, Flags: 0, ErrorCode: NO_ERROR)";

/// The port wants a name in the handshake that a client of 127.0.0.1 does not give: what h2spec sends is
/// carried into a handshake with one. Its requests bring no token, so it is answered by refusals: heads and
/// bodies like any other.
#[tokio::test]
async fn h2spec_passes_on_the_https_port() {
    let world = Arc::new(World::with_target(false).await.0);
    let gateway = world.clone();
    let entrance = Target::script(&world.leaf(), &[], H2, move |mut tls, _| {
        let world = gateway.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", world.https)).await.unwrap();
            let mut inside = world.tls(stream, "c-target.demo.svc", H2).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut tls, &mut inside).await;
        }
    })
    .await;
    judge(&h2spec(entrance.port).await, true);
}

/// One port is both ends of the tunnel: who offers HTTP/2 is h2spec, whose bytes are carried into a tunnel to
/// this very port; who does not is the gateway, which comes out of that tunnel. So h2spec's `:authority` is
/// the tunnel's, and nothing has to be rewritten.
#[tokio::test]
async fn h2spec_passes_inside_of_a_tunnel() {
    let world = Arc::new(World::with(|settings| settings.upstream.h2 = false).await);
    let entrance = world.clone();
    let target = Target::script(&world.leaf(), &[], b"\x02h2\x08http/1.1", move |mut tls, _| {
        let world = entrance.clone();
        async move {
            if tls.ssl().selected_alpn_protocol() != Some(b"h2") {
                return answer(tls).await;
            }
            let authority = format!("127.0.0.1:{}", tls.get_ref().local_addr().unwrap().port());
            let mut tunnel = world.tunnel("target", &authority, H2).await;
            let _ = tokio::io::copy_bidirectional(&mut tls, &mut tunnel).await;
        }
    })
    .await;
    world.connect("target", &format!("https://127.0.0.1:{}", target.port));
    judge(&h2spec(target.port).await, false);
}

/// Bodies of several bytes: h2spec takes them one by one.
async fn answer(mut tls: Tls) {
    loop {
        let head = read_head(&mut tls).await;
        if head.is_empty() || read_body(&mut tls, &head).await.is_err() {
            return;
        }
        let body = if head.starts_with("HEAD ") { "" } else { "for h2spec" };
        if tls
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{body}").as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Its report, as JUnit writes it.
async fn h2spec(port: u16) -> String {
    let h2spec = tokio::task::spawn_blocking(|| connectors_testenv::tool("h2spec")).await.unwrap().unwrap();
    let report = tempfile::NamedTempFile::new().unwrap();
    let run = Command::new(h2spec)
        .args(["-t", "-k", "-S", "-o", "5", "-p", &port.to_string(), "-j"])
        .arg(report.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("h2spec does not end").unwrap();
    let text = std::fs::read_to_string(report.path()).unwrap();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    text
}

fn judge(report: &str, refuses: bool) {
    let cases: Vec<&str> =
        report.split("<testcase ").skip(1).map(|case| case.split("</testcase>").next().unwrap()).collect();
    assert_eq!(cases.len(), CASES, "{report}");
    let excepted: BTreeSet<String> = EXCEPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let may_fail = |case: &str, name: &str| {
        RACES.contains(&name) || refuses && case.contains(REFUSED) && !excepted.contains(name)
    };
    let not_passed: BTreeSet<String> = cases
        .iter()
        .filter(|case| case.contains("<failure") || case.contains("<error") || case.contains("<skipped"))
        .map(|case| (case, name(case)))
        .filter(|(case, name)| !may_fail(case, name))
        .map(|(_, name)| name)
        .collect();
    let differ: Vec<_> = not_passed.symmetric_difference(&excepted).collect();
    assert!(differ.is_empty(), "not as listed: {differ:?} in {report}");
}

/// `6.7: Sends a PING frame …`, of a case's attributes.
fn name(case: &str) -> String {
    let attribute = |name: &str| {
        case.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap()
    };
    format!("{}: {}", attribute("classname").split(' ').next().unwrap(), attribute(" name"))
}
