//! Unix sockets that only root can reach. `lib` serves the driver on one, `register` the registration on
//! another. Kubelet has a connection for each call, and makes those of all volumes at once: what is too many
//! waits in the kernel.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, stream};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

use crate::error::Error;

/// At the same time.
const CONNECTIONS: usize = 256;

/// One of them.
pub struct Connection {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

/// A socket in its folder, removed with this: but not one that another process has put in its place, whom kubelet would miss.
pub struct Bound {
    path: PathBuf,
    /// Held, so that no other file can have its number. Not a reader: a socket cannot be opened.
    file: File,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let number = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let (own, there) = (self.file.metadata().map(number), fs::symlink_metadata(&self.path).map(number));
        if own.is_ok_and(|own| there.is_ok_and(|there| there == own)) {
            remove(&self.path);
        }
    }
}

/// Replaces what an earlier process left at this path.
pub fn listen(socket: &Path) -> Result<(Bound, impl Stream<Item = io::Result<Connection>> + use<>), Error> {
    let (bound, listener) =
        bind(socket).map_err(|source| Error::Socket { socket: socket.to_owned(), source })?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let incoming = stream::unfold((listener, places), async |(listener, places)| {
        let place = places.clone().acquire_owned().await.ok()?;
        let accepted = listener.accept().await.map(|(stream, _)| Connection { stream, _place: place });
        Some((accepted, (listener, places)))
    });
    Ok((bound, incoming))
}

fn remove(socket: &Path) {
    match fs::remove_file(socket) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(socket = %socket.display(), %error, "cannot remove the socket"),
    }
}

fn bind(socket: &Path) -> io::Result<(Bound, UnixListener)> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
    }
    remove(socket);
    let listener = UnixListener::bind(socket)?;
    // `main` sets the umask, so nobody else could connect in between.
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(socket, flags, Mode::empty())?);
    Ok((Bound { path: socket.to_owned(), file }, listener))
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
