//! A server whose responses the test chooses.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;

use super::raw_http::{RawRequest, RawServer, read_request};

/// The response to one request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The status with its reason (`200 OK`), and a JSON body.
    Json(&'static str, String),
    /// Holds the connection and never responds.
    Never,
}

/// A scripted server and the requests it has received.
#[derive(Debug)]
pub(crate) struct ScriptedServer {
    server: RawServer,
    requests: Arc<Mutex<Vec<RawRequest>>>,
}

impl ScriptedServer {
    /// Starts a server. `script` returns the response to a request, given the number of earlier requests.
    pub(crate) async fn start(
        script: impl Fn(&RawRequest, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let requests: Arc<Mutex<Vec<RawRequest>>> = Arc::default();
        let (script, recorded) = (Arc::new(script), Arc::clone(&requests));
        let server = RawServer::start(move |mut stream| {
            let (script, recorded) = (Arc::clone(&script), Arc::clone(&recorded));
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    let earlier = {
                        let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
                        recorded.push(request.clone());
                        recorded.len() - 1
                    };
                    let Reply::Json(status, body) = script(&request, earlier) else {
                        return std::future::pending().await;
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
