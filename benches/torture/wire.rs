//! A node's wire to Postgres, which can be cut and stalled.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Anything;

/// What the wire does with what is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Carries it.
    Whole,
    /// Holds it back.
    Stalled,
    /// Ends all connections, and new ones at once.
    Cut,
}

/// A TCP port that leads to a Unix socket.
pub(super) struct Wire {
    port: u16,
    state: watch::Sender<State>,
    /// Held for its drop.
    _tasks: JoinSet<()>,
}

impl Wire {
    /// A whole wire on a free port.
    pub(super) async fn to(socket: PathBuf) -> Result<Self, Anything> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (state, mut tasks) = (watch::Sender::new(State::Whole), JoinSet::new());
        tasks.spawn(listen(listener, socket, state.subscribe()));
        Ok(Self { port, state, _tasks: tasks })
    }

    /// Where it begins.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// From now on.
    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn listen(listener: TcpListener, socket: PathBuf, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *state.borrow() != State::Cut {
            let (socket, state) = (socket.clone(), state.clone());
            connections.spawn(async move { carry(client, &socket, state).await });
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries bytes both ways until one end hangs up or the wire is cut.
async fn carry(mut client: TcpStream, socket: &PathBuf, mut state: watch::Receiver<State>) {
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    drop(client.set_nodelay(true));
    let (mut asked, mut answered) = (vec![0; 16_384], vec![0; 16_384]);
    loop {
        let now = *state.borrow_and_update();
        let goes_on = match now {
            State::Cut => false,
            State::Stalled => state.changed().await.is_ok(),
            State::Whole => tokio::select! {
                changed = state.changed() => changed.is_ok(),
                read = client.read(&mut asked) => match read.ok().and_then(|count| asked.get(..count)) {
                    None | Some([]) => false,
                    Some(bytes) => server.write_all(bytes).await.is_ok(),
                },
                read = server.read(&mut answered) => match read.ok().and_then(|count| answered.get(..count)) {
                    None | Some([]) => false,
                    Some(bytes) => client.write_all(bytes).await.is_ok(),
                },
            },
        };
        if !goes_on {
            return;
        }
    }
}
