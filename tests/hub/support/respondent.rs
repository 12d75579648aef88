//! A receiver that records whole requests, and answers verification requests as the test says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use url::form_urlencoded;

use super::in_time;
use super::raw_http::{RawServer, read_head};

/// A request as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) body: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    /// The value of a header; `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let found = form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name);
        found.map(|(_, value)| value.into_owned())
    }

    /// The event's id, if the request is a delivery.
    pub(crate) fn delivers(&self) -> Option<&str> {
        self.header("webhook-id")
    }
}

/// The bytes of a whole response.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut whole = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        whole.extend([name, ": ", value, "\r\n"]);
    }
    whole + "\r\n" + body
}

/// The response that confirms a verification request.
pub(crate) fn confirmation(asked: &Asked) -> String {
    match asked.method.as_str() {
        "GET" => answer("200 OK", &[], &asked.parameter("challenge").unwrap_or_default()),
        "OPTIONS" => {
            let origin = asked.header("webhook-request-origin").unwrap_or_default();
            answer("200 OK", &[("WebHook-Allowed-Origin", origin)], "")
        }
        _ => match asked.header("x-hook-secret") {
            Some(secret) => answer("200 OK", &[("X-Hook-Secret", secret)], ""),
            None => answer("204 No Content", &[], ""),
        },
    }
}

#[derive(Debug)]
pub(crate) struct Respondent {
    server: RawServer,
    asked: mpsc::Receiver<Asked>,
}

impl Respondent {
    /// A receiver that answers verification requests with `say`, and accepts all deliveries.
    pub(crate) async fn saying(say: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        Self::saying_when(Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), say).await
    }

    /// The same receiver, which answers one verification request per permit.
    pub(crate) async fn saying_when(
        passes: Arc<Semaphore>,
        say: impl Fn(&Asked) -> String + Send + Sync + 'static,
    ) -> Self {
        let (sender, asked) = mpsc::channel(65_536);
        let say = Arc::new(say);
        let server = RawServer::start(move |stream| {
            let (sender, say, passes) = (sender.clone(), Arc::clone(&say), Arc::clone(&passes));
            respond(stream, sender, say, passes)
        });
        Self { server: server.await, asked }
    }

    /// A receiver that confirms every verification request.
    pub(crate) async fn confirming() -> Self {
        Self::saying(confirmation).await
    }

    /// A receiver that answers verification requests with 500 until the flag is set.
    pub(crate) async fn confirming_when_set() -> (Self, Arc<AtomicBool>) {
        let is_willing = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_willing);
        let respondent = Self::saying(move |request| {
            if asked.load(Ordering::Relaxed) {
                confirmation(request)
            } else {
                answer("500 Oh", &[], "")
            }
        });
        (respondent.await, is_willing)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.server.address)
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Asked {
        in_time("a request arrives", self.asked.recv()).await.expect("the receiver runs")
    }

    /// The next request, which must be a verification request.
    pub(crate) async fn handshake(&mut self) -> Asked {
        let asked = self.next().await;
        assert_eq!(asked.delivers(), None, "{asked:?}");
        asked
    }

    /// The ids of the next `count` events, in the order of arrival; verification requests are skipped.
    pub(crate) async fn take_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            ids.extend(self.next().await.delivers().map(ToOwned::to_owned));
        }
        ids
    }

    /// All other requests that have already arrived.
    pub(crate) fn more(&mut self) -> Vec<Asked> {
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }
}

async fn respond(
    mut stream: TcpStream,
    sender: mpsc::Sender<Asked>,
    say: Arc<impl Fn(&Asked) -> String>,
    passes: Arc<Semaphore>,
) {
    while let Some(asked) = read(&mut stream).await {
        let said = match asked.delivers() {
            Some(_) => None,
            None => Some(say(&asked)),
        };
        sender.try_send(asked).expect("the test takes what came");
        if said.is_some() {
            passes.acquire().await.expect("the passes are there").forget();
        }
        let said = said.unwrap_or_else(|| answer("204 No Content", &[], ""));
        if stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let (read, end_of_head) = read_head(stream).await?;
    let (head, rest) = read.split_at(end_of_head);
    let (head, mut body) = (String::from_utf8_lossy(head).into_owned(), rest.to_vec());
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(ToOwned::to_owned);
    let (method, target) = (first.next()?, first.next()?);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Asked { method, target, body, headers })
}
