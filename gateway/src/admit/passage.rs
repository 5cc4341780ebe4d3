//! One principal's way to one connector: who it is and where its requests may go. A tunnel has one for each
//! connector that its host belongs to, a connection in reverse mode one at a time. `grant` says whether it
//! may be gone now.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use connectors_api::proxy_auth::ConnectorRef;
use connectors_api::target::Target;

use super::credential::Credential;
use crate::gateway::Gateway;
use crate::home::principal::Principal;
use crate::metrics::codes::ByCode;
use crate::table::route::{Origin, Route, Table};
use crate::upstream::Dial;

pub struct Passage {
    pub gateway: Arc<Gateway>,
    pub principal: Arc<Principal>,
    /// The login's token had ended: no authority of its own.
    pub expired: bool,
    pub connector: ConnectorRef,
    pub aim: Aim,
    pub client: Client,
    pub texts: Texts,
    /// The first Authorization inside was looked at.
    pub looked: AtomicBool,
    /// The requests of its connector; `grant` looks whether they are still these.
    pub counted: ArcSwap<ByCode>,
    pub(super) standing: ArcSwapOption<Standing>,
}

/// What is the same in each record of its requests, as it stands there.
pub struct Texts {
    pub client: Option<Box<str>>,
    pub connector: Box<str>,
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

/// Granted: the principal may use the connector, its route is usable, its credential at hand and its target
/// resolved.
pub struct Grant {
    pub route: Arc<Route>,
    pub credential: Arc<Credential>,
    pub dial: Arc<Dial>,
}

/// A grant as it stands in its passage. A connection may idle for days: neither an old snapshot nor a
/// credential that was rotated since may live on because of it.
pub(super) struct Standing {
    pub(super) route: Arc<Route>,
    pub(super) credential: Weak<Credential>,
    pub(super) dial: Arc<Dial>,
    pub(super) table: Weak<Table>,
    pub(super) taken: Instant,
}

impl Passage {
    pub fn new(
        gateway: Arc<Gateway>,
        principal: Arc<Principal>,
        connector: ConnectorRef,
        aim: Aim,
        client: Client,
    ) -> Passage {
        let expired = false;
        let texts = Texts {
            client: client.address.map(|address| address.to_string().into()),
            connector: connector.to_string().into(),
        };
        let counted = ArcSwap::new(gateway.parts.metrics.connectors.of(&connector));
        Passage {
            gateway,
            principal,
            expired,
            connector,
            aim,
            client,
            texts,
            looked: AtomicBool::new(false),
            counted,
            standing: ArcSwapOption::empty(),
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

    /// For records and errors: the host that the client named, or that of the connector's address as far as
    /// it is known.
    pub fn host(&self) -> Cow<'_, str> {
        match &self.aim {
            Aim::Origin(origin) => Cow::Borrowed(&origin.host),
            Aim::Address => self
                .standing
                .load()
                .as_ref()
                .map_or(Cow::Borrowed("-"), |standing| standing.dial.host.clone().into()),
        }
    }
}
