//! Kubeconfigs with everything inside, written as JSON (which is YAML).

use openssl::base64::encode_block;
use serde_json::json;

use crate::pki::Identity;

/// One cluster, and one user with a context; without a user the cluster alone.
pub(crate) fn kubeconfig(server: &str, ca_pem: &str, user: Option<&Identity>) -> String {
    let data = |pem: &str| encode_block(pem.as_bytes());
    let clusters = json!([{"name": "testenv", "cluster": {"server": server, "certificate-authority-data": data(ca_pem)}}]);
    let (users, contexts, current) = match user {
        None => (json!([]), json!([]), ""),
        Some(user) => (
            json!([{"name": "testenv", "user": {"client-certificate-data": data(&user.pem()), "client-key-data": data(&user.key_pem())}}]),
            json!([{"name": "testenv", "context": {"cluster": "testenv", "user": "testenv"}}]),
            "testenv",
        ),
    };
    json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": clusters, "users": users, "contexts": contexts, "current-context": current,
    })
    .to_string()
}

/// Of a server that is asked in the clear and knows nobody.
pub fn kubeconfig_in_the_clear(server: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "c", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    })
    .to_string()
}
