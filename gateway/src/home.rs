//! Ground: the home API server. `cluster` asks it, `remembered` keeps its answers, `principal` is who it says
//! a client is, `ranges` and `around` which addresses are the
//! cluster's and the gateway's own.

pub mod around;
pub mod cluster;
pub mod principal;
pub mod ranges;
pub mod remembered;
