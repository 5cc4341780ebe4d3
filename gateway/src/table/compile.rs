//! One connector and its class → one route, or the words why not. Pure; uses the same rules as the
//! controller, so both say the same.

use std::sync::Arc;

use connectors_api::conditions::{self, Condition, reason};
use connectors_api::connector::{ConnectorStatus, ObjectReference};
use connectors_api::item::{Item, Unreadable};
use connectors_api::names::{BASIC_SECRET_TYPE, BEARER_SECRET_TYPE};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::rules::{self, Violation};

use connectors_api::target::Target;
use connectors_api::{Connector, ConnectorClass};
use kube::Resource;

use crate::table::route::{self, AuthScheme, CredentialSource, Route, SecretKey, TrustSource};

/// A class and what its rules say of it, found out once per version.
pub struct ClassState {
    pub version: Option<String>,
    class: Result<Arc<ConnectorClass>, Unusable>,
}

/// Why a connector has no route.
#[derive(Clone, Debug)]
pub struct Unusable {
    pub reason: String,
    pub message: String,
    /// The fault lies in an edit beside the connector: a route made of the same spec is still what its owner
    /// asked for.
    pub keep_last_good: bool,
}

impl Unusable {
    fn new(reason: &str, message: String) -> Unusable {
        Unusable { reason: reason.to_owned(), message, keep_last_good: false }
    }
}

impl From<Violation> for Unusable {
    fn from(violation: Violation) -> Unusable {
        Unusable::new(violation.reason, violation.message)
    }
}

impl ClassState {
    pub fn new(class: Item<ConnectorClass>) -> ClassState {
        let kept = |unusable: Unusable| Unusable { keep_last_good: true, ..unusable };
        let version = class.meta().resource_version.clone();
        let class = match class.into_read() {
            Ok(class) => {
                rules::check_class(&class).map(|()| class).map_err(|violation| kept(violation.into()))
            }
            Err(unreadable) => {
                let message = format!("class cannot be read: {}", unreadable.error);
                Err(kept(Unusable::new(reason::CLASS_INVALID, message)))
            }
        };
        ClassState { version, class }
    }

    pub fn good(&self) -> Option<Arc<ConnectorClass>> {
        self.class.as_ref().ok().cloned()
    }
}

/// For a connector that is no Connector.
pub fn unreadable(unreadable: &Unreadable) -> Unusable {
    let message = format!("the connector cannot be read: {}", unreadable.error);
    Unusable { keep_last_good: true, ..Unusable::new(reason::INVALID_PARAMETERS, message) }
}

/// The route of a watched connector. Its Secret must have been found by the controller, and its targets must
/// be trusted.
pub fn route(connector: &Connector, class: Option<&ClassState>) -> Result<Route, Unusable> {
    let name = &connector.spec.connector_class_name;
    let class = class.ok_or_else(|| {
        Unusable::new(
            reason::CONNECTOR_CLASS_NOT_FOUND,
            format!("connectorclass.connectors.alauda.io {name:?} not found"),
        )
    })?;
    let class = class.class.as_ref().map_err(Clone::clone)?;
    let status = connector.status.as_ref();
    if let Some(changed) = status.and_then(certificate_changed) {
        return Err(changed);
    }
    let secret_version = |secret: &str| {
        let observed = status.and_then(|status| status.credential.as_ref());
        let observed = observed.filter(|observed| observed.secret_name == secret);
        observed.map(|observed| observed.resource_version.clone()).ok_or_else(|| not_ready(status, secret))
    };
    compile(connector, class, secret_version)
}

/// The route of a connector that is being probed: its Secret may not have been observed yet.
pub fn probed(connector: &Connector, class: &ConnectorClass) -> Result<Route, Unusable> {
    rules::check_class(class)?;
    compile(connector, class, |_| Ok(String::new()))
}

fn compile(
    connector: &Connector,
    class: &ConnectorClass,
    secret_version: impl Fn(&str) -> Result<String, Unusable>,
) -> Result<Route, Unusable> {
    rules::check_connector(connector, class)?;
    let meta = &connector.metadata;
    let reference = ConnectorRef::of(meta);
    let uid = meta.uid.clone().unwrap_or_default();
    let secret = |name: &str, resource_version: String| SecretKey {
        owner: uid.clone(),
        namespace: reference.namespace.clone(),
        name: name.to_owned(),
        resource_version,
    };
    let credential = match connector.spec.secret_ref() {
        Some(ObjectReference { name, .. }) => {
            let (secret_type, scheme) = scheme(connector, class)?;
            Some(Arc::new(CredentialSource { key: secret(name, secret_version(name)?), secret_type, scheme }))
        }
        None => None,
    };
    let trust = trust(connector, secret)?;
    let pool_key = route::pool_key(&uid, credential.as_deref(), &trust);
    Ok(Route {
        targets: targets(connector, class)?,
        class: connector.spec.connector_class_name.clone(),
        connector: reference,
        uid,
        credential,
        trust,
        impersonation: rules::impersonation(connector)?,
        pool_key,
    })
}

/// How the class's Secret type is sent.
fn scheme(connector: &Connector, class: &ConnectorClass) -> Result<(String, AuthScheme), Unusable> {
    let secret_type =
        rules::auth_type(connector, class).and_then(|auth| auth.secret_type.clone()).unwrap_or_default();
    match secret_type.as_str() {
        BEARER_SECRET_TYPE => Ok((secret_type, AuthScheme::Bearer)),
        BASIC_SECRET_TYPE => Ok((secret_type, AuthScheme::Basic)),
        _ => {
            let class = &connector.spec.connector_class_name;
            let message = format!(
                "connectorclass {class:?} has secretType {secret_type:?}, which the gateway cannot send: use {BEARER_SECRET_TYPE} or {BASIC_SECRET_TYPE}"
            );
            Err(Unusable::new(reason::CLASS_INVALID, message))
        }
    }
}

fn targets(connector: &Connector, class: &ConnectorClass) -> Result<Vec<Target>, Unusable> {
    let parse = |address: &str| {
        Target::parse(address)
            .map_err(|error| Unusable::new(reason::INVALID_ADDRESS, format!("address {address:?} {error}")))
    };
    rules::addresses(connector, class).into_iter().map(parse).collect()
}

fn trust(
    connector: &Connector,
    secret: impl Fn(&str, String) -> SecretKey,
) -> Result<TrustSource, Violation> {
    let trust = connector.status.as_ref().and_then(|status| status.trust.clone()).unwrap_or_default();
    let ca_secret = connector.spec.ca_secret();
    let ca_secret =
        ca_secret.map(|name| Arc::new(secret(name, trust.ca_resource_version.unwrap_or_default())));
    Ok(TrustSource {
        ca_secret,
        pins: trust.pins,
        server_name: rules::tls_server_name(connector)?,
        legacy_tls: rules::legacy_tls(connector)?,
    })
}

/// The one informational condition that stops traffic.
fn certificate_changed(status: &ConnectorStatus) -> Option<Unusable> {
    let condition = conditions::find(&status.conditions, conditions::CA_CERT_READY)?;
    let changed = condition.status == "False"
        && condition.reason.as_deref() == Some(reason::TARGET_CERTIFICATE_CHANGED);
    changed.then(|| own_words(condition))
}

/// The words of the first condition that says why; before the first check there is none.
fn not_ready(status: Option<&ConnectorStatus>, secret: &str) -> Unusable {
    let types = [conditions::CONNECTOR_CLASS_READY, conditions::SECRET_READY, conditions::CA_CERT_READY];
    let conditions = status.map_or(&[][..], |status| status.conditions.as_slice());
    let failed = types
        .iter()
        .filter_map(|type_| conditions::find(conditions, type_))
        .find(|condition| condition.status == "False");
    failed.map(own_words).unwrap_or_else(|| {
        let message =
            format!("secret {secret:?} has not been checked yet: wait for the controller, or see the connector's conditions");
        Unusable::new(reason::NOT_CHECKED, message)
    })
}

fn own_words(condition: &Condition) -> Unusable {
    let reason = condition.reason.clone().unwrap_or_default();
    let message =
        condition.message.clone().filter(|message| !message.is_empty()).unwrap_or_else(|| reason.clone());
    Unusable { reason, message, keep_last_good: false }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class() -> ClassState {
        let class = json!({"metadata": {"name": "k8s"}, "spec": {
            "addressExtensions": [{"name": "api", "default": ""}],
            "auth": {"types": [
                {"name": "bearer", "secretType": "connectors.cpaas.io/bearer-token"},
                {"name": "basic", "secretType": "kubernetes.io/basic-auth", "optional": true}]}}});
        ClassState::new(serde_json::from_str(&class.to_string()).unwrap())
    }

    fn connector(change: impl Fn(&mut Value)) -> Connector {
        let mut connector = json!({
            "metadata": {"namespace": "demo", "name": "k8s", "uid": "u"},
            "spec": {"connectorClassName": "k8s", "address": "https://Target.example:6443/base/",
                     "auth": {"name": "bearer", "secretRef": {"name": "s"}}},
            "status": {"credential": {"secretName": "s", "resourceVersion": "7"}}});
        change(&mut connector);
        serde_json::from_value(connector).unwrap()
    }

    fn refused(change: impl Fn(&mut Value)) -> (String, String) {
        let unusable = route(&connector(change), Some(&class())).unwrap_err();
        (unusable.reason, unusable.message)
    }

    #[test]
    fn a_route_has_normalized_targets_and_the_observed_secret() {
        let route = route(&connector(|_| ()), Some(&class())).unwrap();
        assert_eq!(route.targets[0].origin(), "https://target.example:6443");
        assert_eq!(route.targets[0].prefix, "/base");
        let credential = route.credential.unwrap();
        assert_eq!((credential.key.name.as_str(), credential.key.resource_version.as_str()), ("s", "7"));
        assert_eq!(credential.scheme, AuthScheme::Bearer);
    }

    #[test]
    fn an_optional_secret_that_is_not_given_makes_an_anonymous_route() {
        let connector = connector(|c| {
            c["spec"]["auth"] = json!({"name": "basic"});
            c["status"] = json!({});
        });
        assert!(route(&connector, Some(&class())).unwrap().credential.is_none());
    }

    #[test]
    fn without_an_observed_secret_the_connector_speaks_by_its_own_condition() {
        let condition = json!([
            {"type": "LivenessReady", "status": "False", "reason": "ConnectionFailed", "message": "down"},
            {"type": "SecretReady", "status": "False", "reason": "SecretNotFound", "message": "secrets \"s\" not found"}]);
        let told = refused(|c| c["status"] = json!({"conditions": condition}));
        assert_eq!(told, ("SecretNotFound".into(), r#"secrets "s" not found"#.into()));
        assert_eq!(refused(|c| c["status"] = json!({})).0, "NotChecked");
    }

    #[test]
    fn a_status_of_another_secret_does_not_count() {
        assert_eq!(refused(|c| c["spec"]["auth"]["secretRef"]["name"] = json!("t")).0, "NotChecked");
    }

    #[test]
    fn a_name_that_would_change_the_url_of_the_read_makes_no_route() {
        assert_eq!(
            refused(|c| c["spec"]["auth"]["secretRef"]["name"] = json!("s?watch=true")).0,
            "SecretNotFound"
        );
        assert_eq!(
            refused(|c| c["spec"]["caCertSecretRef"] = json!({"name": "../configmaps/s"})).0,
            "InvalidParameters"
        );
    }

    #[test]
    fn failed_probes_do_not_stop_traffic_but_a_changed_certificate_does() {
        let failing = json!([{"type": "LivenessReady", "status": "False"}, {"type": "CACertReady", "status": "False", "reason": "InvalidPEM"}]);
        assert!(route(&connector(|c| c["status"]["conditions"] = failing.clone()), Some(&class())).is_ok());
        let changed = json!([{"type": "CACertReady", "status": "False", "reason": "TargetCertificateChanged", "message": "accept it"}]);
        assert_eq!(refused(|c| c["status"]["conditions"] = changed.clone()).1, "accept it");
    }

    #[test]
    fn another_version_of_credential_or_trust_is_another_pool() {
        let key = |change: &dyn Fn(&mut Value)| route(&connector(change), Some(&class())).unwrap().pool_key;
        let base = key(&|_| ());
        assert_eq!(base, key(&|_| ()));
        assert_ne!(base, key(&|c| c["status"]["credential"]["resourceVersion"] = json!("8")));
        assert_ne!(base, key(&|c| c["metadata"]["uid"] = json!("v")));
        let pin = json!([{"origin": "https://target.example:6443", "kind": "PublicKey", "sha256": "ab"}]);
        assert_ne!(base, key(&|c| c["status"]["trust"] = json!({"pins": pin})));
        let named = json!({"connectors.cpaas.io/tls-server-name": "api.internal"});
        assert_ne!(base, key(&|c| c["metadata"]["annotations"] = named.clone()));
        let legacy = json!({"connectors.cpaas.io/legacy-tls": "true"});
        assert_ne!(base, key(&|c| c["metadata"]["annotations"] = legacy.clone()));
    }
}
