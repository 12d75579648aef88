//! The ways in: the nodes' addresses, and a client that has the key.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::Anything;
use super::client::WithKey as _;

/// How long a request may take, unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests to any node.
#[derive(Debug, Clone)]
pub(super) struct Doors {
    nodes: Vec<SocketAddr>,
    client: Client,
}

impl Doors {
    /// To these nodes.
    pub(super) fn new(nodes: Vec<SocketAddr>) -> Result<Self, Anything> {
        Ok(Self { nodes, client: Client::new_with_key()? })
    }

    /// One of the nodes.
    pub(super) fn any(&self) -> usize {
        rand::random_range(0..self.nodes.len().max(1))
    }

    /// Where a node answers.
    pub(super) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node]
    }

    /// A request to a node.
    pub(super) fn ask(&self, node: usize, method: Method, path: &str) -> RequestBuilder {
        let address = self.address(node);
        self.client.request(method, format!("http://{address}{path}")).timeout(PATIENCE)
    }

    /// Whether a node says that it can work.
    pub(super) async fn is_ready(&self, node: usize) -> bool {
        let answer = self.ask(node, Method::GET, "/readyz").send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    /// Waits until all nodes can work.
    pub(super) async fn all_ready(&self, patience: Duration) -> Result<(), Anything> {
        let all = async {
            for node in 0..self.nodes.len() {
                while !self.is_ready(node).await {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let waited = tokio::time::timeout(patience, all).await;
        waited.map_err(|_elapsed| format!("not all nodes are ready after {patience:?}").into())
    }

    /// POSTs JSON to a node and gives status and answer.
    pub(super) async fn post(
        &self,
        node: usize,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        answer_of(with_json(self.ask(node, Method::POST, path), body)).await
    }

    /// GETs JSON from a node, which may take so long.
    pub(super) async fn get(
        &self,
        node: usize,
        path: &str,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        answer_of(self.ask(node, Method::GET, path).timeout(PATIENCE * 3)).await
    }
}

/// Puts a body to a request.
pub(super) fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

/// The status and the JSON of an answer; what is no JSON is null.
pub(super) async fn answer_of(
    request: RequestBuilder,
) -> Result<(StatusCode, Value), reqwest::Error> {
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Whether an answer says that the node cannot at the moment: without its database, or because it was stopped itself
/// while the request came in.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT)
}

/// A text within JSON.
pub(super) fn text<'a>(json: &'a Value, pointer: &str) -> &'a str {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
