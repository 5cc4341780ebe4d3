//! The files that every volume has, whatever configurations it asks for. `render` starts with them.

use connectors_api::proxy_auth::{self, ConnectorRef};
use connectors_api::rules;
use connectors_api::target::{Authority, Target, default_port};
use secrecy::{ExposeSecret, SecretString};

use crate::inputs::{Inputs, VolumeConnector};
use crate::write::Files;

/// The token and nothing else.
pub const TOKEN_FILE: &str = "context.token";
/// Clients inside the Pod talk to themselves without the proxy.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The proxy is the last connector's; its login names all of them. Without a proxy there are only token and
/// CA.
pub fn files(token: &SecretString, inputs: &Inputs) -> Files {
    let mut files = Files::new();
    let mut add = |name: &str, content: SecretString| drop(files.insert(name.to_owned(), content));
    add(TOKEN_FILE, token.clone());
    for name in ["context.proxy.caCert", "ca.crt", "ca.cert"] {
        add(name, SecretString::from(inputs.ca_bundle.as_str()));
    }
    if let Some(address) = inputs.connectors.last().and_then(|last| last.proxy_address()) {
        let references: Vec<ConnectorRef> =
            inputs.connectors.iter().map(|one| one.reference.clone()).collect();
        let url = proxy_auth::proxy_url(&authority(address), &references, token);
        add("connector.status.proxyAddress", SecretString::from(address));
        add(".env", environment(&url, &no_proxy(inputs)));
        add("http.proxy", url.clone());
        add("https.proxy", url);
    }
    files
}

/// In both spellings, since tools differ. Without quotes: neither a token nor an encoded name has a character
/// that a shell would read.
fn environment(url: &SecretString, no_proxy: &str) -> SecretString {
    let url = url.expose_secret();
    let lines = [("http_proxy", url), ("https_proxy", url), ("no_proxy", no_proxy)];
    let both = lines.map(|(name, value)| format!("{name}={value}\n{}={value}\n", name.to_uppercase()));
    SecretString::from(both.concat())
}

/// Besides itself, a Pod reaches its own cluster directly: the API server by its names and address, and
/// Services by theirs. Unless one of them is a connector's target.
fn no_proxy(inputs: &Inputs) -> String {
    let domain = &inputs.cluster_domain;
    let targets: Vec<String> = inputs.connectors.iter().flat_map(hosts).collect();
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let api_server = names.into_iter().chain([format!("kubernetes.default.svc.{domain}")]);
    let services = [".svc".to_owned(), format!(".{domain}")];
    let own = api_server.chain(inputs.api_server.clone()).chain(services);
    let own = own.filter(|entry| !targets.iter().any(|host| excepts(entry, host)));
    LOOPBACK.map(str::to_owned).into_iter().chain(own).collect::<Vec<_>>().join(",")
}

/// As curl and Go read an entry of `no_proxy`: a name stands for what is below it, too.
fn excepts(entry: &str, host: &str) -> bool {
    let name = entry.trim_start_matches('.');
    host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn hosts(mounted: &VolumeConnector) -> Vec<String> {
    let addresses = rules::addresses(&mounted.connector, &mounted.class);
    addresses.into_iter().filter_map(|address| Some(Target::parse(address).ok()?.host)).collect()
}

/// `host:port` of a URL; a path resolver's address has a path, a forward proxy none. With the port, since curl
/// takes a proxy without one to be at 1080.
fn authority(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next().unwrap_or(rest);
    match Authority::parse(authority) {
        Ok(Authority { port: None, .. }) => format!("{authority}:{}", default_port(scheme == "https")),
        _ => authority.to_owned(),
    }
}
