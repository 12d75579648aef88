//! The link between a node and Postgres, which the run can cut and stall.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::BoxError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    Up,
    /// Holds all bytes back and keeps the connections open.
    Stalled,
    /// Closes all connections, and new ones at once.
    Cut,
}

/// A TCP port that forwards to a Unix socket.
pub(super) struct Link {
    port: u16,
    state: watch::Sender<LinkState>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl Link {
    /// Opens a link that is up, on a free port.
    pub(super) async fn open(socket: PathBuf) -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (state, mut tasks) = (watch::Sender::new(LinkState::Up), JoinSet::new());
        tasks.spawn(accept(listener, socket, state.subscribe()));
        Ok(Self { port, state, _tasks: tasks })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn set_state(&self, state: LinkState) {
        self.state.send_replace(state);
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, state: watch::Receiver<LinkState>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *state.borrow() != LinkState::Cut {
            let (socket, state) = (socket.clone(), state.clone());
            connections.spawn(async move { forward(client, &socket, state).await });
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Forwards bytes in both directions until one end closes or the link is cut.
async fn forward(mut client: TcpStream, socket: &PathBuf, mut state: watch::Receiver<LinkState>) {
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    drop(client.set_nodelay(true));
    let (mut request, mut response) = (vec![0; 16_384], vec![0; 16_384]);
    loop {
        let now = *state.borrow_and_update();
        let continues = match now {
            LinkState::Cut => false,
            LinkState::Stalled => state.changed().await.is_ok(),
            LinkState::Up => tokio::select! {
                changed = state.changed() => changed.is_ok(),
                read = client.read(&mut request) => match read.ok().and_then(|count| request.get(..count)) {
                    None | Some([]) => false,
                    Some(bytes) => server.write_all(bytes).await.is_ok(),
                },
                read = server.read(&mut response) => match read.ok().and_then(|count| response.get(..count)) {
                    None | Some([]) => false,
                    Some(bytes) => client.write_all(bytes).await.is_ok(),
                },
            },
        };
        if !continues {
            return;
        }
    }
}
