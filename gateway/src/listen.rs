//! First stage: a connection comes in. `accept` takes it, `head` reads how it begins, `detect` finds out what
//! it is and serves it by its mode.

pub mod accept;
pub mod detect;
pub mod head;
