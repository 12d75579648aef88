//! A connection to the hub that breaks again and again, at any byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A TCP port that forwards to the hub.
#[derive(Debug)]
pub(crate) struct BreakingWire {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl BreakingWire {
    /// The n-th connection breaks after `lasts(n)` bytes of responses.
    pub(crate) async fn to(hub: SocketAddr, lasts: impl Fn(u64) -> u64 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        let count = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let n = u64::try_from(count.fetch_add(1, Ordering::Relaxed)).expect("few");
                carried.spawn(carry(client, hub, lasts(n)));
                while carried.try_join_next().is_some() {}
            }
        });
        Self { address, connections, _tasks: tasks }
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn carry(mut client: TcpStream, hub: SocketAddr, bytes: u64) {
    let Ok(mut hub) = TcpStream::connect(hub).await else { return };
    let ((answers, mut to_hub), (mut asked, mut to_client)) = (hub.split(), client.split());
    let mut answers = answers.take(bytes);
    // The end of one direction ends both.
    tokio::select! {
        _ = copy(&mut answers, &mut to_client) => {}
        _ = copy(&mut asked, &mut to_hub) => {}
    }
}
