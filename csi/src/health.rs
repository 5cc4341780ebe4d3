//! Asks a running driver over its socket whether it serves: the liveness probe's command, and the step before
//! registration.

use std::path::Path;
use std::time::Duration;

use tonic::transport::Endpoint;

use crate::error::Error;
use crate::proto::csi::ProbeRequest;
use crate::proto::csi::identity_client::IdentityClient;

const DEADLINE: Duration = Duration::from_secs(5);

/// # Errors
/// [`Error::NotServing`] when nobody answers on the socket within 5 s.
pub async fn check(socket: &Path) -> Result<(), Error> {
    let not_serving = || Error::NotServing(socket.to_owned());
    let ready = tokio::time::timeout(DEADLINE, probe(socket)).await.map_err(|_| not_serving())?;
    ready.unwrap_or(false).then_some(()).ok_or_else(not_serving)
}

async fn probe(socket: &Path) -> Option<bool> {
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).ok()?.connect().await.ok()?;
    let response = IdentityClient::new(channel).probe(ProbeRequest {}).await.ok()?;
    response.into_inner().ready
}
