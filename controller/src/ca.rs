//! The connector CA in two levels (root and the gateway's issuing CA) and the bundle that clients trust.
//! Beside the walks of Connectors, under the same Lease; the gateway mints leaves from what is written here.
//!
//! Rotation of the root, begun by whoever replaces or deletes Secret `connectors-ca`, in this order: the
//! bundle gets the new root beside the old one → half an hour later, when every volume has the new bundle,
//! the issuing CA is signed by the new root → eight days later, when nothing signed by the old root can be
//! valid any more, the old root leaves the bundle. A usable root is never replaced from here.

pub mod mint;
mod plan;
mod store;

use std::sync::Arc;
use std::time::Duration;

use connectors_api::names;
use k8s_openapi::jiff::Timestamp;
use openssl::x509::X509;
use tokio::sync::Notify;

use crate::context::Context;
use crate::error::Error;
use crate::metrics::Metrics;
use store::Store;

/// The plan's shortest time is half an hour; renewal is daily.
const PERIOD: Duration = Duration::from_secs(5 * 60);
const RETRY: Duration = Duration::from_secs(5);

/// For ever: at every change of the objects, and periodically because certificates age.
pub async fn keep(context: Arc<Context>, changed: Arc<Notify>) {
    let store = Store::new(&context.client, &context.settings.namespace);
    let mut trusted = Vec::new();
    let mut trust = |roots: &[Vec<u8>]| {
        if *roots != *trusted {
            trusted = roots.to_vec();
            context.prober.trust(trusted.iter().filter_map(|root| der(root)).collect());
        }
    };
    loop {
        let done = ensure(&store, Timestamp::now(), &context.metrics, &mut trust).await;
        context.metrics.reconciled("ca", done.as_ref().map(drop));
        if let Err(error) = &done {
            tracing::error!("connector CA: {error}");
        }
        let pause = tokio::time::sleep(if done.is_ok() { PERIOD } else { RETRY });
        tokio::select! {
            () = pause => {}
            // Our own writes come back here too: once more without effect.
            () = changed.notified() => {}
        }
    }
}

/// Root, then bundle, then issuing CA: a certificate is trusted before anything is signed with it.
/// `trust` is told the roots that clients trust, PEM: also where the root itself is unusable, for gateways go on then.
async fn ensure(
    store: &Store,
    now: Timestamp,
    metrics: &Metrics,
    trust: &mut impl FnMut(&[Vec<u8>]),
) -> Result<(), Error> {
    let published = store.bundle().await?;
    if let Some((_, published)) = &published {
        trust(&published.roots);
    }
    let root = match store.root().await? {
        Some(root) => root,
        None => store.create_root(mint::root()?).await?,
    };
    if plan::unix(root.certificate.not_before())? > now.as_second() {
        tracing::warn!("the root in Secret {} is not valid yet: is a clock wrong?", names::ROOT_CA_SECRET);
    }
    let bundle = plan::bundle(&root.certificate, published.as_ref().map(|(_, bundle)| bundle), now)?;
    if published.as_ref().is_none_or(|(_, published)| *published != bundle) {
        store.publish(published.map(|(object, _)| object), &bundle).await?;
    }
    trust(&bundle.roots);
    let issuing = store.issuing().await?;
    let present = issuing.as_ref().and_then(|(_, issuing)| issuing.as_ref());
    if plan::must_issue(&root.certificate, present, &bundle, now)? {
        let minted = mint::issuing(&root)?;
        expose(metrics, "issuing", &minted.certificate);
        store.write_issuing(issuing.map(|(object, _)| object), &minted, &root.certificate).await?;
        tracing::info!("issued the gateway's CA in Secret {}", names::ISSUING_CA_SECRET);
    } else if let Some(issuing) = present {
        expose(metrics, "issuing", &issuing.certificate);
    }
    expose(metrics, "root", &root.certificate);
    Ok(())
}

fn der(pem: &[u8]) -> Option<Vec<u8>> {
    X509::from_pem(pem).and_then(|certificate| certificate.to_der()).ok()
}

fn expose(metrics: &Metrics, which: &str, certificate: &openssl::x509::X509Ref) {
    if let Ok(end) = plan::unix(certificate.not_after()) {
        metrics.ca_not_after.with_label_values(&[which]).set(end);
    }
}
