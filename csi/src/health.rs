//! Asks a running driver whether it serves: the liveness probe's command, and the step before registration; and whether a
//! kubelet has registered it: the readiness probe's. Over a socket of its own beside kubelet's, for as many calls as kubelet
//! makes must not end the driver. Of that one it is asked whether it is there: the kernel answers, also when it has more
//! connections than places.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;

use crate::error::Error;
use crate::proto::csi::ProbeRequest;
use crate::proto::csi::identity_client::IdentityClient;
use crate::register;

const DEADLINE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

pub fn socket(csi_socket: &Path) -> PathBuf {
    csi_socket.with_file_name("health.sock")
}

/// # Errors
/// [`Error::NotServing`] when the driver of this socket does not answer within 5 s.
pub async fn check(csi_socket: &Path) -> Result<(), Error> {
    let not_serving = || Error::NotServing(csi_socket.to_owned());
    let socket = socket(csi_socket);
    let answer = timeout(DEADLINE, probe(&socket)).await.map_err(|_| not_serving())?;
    let serves = answer.is_some() && is_there(UnixStream::connect(csi_socket).await);
    serves.then_some(()).ok_or_else(not_serving)
}

/// Waits for it, so that the Pod is ready at once although it is seldom asked.
///
/// # Errors
/// [`Error::NotRegistered`] when no kubelet has registered the driver after 5 s, or its socket for kubelet is gone;
/// [`Error::NotServing`] when it does not answer.
pub async fn registered(csi_socket: &Path, registration_dir: &Path) -> Result<(), Error> {
    let socket = socket(csi_socket);
    let mut serves = false;
    let until_registered = async {
        loop {
            match probe(&socket).await {
                // Without its socket kubelet forgets the driver again.
                Some(true) if register::socket(registration_dir).exists() => break,
                answer => serves = answer.is_some(),
            }
            sleep(AGAIN).await;
        }
    };
    match (timeout(DEADLINE, until_registered).await, serves) {
        (Ok(()), _) => Ok(()),
        (Err(_), true) => Err(Error::NotRegistered(registration_dir.to_owned())),
        (Err(_), false) => Err(Error::NotServing(csi_socket.to_owned())),
    }
}

fn is_there(connected: io::Result<UnixStream>) -> bool {
    connected.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |_| true)
}

/// Whether it is registered; none without an answer.
async fn probe(socket: &Path) -> Option<bool> {
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).ok()?.connect().await.ok()?;
    let response = IdentityClient::new(channel).probe(ProbeRequest {}).await.ok()?;
    response.into_inner().ready
}
