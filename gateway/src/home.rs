//! Ground: the home API server. `cluster` asks it, `remembered` keeps its answers, `principal` is who it says
//! a client is.

pub mod cluster;
pub mod principal;
pub mod remembered;
