//! Where the requests of one client connection belong: inside a tunnel its CONNECT said so, on any other connection each request does.
//! `h1` and `h2` bring them here, before `request` admits them.

pub mod reverse;
pub mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use crate::admit::passage::Passage;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::http::request::Request;
use crate::modes::reverse::Direct;
use crate::modes::tunnel::Tunnel;
use crate::record;

#[derive(Clone)]
pub enum Front {
    Tunnel(Arc<Tunnel>),
    Direct(Arc<Direct>),
}

impl Front {
    pub fn gateway(&self) -> &Arc<Gateway> {
        match self {
            Front::Tunnel(tunnel) => &tunnel.first.gateway,
            Front::Direct(direct) => &direct.gateway,
        }
    }

    /// The passage of one request. In reverse mode the request is turned into the one that the target shall see.
    pub async fn passage(&self, request: &mut Request) -> Result<Arc<Passage>> {
        match self {
            Front::Tunnel(tunnel) => tunnel.passage(request),
            Front::Direct(direct) => direct.passage(request).await,
        }
    }

    /// How long a connection may wait for its next request: for ever once we know whose it is, else everybody could hold many for nothing.
    pub fn patience(&self) -> Option<Duration> {
        match self {
            Front::Direct(direct) if !direct.is_known() => Some(direct.gateway.parts.settings.load().timeouts.head),
            Front::Direct(_) | Front::Tunnel(_) => None,
        }
    }

    /// Records what was no request, or nobody's.
    pub fn refused(&self, error: &Error, protocol: &'static str) {
        let passage = match self {
            Front::Tunnel(tunnel) => Some(&*tunnel.first),
            Front::Direct(_) => None,
        };
        record::refused(self.gateway(), passage, error, protocol);
    }
}
