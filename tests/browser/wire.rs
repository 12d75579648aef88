//! The connection between browser and hub, which is cut after a random number of bytes to the browser.

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

/// The response head may extend up to this byte. A cut within it is a reset, because over plain HTTP Chromium accepts a
/// truncated head as complete.
const HEAD: usize = 1_000;

/// When connections are cut.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Range of the number of bytes to the browser before a cut.
    pub(crate) bytes: Range<usize>,
    /// Requests with this start get no stream: every other one is cut, every other one gets 503.
    pub(crate) refused: Option<&'static str>,
}

impl Plan {
    /// No cuts.
    pub(crate) const WHOLE: Self = Self { bytes: usize::MAX - 1..usize::MAX, refused: None };
}

/// Counts of events on the connection.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) cuts: usize,
    pub(crate) refused: usize,
    /// Number of CORS preflights.
    pub(crate) preflights: usize,
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    counts: watch::Sender<Counts>,
    /// Dropping the set aborts the tasks.
    _tasks: JoinSet<()>,
}

impl Wire {
    pub(crate) async fn to(hub: SocketAddr, plan: Plan) -> Self {
        let seed = seed();
        let chance = Mutex::new(StdRng::seed_from_u64(seed));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let counts = watch::Sender::new(Counts::default());
        let (connection_counts, mut tasks) = (counts.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((browser, _)) = listener.accept().await {
                let Ok(hub) = TcpStream::connect(hub).await else { continue };
                let (left, reset) = {
                    let mut chance = chance.lock().unwrap_or_else(PoisonError::into_inner);
                    let left = chance.random_range(plan.bytes.clone());
                    (left, left < HEAD || chance.random())
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

/// The seed of the cuts: `HOOKHUB_TEST_SEED`, or a random one. It is printed so that a run can be repeated.
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
    /// Bytes left until the cut.
    left: usize,
    /// Whether the cut is a reset instead of an orderly close.
    reset: bool,
    refused: Option<&'static str>,
    counts: watch::Sender<Counts>,
}

impl Connection {
    /// Forwards bytes in both directions until one end closes or the connection is cut.
    async fn relay(mut self) {
        let (mut asked, mut answered) = (vec![0; 16_384], vec![0; 16_384]);
        loop {
            let goes_on = tokio::select! {
                read = self.browser.read(&mut asked) => self.pass_on(read.ok().and_then(|n| asked.get(..n))).await,
                read = self.hub.read(&mut answered) => self.pass_back(read.ok().and_then(|n| answered.get(..n))).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn pass_on(&mut self, sent: Option<&[u8]>) -> bool {
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

    async fn pass_back(&mut self, sent: Option<&[u8]>) -> bool {
        let Some(sent) = sent.filter(|sent| !sent.is_empty()) else { return false };
        let Some(most) = sent.get(..self.left) else {
            self.left -= sent.len();
            return self.browser.write_all(sent).await.is_ok();
        };
        drop(self.browser.write_all(most).await);
        self.disconnect();
        false
    }

    async fn refuse(&mut self) {
        let nth = self.counts.borrow().refused;
        if nth.is_multiple_of(2) {
            self.disconnect();
        } else {
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            drop(self.browser.write_all(answer).await);
        }
        self.counts.send_modify(|counts| counts.refused += 1);
    }

    fn cut(&mut self) {
        if self.reset {
            let browser = SockRef::from(&self.browser);
            browser.set_linger(Some(Duration::ZERO)).expect("a socket that can be reset");
        }
        self.counts.send_modify(|counts| counts.cuts += 1);
    }
}
