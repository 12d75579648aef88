//! A TCP proxy between browser and hub. It disconnects after a random number of bytes to the browser.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The longest response head in bytes. A disconnect within it is a reset, because over plain HTTP Chromium accepts a
/// truncated head as complete.
const MAX_HEAD: usize = 1_000;

/// When the proxy disconnects.
#[derive(Debug, Clone)]
pub(crate) struct DisconnectPlan {
    /// Range of the number of bytes to the browser before a disconnect.
    pub(crate) bytes: Range<usize>,
    /// Requests that start with this text get, in turn, a disconnect and a 503.
    pub(crate) refused: Option<&'static str>,
}

impl DisconnectPlan {
    /// The proxy forwards everything.
    pub(crate) const NO_DISCONNECTS: Self =
        Self { bytes: usize::MAX - 1..usize::MAX, refused: None };
}

/// Counts of events on the connection.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) disconnects: usize,
    pub(crate) refused: usize,
    /// Number of CORS preflights.
    pub(crate) preflights: usize,
}

/// A TCP port that forwards to the hub.
#[derive(Debug)]
pub(crate) struct UnreliableProxy {
    pub(crate) address: SocketAddr,
    counts: watch::Sender<Counts>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl UnreliableProxy {
    pub(crate) async fn to(hub: SocketAddr, plan: DisconnectPlan) -> Self {
        let seed = seed();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let counts = watch::Sender::new(Counts::default());
        let (connection_counts, mut tasks) = (counts.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((browser, _)) = listener.accept().await {
                let Ok(hub) = TcpStream::connect(hub).await else { continue };
                let (left, reset) = {
                    let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
                    let left = random.random_range(plan.bytes.clone());
                    (left, left < MAX_HEAD || random.random())
                };
                let counts = connection_counts.clone();
                let connection =
                    Connection { browser, hub, left, reset, refused: plan.refused, counts };
                connections.spawn(connection.relay());
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, counts, _tasks: tasks }
    }

    pub(crate) fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }
}

/// The seed of the disconnects: `HOOKHUB_TEST_SEED`, or a random one. It is printed so that a run can be repeated.
fn seed() -> u64 {
    let given = std::env::var_os("HOOKHUB_TEST_SEED").and_then(|seed| seed.into_string().ok());
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("a number"));
    let test = std::thread::current();
    #[expect(clippy::print_stderr, reason = "shown when the test fails")]
    {
        eprintln!("{}: HOOKHUB_TEST_SEED={seed}", test.name().unwrap_or_default());
    }
    seed
}

struct Connection {
    browser: TcpStream,
    hub: TcpStream,
    /// Bytes left until the disconnect.
    left: usize,
    /// Whether the disconnect is a reset instead of an orderly close.
    reset: bool,
    refused: Option<&'static str>,
    counts: watch::Sender<Counts>,
}

impl Connection {
    /// Forwards bytes in both directions until one end closes or the proxy disconnects.
    async fn relay(mut self) {
        let (mut request, mut response_bytes) = (vec![0; 16_384], vec![0; 16_384]);
        loop {
            let is_open = tokio::select! {
                read = self.browser.read(&mut request) => self.forward_request(read.ok().and_then(|n| request.get(..n))).await,
                read = self.hub.read(&mut response_bytes) => self.forward_response(read.ok().and_then(|n| response_bytes.get(..n))).await,
            };
            if !is_open {
                return;
            }
        }
    }

    async fn forward_request(&mut self, sent: Option<&[u8]>) -> bool {
        let Some(sent) = sent.filter(|sent| !sent.is_empty()) else { return false };
        if self.refused.is_some_and(|refused| sent.starts_with(refused.as_bytes())) {
            self.refuse().await;
            return false;
        }
        if sent.starts_with(b"OPTIONS ") {
            self.counts.send_modify(|counts| counts.preflights += 1);
        }
        self.hub.write_all(sent).await.is_ok()
    }

    async fn forward_response(&mut self, sent: Option<&[u8]>) -> bool {
        let Some(sent) = sent.filter(|sent| !sent.is_empty()) else { return false };
        let Some(last) = sent.get(..self.left) else {
            self.left -= sent.len();
            return self.browser.write_all(sent).await.is_ok();
        };
        drop(self.browser.write_all(last).await);
        self.disconnect();
        false
    }

    async fn refuse(&mut self) {
        let nth = self.counts.borrow().refused;
        if nth.is_multiple_of(2) {
            self.disconnect();
        } else {
            let response = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            drop(self.browser.write_all(response).await);
        }
        self.counts.send_modify(|counts| counts.refused += 1);
    }

    fn disconnect(&mut self) {
        if self.reset {
            let browser = SockRef::from(&self.browser);
            browser.set_linger(Some(Duration::ZERO)).expect("a socket that can be reset");
        }
        self.counts.send_modify(|counts| counts.disconnects += 1);
    }
}
