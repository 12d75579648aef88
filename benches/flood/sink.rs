//! A receiver that only counts: as little work as HTTP/1.1 with keep-alive takes.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Anything;

struct Counts {
    arrivals: Vec<Vec<AtomicU8>>,
    pairs: AtomicUsize,
    posts: AtomicUsize,
}

/// Listens on a free port, prints it, and counts until its parent's pipe closes.
pub(super) async fn run(events: usize, subscriptions: usize) -> Result<(), Anything> {
    let row = || (0..events).map(|_| AtomicU8::new(0)).collect();
    let counts = Arc::new(Counts {
        arrivals: (0..subscriptions).map(|_| row()).collect(),
        pairs: AtomicUsize::new(0),
        posts: AtomicUsize::new(0),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut connections = tokio::task::JoinSet::new();
    let mut parent_gone =
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0; 1]).map(drop));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let counts = Arc::clone(&counts);
                connections.spawn(async move { drop(serve(accepted?.0, &counts).await); Ok::<(), Anything>(()) });
            }
            _ = &mut parent_gone => return Ok(()),
        }
    }
}

async fn serve(mut stream: TcpStream, counts: &Counts) -> Result<(), Anything> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8_192);
    loop {
        let head = loop {
            if let Some(end) = find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length =
            text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let end = head + length.map_or(Ok(0), str::parse::<usize>)?;
        while buffer.len() < end {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = counts.answer(&path, &buffer[head..end]);
        stream.write_all(&answer).await?;
        buffer.drain(..end);
    }
}

impl Counts {
    fn answer(&self, path: &str, body: &[u8]) -> Vec<u8> {
        if path == "/count" {
            let line = format!(
                "{} {}",
                self.pairs.load(Ordering::Relaxed),
                self.posts.load(Ordering::Relaxed)
            );
            return with_body(line.as_bytes());
        }
        if let Some(row) = path.strip_prefix("/arrivals/").and_then(|index| self.row(index)) {
            let counts: Vec<u8> = row.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            return with_body(&counts);
        }
        if let (Some(row), Some(number)) = (self.row(path.trim_start_matches('/')), number(body)) {
            self.posts.fetch_add(1, Ordering::Relaxed);
            if row.get(number).is_some_and(|count| count.fetch_add(1, Ordering::Relaxed) == 0) {
                self.pairs.fetch_add(1, Ordering::Relaxed);
            }
        }
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
    }

    fn row(&self, index: &str) -> Option<&Vec<AtomicU8>> {
        self.arrivals.get(index.parse::<usize>().ok()?)
    }
}

fn with_body(body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// The event's own number: the digits after `"n":`.
fn number(body: &[u8]) -> Option<usize> {
    let start = find(body, b"\"n\":")? + 4;
    let digits = body[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&body[start..start + digits]).ok()?.parse().ok()
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
