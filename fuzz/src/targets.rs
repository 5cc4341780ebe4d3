//! One file a target.

mod address;
mod attributes;
mod body;
mod connect;
mod expression;
mod frames;
mod head;
mod login;
mod objects;
mod settings;
mod template;

use std::str;

use crate::Target;

pub fn all() -> [Target; 11] {
    [
        connect::TARGET,
        head::TARGET,
        body::TARGET,
        frames::TARGET,
        login::TARGET,
        address::TARGET,
        attributes::TARGET,
        template::TARGET,
        expression::TARGET,
        settings::TARGET,
        objects::TARGET,
    ]
}

/// Two inputs in one, parted by a byte that neither holds; the second may be missing.
fn parts(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// The input as text, if it is some.
fn text(data: &[u8]) -> Option<&str> {
    str::from_utf8(data).ok()
}

/// How a reader might get these bytes: in pieces whose sizes follow from the bytes themselves, so that a
/// failure can be had again.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut rest = data;
    std::iter::from_fn(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let most = 1 + (state >> 59) as usize;
        let (piece, left) = rest.split_at(most.min(rest.len()));
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}
