//! The proxy ports, plain and TLS: pingora accepts and hands over raw streams; the number of open ones is
//! bounded. `detect` walks on.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::listening::Service;

use crate::gateway::Gateway;
use crate::http::socket::KEEPALIVE;
use crate::listen::detect;
use crate::metrics::Refusal;

pub struct Accept {
    gateway: Arc<Gateway>,
    /// Clients begin with a TLS handshake.
    secure: bool,
}

impl Accept {
    pub fn new(gateway: Arc<Gateway>, secure: bool) -> Accept {
        Accept { gateway, secure }
    }
}

/// The services for `Server::add_service`, bound at start of the server: `listeners.http` and
/// `listeners.https`.
pub fn services(gateway: &Arc<Gateway>) -> [Service<Accept>; 2] {
    let settings = gateway.parts.settings.load_full();
    let threads = settings.worker_threads();
    let plain = service("http", settings.listeners.http, threads, Accept::new(gateway.clone(), false));
    let secure = service("https", settings.listeners.https, threads, Accept::new(gateway.clone(), true));
    [plain, secure]
}

fn service(name: &str, address: SocketAddr, threads: usize, accept: Accept) -> Service<Accept> {
    let mut service = Service::new(name.to_owned(), accept);
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(KEEPALIVE);
    // pingora would keep 64 KiB for each connection. A head is read into a buffer of ours, and TLS reads
    // ahead for itself.
    let listener = ListenerConfig::tcp(address.to_string()).tcp_socket_options(options);
    service.add_listener(listener.l4_buffer(L4BufferSettings::unbuffered()));
    service.threads = Some(threads);
    service
}

#[async_trait]
impl ServerApp for Accept {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let parts = &self.gateway.parts;
        let limit = i64::try_from(parts.settings.load().limits.connections).unwrap_or(i64::MAX);
        parts.metrics.connections.inc();
        let open = OpenConnection::new(&self.gateway);
        if parts.metrics.connections_open.get() > limit {
            parts.metrics.count_refusal(Refusal::Limit);
            return None;
        }
        // Boxed: an async function keeps room for its argument beside the future that it awaits, and a
        // tunnel's is large.
        let work = Box::pin(detect::serve(self.gateway.clone(), stream, self.secure, shutdown));
        self.gateway.connections.serve(work).await;
        drop(open);
        None
    }
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
