//! A connection to Postgres that can be cut, stalled, or cut when a chosen word is sent.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::database::Database;

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// No byte gets through, and all connections stay open.
    Stalled,
    /// Closes all connections, and new ones at once.
    Cut,
}

/// When a connection is cut after a client has sent the trap's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutAt {
    /// Before the server receives it.
    Request,
    /// When the server responds.
    Answer,
}

#[derive(Debug, Clone)]
struct Trap {
    word: Vec<u8>,
    at: CutAt,
    /// Whether all connections stay cut.
    for_good: bool,
}

/// A TCP port that forwards to Postgres.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    wire: watch::Sender<Wire>,
    trap: Arc<Mutex<Option<Trap>>>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (wire, trap) = (watch::Sender::new(Wire::Whole), Arc::default());
        let (all, word, socket) = (wire.clone(), Arc::clone(&trap), database.socket());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *all.borrow() != Wire::Cut
                    && let Ok(server) = UnixStream::connect(&socket).await
                {
                    connections.spawn(
                        Connection::new(client, server, all.clone(), Arc::clone(&word)).relay(),
                    );
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, wire, trap, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and refuses new ones until [`Self::mend`].
    pub(crate) fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    /// Holds all bytes back until [`Self::mend`].
    pub(crate) fn stall(&self) {
        self.wire.send_replace(Wire::Stalled);
    }

    pub(crate) fn mend(&self) {
        self.wire.send_replace(Wire::Whole);
    }

    /// Cuts the connection on which a client sends `word`, once.
    pub(crate) fn cut_once(&self, word: &str, at: CutAt) {
        self.set_trap(Trap { word: word.into(), at, for_good: false });
    }

    /// Cuts all connections when a client sends `word`, and refuses new ones until [`Self::mend`].
    pub(crate) fn cut_for_good(&self, word: &str, at: CutAt) {
        self.set_trap(Trap { word: word.into(), at, for_good: true });
    }

    /// Whether a client has sent the word.
    pub(crate) fn has_sprung(&self) -> bool {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn set_trap(&self, trap: Trap) {
        *self.trap.lock().unwrap_or_else(PoisonError::into_inner) = Some(trap);
    }
}

struct Connection {
    client: TcpStream,
    server: UnixStream,
    wire: watch::Sender<Wire>,
    trap: Arc<Mutex<Option<Trap>>>,
    /// The end of the bytes sent before: a word may come in two pieces.
    before: Vec<u8>,
    sprung: Option<Trap>,
}

impl Connection {
    fn new(
        client: TcpStream,
        server: UnixStream,
        wire: watch::Sender<Wire>,
        trap: Arc<Mutex<Option<Trap>>>,
    ) -> Self {
        Self { client, server, wire, trap, before: Vec::new(), sprung: None }
    }

    /// Forwards bytes in both directions until one end closes or the connection is cut.
    async fn relay(mut self) {
        let mut wire = self.wire.subscribe();
        let (mut asked, mut answered) = (vec![0; 16_384], vec![0; 16_384]);
        loop {
            let state = *wire.borrow_and_update();
            match state {
                Wire::Stalled if wire.changed().await.is_ok() => continue,
                Wire::Cut | Wire::Stalled => return,
                Wire::Whole => {}
            }
            let goes_on = tokio::select! {
                changed = wire.changed() => changed.is_ok(),
                read = self.client.read(&mut asked) => self.pass_on(read.ok().and_then(|n| asked.get(..n))).await,
                read = self.server.read(&mut answered) => self.pass_back(read.ok().and_then(|n| answered.get(..n))).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn pass_on(&mut self, sent: Option<&[u8]>) -> bool {
        let Some(sent) = sent.filter(|sent| !sent.is_empty()) else { return false };
        self.look_for_word(sent);
        if self.sprung.as_ref().is_some_and(|trap| trap.at == CutAt::Request) {
            self.end();
            return false;
        }
        self.server.write_all(sent).await.is_ok()
    }

    async fn pass_back(&mut self, sent: Option<&[u8]>) -> bool {
        let Some(sent) = sent.filter(|sent| !sent.is_empty()) else { return false };
        if self.sprung.is_some() {
            self.end();
            return false;
        }
        self.client.write_all(sent).await.is_ok()
    }

    fn look_for_word(&mut self, sent: &[u8]) {
        self.before.extend_from_slice(sent);
        let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = trap.as_ref()
            && self.before.windows(set.word.len()).any(|piece| piece == set.word)
        {
            self.sprung = trap.take();
        }
        drop(trap);
        let spare = self.before.len().saturating_sub(256);
        self.before.drain(..spare);
    }

    fn end(&self) {
        if self.sprung.as_ref().is_some_and(|trap| trap.for_good) {
            self.wire.send_replace(Wire::Cut);
        }
    }
}
