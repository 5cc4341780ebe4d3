//! One principal's way to one connector: who it is, where its requests may go, and the lease by which they go there. A tunnel has one for
//! each connector that its host belongs to, a connection in reverse mode one at a time. `request` admits requests by it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use connectors_api::conditions::reason::TARGET_CERTIFICATE_CHANGED;
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::target::Target;

use crate::admit::authorize::Verdict;
use crate::admit::credential::{Credential, CredentialError};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::home::principal::Principal;
use crate::table::route::{Entry, Route, Table};
use crate::upstream::Dial;

/// How long a passage's requests go by what was found for one of them. Short against every revocation bound, long against a request.
const LEASE: Duration = Duration::from_secs(1);

pub struct Passage {
    pub gateway: Arc<Gateway>,
    pub principal: Arc<Principal>,
    /// The login's token had ended: no authority of its own.
    pub expired: bool,
    pub connector: ConnectorRef,
    pub aim: Aim,
    pub client: Client,
    /// The first Authorization inside was looked at.
    pub looked: AtomicBool,
    lease: ArcSwapOption<Standing>,
}

/// The other end of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// None where the connection is no socket.
    pub address: Option<IpAddr>,
    /// Its requests come over TLS, in a tunnel or on the https port.
    pub secure: bool,
}

/// Which of the connector's targets is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The one that the client named, by a CONNECT or an absolute URL: host in lower case, no brackets.
    Origin(Origin),
    /// `spec.address`: the client named the connector.
    Address,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl Origin {
    pub fn is(&self, target: &Target) -> bool {
        target.tls == self.tls && target.port == self.port && target.host == self.host
    }
}

/// Granted: the principal may use the connector, its route is usable, its credential at hand and its target resolved.
pub struct Lease {
    pub route: Arc<Route>,
    pub credential: Arc<Credential>,
    pub dial: Arc<Dial>,
}

/// A lease as it stands in its passage. A connection may idle for days: neither an old snapshot nor a credential that was rotated since
/// may live on because of it.
struct Standing {
    route: Arc<Route>,
    credential: Weak<Credential>,
    dial: Arc<Dial>,
    table: Weak<Table>,
    taken: Instant,
}

impl Standing {
    fn lease(&self, table: &Arc<Table>) -> Option<Lease> {
        if self.taken.elapsed() >= LEASE || !std::ptr::eq(self.table.as_ptr(), Arc::as_ptr(table)) {
            return None;
        }
        Some(Lease { route: self.route.clone(), credential: self.credential.upgrade()?, dial: self.dial.clone() })
    }
}

impl Passage {
    pub fn new(gateway: Arc<Gateway>, principal: Arc<Principal>, connector: ConnectorRef, aim: Aim, client: Client) -> Passage {
        let expired = false;
        Passage {
            gateway,
            principal,
            expired,
            connector,
            aim,
            client,
            looked: AtomicBool::new(false),
            lease: ArcSwapOption::empty(),
        }
    }

    /// The targets that requests of this passage may be for. All of them share one origin.
    pub fn targets<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Target> {
        let (most, origin) = match &self.aim {
            Aim::Address => (1, None),
            Aim::Origin(origin) => (usize::MAX, Some(origin)),
        };
        route.targets.iter().take(most).filter(move |target| origin.is_none_or(|origin| origin.is(target)))
    }

    /// The lease that stands, or a new one if it is old or the routing table has changed.
    pub async fn lease(&self) -> Result<Lease> {
        let known = self.lease.load().as_ref().and_then(|standing| standing.lease(&self.gateway.parts.table.load()));
        match known {
            Some(lease) => Ok(lease),
            None => self.renewed().await,
        }
    }

    /// A new lease, whatever the old one says.
    pub async fn renewed(&self) -> Result<Lease> {
        let table = self.gateway.parts.table.load_full();
        // Boxed: once a second, and larger than all else that a request holds.
        let lease = Box::pin(self.renew(&table)).await?;
        self.lease.store(Some(Arc::new(Standing {
            route: lease.route.clone(),
            credential: Arc::downgrade(&lease.credential),
            dial: lease.dial.clone(),
            table: Arc::downgrade(&table),
            taken: Instant::now(),
        })));
        Ok(lease)
    }

    async fn renew(&self, table: &Table) -> Result<Lease> {
        let parts = &self.gateway.parts;
        self.granted(table).await?;
        let route = match table.lookup(&self.connector) {
            Some(Entry::Usable(route)) => route.clone(),
            // As when the gateway itself sees the change, before the controller does.
            Some(Entry::Unusable { reason, message }) if reason == TARGET_CERTIFICATE_CHANGED => {
                return Err(Error::CertificateChanged { host: self.host().into_owned(), cause: message.clone() });
            }
            Some(Entry::Unusable { message, .. }) => {
                return Err(Error::Unusable { connector: self.connector.clone(), why: message.clone() });
            }
            None => return Err(Error::NotFound(self.connector.clone())),
        };
        let target = self.targets(&route).next().ok_or_else(|| self.not_a_target())?;
        let credential = parts.credentials.get(&route).await.map_err(|error| unusable(&route, error))?;
        let dial = self.gateway.upstream.dial(&route, target).await?;
        Ok(Lease { route, credential, dial })
    }

    /// A connector that does not exist is told apart only to those who may `get` it.
    async fn granted(&self, table: &Table) -> Result<()> {
        let (principal, connector) = (&self.principal, &self.connector);
        match self.gateway.parts.authorizer.may_use(principal, connector).await {
            Ok(Verdict::Allowed) => Ok(()),
            Ok(Verdict::Denied { may_get: true }) if table.lookup(connector).is_none() => Err(Error::NotFound(connector.clone())),
            Ok(Verdict::Denied { .. }) => {
                Err(Error::Forbidden { user: principal.user.to_string(), connector: connector.clone() })
            }
            Err(_) => Err(Error::ReviewUnavailable),
        }
    }

    fn not_a_target(&self) -> Error {
        match &self.aim {
            Aim::Origin(origin) => not_a_target(origin, &self.connector.to_string()),
            Aim::Address => Error::Internal("a route without an address".to_owned()),
        }
    }

    /// For records and errors: the host that the client named, or that of the connector's address as far as it is known.
    pub fn host(&self) -> Cow<'_, str> {
        match &self.aim {
            Aim::Origin(origin) => Cow::Borrowed(&origin.host),
            Aim::Address => self.lease.load().as_ref().map_or(Cow::Borrowed("-"), |standing| standing.dial.host.clone().into()),
        }
    }
}

pub fn not_a_target(origin: &Origin, connectors: &str) -> Error {
    Error::NotATarget { authority: format!("{}:{}", origin.host, origin.port), connectors: connectors.to_owned() }
}

/// In the words of the connector.
pub fn unusable(route: &Route, error: CredentialError) -> Error {
    match error {
        CredentialError::Unusable(why) | CredentialError::InvalidCa(why) => {
            Error::Unusable { connector: route.connector.clone(), why }
        }
        CredentialError::Unavailable => Error::ReviewUnavailable,
    }
}
