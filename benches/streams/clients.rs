//! All clients, in one process with one thread: a socket and a few bytes per client, and one shared buffer.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::client::KEY;
use super::clock::now_us;
use super::processes::own_cpu_us;
use super::protocol::{Frames, PONG, Tags, head_end, parse_response, status};
use super::tally::Tally;
use super::transport::Transport;
use super::{BoxError, Options};

/// Size of the read buffer.
const BUFFER: usize = 64 << 10;
/// Missing events count as lost after this long without a new one.
const QUIET_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for duplicates once all events have arrived.
const DUPLICATES_WAIT: Duration = Duration::from_secs(1);
/// Time limit for opening all connections, and for the first event.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// State that all clients share.
struct Clients {
    hub: SocketAddr,
    tally: RefCell<Tally>,
    buffer: RefCell<Vec<u8>>,
    connecting: Semaphore,
    open: Cell<usize>,
}

/// Connects all clients, prints `ready`, waits until all events have arrived, and prints the result.
pub(super) fn run(options: &Options, transport: Transport) -> Result<(), BoxError> {
    let (_, max) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, max, max)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run_all(options, transport))
}

async fn run_all(options: &Options, transport: Transport) -> Result<(), BoxError> {
    let clients = Rc::new(Clients {
        hub: SocketAddr::from(([127, 0, 0, 1], options.port)),
        tally: RefCell::new(Tally::new(options.connections, options.events)),
        buffer: RefCell::new(vec![0; BUFFER]),
        connecting: Semaphore::new(options.connecting),
        open: Cell::new(0),
    });
    for client in 0..options.connections {
        let clients = Rc::clone(&clients);
        spawn_local(async move {
            let Err(ended) = clients.run_client(client, transport).await;
            clients.tally.borrow_mut().record_closed(&ended.to_string());
        });
    }
    let started = Instant::now();
    while clients.open.get() < options.connections {
        if let Some(error) = clients.tally.borrow().error() {
            println!("a client could not connect: {error}");
            return Ok(());
        }
        if started.elapsed() > CONNECT_TIMEOUT {
            println!("only {} clients are connected", clients.open.get());
            return Ok(());
        }
        sleep(POLL_INTERVAL).await;
    }
    println!("ready");
    let (started, cpu) = (Instant::now(), own_cpu_us());
    while !clients.is_done(started) {
        sleep(POLL_INTERVAL).await;
    }
    sleep(DUPLICATES_WAIT).await;
    let tally = clients.tally.replace(Tally::new(0, 0));
    println!("{}", serde_json::to_string(&tally.into_received(own_cpu_us() - cpu))?);
    Ok(())
}

/// The end of a connection is always an error.
type ConnectionEnd = Result<std::convert::Infallible, BoxError>;

impl Clients {
    fn is_done(&self, started: Instant) -> bool {
        let tally = self.tally.borrow();
        let quiet = tally
            .quiet_for()
            .map_or(started.elapsed() > CONNECT_TIMEOUT, |quiet| quiet > QUIET_TIMEOUT);
        tally.is_complete() || quiet
    }

    /// Connects and reads until the connection ends.
    async fn run_client(&self, client: usize, transport: Transport) -> ConnectionEnd {
        let permit = self.connecting.acquire().await?;
        let stream = TcpStream::connect(self.hub).await?;
        stream.set_nodelay(true)?;
        match transport {
            Transport::Sse => self.sse(client, stream, permit).await,
            Transport::Websocket => self.websocket(client, stream, permit).await,
            Transport::LongPoll => self.long_poll(client, stream, permit).await,
        }
    }

    async fn sse(
        &self,
        client: usize,
        stream: TcpStream,
        permit: SemaphorePermit<'_>,
    ) -> ConnectionEnd {
        let mut tags = Tags::default();
        let (stream, rest) = self.open(stream, "/v1/stream", "", "200").await?;
        self.is_open(permit);
        self.record_events(client, &mut tags, &rest);
        drop(rest);
        loop {
            self.read(&stream, |bytes| self.record_events(client, &mut tags, bytes)).await?;
        }
    }

    async fn websocket(
        &self,
        client: usize,
        stream: TcpStream,
        permit: SemaphorePermit<'_>,
    ) -> ConnectionEnd {
        const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (mut tags, mut frames) = (Tags::default(), Frames::default());
        let (mut stream, rest) = self.open(stream, "/v1/ws", UPGRADE, "101").await?;
        self.is_open(permit);
        frames.read(&rest, |payload| self.record_events(client, &mut tags, payload));
        drop(rest);
        loop {
            let read = |bytes: &[u8]| {
                frames.read(bytes, |payload| self.record_events(client, &mut tags, payload))
            };
            let control = self.read(&stream, read).await?;
            if control.closed {
                return Err("the hub has closed a WebSocket".into());
            }
            for _ in 0..control.pings {
                stream.write_all(&PONG).await?;
            }
        }
    }

    async fn long_poll(
        &self,
        client: usize,
        mut stream: TcpStream,
        permit: SemaphorePermit<'_>,
    ) -> ConnectionEnd {
        let mut tags = Tags::default();
        let (mut request, mut received_bytes) = (String::new(), Vec::new());
        set_request(&mut request, "/v1/events?wait=60&after=now", "");
        stream.write_all(request.as_bytes()).await?;
        self.is_open(permit);
        loop {
            let read = |bytes: &[u8]| {
                self.record_events(client, &mut tags, bytes);
                if !received_bytes.is_empty() || parse_response(bytes).is_none() {
                    received_bytes.extend_from_slice(bytes);
                }
                let complete = if received_bytes.is_empty() { bytes } else { &received_bytes };
                let Some(page) = parse_response(complete) else { return Ok(false) };
                if page.status != "200 OK" || page.cursor.is_empty() {
                    return Err(format!("a poll got the response {}", page.status));
                }
                let target = ("/v1/events?wait=60&after=", page.cursor);
                set_request(&mut request, target.0, target.1);
                received_bytes = Vec::new();
                Ok(true)
            };
            if self.read(&stream, read).await?? {
                stream.write_all(request.as_bytes()).await?;
            }
        }
    }

    /// Opens a stream; returns the bytes after the response head.
    async fn open(
        &self,
        mut stream: TcpStream,
        path: &str,
        headers: &str,
        expected: &str,
    ) -> Result<(TcpStream, Vec<u8>), BoxError> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {KEY}\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut received_bytes = Vec::new();
        loop {
            self.read(&stream, |bytes| received_bytes.extend_from_slice(bytes)).await?;
            let Some(end) = head_end(&received_bytes) else { continue };
            let status = status(&received_bytes);
            if !status.starts_with(expected) {
                return Err(format!("{path} got the response {status}").into());
            }
            return Ok((stream, received_bytes.split_off(end)));
        }
    }

    fn is_open(&self, permit: SemaphorePermit<'_>) {
        drop(permit);
        self.open.set(self.open.get() + 1);
    }

    /// Waits for the next bytes and passes them to `take`.
    async fn read<T>(&self, stream: &TcpStream, take: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        loop {
            stream.readable().await?;
            let mut buffer = self.buffer.borrow_mut();
            match stream.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(take(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn record_events(&self, client: usize, tags: &mut Tags, bytes: &[u8]) {
        let (now, mut any) = (now_us(), false);
        tags.read(bytes, |number, published_us| {
            any = true;
            self.tally.borrow_mut().record(client, number, now.saturating_sub(published_us));
        });
        if any {
            self.tally.borrow_mut().record_read();
        }
    }
}

/// Builds a poll request on a keep-alive connection.
fn set_request(request: &mut String, path: &str, cursor: &str) {
    request.clear();
    let written = write!(
        request,
        "GET {path}{cursor} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    );
    debug_assert!(written.is_ok(), "a write to a string never fails");
}
