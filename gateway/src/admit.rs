//! Fourth stage: may this request go where it wants to? `authenticate` says who asks, `passage` holds who and where, `authorize` and
//! `credential` by whose leave and with what.

pub mod authenticate;
pub mod authorize;
pub mod credential;
pub mod passage;
