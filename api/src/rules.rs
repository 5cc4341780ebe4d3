//! Whether a class is sound, a Connector fits its class, and a Secret fits the auth type. Pure: controller,
//! gateway and driver ask the same functions, so that the status and the refusal inside a tunnel say the same
//! words.

#[cfg(all(feature = "cel", feature = "template"))]
mod class;
mod connector;
mod secret;

use crate::class::AuthType;
use crate::names::{ACCEPT_CERTIFICATE_ANNOTATION, PLAINTEXT_ANNOTATION, WHO_AM_I_ANNOTATION};
use crate::{Connector, ConnectorClass};

#[cfg(all(feature = "cel", feature = "template"))]
pub use class::check_class;
pub use connector::{addresses, check_connector, impersonation, is_printable, legacy_tls, tls_server_name};
pub use secret::{check_secret_type, secret_keys};

/// The first rule that is broken: which condition it makes False, the constant reason, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub condition: &'static str,
    pub reason: &'static str,
    pub message: String,
}

/// The auth type that a Connector uses: the named one, or the only one of its class where it names none.
pub fn auth_type<'a>(connector: &Connector, class: &'a ConnectorClass) -> Option<&'a AuthType> {
    let types = class.spec.auth.as_ref().map(|auth| auth.types.as_slice()).unwrap_or_default();
    let name = connector.spec.auth.as_ref().map(|auth| auth.name.as_str()).unwrap_or_default();
    match types {
        [only] if name.is_empty() => Some(only),
        _ => types.iter().find(|auth| auth.name == name),
    }
}

/// The fingerprints that an operator accepts, `AB:CD…, ef01…`, as lowercase hex without colons.
pub fn accepted_certificates(connector: &Connector) -> Vec<String> {
    let list = connector.metadata.annotations.as_ref().and_then(|all| all.get(ACCEPT_CERTIFICATE_ANNOTATION));
    let one = |text: &str| text.trim().replace(':', "").to_ascii_lowercase();
    let all = list.into_iter().flat_map(|list| list.split(',')).map(one);
    all.filter(|fingerprint| !fingerprint.is_empty()).collect()
}

/// Whether targets of the class can be asked whom they take a credential for.
pub fn asks_who_am_i(class: &ConnectorClass) -> bool {
    class_annotation(class, WHO_AM_I_ANNOTATION) == Some("kubernetes")
}

/// Whether the class lets no address be http.
fn denies_plaintext(class: &ConnectorClass) -> bool {
    class_annotation(class, PLAINTEXT_ANNOTATION) == Some("deny")
}

fn class_annotation<'a>(class: &'a ConnectorClass, name: &str) -> Option<&'a str> {
    class.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Texts in quotes, for messages.
fn quoted<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
