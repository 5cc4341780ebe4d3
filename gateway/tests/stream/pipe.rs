//! A TCP forwarder whose far end can fall silent: sockets stay open and no byte passes, as when a machine or
//! the network is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Pipe {
    pub port: u16,
    silent: watch::Sender<bool>,
    ends: Arc<AtomicUsize>,
}

impl Pipe {
    pub async fn to(port: u16) -> Pipe {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pipe = Pipe {
            port: listener.local_addr().unwrap().port(),
            silent: watch::Sender::new(false),
            ends: Arc::default(),
        };
        let (silent, ends) = (pipe.silent.clone(), pipe.ends.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                near.set_nodelay(true).unwrap();
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                far.set_nodelay(true).unwrap();
                tokio::spawn(forward(near, far, silent.subscribe(), ends.clone()));
            }
        });
        pipe
    }

    /// The connections that are open now, and not later ones, carry nothing more.
    pub fn silence(&self) {
        self.silent.send_replace(true);
        self.silent.send_replace(false);
    }

    /// Silent connections whose near end was closed since.
    pub fn given_up(&self) -> usize {
        self.ends.load(Ordering::SeqCst)
    }
}

async fn forward(
    mut near: TcpStream,
    mut far: TcpStream,
    mut silent: watch::Receiver<bool>,
    ends: Arc<AtomicUsize>,
) {
    tokio::select! {
        biased;
        _ = silent.changed() => {}
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
    }
    // What still comes is swallowed, so that its sender sees no full socket either.
    while matches!(near.read(&mut [0; 4096]).await, Ok(n) if n > 0) {}
    ends.fetch_add(1, Ordering::SeqCst);
    let _ = far.shutdown().await;
}
