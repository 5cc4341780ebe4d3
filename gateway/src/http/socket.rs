//! What connections to clients and to targets have in common.

use std::time::Duration;

use pingora_core::protocols::l4::ext::get_tcp_info;
use pingora_core::protocols::{TcpKeepalive, UniqueIDType};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A client whose node is gone is found after idle + count × interval, two minutes; idle watches cost one
/// packet a minute.
pub const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(20),
    count: 3,
    #[cfg(target_os = "linux")]
    // None: it would also cut a client that has merely stopped reading.
    user_timeout: Duration::ZERO,
};

/// What a client still sends when we close is read for so long, or the reset of a close would take our last
/// answer away from it.
const LINGER: Duration = Duration::from_millis(500);

/// Closes our side, then reads away what the peer still sends, bounded.
pub async fn linger(read: &mut (impl AsyncRead + Unpin), write: &mut (impl AsyncWrite + Unpin)) {
    let mut sink = [0; 1024];
    let drained = async {
        // Where a client has upgraded it may be the second time, and wait for the client's end.
        let _ = write.shutdown().await;
        while matches!(read.read(&mut sink).await, Ok(n) if n > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// The state of a connection whose ends are both there (Linux, `net/tcp_states.h`).
const ESTABLISHED: u8 = 1;

/// How many bytes the peer has acknowledged, if others are on their way still. Linux before 6.2 does not tell.
pub fn on_the_way(socket: UniqueIDType) -> Option<u64> {
    let info = get_tcp_info(socket).ok()?;
    (info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0).then_some(info.tcpi_bytes_acked)
}

/// Whether the peer has ended its side or is gone. Its last bytes may not be read yet.
pub fn has_left(socket: UniqueIDType) -> bool {
    get_tcp_info(socket).is_ok_and(|info| info.tcpi_state != ESTABLISHED)
}

/// Of both legs, the usual ones first; some hardened servers have P-384 or P-521 only.
pub const GROUPS: &str = "X25519:P-256:P-384:P-521";
