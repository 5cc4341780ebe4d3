//! Fixed names that more than one part uses: API group, namespaces, objects, ports, audiences, annotations.
//! Also the name of a Connector's Service, which the controller writes and gateway and CSI driver read.

use sha2::{Digest, Sha256};

/// API group and version of both custom resources.
pub const GROUP: &str = "connectors.alauda.io";
pub const VERSION: &str = "v1alpha1";

/// Namespace of gateway and controller, and of the driver (the only privileged one).
pub const SYSTEM_NAMESPACE: &str = "connectors-system";
pub const CSI_NAMESPACE: &str = "connectors-csi";

/// Deployments, DaemonSet, ServiceAccounts and the gateway's Service carry these names.
pub const GATEWAY: &str = "connectors-gateway";
pub const CONTROLLER: &str = "connectors-controller";
pub const CSI: &str = "connectors-csi";
/// Service of the gateway's ports for metrics and for the controller's probes.
pub const GATEWAY_ADMIN: &str = "connectors-gateway-admin";

/// Secret with the root of the connector CA (`tls.crt`, `tls.key`): readable by the controller only.
pub const ROOT_CA_SECRET: &str = "connectors-ca";
/// Secret with the gateway's issuing CA (`tls.crt`: intermediate then root, `tls.key`).
pub const ISSUING_CA_SECRET: &str = "connectors-gateway-ca";
/// ConfigMap with the PEM bundle that clients trust, under `CA_BUNDLE_KEY`.
pub const CA_BUNDLE_CONFIGMAP: &str = "connectors-ca-bundle";
pub const CA_BUNDLE_KEY: &str = "ca.crt";

/// ConfigMap in which the controller says which addresses are the home cluster's.
pub const CLUSTER_RANGES_CONFIGMAP: &str = "connectors-cluster-ranges";

/// ConfigMap of an installation by kubectl, with classes as texts for the controller to apply: `<name>.yaml` each.
pub const CLASSES_CONFIGMAP: &str = "connectors-classes";
/// Annotation on a class that the controller applied: which text it is from.
pub const CLASS_TEXT_ANNOTATION: &str = "connectors.cpaas.io/text-digest";

/// Role and RoleBinding that let the gateway read exactly the Secrets that a namespace's Connectors name.
pub const GATEWAY_SECRETS_ROLE: &str = "connectors-gateway-secrets";
/// ClusterRole of those who use connectors, and the name of the RoleBindings that the controller makes of it.
pub const USER_ROLE: &str = "connectors-user";

/// Audience of the ServiceAccount tokens that clients present to the gateway.
pub const AUDIENCE: &str = "connectors.alauda.io";
/// Audience of the controller's own token toward `/probe`: a client's token is useless there, and the
/// reverse.
pub const PROBE_AUDIENCE: &str = "probe.connectors.alauda.io";

pub const CSI_DRIVER: &str = "connectors-csi";

/// Container ports of the gateway and the Service ports in front of them.
pub const HTTP_PORT: u16 = 8080;
pub const HTTPS_PORT: u16 = 8443;
pub const ADMIN_PORT: u16 = 9090;
pub const HEALTH_PORT: u16 = 9091;
pub const PROBE_PORT: u16 = 9443;

pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Namespace labels of the access scopes (a project's shared namespace, and its members).
pub const INNER_NAMESPACE_LABEL: &str = "cpaas.io/inner-namespace";
pub const PROJECT_LABEL: &str = "cpaas.io/project";
/// Annotation on a Connector: comma list of SHA-256 fingerprints that an operator accepts after a target's
/// certificate changed.
pub const ACCEPT_CERTIFICATE_ANNOTATION: &str = "connectors.cpaas.io/accept-certificate";
/// Annotation on a Connector: lets its users send `Impersonate-*` headers, as far as its credential may
/// impersonate; see `impersonation`.
pub const ALLOW_IMPERSONATION_ANNOTATION: &str = "connectors.cpaas.io/allow-impersonation";
/// Annotation on a Connector: the name in its targets' certificate where it is not that of the address, for
/// SNI and verification.
pub const TLS_SERVER_NAME_ANNOTATION: &str = "connectors.cpaas.io/tls-server-name";
/// Annotation on a Connector: `true` lets its targets be without secure renegotiation (RFC 5746).
pub const LEGACY_TLS_ANNOTATION: &str = "connectors.cpaas.io/legacy-tls";
/// Annotation on a class: `deny` lets no connector of it have an address that is http.
pub const PLAINTEXT_ANNOTATION: &str = "connectors.cpaas.io/plaintext";
/// Annotation on a class: `kubernetes` if its targets can be asked whom they take a credential for.
pub const WHO_AM_I_ANNOTATION: &str = "connectors.cpaas.io/who-am-i";
/// Annotation on a class: `host` (default) or `path`.
pub const RESOLVER_ANNOTATION: &str = "connectors.cpaas.io/proxy-resolver";

/// Secret type of a bearer token and its keys.
pub const BEARER_SECRET_TYPE: &str = "connectors.cpaas.io/bearer-token";
pub const BASIC_SECRET_TYPE: &str = "kubernetes.io/basic-auth";

const DNS_LABEL_MAX: usize = 63;
const SHORTENED_PREFIX: usize = 40;
const OBJECT_NAME_MAX: usize = 253;

/// Name of a Connector's Service: `c-<name>`, or where that is no DNS label, `c-<first 40, dots as dashes>-<8
/// hex of SHA-256>`.
pub fn service_name(connector: &str) -> String {
    let plain = format!("c-{connector}");
    if plain.len() <= DNS_LABEL_MAX && !connector.contains('.') {
        return plain;
    }
    let digest = Sha256::digest(connector.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let head: String =
        connector.chars().take(SHORTENED_PREFIX).map(|c| if c == '.' { '-' } else { c }).collect();
    format!("c-{head}-{hash}")
}

/// Host of a Connector's proxy: `c-<name>.<ns>.svc.<domain>`.
pub fn proxy_host(connector: &str, namespace: &str, cluster_domain: &str) -> String {
    format!("{}.{namespace}.svc.{cluster_domain}", service_name(connector))
}

/// A DNS label as namespaces have it: 1–63 of `a-z 0-9 -`, alphanumeric at both ends.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= DNS_LABEL_MAX && is_label(text)
}

/// A name as Connectors, classes and Secrets have it: labels of any length joined by dots, at most 253
/// characters. Whatever a user wrote as a name passes here before it becomes part of a URL.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= OBJECT_NAME_MAX && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    bytes.iter().all(inner) && ends(bytes.first()) && ends(bytes.last())
}

/// A name of a file in a volume, as the keys of a ConfigMap: names that begin with two dots belong to the
/// atomic swap of a volume.
pub fn is_file_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty()
        && text.len() <= 253
        && text != "."
        && !text.starts_with("..")
        && text.bytes().all(allowed)
}

/// Groups of a namespace's ServiceAccounts, as the API server gives them.
pub fn service_account_groups(namespace: &str) -> [String; 3] {
    let all = "system:serviceaccounts";
    [all.to_owned(), format!("{all}:{namespace}"), "system:authenticated".to_owned()]
}

/// User name of a ServiceAccount as TokenReview and RBAC spell it.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_connector() {
        assert_eq!(service_name("k8s-connector"), "c-k8s-connector");
        assert_eq!(proxy_host("k8s", "demo", "cluster.local"), "c-k8s.demo.svc.cluster.local");
    }

    #[test]
    fn namespaces_are_labels_and_objects_may_have_dots() {
        for (text, label, object) in [
            ("a", true, true),
            ("a-1", true, true),
            ("a.b", false, true),
            (&"a".repeat(64), false, true),
            (&"a".repeat(253), false, true),
            (&"a".repeat(254), false, false),
            ("a?watch=true", false, false),
            ("../a", false, false),
            ("-a", false, false),
            ("a..b", false, false),
            ("A", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_dns_label(text), is_object_name(text)), (label, object), "{text:?}");
        }
        assert!(is_dns_label(&"a".repeat(63)) && !is_dns_label(&"a".repeat(64)));
    }

    #[test]
    fn a_file_stays_in_its_volume_and_away_from_its_machinery() {
        for (name, valid) in [
            ("a", true),
            (".env", true),
            ("a.b-c_D", true),
            ("", false),
            (".", false),
            ("..", false),
            ("..data", false),
            ("a/b", false),
            ("a\n", false),
            (&"a".repeat(253), true),
            (&"a".repeat(254), false),
        ] {
            assert_eq!(is_file_name(name), valid, "{name:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_dns_label_is_shortened_and_stays_distinct() {
        let long = "a".repeat(80);
        let other = format!("{}b", "a".repeat(79));
        for name in [long.as_str(), other.as_str(), "git.example.com"] {
            let service = service_name(name);
            assert!(service.len() <= DNS_LABEL_MAX && !service.contains('.'), "{service}");
        }
        assert_ne!(service_name(&long), service_name(&other));
        assert_ne!(service_name("a.b"), service_name("a-b"));
    }
}
