//! A TCP relay that makes a round trip take a given time: for counting round trips, and for what users feel of
//! them. It takes one for the handshake of TCP too. It loses nothing, and is as wide for a new connection as
//! for an old one: what TCP's slow start costs a new connection over a real distance comes on top.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Pieces on their way in one direction, each of up to so many bytes: far more than a round trip brings.
const IN_FLIGHT: usize = 64;
const PIECE: usize = 64 << 10;

#[derive(Args)]
pub struct Options {
    /// Address and port to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// Where to relay to.
    #[arg(long)]
    target: SocketAddr,
    /// How long a round trip takes, in milliseconds.
    #[arg(long)]
    round_trip: u64,
}

/// Relays until the process is ended.
pub async fn run(options: &Options) -> Result<()> {
    for address in [options.listen, options.target] {
        ensure!(
            is_for_tests(address.ip()),
            "{address} is not an address of a network for tests: no load goes there"
        );
    }
    let listener = TcpListener::bind(options.listen).await?;
    serve(listener, options.target, Duration::from_millis(options.round_trip)).await;
    Ok(())
}

/// Listens on loopback until the program ends; gives the port.
pub async fn start(target: u16, round_trip: Duration) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(serve(listener, SocketAddr::from(([127, 0, 0, 1], target)), round_trip));
    Ok(port)
}

/// Loopback and 198.18.0.0/15 (RFC 2544).
fn is_for_tests(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || matches!(address.octets(), [198, 18 | 19, ..]),
        IpAddr::V6(address) => address.is_loopback(),
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, round_trip: Duration) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(relay(client, target, round_trip));
    }
}

async fn relay(client: TcpStream, target: SocketAddr, round_trip: Duration) -> Result<()> {
    tokio::time::sleep(round_trip).await;
    let target = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let ((from_client, to_client), (from_target, to_target)) = (client.into_split(), target.into_split());
    tokio::try_join!(
        carry(from_client, to_target, round_trip / 2),
        carry(from_target, to_client, round_trip / 2)
    )?;
    Ok(())
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(IN_FLIGHT);
    let reading = async {
        let mut buf = BytesMut::new();
        loop {
            // Without it the pieces are of 64 bytes, and those on their way no more than 4 KiB.
            buf.reserve(PIECE);
            if from.read_buf(&mut buf).await? == 0
                || sender.send((Instant::now() + delay, buf.split().freeze())).await.is_err()
            {
                break;
            }
        }
        drop(sender);
        anyhow::Ok(())
    };
    let writing = async {
        while let Some((due, data)) = receiver.recv().await {
            // A timer goes in steps of 1 ms: what is not delayed must not wait for one.
            if !delay.is_zero() {
                tokio::time::sleep_until(due).await;
            }
            to.write_all(&data).await?;
        }
        Ok(to.shutdown().await?)
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    /// A connection through the relay to a server that answers each byte with so many.
    async fn connection(answer: usize) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            while client.read_u8().await.is_ok() {
                client.write_all(&vec![0; answer]).await.unwrap();
            }
        });
        let relay = start(server, ROUND_TRIP).await.unwrap();
        TcpStream::connect(("127.0.0.1", relay)).await.unwrap()
    }

    async fn exchange(connection: &mut TcpStream, answer: usize) -> Duration {
        let begun = Instant::now();
        connection.write_all(b"?").await.unwrap();
        connection.read_exact(&mut vec![0; answer]).await.unwrap();
        begun.elapsed()
    }

    #[tokio::test]
    async fn a_handshake_takes_a_round_trip_and_so_does_an_exchange() {
        let mut connection = connection(1).await;
        let first = exchange(&mut connection, 1).await;
        assert!(first >= ROUND_TRIP * 2, "{first:?}");
        let second = exchange(&mut connection, 1).await;
        assert!(second >= ROUND_TRIP && second < first, "{second:?} after {first:?}");
    }

    #[tokio::test]
    async fn a_large_answer_takes_no_round_trips_of_its_own() {
        const ANSWER: usize = 1 << 20;
        let mut connection = connection(ANSWER).await;
        let taken = exchange(&mut connection, ANSWER).await;
        // In pieces of 64 bytes, 64 of them on their way, it would be 256 of half a round trip.
        assert!(taken < ROUND_TRIP * 20, "{taken:?}");
    }

    #[test]
    fn only_networks_for_tests_are_relayed_to() {
        for (address, allowed) in [
            ("127.0.0.1", true),
            ("198.18.255.1", true),
            ("198.19.0.1", true),
            ("::1", true),
            ("198.20.0.1", false),
            ("10.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_for_tests(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
