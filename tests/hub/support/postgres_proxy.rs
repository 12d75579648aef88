//! A TCP proxy in front of Postgres. A test can disconnect it, stall it, or disconnect it when a client sends a word.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::database::Database;

/// The state of all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Connected,
    /// No byte is forwarded, and all connections stay open.
    Stalled,
    /// Closes all connections, and new ones at once.
    Disconnected,
}

/// When a connection closes after a client has sent the word of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DisconnectAt {
    /// Before the server receives it.
    Request,
    /// When the server responds.
    Response,
}

/// A rule that applies once, to the first connection on which a client sends the word.
#[derive(Debug, Clone)]
struct DisconnectRule {
    word: Vec<u8>,
    at: DisconnectAt,
    /// Whether all connections close, and stay closed.
    for_all: bool,
}

/// A TCP port that forwards to Postgres.
#[derive(Debug)]
pub(crate) struct PostgresProxy {
    port: u16,
    link: watch::Sender<Link>,
    rule: Arc<Mutex<Option<DisconnectRule>>>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl PostgresProxy {
    pub(crate) async fn to(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (link, rule) = (watch::Sender::new(Link::Connected), Arc::default());
        let (shared_link, shared_rule) = (link.clone(), Arc::clone(&rule));
        let socket = database.socket();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *shared_link.borrow() != Link::Disconnected
                    && let Ok(server) = UnixStream::connect(&socket).await
                {
                    let (link, rule) = (shared_link.clone(), Arc::clone(&shared_rule));
                    connections.spawn(Connection::new(client, server, link, rule).relay());
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, link, rule, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections, and new ones at once, until [`Self::reconnect`].
    pub(crate) fn disconnect(&self) {
        self.link.send_replace(Link::Disconnected);
    }

    /// Holds all bytes back until [`Self::reconnect`].
    pub(crate) fn stall(&self) {
        self.link.send_replace(Link::Stalled);
    }

    /// Ends a stall, and accepts connections again.
    pub(crate) fn reconnect(&self) {
        self.link.send_replace(Link::Connected);
    }

    /// Closes the connection on which a client first sends `word`.
    pub(crate) fn disconnect_once_on(&self, word: &str, at: DisconnectAt) {
        self.set_rule(DisconnectRule { word: word.into(), at, for_all: false });
    }

    /// Closes all connections when a client sends `word`, and new ones at once, until [`Self::reconnect`].
    pub(crate) fn disconnect_on(&self, word: &str, at: DisconnectAt) {
        self.set_rule(DisconnectRule { word: word.into(), at, for_all: true });
    }

    /// Whether a client has sent the word of the last rule.
    pub(crate) fn has_triggered(&self) -> bool {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn set_rule(&self, rule: DisconnectRule) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Some(rule);
    }
}

struct Connection {
    client: TcpStream,
    server: UnixStream,
    link: watch::Sender<Link>,
    rule: Arc<Mutex<Option<DisconnectRule>>>,
    /// The end of the bytes sent before, because a word may be split between two reads.
    sent_before: Vec<u8>,
    /// The rule that applies to this connection.
    triggered: Option<DisconnectRule>,
}

impl Connection {
    fn new(
        client: TcpStream,
        server: UnixStream,
        link: watch::Sender<Link>,
        rule: Arc<Mutex<Option<DisconnectRule>>>,
    ) -> Self {
        Self { client, server, link, rule, sent_before: Vec::new(), triggered: None }
    }

    /// Forwards bytes in both directions until one end closes or the test disconnects.
    async fn relay(mut self) {
        let mut link = self.link.subscribe();
        let (mut request, mut response) = (vec![0; 16_384], vec![0; 16_384]);
        loop {
            let state = *link.borrow_and_update();
            match state {
                Link::Stalled if link.changed().await.is_ok() => continue,
                Link::Disconnected | Link::Stalled => return,
                Link::Connected => {}
            }
            let is_open = tokio::select! {
                changed = link.changed() => changed.is_ok(),
                read = self.client.read(&mut request) => {
                    self.forward_request(read.ok().and_then(|n| request.get(..n))).await
                }
                read = self.server.read(&mut response) => {
                    self.forward_response(read.ok().and_then(|n| response.get(..n))).await
                }
            };
            if !is_open {
                return;
            }
        }
    }

    /// Forwards bytes to the server; `false` when the connection must close.
    async fn forward_request(&mut self, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return false };
        self.look_for_word(bytes);
        if self.triggered.as_ref().is_some_and(|rule| rule.at == DisconnectAt::Request) {
            self.apply_rule();
            return false;
        }
        self.server.write_all(bytes).await.is_ok()
    }

    /// Forwards bytes to the client; `false` when the connection must close.
    async fn forward_response(&mut self, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return false };
        if self.triggered.is_some() {
            self.apply_rule();
            return false;
        }
        self.client.write_all(bytes).await.is_ok()
    }

    fn look_for_word(&mut self, sent: &[u8]) {
        self.sent_before.extend_from_slice(sent);
        let mut rule = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = rule.as_ref()
            && self.sent_before.windows(set.word.len()).any(|bytes| bytes == set.word)
        {
            self.triggered = rule.take();
        }
        drop(rule);
        let excess = self.sent_before.len().saturating_sub(256);
        self.sent_before.drain(..excess);
    }

    fn apply_rule(&self) {
        if self.triggered.as_ref().is_some_and(|rule| rule.for_all) {
            self.link.send_replace(Link::Disconnected);
        }
    }
}
