//! A receiver that records all requests, and responds to verification requests as the test chooses.

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
pub(crate) struct ReceivedRequest {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) body: String,
    headers: Vec<(String, String)>,
}

impl ReceivedRequest {
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
    pub(crate) fn event_id(&self) -> Option<&str> {
        self.header("webhook-id")
    }
}

/// The text of a complete response.
pub(crate) fn http_response(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut response = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        response.extend([name, ": ", value, "\r\n"]);
    }
    response + "\r\n" + body
}

/// The response that confirms a verification request.
pub(crate) fn confirmation(request: &ReceivedRequest) -> String {
    match request.method.as_str() {
        "GET" => http_response("200 OK", &[], &request.parameter("challenge").unwrap_or_default()),
        "OPTIONS" => {
            let origin = request.header("webhook-request-origin").unwrap_or_default();
            http_response("200 OK", &[("WebHook-Allowed-Origin", origin)], "")
        }
        _ => match request.header("x-hook-secret") {
            Some(secret) => http_response("200 OK", &[("X-Hook-Secret", secret)], ""),
            None => http_response("204 No Content", &[], ""),
        },
    }
}

/// The receiver and its recorded requests.
#[derive(Debug)]
pub(crate) struct VerifyingReceiver {
    server: RawServer,
    requests: mpsc::Receiver<ReceivedRequest>,
}

impl VerifyingReceiver {
    /// Starts a receiver that responds to verification requests with `script`, and accepts all deliveries.
    pub(crate) async fn responding(
        script: impl Fn(&ReceivedRequest) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::responding_with_permits(Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), script)
            .await
    }

    /// The same receiver; each response to a verification request takes a permit.
    pub(crate) async fn responding_with_permits(
        permits: Arc<Semaphore>,
        script: impl Fn(&ReceivedRequest) -> String + Send + Sync + 'static,
    ) -> Self {
        let (sender, requests) = mpsc::channel(65_536);
        let script = Arc::new(script);
        let server = RawServer::start(move |stream| {
            let (script, permits) = (Arc::clone(&script), Arc::clone(&permits));
            serve(stream, sender.clone(), script, permits)
        });
        Self { server: server.await, requests }
    }

    /// Starts a receiver that confirms every verification request.
    pub(crate) async fn confirming() -> Self {
        Self::responding(confirmation).await
    }

    /// Starts a receiver that responds to verification requests with 500 until the flag is set.
    pub(crate) async fn confirming_when_set() -> (Self, Arc<AtomicBool>) {
        let confirms = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&confirms);
        let receiver = Self::responding(move |request| {
            if flag.load(Ordering::Relaxed) {
                confirmation(request)
            } else {
                http_response("500 Internal Server Error", &[], "")
            }
        });
        (receiver.await, confirms)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.server.address)
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> ReceivedRequest {
        in_time("a request arrives", self.requests.recv()).await.expect("the receiver runs")
    }

    /// The next request, which must be a verification request.
    pub(crate) async fn next_verification(&mut self) -> ReceivedRequest {
        let request = self.next().await;
        assert_eq!(request.event_id(), None, "{request:?}");
        request
    }

    /// The ids of the next `count` events, in the order of arrival; verification requests are skipped.
    pub(crate) async fn next_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            ids.extend(self.next().await.event_id().map(ToOwned::to_owned));
        }
        ids
    }

    /// All other requests that have already arrived.
    pub(crate) fn drain(&mut self) -> Vec<ReceivedRequest> {
        std::iter::from_fn(|| self.requests.try_recv().ok()).collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    sender: mpsc::Sender<ReceivedRequest>,
    script: Arc<impl Fn(&ReceivedRequest) -> String>,
    permits: Arc<Semaphore>,
) {
    while let Some(request) = read(&mut stream).await {
        let is_verification = request.event_id().is_none();
        let response = if is_verification {
            script(&request)
        } else {
            http_response("204 No Content", &[], "")
        };
        sender.try_send(request).expect("the test reads the requests");
        if is_verification {
            permits.acquire().await.expect("the permits exist").forget();
        }
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<ReceivedRequest> {
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
    Some(ReceivedRequest { method, target, body, headers })
}
