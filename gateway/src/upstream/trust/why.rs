//! Why a certificate is not accepted, in words of whoever sets the connector up: what was wanted, what the
//! certificate says, what to do.

use std::net::IpAddr;

use openssl::nid::Nid;
use openssl::stack::StackRef;
use openssl::x509::{X509, X509NameRef, X509Ref, X509StoreContextRef};

/// A certificate names so many hosts in a message at most.
const NAMES: usize = 5;
/// What a target says of itself goes into a status: no more of one name.
const NAME: usize = 253;

/// Codes of OpenSSL's x509_vfy.h.
const UNKNOWN: [i32; 5] = [2, 18, 19, 20, 21];
const SIGNS_ITSELF: i32 = 18;
const NOT_YET: i32 = 9;
const ENDED: i32 = 10;
const NO_CA: [i32; 4] = [24, 25, 32, 79];
const PURPOSE: i32 = 26;
const WEAK: [i32; 3] = [66, 67, 68];

/// What a store found fault with. By default: it could not be asked.
#[derive(Default)]
pub(super) struct Fault {
    code: i32,
    /// OpenSSL's own.
    words: &'static str,
    depth: u32,
    certificate: Option<X509>,
}

impl Fault {
    pub(super) fn of(context: &X509StoreContextRef) -> Fault {
        let error = context.error();
        Fault {
            code: error.as_raw(),
            words: error.error_string(),
            depth: context.error_depth(),
            certificate: context.current_cert().map(ToOwned::to_owned),
        }
    }

    /// A store that knows who signed the certificate knows more of it than one that does not.
    pub(super) fn is_of_a_stranger(&self) -> bool {
        UNKNOWN.contains(&self.code)
    }

    pub(super) fn sentence(&self, leaf: &X509Ref, chain: &StackRef<X509>) -> String {
        let found = self.certificate.as_deref().unwrap_or(leaf);
        let which = match self.depth {
            0 => "its certificate".to_owned(),
            _ => format!("the certificate of {:?} above it", name(found.subject_name())),
        };
        match self.code {
            NOT_YET => format!("{which} is not valid before {}", found.not_before()),
            ENDED => format!("{which} ended on {}: have it renewed", found.not_after()),
            PURPOSE => format!("{which} is not for servers (extended key usage)"),
            code if WEAK.contains(&code) => format!("{which} has a weak key or signature: have it made anew"),
            code if NO_CA.contains(&code) => format!("{which} may not sign others"),
            SIGNS_ITSELF => {
                "its certificate is signed by itself: put it into the secret that caCertSecretRef names"
                    .to_owned()
            }
            code if UNKNOWN.contains(&code) => stranger(leaf, chain),
            _ => format!("{which} is refused: {}", self.words),
        }
    }
}

fn stranger(leaf: &X509Ref, chain: &StackRef<X509>) -> String {
    let issuer = name(chain.iter().last().map_or(leaf, |top| top).issuer_name());
    let alone = match chain.len() {
        0 | 1 => ", or have the server send its intermediate certificate, if that is one",
        _ => "",
    };
    format!(
        "its certificate is signed by {issuer:?}, which is not known: put that CA into the secret that caCertSecretRef names{alone}"
    )
}

/// The certificate is good, and for others.
pub(super) fn other_names(leaf: &X509Ref, host: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut more = false;
    for one in leaf.subject_alt_names().into_iter().flatten() {
        let named = match (one.dnsname(), one.ipaddress().and_then(address)) {
            (Some(dns), _) => printable(dns),
            (None, Some(ip)) => ip.to_string(),
            (None, None) => continue,
        };
        if names.len() == NAMES {
            more = true;
            break;
        }
        names.push(named);
    }
    let named = match names.is_empty() {
        true => "no host".to_owned(),
        false => names.join(", ") + if more { " and more" } else { "" },
    };
    format!(
        "its certificate is for {named}, not for {host}: correct the address, or have the name put into the certificate"
    )
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn name(of: &X509NameRef) -> String {
    let part = |nid| of.entries_by_nid(nid).next().and_then(|entry| entry.data().to_string().ok());
    let found = part(Nid::COMMONNAME).or_else(|| part(Nid::ORGANIZATIONNAME));
    found.map_or_else(String::new, |text| printable(&text))
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(NAME).collect()
}
