//! Ground: TLS toward clients. `issuer` holds the connector CA's intermediate, `leaf` mints with it,
//! `handshake` accepts, `replay` gives bytes back that were read too early.

pub mod handshake;
pub mod issuer;
pub mod leaf;
pub mod replay;
