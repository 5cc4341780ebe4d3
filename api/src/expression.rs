//! CEL over a probe's response.
