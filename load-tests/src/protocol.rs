//! What client, target and peers agree on.

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    H1,
    H2,
}

impl Protocol {
    pub const ALL: [Protocol; 2] = [Protocol::H1, Protocol::H2];

    /// Also the name of the connector.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::H1 => "h1",
            Protocol::H2 => "h2",
        }
    }

    /// Wire format.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::H1 => b"\x08http/1.1",
            Protocol::H2 => b"\x02h2",
        }
    }
}

/// Bytes of an ordinary answer.
pub const BODY: usize = 1024;
/// What proxies put in.
pub const CREDENTIAL: &str = "the-real-credential";
/// What Go's client and server agree on. Client and target offer nothing else, so all peers do the same
/// cryptography.
pub const CIPHERS: &str = "TLS_AES_128_GCM_SHA256";
pub const GROUPS: &str = "X25519";
