//! Logins of clients: `Proxy-Authorization` of a tunnel and `Authorization` in reverse mode. What is read is
//! what a client would have to write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use connectors_api::proxy_auth::{ConnectorRef, parse_basic, parse_token, user};
use secrecy::ExposeSecret;

use crate::Target;

pub const TARGET: Target = Target {
    name: "login",
    run,
    words: &[
        "Basic ",
        "bearer ",
        "team/k8s",
        ",",
        "/",
        ":",
        "dGVhbS9rOHM6dG9rZW4=",
        "=",
        "==",
        " ",
        "\t",
        "a-b.c",
        "\u{e9}",
    ],
};

fn run(data: &[u8]) {
    basic(data);
    // Most inputs are no base64: as the user and password of one that is.
    let wrapped = format!("Basic {}", BASE64.encode(data));
    basic(wrapped.as_bytes());
    for header in [data, wrapped.as_bytes()] {
        if let Ok(token) = parse_token(header) {
            printable(token.expose_secret());
        }
    }
    if let Some(connector) = super::text(data).and_then(ConnectorRef::parse) {
        assert_eq!(ConnectorRef::parse(&connector.to_string()), Some(connector));
    }
}

fn basic(header: &[u8]) {
    let Ok(login) = parse_basic(header) else { return };
    let token = login.token.expose_secret();
    printable(token);
    let again = format!("basic {}", BASE64.encode(format!("{}:{token}", user(&login.connectors))));
    let again = parse_basic(again.as_bytes()).expect("our own spelling is read");
    assert_eq!(again.connectors, login.connectors);
    assert_eq!(again.token.expose_secret(), token);
}

/// It goes into headers and URLs.
fn printable(token: &str) {
    assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?}");
}
