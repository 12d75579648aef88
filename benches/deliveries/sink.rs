//! All receivers, in one process with one thread: as little work as HTTP/1.1 with keep-alive takes.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

use super::BoxError;
use super::processes::own_cpu_us;
use super::request::Request;
use super::self_exec::SelfExec;
use super::tally::{Arrived, Tally};

/// Missing deliveries count as lost after this long without a new one.
const QUIET_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The path of receivers that never respond.
pub(super) const HANG_PATH: &str = "/hang";

/// The receivers' process, as the run sees it.
pub(super) struct Sink {
    _process: SelfExec,
    port: u16,
    client: reqwest::Client,
    next_number: usize,
    lost: usize,
    repeated: usize,
}

impl Sink {
    pub(super) fn start() -> Result<Self, BoxError> {
        let mut process = SelfExec::start("sink", &[])?;
        let port = process.next_line()?.parse()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        Ok(Self { _process: process, port, client, next_number: 0, lost: 0, repeated: 0 })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the receiver at this path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Reserves `events` unused event numbers; returns the first.
    pub(super) fn reserve_numbers(&mut self, events: usize) -> usize {
        let first = self.next_number;
        self.next_number += events;
        first
    }

    /// Waits for `deliveries` new deliveries, or until no more arrive; returns the result.
    pub(super) async fn wait_for_deliveries(
        &mut self,
        deliveries: usize,
    ) -> Result<Arrived, BoxError> {
        let (mut seen, mut since) = (0, Instant::now());
        while seen < deliveries && since.elapsed() < QUIET_TIMEOUT {
            tokio::time::sleep(POLL_INTERVAL).await;
            let count: usize = self.get("/count").await?.parse()?;
            if count > seen {
                (seen, since) = (count, Instant::now());
            }
        }
        let arrived: Arrived = serde_json::from_str(&self.get("/take").await?)?;
        self.lost += deliveries - arrived.delays_us.len().min(deliveries);
        self.repeated += arrived.repeated;
        Ok(arrived)
    }

    async fn get(&self, path: &str) -> Result<String, BoxError> {
        Ok(self.client.get(self.url(path)).send().await?.text().await?)
    }

    /// Number of deliveries that never arrived.
    pub(super) fn lost(&self) -> usize {
        self.lost
    }

    /// Number of duplicate deliveries.
    pub(super) fn repeated(&self) -> usize {
        self.repeated
    }
}

/// State that all connections share.
#[derive(Default)]
struct Receivers {
    tally: RefCell<Tally>,
    cpu_us: Cell<f64>,
}

/// Listens on a free port, prints the port, and counts until the parent closes the pipe.
pub(super) fn run() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, listen())
}

async fn listen() -> Result<(), BoxError> {
    let receivers = Rc::new(Receivers::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut run_is_over =
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]).map(drop));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (receivers, stream) = (Rc::clone(&receivers), accepted?.0);
                // The hub handles broken connections.
                spawn_local(async move { drop(receivers.serve(stream).await) });
            }
            _ = &mut run_is_over => return Ok(()),
        }
    }
}

impl Receivers {
    async fn serve(&self, mut stream: TcpStream) -> Result<(), BoxError> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(8_192);
        loop {
            let request = loop {
                if let Some(request) = Request::first_of(&buffer) {
                    break request;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            if let Some(response) = self.response(&request)? {
                stream.write_all(&response).await?;
            }
            let end = request.end;
            buffer.drain(..end);
        }
    }

    fn response(&self, request: &Request<'_>) -> Result<Option<Vec<u8>>, BoxError> {
        const ACCEPTED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
        let text = match request.path {
            HANG_PATH => return Ok(None),
            "/count" => self.tally.borrow().count().to_string(),
            "/take" => {
                let cpu_us = own_cpu_us();
                let spent = cpu_us - self.cpu_us.replace(cpu_us);
                let arrived = Arrived { cpu_us: spent, ..self.tally.borrow_mut().take() };
                serde_json::to_string(&arrived)?
            }
            "/floor" | "/v1/events" => return Ok(Some(ACCEPTED.to_vec())),
            _ => {
                self.tally.borrow_mut().record(request);
                return Ok(Some(ACCEPTED.to_vec()));
            }
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        Ok(Some((head + &text).into_bytes()))
    }
}
