//! Asks a running driver whether it serves: the liveness probe's command, and the step before registration. Over a
//! socket of its own beside kubelet's, for as many calls as kubelet makes must not end the driver. Of that one it is asked
//! whether it is there: the kernel answers, also when it has more connections than places.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use crate::error::Error;
use crate::proto::csi::ProbeRequest;
use crate::proto::csi::identity_client::IdentityClient;

const DEADLINE: Duration = Duration::from_secs(5);

pub fn socket(csi_socket: &Path) -> PathBuf {
    csi_socket.with_file_name("health.sock")
}

/// # Errors
/// [`Error::NotServing`] when the driver of this socket does not answer within 5 s.
pub async fn check(csi_socket: &Path) -> Result<(), Error> {
    let not_serving = || Error::NotServing(csi_socket.to_owned());
    let socket = socket(csi_socket);
    let ready = tokio::time::timeout(DEADLINE, probe(&socket)).await.map_err(|_| not_serving())?;
    let serves = ready.unwrap_or(false) && is_there(UnixStream::connect(csi_socket).await);
    serves.then_some(()).ok_or_else(not_serving)
}

fn is_there(connected: io::Result<UnixStream>) -> bool {
    connected.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
}

async fn probe(socket: &Path) -> Option<bool> {
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).ok()?.connect().await.ok()?;
    let response = IdentityClient::new(channel).probe(ProbeRequest {}).await.ok()?;
    response.into_inner().ready
}
