//! The head of a CONNECT, up to whom it names: a host that we let pass has one spelling only, and its login is
//! one that we could have written.

use connectors_api::proxy_auth;
use connectors_api::target::Authority;
use connectors_gateway::http::wire;
use connectors_gateway::modes::tunnel;

use super::head;
use crate::Target;

pub const TARGET: Target = Target {
    name: "connect",
    run,
    words: &[
        "CONNECT ",
        ":443",
        ":6443",
        " HTTP/1.1\r\n",
        "Host: ",
        "Proxy-Authorization: Basic ",
        "dGVhbS9rOHM6dG9rZW4=",
        "\r\n",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "target.example",
        "TARGET.example.",
        "@",
        "%",
        "Content-Length: 0\r\n",
        "xn--",
        "..",
    ],
};

fn run(data: &[u8]) {
    let (one, other) = head::read(data, wire::take_request);
    head::agree(
        one.as_ref().map(|head| head.is_some()).map_err(|error| *error),
        other.map(|head| head.is_some()),
    );
    let Ok(Some(head)) = one else { return };
    let Ok(connect) = tunnel::connect(&head, bytes::Bytes::new()) else { return };
    let origin = connect.origin;
    let bracketed =
        if origin.host.contains(':') { format!("[{}]", origin.host) } else { origin.host.clone() };
    let again = Authority::parse(&format!("{bracketed}:{}", origin.port)).expect("our own spelling is one");
    assert_eq!(again.host, origin.host, "a host with two spellings");
    assert_eq!(again.port, Some(origin.port));
    assert!(!origin.host.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '), "{:?}", origin.host);
    if let Ok(login) = connect.login {
        assert!((1..=16).contains(&login.connectors.len()));
        assert!(proxy_auth::user(&login.connectors).is_ascii());
    }
}
