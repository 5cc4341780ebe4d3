//! Grammar of the proxy login: `Basic base64(user ":" token)`, user = `ns/name[,ns/name…]`.
//! The CSI driver writes it into files, clients carry it, the gateway reads it before a route is looked up.
//!
//! The user ends at the first `:` (RFC 7617); neither a user nor a token can contain one, so a second is
//! refused. Some clients send the user of a URL without decoding it, hence `%2F` and `%2C` are read like `/`
//! and `,`; the token is never decoded.

use kube::core::ObjectMeta;
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::names::{is_dns_label, is_object_name};

/// Connectors in one login: more would not fit the header limits of common clients.
pub const MAX_CONNECTORS: usize = 16;
/// Bytes of the whole header value. A ServiceAccount token has one to two KiB.
pub const MAX_HEADER: usize = 16 * 1024;

const BASIC: &[u8] = b"basic";
const BEARER: &[u8] = b"bearer";
/// Clients disagree on padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Everything in a URL's user-info but the unreserved characters of RFC 3986.
const USER_INFO: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A connector by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectorRef {
    pub namespace: String,
    pub name: String,
}

impl ConnectorRef {
    /// Both parts in the spelling of Kubernetes, else nothing.
    pub fn new(namespace: &str, name: &str) -> Option<ConnectorRef> {
        let valid = is_dns_label(namespace) && is_object_name(name);
        valid.then(|| ConnectorRef { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Of an object that the API server has: its names are valid.
    pub fn of(meta: &ObjectMeta) -> ConnectorRef {
        ConnectorRef {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// `ns/name`.
    pub fn parse(text: &str) -> Option<ConnectorRef> {
        let (namespace, name) = text.split_once('/')?;
        ConnectorRef::new(namespace, name)
    }
}

impl fmt::Display for ConnectorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a client presents: who vouches for it (the token) and which connectors it wants, in its order.
#[derive(Clone, Debug)]
pub struct Login {
    pub connectors: Vec<ConnectorRef>,
    pub token: SecretString,
}

/// Why a login was not understood. The texts never quote the header: half of it is a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    #[error("proxy login is longer than {MAX_HEADER} bytes")]
    TooLong,
    #[error("proxy login is not of scheme Basic: use the proxy URL of the mounted files")]
    NotBasic,
    #[error("Authorization is neither Bearer nor Basic: send the ServiceAccount token as either")]
    NeitherBearerNorBasic,
    #[error("proxy login is not base64 of text")]
    NotBase64,
    #[error("proxy login has no \":\" between user and token: use \"<namespace>/<connector>:<token>\"")]
    NoToken,
    #[error("proxy login has a token with characters that no ServiceAccount token has")]
    BadToken,
    #[error(
        "proxy login names no connector: the user is \"<namespace>/<connector>\", several joined by commas"
    )]
    BadConnector,
    #[error("proxy login names more than {MAX_CONNECTORS} connectors")]
    TooManyConnectors,
}

/// Reads the value of a `Proxy-Authorization` header: at most 16 connectors and 16 KiB.
pub fn parse_basic(header: &[u8]) -> Result<Login, LoginError> {
    if header.len() > MAX_HEADER {
        return Err(LoginError::TooLong);
    }
    let encoded = credentials(header, BASIC).ok_or(LoginError::NotBasic)?;
    let decoded = Zeroizing::new(BASE64.decode(encoded).map_err(|_| LoginError::NotBase64)?);
    let text = str::from_utf8(&decoded).map_err(|_| LoginError::NotBase64)?;
    let (user, token) = text.split_once(':').ok_or(LoginError::NoToken)?;
    let token = token_of(token)?;
    Ok(Login { connectors: parse_user(user)?, token })
}

/// Reads the token of an `Authorization` header in reverse mode, at most 16 KiB: `Bearer <token>`, or `Basic`
/// with any user and the token as password, for clients that know nothing else (git, pip, Maven).
pub fn parse_token(header: &[u8]) -> Result<SecretString, LoginError> {
    if header.len() > MAX_HEADER {
        return Err(LoginError::TooLong);
    }
    if let Some(token) = credentials(header, BEARER) {
        return token_of(str::from_utf8(token).map_err(|_| LoginError::BadToken)?);
    }
    let encoded = credentials(header, BASIC).ok_or(LoginError::NeitherBearerNorBasic)?;
    let decoded = Zeroizing::new(BASE64.decode(encoded).map_err(|_| LoginError::NotBase64)?);
    let text = str::from_utf8(&decoded).map_err(|_| LoginError::NotBase64)?;
    token_of(text.split_once(':').ok_or(LoginError::NoToken)?.1)
}

/// The user of a login: `ns/name,ns/name`.
pub fn user(connectors: &[ConnectorRef]) -> String {
    connectors.iter().map(ConnectorRef::to_string).collect::<Vec<_>>().join(",")
}

/// Proxy URL with the login in it: `http://ns%2Fname,ns%2Fname:token@host`.
pub fn proxy_url(host: &str, connectors: &[ConnectorRef], token: &SecretString) -> SecretString {
    let user = user(connectors).replace('/', "%2F");
    let token = Zeroizing::new(utf8_percent_encode(token.expose_secret(), USER_INFO).to_string());
    SecretString::from(format!("http://{user}:{}@{host}", token.as_str()))
}

/// What follows the scheme, which has no case.
fn credentials<'a>(header: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = header.trim_ascii().split_at_checked(scheme.len())?;
    let separated = rest.first().is_some_and(u8::is_ascii_whitespace);
    (found.eq_ignore_ascii_case(scheme) && separated).then(|| rest.trim_ascii_start())
}

fn token_of(text: &str) -> Result<SecretString, LoginError> {
    match text {
        "" => Err(LoginError::NoToken),
        token if token.bytes().all(is_token_byte) => Ok(SecretString::from(token)),
        _ => Err(LoginError::BadToken),
    }
}

/// The alphabet of bearer tokens in RFC 6750.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn parse_user(user: &str) -> Result<Vec<ConnectorRef>, LoginError> {
    let decoded = percent_decode_str(user).decode_utf8().map_err(|_| LoginError::BadConnector)?;
    if decoded.split(',').count() > MAX_CONNECTORS {
        return Err(LoginError::TooManyConnectors);
    }
    decoded.split(',').map(|part| ConnectorRef::parse(part).ok_or(LoginError::BadConnector)).collect()
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn basic(text: &str) -> Vec<u8> {
        format!("Basic {}", BASE64_STANDARD.encode(text)).into_bytes()
    }

    fn refusal(header: &[u8]) -> LoginError {
        parse_basic(header).expect_err("refused")
    }

    fn connector() -> impl Strategy<Value = ConnectorRef> {
        ("[a-z]([a-z0-9-]{0,20}[a-z0-9])?", "[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?(\\.[a-z0-9]{1,9}){0,2}")
            .prop_map(|(namespace, name)| ConnectorRef { namespace, name })
    }

    /// Writes one login in each way that clients are known to send it.
    fn spellings(connectors: &[ConnectorRef], token: &str) -> Vec<Vec<u8>> {
        let raw = user(connectors);
        let slashes = raw.replace('/', "%2F");
        let all = slashes.replace(',', "%2C");
        let users = [raw.clone(), slashes, raw.replace('/', "%2f"), all];
        let padded = users.iter().map(|user| basic(&format!("{user}:{token}")));
        let bare = users.iter().map(|user| {
            format!("basic  {} ", BASE64_STANDARD_NO_PAD.encode(format!("{user}:{token}"))).into_bytes()
        });
        padded.chain(bare).collect()
    }

    #[test]
    fn a_token_is_a_bearer_or_the_password_of_any_user() {
        let basic = |text: &str| basic(text);
        for (header, expected) in [
            (b"Bearer abc.def-_".to_vec(), Ok("abc.def-_")),
            (b"bearer  abc ".to_vec(), Ok("abc")),
            (basic("user:abc"), Ok("abc")),
            (basic(":abc"), Ok("abc")),
            (basic("demo/k8s:abc"), Ok("abc")),
            (basic("user"), Err(LoginError::NoToken)),
            (basic("user:"), Err(LoginError::NoToken)),
            (basic("user:a:b"), Err(LoginError::BadToken)),
            (b"Bearer a b".to_vec(), Err(LoginError::BadToken)),
            (b"Bearer".to_vec(), Err(LoginError::NeitherBearerNorBasic)),
            (b"Digest abc".to_vec(), Err(LoginError::NeitherBearerNorBasic)),
            (b"Basic ?".to_vec(), Err(LoginError::NotBase64)),
            (vec![b'a'; MAX_HEADER + 1], Err(LoginError::TooLong)),
        ] {
            let token = parse_token(&header);
            let token = token.as_ref().map(|token| token.expose_secret()).map_err(|error| *error);
            assert_eq!(token, expected, "{}", String::from_utf8_lossy(&header));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            connectors in prop::collection::vec(connector(), 1..=MAX_CONNECTORS),
            token in "[A-Za-z0-9._~+/-]{1,200}={0,2}",
        ) {
            for header in spellings(&connectors, &token) {
                let login = parse_basic(&header).expect("own spelling");
                prop_assert_eq!(&login.connectors, &connectors);
                prop_assert_eq!(login.token.expose_secret(), &token);
            }
        }

        #[test]
        fn the_proxy_url_carries_the_same_login(
            connectors in prop::collection::vec(connector(), 1..4),
            token in "[A-Za-z0-9_-]{1,40}\\.[A-Za-z0-9_-]{1,40}",
        ) {
            let url = proxy_url("c-a.b.svc", &connectors, &SecretString::from(token.as_str()));
            let login = url.expose_secret().strip_prefix("http://").and_then(|rest| rest.strip_suffix("@c-a.b.svc"));
            let read = parse_basic(&basic(login.expect("shape"))).expect("own URL, sent undecoded");
            prop_assert_eq!(read.connectors, connectors);
            prop_assert_eq!(read.token.expose_secret(), &token);
        }

        #[test]
        fn no_input_makes_the_reader_fail_otherwise_than_by_an_error(header in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(login) = parse_basic(&header) {
                prop_assert!(!login.connectors.is_empty());
            }
        }
    }

    #[test]
    fn the_proxy_url_has_the_documented_shape() {
        let connectors = [
            ConnectorRef::new("demo", "k8s").expect("valid"),
            ConnectorRef::new("kube-public", "git").expect("valid"),
        ];
        let url = proxy_url("c-k8s.demo.svc.cluster.local", &connectors, &SecretString::from("a.b.c"));
        assert_eq!(
            url.expose_secret(),
            "http://demo%2Fk8s,kube-public%2Fgit:a.b.c@c-k8s.demo.svc.cluster.local"
        );
    }

    #[test]
    fn malformed_logins_are_told_apart() {
        let many = vec!["a/b"; MAX_CONNECTORS + 1].join(",");
        for (header, error) in [
            (b"".to_vec(), LoginError::NotBasic),
            (b"Basic".to_vec(), LoginError::NotBasic),
            (b"BasicYTpi".to_vec(), LoginError::NotBasic),
            (b"Bearer abc".to_vec(), LoginError::NotBasic),
            (b"Basic %%%".to_vec(), LoginError::NotBase64),
            (b"Basic YS9iO\xff".to_vec(), LoginError::NotBase64),
            (b"Basic /////w==".to_vec(), LoginError::NotBase64),
            (basic("demo/k8s"), LoginError::NoToken),
            (basic("demo/k8s:"), LoginError::NoToken),
            (basic("demo/k8s:a:b"), LoginError::BadToken),
            (basic("demo/k8s:a b"), LoginError::BadToken),
            (basic("demo/k8s:a\r\nb"), LoginError::BadToken),
            (basic(":token"), LoginError::BadConnector),
            (basic("demo:token"), LoginError::BadConnector),
            (basic("demo/:token"), LoginError::BadConnector),
            (basic("/k8s:token"), LoginError::BadConnector),
            (basic("demo/k8s,:token"), LoginError::BadConnector),
            (basic("demo/k8s/x:token"), LoginError::BadConnector),
            (basic("demo%252Fk8s:token"), LoginError::BadConnector),
            (basic("Demo/k8s:token"), LoginError::BadConnector),
            (basic("demo/../x:token"), LoginError::BadConnector),
            (basic("demo/k8s, demo/git:token"), LoginError::BadConnector),
            (basic(&format!("{many}:token")), LoginError::TooManyConnectors),
            (basic(&format!("a/b:{}", "x".repeat(MAX_HEADER))), LoginError::TooLong),
        ] {
            assert_eq!(
                refusal(&header),
                error,
                "{}",
                String::from_utf8_lossy(&header[..header.len().min(60)])
            );
        }
    }

    #[test]
    fn a_login_does_not_print_its_token() {
        let login = parse_basic(&basic("demo/k8s:very.secret.token")).expect("valid");
        assert!(!format!("{login:?}").contains("secret.token"));
    }
}
