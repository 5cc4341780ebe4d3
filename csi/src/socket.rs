//! Unix sockets that only root can reach. `lib` serves the driver on one, `register` the registration on
//! another.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

use crate::error::Error;

/// Replaces what an earlier process left at this path.
pub fn listen(socket: &Path) -> Result<UnixListenerStream, Error> {
    bind(socket).map_err(|source| Error::Socket { socket: socket.to_owned(), source })
}

pub fn remove(socket: &Path) {
    match fs::remove_file(socket) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(socket = %socket.display(), %error, "cannot remove the socket"),
    }
}

fn bind(socket: &Path) -> io::Result<UnixListenerStream> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
    }
    remove(socket);
    let listener = UnixListener::bind(socket)?;
    // `main` sets the umask, so nobody else could connect in between.
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(UnixListenerStream::new(listener))
}
