//! What the Connectors of one namespace have in common: the gateway's Role and the access bindings. Runs when
//! a namespace's labels or Connectors change, also when the last Connector went: therefore Connectors need no
//! finalizer.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use crate::context::Context;
use crate::error::Error;
use crate::reconcile::{access, role};
use crate::schedule::Left;

pub async fn reconcile(
    namespace: Arc<PartialObjectMeta<Namespace>>,
    context: Arc<Context>,
) -> Result<Left, Error> {
    // Whatever is in a namespace that is being deleted goes with it, and nothing can be made there.
    if namespace.metadata.deletion_timestamp.is_some() {
        return Ok(Left::Settled);
    }
    let name = namespace.name_any();
    let role = role::keep(&context, &name).await;
    let access = access::keep(&context, &name, || context.stores.is_used(&name)).await;
    role.and(access).map(|()| Left::Settled)
}
