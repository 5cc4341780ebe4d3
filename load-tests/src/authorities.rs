//! One throw-away root; below it an intermediate for the gateway and for HAProxy, and the leaf that targets
//! and HAProxy serve. So each handshake with a peer carries a leaf and an intermediate, as in production.

use std::path::{Path, PathBuf};

use anyhow::Result;
use connectors_testenv::pki::Identity;

pub struct Authorities {
    pub root_pem: String,
    /// The intermediate, then the root.
    pub issuer: PathBuf,
    pub issuer_key: PathBuf,
    pub root: PathBuf,
    /// Leaf, intermediate and key in one file, as HAProxy wants it; `server` reads it too.
    pub leaf: PathBuf,
}

impl Authorities {
    pub fn new(folder: &Path) -> Result<Authorities> {
        let root = Identity::root("bench root");
        let issuer = root.intermediate("bench issuer");
        let leaf = issuer.leaf(&["localhost", "127.0.0.1"]);
        let write = |name: &str, content: String| -> Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, content)?;
            Ok(path)
        };
        Ok(Authorities {
            root_pem: root.pem(),
            issuer: write("issuer.crt", issuer.pem() + &root.pem())?,
            issuer_key: write("issuer.key", issuer.key_pem())?,
            root: write("root.crt", root.pem())?,
            leaf: write("leaf.pem", leaf.pem() + &issuer.pem() + &leaf.key_pem())?,
        })
    }
}
