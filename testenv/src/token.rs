//! ServiceAccount tokens that the API server would not give: a TokenRequest is for ten minutes at least,
//! which tests cannot wait for.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::sign::Signer;
use serde_json::Value;

/// What the API server signs tokens with, beside the administrator's kubeconfig.
pub fn signing_key(kubeconfig: &Path) -> Result<PKey<Private>> {
    let file = kubeconfig.with_file_name("service-accounts.key");
    let pem = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(PKey::private_key_from_pem(&pem)?)
}

/// The token with other claims, signed with this key.
pub fn signed_again(token: &str, key: &PKeyRef<Private>, change: impl FnOnce(&mut Value)) -> Result<String> {
    let (header, rest) = token.split_once('.').context("a token has three parts")?;
    let (claims, _) = rest.split_once('.').context("a token has three parts")?;
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    change(&mut claims);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = Signer::new(MessageDigest::sha256(), key)?.sign_oneshot_to_vec(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
