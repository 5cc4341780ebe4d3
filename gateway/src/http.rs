//! Ground: HTTP messages, whatever they are for. `request` is one as the stages hand it on, `headers` and
//! `rewrite` say what becomes of its fields, `wire` and `http2` are the two protocols, `buffer` and `socket`
//! what both stand on.

pub mod buffer;
pub mod headers;
pub mod http2;
pub mod request;
pub mod rewrite;
pub mod socket;
pub mod wire;
