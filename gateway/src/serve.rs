//! Third stage: the requests of one connection, over HTTP/1.1 or HTTP/2.

pub mod h1;
pub mod h2;
