//! Kubeconfigs with everything inside, written as JSON (which is YAML).

use openssl::base64::encode_block;
use serde_json::json;

use crate::pki::Identity;

/// One cluster, one user, one context.
pub(crate) fn kubeconfig(server: &str, ca_pem: &str, user: &Identity) -> String {
    let data = |pem: &str| encode_block(pem.as_bytes());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testenv", "cluster": {"server": server, "certificate-authority-data": data(ca_pem)}}],
        "users": [{"name": "testenv", "user": {"client-certificate-data": data(&user.certificate), "client-key-data": data(&user.key)}}],
        "contexts": [{"name": "testenv", "context": {"cluster": "testenv", "user": "testenv"}}],
        "current-context": "testenv",
    })
    .to_string()
}
