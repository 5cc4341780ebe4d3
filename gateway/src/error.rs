//! The one error of the data plane: who is to blame, and what client and log are told. Every stage returns it, `record` counts it;
//! the client's words are in `status`.

pub mod status;

use self::status::Failure;
use crate::metrics::Refusal;
use connectors_api::proxy_auth::ConnectorRef;

/// Whose fault a failed request or tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    Client,
    Gateway,
    Target,
}

impl Blame {
    pub fn as_str(self) -> &'static str {
        match self {
            Blame::Client => "client",
            Blame::Gateway => "gateway",
            Blame::Target => "target",
        }
    }
}

/// The display form is the log's: it holds the cause, never a secret. `host` is the target's host as the connector names it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("malformed request body: {0}")]
    Body(String),
    #[error("method {0:?} is not carried")]
    Method(String),
    #[error("request head is larger than {0} bytes")]
    HeadTooLarge(usize),
    #[error("request head did not arrive in time")]
    HeadTimeout,
    #[error("no connector has the host {0:?}")]
    NoConnector(String),
    #[error("no proxy login: {0}")]
    Login(String),
    #[error("no token: {0}")]
    Token(String),
    #[error("inside a tunnel of an expired token: {0}")]
    TokenInside(&'static str),
    #[error("{authority} is no address of {connectors}")]
    NotATarget { authority: String, connectors: String },
    #[error("{user} may not use connector {connector}")]
    Forbidden { user: String, connector: ConnectorRef },
    #[error("connector {connector} does not allow impersonation")]
    Impersonation { connector: ConnectorRef },
    #[error("connector {0} not found")]
    NotFound(ConnectorRef),
    #[error("host {0:?} inside a tunnel for another")]
    Misdirected(String),
    #[error("path outside of the connector's address")]
    OutsidePath { connector: ConnectorRef },
    #[error("upgrade to {0:?} is not carried")]
    Upgrade(String),
    #[error("client went away: {0}")]
    ClientGone(String),
    #[error("connector {connector} is not usable: {why}")]
    Unusable { connector: ConnectorRef, why: String },
    #[error("the API server did not answer a review")]
    ReviewUnavailable,
    #[error("the gateway has no issuing CA yet")]
    NoIssuer,
    #[error("internal: {0}")]
    Internal(String),
    #[error("{host} is this gateway itself")]
    Itself { host: String },
    #[error("the request has been here before, or at too many gateways")]
    Loop,
    #[error("{address} of {host} is denied by the target policy")]
    Denied { host: String, address: String },
    #[error("{host} cannot be resolved: {cause}")]
    Unresolvable { host: String, cause: String },
    #[error("cannot connect to {host}: {cause}")]
    Unreachable { host: String, cause: String },
    #[error("connecting to {host} took too long")]
    ConnectTimeout { host: String },
    #[error("{host} did not answer in time")]
    HeaderTimeout { host: String },
    #[error("{host} presents another certificate than the pinned one ({cause})")]
    CertificateChanged { host: String, cause: String },
    #[error("no known CA vouches for {host}: {cause}")]
    Unverified { host: String, cause: String },
    #[error("{host} broke the protocol: {cause}")]
    Protocol { host: String, cause: String },
    #[error("{host} closed the connection: {cause}")]
    Cut { host: String, cause: String, retry: Retry },
}

/// Whether a request that failed so may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The target has seen nothing of it, or says so (GOAWAY, REFUSED_STREAM).
    Always,
    /// A pooled connection ended before a byte of the answer: again if the method is idempotent.
    IfIdempotent,
    Never,
}

impl Error {
    pub fn blame(&self) -> Blame {
        use Error::*;
        match self {
            Malformed(_)
            | Body(_)
            | Method(_)
            | HeadTooLarge(_)
            | HeadTimeout
            | NoConnector(_)
            | Login(_)
            | Token(_)
            | TokenInside(_)
            | NotATarget { .. } => Blame::Client,
            Forbidden { .. } | Impersonation { .. } | NotFound(_) | Misdirected(_) => Blame::Client,
            OutsidePath { .. } | Upgrade(_) | ClientGone(_) => Blame::Client,
            Unusable { .. } | ReviewUnavailable | NoIssuer | Internal(_) => Blame::Gateway,
            Denied { .. } | Itself { .. } | Loop => Blame::Gateway,
            Unresolvable { .. } | Unreachable { .. } | ConnectTimeout { .. } | HeaderTimeout { .. } => Blame::Target,
            CertificateChanged { .. } | Unverified { .. } | Protocol { .. } | Cut { .. } => Blame::Target,
        }
    }

    /// What the client gets.
    pub fn failure(&self) -> Failure {
        use Error::*;
        match self {
            Malformed(why) => status::bad_request(why),
            Body(_) => status::bad_request("the chunks of the body are not valid"),
            Method(method) => status::not_carried(&format!(
                "the gateway does not carry {method}: its answer could hold the connector's credential"
            )),
            HeadTooLarge(limit) => status::head_too_large(*limit),
            HeadTimeout => status::head_timeout(),
            NoConnector(host) => status::no_connector(host),
            Login(why) => status::proxy_authentication_required(why),
            Token(why) => status::authentication_required(why),
            TokenInside(_) => status::unauthorized(),
            NotATarget { authority, connectors } => status::target_forbidden(authority, connectors),
            Forbidden { user, connector } => status::forbidden(user, connector),
            Impersonation { connector } => status::impersonation(connector),
            NotFound(connector) => status::not_found(connector),
            Misdirected(host) => status::misdirected(host),
            OutsidePath { connector } => status::target_forbidden("the path", &connector.to_string()),
            Upgrade(protocol) => {
                status::not_carried(&format!("the gateway carries upgrades to websocket or SPDY/3.1, not to {protocol:?}"))
            }
            ClientGone(_) => status::bad_request("the client went away"),
            Unusable { connector, why } => status::unusable(connector, why),
            ReviewUnavailable => status::unavailable(),
            NoIssuer | Internal(_) => status::internal(),
            Denied { host, .. } => status::target_denied(host),
            Itself { host } => status::target_is_the_gateway(host),
            Loop => status::looping(),
            Unresolvable { host, .. } => status::bad_gateway(host, "its name cannot be resolved"),
            Unreachable { host, cause } => status::bad_gateway(host, cause),
            ConnectTimeout { host } | HeaderTimeout { host } => status::gateway_timeout(host),
            CertificateChanged { host, .. } => status::certificate_changed(host),
            Unverified { host, cause } => {
                status::bad_gateway(host, &format!("no known CA vouches for it ({cause}): set caCertSecretRef of the connector"))
            }
            Protocol { host, .. } => status::bad_gateway(host, "its answer is not valid HTTP"),
            Cut { host, .. } => status::bad_gateway(host, "it closed the connection before it answered"),
        }
    }

    /// The metric's label for a refusal by the gateway itself; none where the target or the network failed.
    pub fn refusal(&self) -> Option<Refusal> {
        use Error::*;
        match self {
            Malformed(_) | Body(_) | Method(_) | NoConnector(_) | Misdirected(_) | Upgrade(_) => Some(Refusal::Malformed),
            HeadTooLarge(_) => Some(Refusal::TooLarge),
            HeadTimeout => Some(Refusal::Timeout),
            Login(_) | Token(_) | TokenInside(_) => Some(Refusal::Unauthenticated),
            NotATarget { .. } | OutsidePath { .. } | Denied { .. } | Itself { .. } | Loop => Some(Refusal::Target),
            Forbidden { .. } | Impersonation { .. } | NotFound(_) => Some(Refusal::Forbidden),
            Unusable { .. } => Some(Refusal::Unusable),
            ReviewUnavailable | NoIssuer => Some(Refusal::Unavailable),
            ClientGone(_) | Internal(_) | Unresolvable { .. } | Unreachable { .. } | ConnectTimeout { .. } => None,
            HeaderTimeout { .. } | CertificateChanged { .. } | Unverified { .. } | Protocol { .. } | Cut { .. } => None,
        }
    }

    /// For the record: what a request ended with, as the status code sent or, for a client that left, 499 as nginx has it.
    pub fn code(&self) -> u16 {
        match self {
            Error::ClientGone(_) => 499,
            other => other.failure().code.as_u16(),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
