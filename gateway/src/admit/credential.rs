//! The credential of a route: loaded from its Secret on demand, cached by connector and Secret version, wiped
//! on drop. Comes after `authorize`; `serve` puts it into a request. This is the one place that reads
//! Secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use connectors_api::ca_certificates::{self, CaError};
use http::HeaderValue;
use moka::future::Cache;
use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::home::cluster::{SecretContent, SecretError, Secrets};
use crate::home::remembered::{Answers, Away, Fresh};
use crate::metrics::caches::Caches;
use crate::table::route::{AuthScheme, CredentialSource, Route, SecretKey};

/// A credential ready to be injected. Cannot be printed; the header value is marked sensitive and its bytes
/// are wiped with the last clone.
#[derive(Clone)]
pub struct Credential {
    authorization: Option<HeaderValue>,
    /// Of the Secret's `ca.crt`.
    certificates: Vec<X509>,
    /// The Secret's values, for the templates of probes; empty in what requests use.
    values: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Words for the client; the log has the cause.
    #[error("{0}")]
    Unusable(String),
    /// A CA is given and cannot be read: to go on without it would be to trust anybody.
    #[error("{0}")]
    InvalidCa(String),
    #[error("the API server did not answer")]
    Unavailable,
}

/// The backstop behind the version in the connector's status.
const LIFE: Duration = Duration::from_secs(300);
/// A definite refusal is looked at again this soon.
const REFUSAL_LIFE: Duration = Duration::from_secs(2);
/// After a target's 401 the Secret is read again at most this often.
const REREAD_INTERVAL: Duration = Duration::from_secs(10);
/// Waits between tries while RBAC does not know yet of a Role that the controller has just written; together
/// 3 s.
const FORBIDDEN_WAITS: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(1),
];
const ENTRIES: u64 = 20_000;
/// Of credentials, and again of CA certificates: one Secret has hundreds of them, in each of its versions.
const KIBIBYTES: u64 = 64 << 10;
/// About what OpenSSL takes for one.
const CERTIFICATE_KIBIBYTES: usize = 5;
const CA_KEY: &str = "ca.crt";
/// Of a line that each request has twice while it waits. Tokens with many groups have 8 KiB, and few servers take
/// more than 16 in a head.
const LONGEST: usize = 16 << 10;

type Loaded<T> = Result<Arc<T>, CredentialError>;

pub struct Credentials {
    secrets: Arc<dyn Secrets>,
    credentials: Answers<Arc<CredentialSource>, Loaded<Credential>>,
    certificates: Answers<Arc<SecretKey>, Loaded<Vec<X509>>>,
    /// Sources that were read once more a moment ago.
    rereads: Cache<Arc<CredentialSource>, ()>,
    anonymous: Arc<Credential>,
}

impl Credential {
    /// Value of `Authorization` toward the target; none for an anonymous connector.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// With a header that a class's probe writes itself.
    pub(crate) fn written(&self, authorization: HeaderValue) -> Credential {
        Credential { authorization: Some(authorization), ..self.clone() }
    }

    /// Decoded values of the Secret, for the templates of a probe.
    pub(crate) fn values(&self) -> &BTreeMap<String, Zeroizing<Vec<u8>>> {
        &self.values
    }

    fn same(&self, other: &Credential) -> bool {
        let bytes = |one: &Credential| {
            one.authorization.as_ref().map(|value| value.as_bytes().to_vec()).map(Zeroizing::new)
        };
        bytes(self) == bytes(other)
    }
}

impl Credentials {
    /// `outage`: how long a credential stays usable while the API server is away.
    pub fn new(secrets: Arc<dyn Secrets>, outage: Duration, caches: &Caches) -> Credentials {
        let outage = outage.max(LIFE);
        let of_credential = |loaded: &Loaded<Credential>| {
            loaded.as_ref().map_or(1, |known| {
                weight(known.certificates.len(), known.authorization().map_or(0, HeaderValue::len))
            })
        };
        let of_certificates = |loaded: &Loaded<Vec<X509>>| {
            loaded.as_ref().map_or(1, |certificates| weight(certificates.len(), 0))
        };
        Credentials {
            secrets,
            credentials: Answers::weighed(KIBIBYTES, outage, caches.credentials.clone(), of_credential),
            certificates: Answers::weighed(
                KIBIBYTES,
                outage,
                caches.ca_certificates.clone(),
                of_certificates,
            ),
            rereads: Cache::builder().max_capacity(ENTRIES).time_to_live(REREAD_INTERVAL).build(),
            anonymous: Arc::new(Credential {
                authorization: None,
                certificates: Vec::new(),
                values: BTreeMap::new(),
            }),
        }
    }

    pub async fn get(&self, route: &Route) -> Result<Arc<Credential>, CredentialError> {
        let Some(source) = &route.credential else { return Ok(self.anonymous.clone()) };
        let question = || question(self.secrets.clone(), source.clone());
        if let Some(known) = self.credentials.fresh(source, question).await {
            return known;
        }
        self.credentials.ask(source, question()).await.unwrap_or(Err(CredentialError::Unavailable))
    }

    /// After a 401 of the target: reads the Secret once more, at most once in 10 s for a route. True if it holds
    /// another credential than the one that was sent.
    pub async fn reread(&self, route: &Route, sent: &Credential) -> bool {
        let Some(source) = &route.credential else { return false };
        if self.differs(route, sent).await {
            return true;
        }
        self.rereads.get_with_by_ref(source, self.replace(route, source)).await;
        self.differs(route, sent).await
    }

    /// CA certificates that the connector's own Secrets give for its targets: of `caCertSecretRef` and of the
    /// credential's `ca.crt`.
    pub async fn certificates(&self, route: &Route) -> Result<Vec<X509>, CredentialError> {
        let mut all = self.get(route).await?.certificates.clone();
        if let Some(key) = &route.trust.ca_secret {
            let question = || authorities(self.secrets.clone(), key.clone());
            let known = match self.certificates.fresh(key, question).await {
                Some(known) => known,
                None => {
                    self.certificates.ask(key, question()).await.unwrap_or(Err(CredentialError::Unavailable))
                }
            };
            all.extend(known?.iter().cloned());
        }
        Ok(all)
    }

    /// For a probe: reads the Secrets now, whatever versions the status names, and writes into the route
    /// which ones it found, so that all later look-ups of this route mean these. The credential comes with
    /// the Secret's values for the templates.
    pub(crate) async fn read(&self, route: &mut Route) -> Result<Arc<Credential>, CredentialError> {
        if let Some(key) = route.trust.ca_secret.take() {
            let (key, content) = self.current(&key).await?;
            let authorities = Arc::new(authorities_of(&key, &content)?);
            self.certificates.put(&key, (Ok(authorities), LIFE)).await;
            route.trust.ca_secret = Some(key);
        }
        let Some(source) = route.credential.take() else { return Ok(self.anonymous.clone()) };
        let (key, content) = self.current(&source.key).await?;
        let source =
            Arc::new(CredentialSource { key: SecretKey::clone(&key), ..CredentialSource::clone(&source) });
        let read = credential(&source, &content)?;
        self.credentials.put(&source, (Ok(Arc::new(read.clone())), LIFE)).await;
        route.credential = Some(source);
        Ok(Arc::new(Credential { values: content.data, ..read }))
    }

    async fn current(&self, key: &SecretKey) -> Result<(Arc<SecretKey>, SecretContent), CredentialError> {
        let content =
            read_patiently(self.secrets.as_ref(), key).await.map_err(|error| unreadable(key, error))?;
        Ok((
            Arc::new(SecretKey { resource_version: content.resource_version.clone(), ..key.clone() }),
            content,
        ))
    }

    async fn differs(&self, route: &Route, sent: &Credential) -> bool {
        self.get(route).await.is_ok_and(|known| !known.same(sent))
    }

    async fn replace(&self, route: &Route, source: &Arc<CredentialSource>) {
        if let Ok((Ok(now), life)) = question(self.secrets.clone(), source.clone()).await
            && self.differs(route, &now).await
        {
            self.credentials.put(source, (Ok(now), life)).await;
        }
    }
}

/// KiB of what was read of a Secret with so many certificates, and so many bytes beside them.
fn weight(certificates: usize, bytes: usize) -> u32 {
    u32::try_from(1 + CERTIFICATE_KIBIBYTES * certificates + (bytes >> 10)).unwrap_or(u32::MAX)
}

async fn question(
    secrets: Arc<dyn Secrets>,
    source: Arc<CredentialSource>,
) -> Result<Fresh<Loaded<Credential>>, Away> {
    answer(read_patiently(secrets.as_ref(), &source.key).await, &source.key, |content| {
        credential(&source, content)
    })
}

async fn authorities(
    secrets: Arc<dyn Secrets>,
    key: Arc<SecretKey>,
) -> Result<Fresh<Loaded<Vec<X509>>>, Away> {
    answer(read_patiently(secrets.as_ref(), &key).await, &key, |content| authorities_of(&key, content))
}

/// How long an answer may be remembered. A 403 not at all: the Role may be there a moment later.
fn answer<T>(
    read: Result<SecretContent, SecretError>,
    key: &SecretKey,
    parse: impl FnOnce(&SecretContent) -> Result<T, CredentialError>,
) -> Result<Fresh<Loaded<T>>, Away> {
    match read {
        Ok(content) => match parse(&content) {
            Ok(parsed) => Ok((Ok(Arc::new(parsed)), LIFE)),
            Err(error) => Ok((Err(error), REFUSAL_LIFE)),
        },
        Err(SecretError::Away) => Err(Away),
        Err(SecretError::Forbidden) => Ok((Err(unreadable(key, SecretError::Forbidden)), Duration::ZERO)),
        Err(SecretError::NotFound) => Ok((Err(unreadable(key, SecretError::NotFound)), REFUSAL_LIFE)),
    }
}

async fn read_patiently(secrets: &dyn Secrets, key: &SecretKey) -> Result<SecretContent, SecretError> {
    for wait in FORBIDDEN_WAITS {
        match secrets.get(&key.namespace, &key.name).await {
            Err(SecretError::Forbidden) => tokio::time::sleep(wait).await,
            answer => return answer,
        }
    }
    secrets.get(&key.namespace, &key.name).await
}

fn unreadable(key: &SecretKey, error: SecretError) -> CredentialError {
    let name = &key.name;
    match error {
        SecretError::NotFound => CredentialError::Unusable(format!("secrets {name:?} not found")),
        SecretError::Forbidden => CredentialError::Unusable(format!(
            "the gateway may not read secret {name:?} yet: see condition SecretReady of the connector"
        )),
        SecretError::Away => CredentialError::Unavailable,
    }
}

fn credential(source: &CredentialSource, content: &SecretContent) -> Result<Credential, CredentialError> {
    let name = &source.key.name;
    if content.secret_type != source.secret_type {
        let (found, wanted) = (&content.secret_type, &source.secret_type);
        return Err(CredentialError::Unusable(format!(
            "secret {name:?} has type {found:?}, its class needs {wanted:?}"
        )));
    }
    let value = |key: &str| {
        let found = content.data.get(key).filter(|value| !value.is_empty());
        found.ok_or_else(|| CredentialError::Unusable(format!("secret {name:?} has no key {key:?}")))
    };
    let line = match source.scheme {
        AuthScheme::Bearer => bearer(value("token")?),
        AuthScheme::Basic => basic(value("username")?, value("password")?),
    };
    if line.len() > LONGEST {
        return Err(CredentialError::Unusable(format!(
            "secret {name:?} makes an Authorization of {} bytes, {LONGEST} at most are sent",
            line.len()
        )));
    }
    let authorization = header(line).ok_or_else(|| {
        CredentialError::Unusable(format!("secret {name:?} holds characters that no HTTP header can carry"))
    })?;
    let certificates =
        content.data.get(CA_KEY).map(|pem| ca_certificates::of_value(CA_KEY, pem, from_der)).transpose();
    let certificates = certificates.map_err(|error| invalid_ca(&source.key, &error))?.unwrap_or_default();
    Ok(Credential { authorization: Some(authorization), certificates, values: BTreeMap::new() })
}

fn bearer(token: &[u8]) -> Zeroizing<Vec<u8>> {
    // `kubectl create secret --from-file` keeps the file's newline.
    Zeroizing::new([b"Bearer ".as_slice(), token.trim_ascii()].concat())
}

fn basic(username: &[u8], password: &[u8]) -> Zeroizing<Vec<u8>> {
    let plain = Zeroizing::new([username.trim_ascii(), b":", password.trim_ascii_end()].concat());
    let encoded = Zeroizing::new(STANDARD.encode(&*plain));
    Zeroizing::new([b"Basic ".as_slice(), encoded.as_bytes()].concat())
}

/// `Bytes` owns the wiping buffer: it is wiped when the last clone of the header is gone.
fn header(line: Zeroizing<Vec<u8>>) -> Option<HeaderValue> {
    struct Wiped(Zeroizing<Vec<u8>>);
    impl AsRef<[u8]> for Wiped {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(line))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn authorities_of(key: &SecretKey, content: &SecretContent) -> Result<Vec<X509>, CredentialError> {
    let data = content.data.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    ca_certificates::of_secret(data, from_der).map_err(|error| invalid_ca(key, &error))
}

fn from_der(der: &[u8]) -> Option<X509> {
    X509::from_der(der).ok()
}

fn invalid_ca(key: &SecretKey, error: &CaError) -> CredentialError {
    CredentialError::InvalidCa(format!("Secret {:?} {error}", key.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(scheme: AuthScheme, secret_type: &str) -> CredentialSource {
        let key = SecretKey {
            owner: "u".into(),
            namespace: "demo".into(),
            name: "s".into(),
            resource_version: "1".into(),
        };
        CredentialSource { key, secret_type: secret_type.into(), scheme }
    }

    fn content(secret_type: &str, data: &[(&str, &str)]) -> SecretContent {
        let data =
            data.iter().map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.as_bytes().to_vec())));
        SecretContent { secret_type: secret_type.into(), resource_version: "1".into(), data: data.collect() }
    }

    fn sent(scheme: AuthScheme, data: &[(&str, &str)]) -> Result<String, CredentialError> {
        let credential = credential(&source(scheme, "t"), &content("t", data))?;
        Ok(String::from_utf8(credential.authorization().unwrap().as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_secret_is_sent_in_the_scheme_of_its_type_without_the_newline_of_a_file() {
        for (scheme, data, line) in [
            (AuthScheme::Bearer, &[("token", "abc")][..], "Bearer abc"),
            (AuthScheme::Bearer, &[("token", "abc\n")], "Bearer abc"),
            (AuthScheme::Basic, &[("username", "me"), ("password", "pa ss\r\n")], "Basic bWU6cGEgc3M="),
        ] {
            assert_eq!(sent(scheme, data).as_deref(), Ok(line));
        }
    }

    #[test]
    fn a_secret_that_cannot_be_sent_is_refused_by_name_and_never_quoted() {
        let header_splitting = "s3cret\r\nX-Evil: 1";
        let long = format!("s3cret{}", "x".repeat((16 << 10) - 7));
        for (scheme, data, words) in [
            (AuthScheme::Bearer, &[("password", "s3cret")][..], "no key \"token\""),
            (AuthScheme::Bearer, &[("token", "")], "no key \"token\""),
            (AuthScheme::Basic, &[("username", "s3cret")], "no key \"password\""),
            (AuthScheme::Bearer, &[("token", header_splitting)], "no HTTP header can carry"),
            (AuthScheme::Bearer, &[("token", &long)], "an Authorization of 16390 bytes"),
            (
                AuthScheme::Basic,
                &[("username", "s3cret"), ("password", &long)],
                "an Authorization of 21862 bytes",
            ),
            (
                AuthScheme::Bearer,
                &[("token", "s3cret"), ("ca.crt", "-----BEGIN CERTIFICATE-----")],
                "invalid PEM",
            ),
            (
                AuthScheme::Bearer,
                &[("token", "s3cret"), ("ca.crt", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t")],
                "invalid PEM",
            ),
            (AuthScheme::Bearer, &[("token", "s3cret"), ("ca.crt", "")], "invalid PEM"),
        ] {
            let why = sent(scheme, data).map_err(|error| error.to_string()).unwrap_err();
            assert!(why.contains(words) && why.contains("\"s\"") && !why.contains("s3cret"), "{why}");
        }
    }

    #[test]
    fn a_secret_of_another_type_than_the_class_says_is_never_used() {
        let refused = credential(
            &source(AuthScheme::Bearer, "connectors.cpaas.io/bearer-token"),
            &content("Opaque", &[("token", "t")]),
        );
        let Err(CredentialError::Unusable(why)) = refused else { panic!("accepted") };
        assert_eq!(
            why,
            r#"secret "s" has type "Opaque", its class needs "connectors.cpaas.io/bearer-token""#
        );
    }

    #[test]
    fn the_header_is_marked_sensitive() {
        let credential =
            credential(&source(AuthScheme::Bearer, "t"), &content("t", &[("token", "s3cret")])).unwrap();
        assert!(!format!("{:?}", credential.authorization()).contains("s3cret"));
    }
}
