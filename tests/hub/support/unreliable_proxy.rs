//! A TCP proxy in front of the hub whose connections break after a chosen number of bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A TCP port that forwards to the hub.
#[derive(Debug)]
pub(crate) struct UnreliableProxy {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl UnreliableProxy {
    /// Starts a proxy. Its connection number `n` breaks after `response_bytes(n)` bytes from the hub; `n` starts at 0.
    pub(crate) async fn to(
        hub: SocketAddr,
        response_bytes: impl Fn(u64) -> u64 + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let count = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let n = u64::try_from(count.fetch_add(1, Ordering::Relaxed)).expect("a number");
                relays.spawn(relay(client, hub, response_bytes(n)));
                while relays.try_join_next().is_some() {}
            }
        });
        Self { address, connections, _tasks: tasks }
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn relay(mut client: TcpStream, hub: SocketAddr, response_bytes: u64) {
    let Ok(mut hub) = TcpStream::connect(hub).await else { return };
    let ((from_hub, mut to_hub), (mut from_client, mut to_client)) = (hub.split(), client.split());
    let mut responses = from_hub.take(response_bytes);
    // The end of one direction ends both.
    tokio::select! {
        _ = copy(&mut responses, &mut to_client) => {}
        _ = copy(&mut from_client, &mut to_hub) => {}
    }
}
