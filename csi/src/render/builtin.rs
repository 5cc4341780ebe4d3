//! The files that every volume has, whatever configurations it asks for. `render` starts with them.

use connectors_api::proxy_auth::{self, ConnectorRef};
use secrecy::{ExposeSecret, SecretString};

use crate::inputs::Inputs;
use crate::write::Files;

/// Clients inside the Pod talk to themselves without the proxy.
const NO_PROXY: &str = "localhost,127.0.0.1";

/// The proxy is the last connector's; its login names all of them. Without a proxy there are only token and
/// CA.
pub fn files(token: &SecretString, inputs: &Inputs) -> Files {
    let mut files = Files::new();
    let mut add = |name: &str, content: SecretString| drop(files.insert(name.to_owned(), content));
    add("context.token", token.clone());
    for name in ["context.proxy.caCert", "ca.crt", "ca.cert"] {
        add(name, SecretString::from(inputs.ca_bundle.as_str()));
    }
    if let Some(address) = inputs.connectors.last().and_then(|last| last.proxy_address()) {
        let references: Vec<ConnectorRef> =
            inputs.connectors.iter().map(|one| one.reference.clone()).collect();
        let url = proxy_auth::proxy_url(authority(address), &references, token);
        add("connector.status.proxyAddress", SecretString::from(address));
        add(".env", environment(&url));
        add("http.proxy", url.clone());
        add("https.proxy", url);
    }
    files
}

/// Without quotes: neither a token nor an encoded name has a character that a shell would read.
fn environment(url: &SecretString) -> SecretString {
    let url = url.expose_secret();
    SecretString::from(format!("http_proxy={url}\nhttps_proxy={url}\nno_proxy={NO_PROXY}\n"))
}

/// `host[:port]` of a URL; a path resolver's address has a path, a forward proxy none.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
