//! A Secret against the auth type that its Connector uses, by type and key names: values are not needed for
//! it.

use crate::class::AuthType;
use crate::conditions::{SECRET_READY, reason};
use crate::names::{BASIC_SECRET_TYPE, BEARER_SECRET_TYPE};

use super::{Violation, quoted};

/// The API server's type for Secrets that name none; older documentation writes `kubernetes.io/opaque`.
const OPAQUE: &str = "Opaque";
const OLD_OPAQUE: &str = "kubernetes.io/opaque";

/// Keys by convention, for auth types that declare none (as the published documentation of the API group has
/// them).
const CONVENTIONS: [(&str, &[&str]); 5] = [
    (BEARER_SECRET_TYPE, &["token"]),
    (BASIC_SECRET_TYPE, &["username", "password"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("connectors.cpaas.io/gitlab-pat-auth", &["token"]),
    ("cpaas.io/distribution-registry-token", &["username", "password"]),
];

/// Keys that the Secret must have: the declared ones without default, else those of its type.
pub fn secret_keys(auth: &AuthType) -> Vec<String> {
    if !auth.params.is_empty() {
        return auth
            .params
            .iter()
            .filter(|param| param.default.is_none())
            .map(|param| param.name.clone())
            .collect();
    }
    let wanted = auth.secret_type.as_deref().unwrap_or_default();
    let keys =
        CONVENTIONS.iter().find(|(type_, _)| *type_ == wanted).map(|(_, keys)| *keys).unwrap_or_default();
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// Checks the type and the keys of the Secret `name`. A Secret of another type is never used: it was made for
/// something else.
pub fn check_secret_type(
    auth: &AuthType,
    name: &str,
    secret_type: &str,
    has_key: impl Fn(&str) -> bool,
) -> Result<(), Violation> {
    let problem = |reason, message| Err(Violation { condition: SECRET_READY, reason, message });
    if let Some(wanted) =
        auth.secret_type.as_deref().filter(|wanted| canonical(wanted) != canonical(secret_type))
    {
        let message = format!(
            "secret {name:?} is of type {secret_type:?}, auth {:?} needs {wanted:?}: make it anew with that type",
            auth.name
        );
        return problem(reason::SECRET_TYPE_MISMATCH, message);
    }
    let missing: Vec<String> = secret_keys(auth).into_iter().filter(|key| !has_key(key)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let keys = quoted(missing.iter().map(String::as_str));
    problem(reason::SECRET_KEY_MISSING, format!("secret {name:?} has no key {keys}: add it to its data"))
}

fn canonical(secret_type: &str) -> &str {
    match secret_type {
        "" | OLD_OPAQUE => OPAQUE,
        other => other,
    }
}
