//! Leave for a moment: the principal may use the connector, its route is usable, its credential at hand and
//! its target resolved. Found out once a second for each passage, and again when its route has changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors_api::conditions::reason::{NOT_CHECKED, TARGET_CERTIFICATE_CHANGED};

use super::authorize::Verdict;
use super::credential::CredentialError;
use super::passage::{Aim, Grant, Passage, Standing};
use crate::error::{Error, Result};
use crate::table::route::{Entry, Route, Table};

/// How long a passage's requests go by what was found for one of them. Short against every revocation bound,
/// long against a request.
const LIFE: Duration = Duration::from_secs(1);
/// Looks again at a connector that nobody has checked yet, after so many milliseconds.
const NOT_YET: [u64; 4] = [50, 100, 200, 400];

impl Standing {
    fn grant(&self, table: &Arc<Table>) -> Option<Grant> {
        if self.taken.elapsed() >= LIFE || !self.route_stands(table) {
            return None;
        }
        let (route, dial) = (self.route.clone(), self.dial.clone());
        Some(Grant { route, credential: self.credential.upgrade()?, dial })
    }

    /// Another snapshot has the same route, unless it was this one that has changed.
    fn route_stands(&self, table: &Arc<Table>) -> bool {
        let same = |entry: &Entry| matches!(entry, Entry::Usable(route) if Arc::ptr_eq(route, &self.route));
        std::ptr::eq(self.table.as_ptr(), Arc::as_ptr(table))
            || table.lookup(&self.route.connector).is_some_and(same)
    }
}

/// The grant that stands, or a new one if it is old or its route has changed.
pub async fn current(passage: &Passage) -> Result<Grant> {
    let known = passage
        .standing
        .load()
        .as_ref()
        .and_then(|standing| standing.grant(&passage.gateway.parts.table.load()));
    match known {
        Some(grant) => Ok(grant),
        None => renewed(passage).await,
    }
}

/// A new grant, whatever the old one says.
pub async fn renewed(passage: &Passage) -> Result<Grant> {
    passage.counted.store(passage.gateway.parts.metrics.connectors.of(&passage.connector));
    // Boxed: once a second, and larger than all else that a request holds.
    let (grant, table) = Box::pin(renew(passage)).await?;
    passage.standing.store(Some(Arc::new(Standing {
        route: grant.route.clone(),
        credential: Arc::downgrade(&grant.credential),
        dial: grant.dial.clone(),
        table: Arc::downgrade(&table),
        taken: Instant::now(),
    })));
    Ok(grant)
}

async fn renew(passage: &Passage) -> Result<(Grant, Arc<Table>)> {
    let parts = &passage.gateway.parts;
    granted(passage, &parts.table.load_full()).await?;
    let table = settled(passage).await;
    let route = match table.lookup(&passage.connector) {
        Some(Entry::Usable(route)) => route.clone(),
        // As when the gateway itself sees the change, before the controller does.
        Some(Entry::Unusable { reason, message }) if reason == TARGET_CERTIFICATE_CHANGED => {
            return Err(Error::CertificateChanged {
                host: passage.host().into_owned(),
                cause: message.clone(),
            });
        }
        Some(Entry::Unusable { message, .. }) => {
            return Err(Error::Unusable { connector: passage.connector.clone(), why: message.clone() });
        }
        None => return Err(Error::NotFound(passage.connector.clone())),
    };
    let target = passage.targets(&route).next().ok_or_else(|| not_a_target(passage))?;
    let unusable = |error| unusable(&route, error);
    let credential = parts.credentials.get(&route).await.map_err(unusable)?;
    let given = parts.credentials.certificates(&route).await.map_err(unusable)?;
    let dial = passage.gateway.upstream.dial(&route, target, &given).await?;
    Ok((Grant { route, credential, dial }, table))
}

/// The controller tells everybody at once that a connector is Ready, and our table has it a moment later: who
/// comes in between waits for that moment. After `granted`: nobody else learns by the time it takes that there is one.
async fn settled(passage: &Passage) -> Arc<Table> {
    let mut table = passage.gateway.parts.table.load_full();
    for wait in NOT_YET {
        match table.lookup(&passage.connector) {
            Some(Entry::Unusable { reason, .. }) if reason == NOT_CHECKED => {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                table = passage.gateway.parts.table.load_full();
            }
            _ => break,
        }
    }
    table
}

/// A connector that does not exist is told apart only to those who may `get` it.
async fn granted(passage: &Passage, table: &Table) -> Result<()> {
    let (principal, connector) = (&passage.principal, &passage.connector);
    match passage.gateway.parts.authorizer.may_use(principal, connector).await {
        Ok(Verdict::Allowed) => Ok(()),
        Ok(Verdict::Denied { may_get: true }) if table.lookup(connector).is_none() => {
            Err(Error::NotFound(connector.clone()))
        }
        Ok(Verdict::Denied { .. }) => {
            Err(Error::Forbidden { user: principal.user.to_string(), connector: connector.clone() })
        }
        Err(_) => Err(Error::ReviewUnavailable),
    }
}

fn not_a_target(passage: &Passage) -> Error {
    match &passage.aim {
        Aim::Origin(origin) => origin.not_a_target(&passage.connector.to_string()),
        Aim::Address => Error::Internal("a route without an address".to_owned()),
    }
}

/// In the words of the connector.
pub fn unusable(route: &Route, error: CredentialError) -> Error {
    match error {
        CredentialError::Unusable(why) | CredentialError::InvalidCa(why) => {
            Error::Unusable { connector: route.connector.clone(), why }
        }
        CredentialError::Unavailable => Error::ReviewUnavailable,
    }
}
