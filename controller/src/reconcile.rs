//! One Connector, step by step. `watch` asks for it; every step leaves an outcome in `Findings`; it always
//! ends in a status.
//!
//! | permission | for |
//! |---|---|
//! | connectors, connectorclasses, namespaces, secrets, services, roles, rolebindings: get, list, watch | `watch` and the steps |
//! | connectors/status, connectorclasses/status: patch | `status::patch` |
//! | services, roles, rolebindings: create, patch, delete | `service`, `role`, `access` (roles: what they grant, `get secrets`, is held too) |
//! | with `--flux-configmaps` only (config/rbac/flux), configmaps: get, create, patch, delete | `flux` |
//! | clusterroles: bind, resourceNames connectors-user | `access` |
//! | events.k8s.io events: create | `events` |
//! | in its own namespace: leases get, create, update; secrets and configmaps get, list, watch, create, update (CA objects only) | `leader`, `ca` |

pub mod access;
pub mod ca_cert;
pub mod class;
mod flux;
mod parameters;
mod probe;
mod remarks;
pub mod role;
pub mod secret;
mod seen;
pub mod service;

use std::pin::pin;
use std::sync::Arc;

use connectors_api::conditions::reason;
use connectors_api::item::{Item, Unreadable};
use connectors_api::names::is_object_name;
use connectors_api::probe::OutcomeStatus;
use connectors_api::{Connector, ConnectorClass, rules};
use kube::{Api, Resource, ResourceExt};
use seen::{Changed, Seen};

use crate::context::Context;
use crate::error::Error;
use crate::schedule::Left;
use crate::status::{self, Findings, is_true};
use crate::{events, status::patch};

pub async fn reconcile(item: Arc<Item<Connector>>, context: Arc<Context>) -> Result<Left, Error> {
    // What was made for it goes by ownerReference and by the walk of its namespace.
    if item.meta().deletion_timestamp.is_some() {
        return Ok(Left::Settled);
    }
    let connector = match item.read() {
        Ok(connector) => connector.clone(),
        Err(unreadable) => return Walk::nowhere(unreadable, context).finish().await,
    };
    let mut seen = Seen::of(&context.stores, &connector);
    let mut walk = Walk { findings: Findings::unchecked(&connector), connector, context, trouble: None };

    let class = class::find(&walk.context, &walk.connector, &mut walk.findings);
    let fitting =
        class.as_deref().filter(|class| parameters::check(&walk.connector, class, &mut walk.findings));
    if let Some(class) = fitting {
        walk.findings.keep_pins_of(&rules::addresses(&walk.connector, class));
        walk.check_secrets(class).await?;
    }
    let kept = role::cover(&walk.context, &walk.connector).await;
    walk.note(kept);
    if let Some(class) = class.as_deref() {
        let kept = service::keep(&walk.context, &walk.connector, class, &mut walk.findings).await;
        walk.note(kept);
        let kept = flux::keep(&walk.context, &walk.connector, &mut walk.findings).await;
        walk.note(kept);
    }
    let kept = walk.keep_access(&seen).await;
    walk.note(kept);
    let namespace = walk.connector.namespace().unwrap_or_default();
    walk.context.foreign.tell(&namespace, &mut walk.findings);
    match fitting {
        // Whatever changed has asked for another walk, and the place is free for it.
        Some(class) if walk.probe(class, &mut seen).await? == Probed::Overtaken => Ok(Left::Settled),
        _ => walk.finish().await,
    }
}

#[derive(PartialEq, Eq)]
enum Probed {
    Done,
    Overtaken,
}

struct Walk {
    connector: Arc<Connector>,
    context: Arc<Context>,
    findings: Findings,
    /// The first thing that the API server refused; the walk goes on to its status all the same.
    trouble: Option<Error>,
}

impl Walk {
    /// Of what cannot be read only the status is written.
    fn nowhere(unreadable: &Unreadable, context: Arc<Context>) -> Walk {
        let status = serde_json::from_value(unreadable.status.clone()).ok();
        let connector = Connector { metadata: unreadable.metadata.clone(), status, ..Connector::default() };
        let mut findings = Findings::unchecked(&connector);
        findings.class = status::no(
            reason::INVALID_PARAMETERS,
            format!("the connector cannot be read: {}", unreadable.error),
        );
        Walk { connector: Arc::new(connector), context, findings, trouble: None }
    }

    fn note(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            self.trouble.get_or_insert(error);
        }
    }

    /// Also while a target is waited for: what is found is handed over at once.
    async fn check_secrets(&mut self, class: &ConnectorClass) -> Result<(), Error> {
        let read = secret::check(&self.context, &self.connector, class, &mut self.findings).await;
        self.note(read);
        let read = ca_cert::check(&self.context, &self.connector, &mut self.findings).await;
        self.note(read);
        self.hand_over_rotation().await
    }

    async fn keep_access(&self, seen: &Seen) -> Result<(), Error> {
        let stores = &self.context.stores;
        let namespace = self.connector.namespace().unwrap_or_default();
        // To look for others is work: only where this one is gone.
        let used = || seen.is_there(stores) || stores.is_used(&namespace);
        access::keep(&self.context, &namespace, used).await
    }

    /// May take half a minute. Secrets that change ever faster than that must not keep it from its end.
    async fn probe(&mut self, class: &ConnectorClass, seen: &mut Seen) -> Result<Probed, Error> {
        if !is_true(&self.findings.secret) {
            return Ok(Probed::Done);
        }
        let context = self.context.clone();
        let request = probe::request(&self.connector, class, &self.findings);
        let mut probe = pin!(probe::ask(&context, &request));
        // One that cannot be read just now says nothing of the target.
        while self.findings.secret.status != OutcomeStatus::False {
            tokio::select! {
                answer = &mut probe => {
                    probe::learn(&context, &self.connector, class, answer, &mut self.findings);
                    return Ok(Probed::Done);
                }
                changed = seen.changed(&context.stores) => match changed {
                    Changed::Connector => return Ok(Probed::Overtaken),
                    Changed::Secrets => self.check_secrets(class).await?,
                }
            }
        }
        Ok(Probed::Done)
    }

    /// A rotated Secret must reach the gateway within a second, while a probe of a slow target may take many:
    /// its version goes first.
    async fn hand_over_rotation(&mut self) -> Result<(), Error> {
        if let Some(status) = status::rotated(&self.connector, &self.findings) {
            let written =
                patch::write(&self.context, &self.api(), "connector", &*self.connector, &status).await?;
            self.connector =
                written.into_read().map_err(|unreadable| Error::Unreadable(unreadable.error.clone()))?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Left, Error> {
        if let Some(unread) = self.findings.unread.take()
            && is_true(&self.findings.secret)
        {
            self.findings.secret.message = unread;
        }
        let status = status::next(&self.connector, &self.findings);
        if self.connector.status.as_ref() != Some(&status) {
            patch::write(&self.context, &self.api(), "connector", &*self.connector, &status).await?;
            events::tell(&self.context, &self.connector, &status).await;
        }
        self.trouble.map_or(Ok(status::left(&self.findings)), Err)
    }

    fn api(&self) -> Api<Item<Connector>> {
        Api::namespaced(self.context.client.clone(), &self.connector.namespace().unwrap_or_default())
    }
}

/// Secrets of its own namespace that a Connector names: the credential and the CA.
pub fn secret_names(connector: &Connector) -> Vec<&str> {
    named(connector).filter(|name| is_object_name(name)).collect()
}

/// The same for one name of a Secret: each change of a Secret asks this of all Connectors.
pub fn names_secret(connector: &Connector, name: &str) -> bool {
    named(connector).any(|named| named == name)
}

fn named(connector: &Connector) -> impl Iterator<Item = &str> {
    let credential = connector.spec.secret_ref().filter(|reference| {
        let elsewhere = reference.namespace.as_ref().filter(|namespace| !namespace.is_empty());
        elsewhere.is_none() || elsewhere == connector.metadata.namespace.as_ref()
    });
    credential.map(|reference| reference.name.as_str()).into_iter().chain(connector.spec.ca_secret())
}
