//! The one error of the data plane: who is to blame, and what client and log are told. Every stage returns
//! it, `record` counts it; the client's words are in `status`.

pub mod status;

use self::status::{Failure, Form};
use crate::http::http2::NoRoom;
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

/// The display form is the log's: it holds the cause, never a secret. `host` is the target's host as the
/// connector names it.
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
    #[error("no connector has the target host {0:?}")]
    NobodysHost(String),
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
    #[error("the requests that wait in its share hold all that they may")]
    NoRoom,
    /// The same when the target may have acted on it.
    #[error("given up in its wait: the requests of its namespace that wait hold all that they may")]
    GivenUp,
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
    /// `rule`: what would allow it.
    #[error("{host} ({address}) is in this cluster; an operator can allow it by targets.allow: [{rule}]")]
    InCluster { host: String, address: String, rule: String },
    #[error("the cluster's own ranges are not known yet")]
    NoRanges,
    #[error("{host} is reached without TLS, which the settings deny")]
    Plaintext { host: String },
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
    #[error("{host} is not trusted: {cause}")]
    Unverified { host: String, cause: String },
    #[error("{host} broke the protocol: {cause}")]
    Protocol { host: String, cause: String },
    #[error("{host} closed the connection: {cause}")]
    Cut { host: String, cause: String, retry: Retry },
    #[error("{host} has turned the request away unread: {cause}")]
    TurnedAway { host: String, cause: String },
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

/// What is told of an error: whose fault it is, the metric's label if the gateway itself refused a client,
/// what the client gets.
struct Row {
    blame: Blame,
    refusal: Option<Refusal>,
    failure: Failure,
}

fn client(refusal: Refusal, failure: Failure) -> Row {
    Row { blame: Blame::Client, refusal: Some(refusal), failure }
}

fn gateway(refusal: Refusal, failure: Failure) -> Row {
    Row { blame: Blame::Gateway, refusal: Some(refusal), failure }
}

/// Nobody was refused: something failed.
fn failed(blame: Blame, failure: Failure) -> Row {
    Row { blame, refusal: None, failure }
}

impl Error {
    /// One row for each error.
    fn row(&self) -> Row {
        use Error::*;
        match self {
            Malformed(why) => client(Refusal::Malformed, status::bad_request(why)),
            Body(_) => {
                client(Refusal::Malformed, status::bad_request("the chunks of the body are not valid"))
            }
            Method(method) => client(Refusal::Malformed, status::method_not_carried(method)),
            Misdirected(host) => client(Refusal::Malformed, status::misdirected(host)),
            Upgrade(protocol) => client(Refusal::Malformed, status::upgrade_not_carried(protocol)),
            NoConnector(host) => client(Refusal::Malformed, status::no_connector(host)),
            NobodysHost(host) => client(Refusal::Target, status::nobodys_host(host)),
            HeadTooLarge(limit) => client(Refusal::TooLarge, status::head_too_large(*limit)),
            HeadTimeout => client(Refusal::Timeout, status::head_timeout()),
            Login(why) => client(Refusal::Unauthenticated, status::proxy_authentication_required(why)),
            Token(why) => client(Refusal::Unauthenticated, status::authentication_required(why)),
            TokenInside(_) => client(Refusal::Unauthenticated, status::unauthorized()),
            NotATarget { authority, connectors } => {
                client(Refusal::Target, status::target_forbidden(authority, connectors))
            }
            OutsidePath { connector } => {
                client(Refusal::Target, status::target_forbidden("the path", &connector.to_string()))
            }
            Forbidden { user, connector } => client(Refusal::Forbidden, status::forbidden(user, connector)),
            Impersonation { connector } => client(Refusal::Forbidden, status::impersonation(connector)),
            NotFound(connector) => client(Refusal::Forbidden, status::not_found(connector)),
            ClientGone(_) => failed(Blame::Client, status::bad_request("the client went away")),
            Unusable { connector, why } => gateway(Refusal::Unusable, status::unusable(connector, why)),
            NoRoom => gateway(Refusal::Limit, status::no_room()),
            GivenUp => gateway(Refusal::Limit, status::given_up()),
            ReviewUnavailable => gateway(Refusal::Unavailable, status::unavailable()),
            NoIssuer => gateway(Refusal::Unavailable, status::internal()),
            Internal(_) => failed(Blame::Gateway, status::internal()),
            NoRanges => gateway(Refusal::Unavailable, status::ranges_unknown()),
            // One text for both: what is there is nobody's business.
            Denied { host, .. } | InCluster { host, .. } => {
                gateway(Refusal::Target, status::target_denied(host))
            }
            Plaintext { host } => gateway(Refusal::Target, status::plaintext_denied(host)),
            Itself { host } => gateway(Refusal::Target, status::target_is_the_gateway(host)),
            Loop => gateway(Refusal::Target, status::looping()),
            Unresolvable { host, .. } => failed(Blame::Target, status::unresolvable(host)),
            Unreachable { host, cause } => failed(Blame::Target, status::bad_gateway(host, cause)),
            ConnectTimeout { host } | HeaderTimeout { host } => {
                failed(Blame::Target, status::gateway_timeout(host))
            }
            CertificateChanged { host, .. } => failed(Blame::Target, status::certificate_changed(host)),
            Unverified { host, cause } => failed(Blame::Target, status::unverified(host, cause)),
            Protocol { host, .. } => {
                failed(Blame::Target, status::bad_gateway(host, "its answer is not valid HTTP"))
            }
            TurnedAway { host, .. } => failed(Blame::Target, status::turned_away(host)),
            Cut { host, .. } => failed(
                Blame::Target,
                status::bad_gateway(host, "it closed the connection before it answered"),
            ),
        }
    }

    /// What cannot be sent again by us, for its body is gone, the client may send again.
    pub fn told_to_repeat(self) -> Error {
        match self {
            Error::Cut { host, cause, retry: Retry::Always } => Error::TurnedAway { host, cause },
            other => other,
        }
    }

    pub fn blame(&self) -> Blame {
        self.row().blame
    }

    /// What the client gets.
    pub fn failure(&self) -> Failure {
        self.row().failure
    }

    /// The metric's label for a refusal by the gateway itself; none where the target or the network failed.
    pub fn refusal(&self) -> Option<Refusal> {
        self.row().refusal
    }

    /// For the record: what a request ended with, as the status code sent or, for a client that left, 499 as
    /// nginx has it.
    pub fn code(&self, form: Form) -> u16 {
        match self {
            Error::ClientGone(_) => 499,
            other => other.failure().told(form).code.as_u16(),
        }
    }
}

impl From<NoRoom> for Error {
    fn from(NoRoom: NoRoom) -> Error {
        Error::NoRoom
    }
}

pub type Result<T> = std::result::Result<T, Error>;
