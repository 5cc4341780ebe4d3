//! Addresses. All are from 198.18.0.0/15, the range for tests of networks, so that none is anybody's: 198.18
//! is home, 198.19 the target.

use std::net::Ipv4Addr;

use crate::control_plane::Place;

/// Where a cluster of a run is.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    /// Its name, its node's name and its folder's.
    pub(crate) name: &'static str,
    second: u8,
}

/// The ends of the cable between the two: home's, the target's.
pub(crate) const LINK: [&str; 2] = ["198.18.255.1", "198.18.255.2"];

impl Layout {
    pub(crate) const HOME: Layout = Layout { name: "home", second: 18 };
    pub(crate) const TARGET: Layout = Layout { name: "target", second: 19 };

    pub(crate) fn is_target(&self) -> bool {
        self.second == Layout::TARGET.second
    }

    /// Of the node and of its API server.
    pub(crate) fn node(&self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// Nobody's: packets to the world outside end here.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.address(0, 254)
    }

    pub(crate) fn dns(&self) -> Ipv4Addr {
        self.address(128, 10)
    }

    pub(crate) fn pods(&self) -> String {
        format!("{}/24", self.address(64, 0))
    }

    /// Everything of this cluster.
    pub(crate) fn all(&self) -> String {
        format!("{}/16", self.address(0, 0))
    }

    pub(crate) fn place(&self) -> Place {
        let services = format!("{}/20", self.address(128, 0));
        Place { address: self.node(), port: 6443, services, first_service: self.address(128, 1) }
    }

    fn address(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, self.second, third, fourth)
    }
}
