//! A TCP relay that makes a round trip take a given time, so that round trips can be counted. It takes one
//! for the handshake of TCP too.

use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Pieces on their way in one direction.
const IN_FLIGHT: usize = 64;

/// Listens until the program ends; gives the port.
pub async fn start(target: u16, round_trip: Duration) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(client, target, round_trip));
        }
    });
    Ok(port)
}

async fn relay(client: TcpStream, target: u16, round_trip: Duration) -> Result<()> {
    tokio::time::sleep(round_trip).await;
    let target = TcpStream::connect(("127.0.0.1", target)).await?;
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
        while from.read_buf(&mut buf).await? > 0 {
            if sender.send((Instant::now() + delay, buf.split().freeze())).await.is_err() {
                break;
            }
        }
        drop(sender);
        anyhow::Ok(())
    };
    let writing = async {
        while let Some((due, data)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            to.write_all(&data).await?;
        }
        Ok(to.shutdown().await?)
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}
