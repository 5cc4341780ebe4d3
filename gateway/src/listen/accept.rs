//! The proxy ports, plain and TLS. One thread accepts on both and gives each socket to the worker that has the
//! fewest connections; the number of open ones is bounded. `detect` walks on. pingora starts it and tells it
//! when to end.

use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::join_all;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::Service;
use rustix::net::{listen, sockopt};
use tokio::task::unconstrained;

use crate::gateway::Gateway;
use crate::http::socket::KEEPALIVE;
use crate::listen::detect;
use crate::metrics::Refusal;
use crate::workers::Workers;

/// Connections that the kernel holds for us; it takes the smaller of this and `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// Without files or memory the next try would fail at once, too.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// For `Server::add_service`.
pub struct Ports {
    gateway: Arc<Gateway>,
    workers: Workers,
    ports: [Port; 2],
}

struct Port {
    /// Until it is accepted on.
    listener: Option<TcpListener>,
    address: SocketAddr,
    /// Clients begin with a TLS handshake.
    secure: bool,
}

impl Ports {
    pub fn bind(
        gateway: &Arc<Gateway>,
        workers: Workers,
        http: SocketAddr,
        https: SocketAddr,
    ) -> anyhow::Result<Ports> {
        let bind = |name, address, secure| {
            Port::bind(address, secure).with_context(|| format!("binding listeners.{name} ({address})"))
        };
        let ports = [bind("http", http, false)?, bind("https", https, true)?];
        Ok(Ports { gateway: gateway.clone(), workers, ports })
    }

    /// Of the plain port, and of the one with TLS.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.ports.each_ref().map(|port| port.address)
    }

    /// Until the process ends: what has come by then is accepted, what comes later refused, for the socket is closed.
    async fn accept(
        &self,
        port: &Port,
        listener: Option<TcpListener>,
        mut shutdown: ShutdownWatch,
    ) -> io::Result<()> {
        let Some(listener) = listener else { return Ok(()) };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let ends = shutdown.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = shutdown.wait_for(|ending| *ending) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.give(socket, peer.ip(), port.secure, ends.clone()),
                // The client has left again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(%error, address = %port.address, "a connection cannot be accepted");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        while let Some(Ok((socket, peer))) = unconstrained(listener.accept()).now_or_never() {
            self.give(socket, peer.ip(), port.secure, ends.clone());
        }
        Ok(())
    }

    fn give(&self, socket: tokio::net::TcpStream, peer: IpAddr, secure: bool, shutdown: ShutdownWatch) {
        let gateway = self.gateway.clone();
        // Away from this thread's event loop: it joins its worker's.
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "a connection cannot be handed over"),
        };
        self.workers.give(Box::new(move || match tokio::net::TcpStream::from_std(socket) {
            Ok(socket) => Box::pin(serve(gateway, Box::new(Socket::from(socket)), peer, secure, shutdown)),
            Err(error) => Box::pin(async move { tracing::error!(%error, "a connection cannot be watched") }),
        }));
    }
}

impl Port {
    fn bind(address: SocketAddr, secure: bool) -> io::Result<Port> {
        let listener = TcpListener::bind(address)?;
        listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        // Linux gives these to each socket that is accepted.
        sockopt::set_tcp_nodelay(&listener, true)?;
        sockopt::set_tcp_keepidle(&listener, KEEPALIVE.idle)?;
        sockopt::set_tcp_keepintvl(&listener, KEEPALIVE.interval)?;
        sockopt::set_tcp_keepcnt(&listener, u32::try_from(KEEPALIVE.count).unwrap_or(u32::MAX))?;
        sockopt::set_socket_keepalive(&listener, true)?;
        Ok(Port { address: listener.local_addr()?, listener: Some(listener), secure })
    }
}

#[async_trait]
impl Service for Ports {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, _: usize) {
        let listeners = self.ports.each_mut().map(|port| port.listener.take());
        let accepting =
            self.ports.iter().zip(listeners).map(|(port, own)| self.accept(port, own, shutdown.clone()));
        for ended in join_all(accepting).await {
            if let Err(error) = ended {
                tracing::error!(%error, "a proxy port is closed");
            }
        }
        // What is open goes on, on workers that end with us.
        pending().await
    }

    fn name(&self) -> &str {
        "proxy"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

async fn serve(gateway: Arc<Gateway>, stream: Stream, peer: IpAddr, secure: bool, shutdown: ShutdownWatch) {
    let parts = &gateway.parts;
    let limit = i64::try_from(parts.settings.load().limits.connections).unwrap_or(i64::MAX);
    parts.metrics.connections.inc();
    let open = OpenConnection::new(&gateway);
    if parts.metrics.connections_open.get() > limit {
        parts.metrics.count_refusal(Refusal::Limit);
        return;
    }
    let work = async {
        if let Some(rest) =
            Box::pin(detect::find(gateway.clone(), stream, Some(peer), secure, &shutdown)).await
        {
            rest.await;
        }
    };
    gateway.connections.serve(work).await;
    drop(open);
}

/// Counts while it lives: a cancelled connection is uncounted too.
struct OpenConnection<'a>(&'a Gateway);

impl OpenConnection<'_> {
    fn new(gateway: &Gateway) -> OpenConnection<'_> {
        gateway.parts.metrics.connections_open.inc();
        OpenConnection(gateway)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.parts.metrics.connections_open.dec();
    }
}
