//! The wire between browser and hub: each connection is cut after so many bytes to the browser.

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

/// Up to here it may be the head of an answer that is cut. What is cut there is reset: over plain HTTP, Chromium takes
/// a head that merely ends for a whole one.
const HEAD: usize = 1_000;

/// What the wire does to connections.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// After how many bytes to the browser a connection is cut.
    pub(crate) bytes: Range<usize>,
    /// Requests that begin so get no stream: every other one is cut, every other one answered 503 by the wire itself.
    pub(crate) refused: Option<&'static str>,
}

impl Plan {
    /// No cuts.
    pub(crate) const WHOLE: Self = Self { bytes: usize::MAX - 1..usize::MAX, refused: None };
}

/// What has happened on the wire.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) cuts: usize,
    pub(crate) refused: usize,
    /// CORS preflights that were sent.
    pub(crate) preflights: usize,
}

/// The wire.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    counts: watch::Sender<Counts>,
    /// Held for its drop.
    _tasks: JoinSet<()>,
}

impl Wire {
    pub(crate) async fn to(hub: SocketAddr, plan: Plan) -> Self {
        let seed = seed();
        let chance = Mutex::new(StdRng::seed_from_u64(seed));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let counts = watch::Sender::new(Counts::default());
        let (told, mut tasks) = (counts.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((browser, _)) = listener.accept().await {
                let Ok(hub) = TcpStream::connect(hub).await else { continue };
                let (left, reset) = {
                    let mut chance = chance.lock().unwrap_or_else(PoisonError::into_inner);
                    let left = chance.random_range(plan.bytes.clone());
                    (left, left < HEAD || chance.random())
                };
                let counts = told.clone();
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

/// Where the cuts are drawn from: `HOOKHUB_TEST_SEED`, or another one each time. It is printed for who wants it again.
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
    /// Bytes until the cut.
    left: usize,
    /// Whether the cut is a reset, or an end as if all had been sent.
    reset: bool,
    refused: Option<&'static str>,
    counts: watch::Sender<Counts>,
}

impl Connection {
    /// Carries bytes both ways until an end hangs up or the connection is cut.
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
        self.cut();
        false
    }

    async fn refuse(&mut self) {
        let nth = self.counts.borrow().refused;
        if nth.is_multiple_of(2) {
            self.cut();
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
