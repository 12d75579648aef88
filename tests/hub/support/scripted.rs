//! A server whose responses the test chooses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::raw_http::{RawRequest, RawServer, read_whole};

/// The response to one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The status with its reason (`200 OK`), and a JSON body.
    Json(&'static str, String),
    /// Never responds.
    Nothing,
}

/// A scripted server and the requests it has received.
#[derive(Debug)]
pub(crate) struct Scripted {
    server: RawServer,
    requests: Arc<Mutex<Vec<RawRequest>>>,
}

impl Scripted {
    /// Starts a server. `script` returns the response to a request, given the number of earlier requests.
    pub(crate) async fn start(
        script: impl Fn(&RawRequest, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let requests: Arc<Mutex<Vec<RawRequest>>> = Arc::default();
        let (script, noted) = (Arc::new(script), Arc::clone(&requests));
        let server = RawServer::start(move |mut stream| {
            let (script, noted) = (Arc::clone(&script), Arc::clone(&noted));
            async move {
                while let Some(request) = read_whole(&mut stream).await {
                    let before = {
                        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                        noted.push(request.clone());
                        noted.len() - 1
                    };
                    let Reply::Json(status, body) = script(&request, before) else {
                        tokio::time::sleep(Duration::MAX).await;
                        return;
                    };
                    let length = body.len();
                    let text = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                    );
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { server: server.await, requests }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<RawRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
