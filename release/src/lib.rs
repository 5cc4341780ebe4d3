//! The bill of materials of a binary, for scanners: one that is linked statically, on an image without
//! anything else, tells them nothing by itself. `crates` asks cargo what is linked, `debian` asks dpkg what
//! the system gave, `bom` writes both down.

pub mod archive;
pub mod bom;
pub mod crates;
pub mod debian;
mod ran;
