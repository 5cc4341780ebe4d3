//! Second stage: where the requests of one client connection belong. Inside a tunnel its CONNECT said so
//! (`tunnel`), on any other connection each request does (`reverse`). `login` is what both ask of a login.
//! `serve` brings the requests here.

mod login;
pub mod reverse;
pub mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use crate::admit::passage::Passage;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::http::http2::Share;
use crate::http::request::{Request, Turned};
use crate::modes::reverse::Reverse;
use crate::modes::tunnel::Tunnel;

#[derive(Clone)]
pub enum Mode {
    Tunnel(Arc<Tunnel>),
    Reverse(Arc<Reverse>),
}

impl Mode {
    pub fn gateway(&self) -> &Arc<Gateway> {
        match self {
            Mode::Tunnel(tunnel) => &tunnel.first.gateway,
            Mode::Reverse(reverse) => &reverse.gateway,
        }
    }

    /// The passage of one request. In reverse mode also how the request is turned into the one that the target
    /// shall see; boxed, for few are.
    pub async fn passage(&self, request: &Request) -> Result<(Arc<Passage>, Option<Box<Turned>>)> {
        match self {
            Mode::Tunnel(tunnel) => Ok((tunnel.passage(request)?, None)),
            Mode::Reverse(reverse) => reverse.passage(request).await,
        }
    }

    /// How long a connection may wait for its next request: for ever once we know whose it is, else everybody
    /// could hold many for nothing.
    pub fn patience(&self) -> Option<Duration> {
        match self {
            Mode::Reverse(reverse) if !reverse.is_known() => {
                Some(reverse.gateway.parts.settings.load().timeouts.head)
            }
            Mode::Reverse(_) | Mode::Tunnel(_) => None,
        }
    }

    /// Where it counts what a connection holds: its sender's, as far as that is known.
    pub fn share(&self) -> Arc<Share> {
        let budget = &self.gateway().upstream.budget;
        let last = match self {
            Mode::Tunnel(tunnel) => Some(tunnel.first.clone()),
            Mode::Reverse(reverse) => reverse.last(),
        };
        last.map_or_else(|| budget.nobodys(), |passage| budget.of_senders(passage.principal.namespace()))
    }

    /// The passage of a connection that has proved whose it is before its first request.
    pub fn known(&self) -> Option<&Passage> {
        match self {
            Mode::Tunnel(tunnel) => Some(&*tunnel.first),
            Mode::Reverse(_) => None,
        }
    }
}
