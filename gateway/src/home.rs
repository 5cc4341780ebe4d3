//! Ground: the home API server. `cluster` asks it, `remembered` keeps its answers, `principal` is who it says
//! a client is, `ranges` which addresses are the cluster's own.

pub mod cluster;
pub mod principal;
pub mod ranges;
pub mod remembered;
