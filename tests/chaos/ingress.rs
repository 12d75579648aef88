//! HTTP requests to the nodes, with the admin key.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::BoxError;
use super::client::WithKey as _;

/// Default timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of all nodes.
#[derive(Debug, Clone)]
pub(super) struct Ingress {
    nodes: Vec<SocketAddr>,
    client: Client,
}

impl Ingress {
    pub(super) fn new(nodes: Vec<SocketAddr>) -> Result<Self, BoxError> {
        Ok(Self { nodes, client: Client::new_with_key()? })
    }

    pub(super) fn random_node(&self) -> usize {
        rand::random_range(0..self.nodes.len().max(1))
    }

    pub(super) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node]
    }

    /// Builds a request to a node.
    pub(super) fn request(&self, node: usize, method: Method, path: &str) -> RequestBuilder {
        let address = self.address(node);
        self.client.request(method, format!("http://{address}{path}")).timeout(REQUEST_TIMEOUT)
    }

    /// Whether the node responds 200 to `/readyz`.
    pub(super) async fn is_ready(&self, node: usize) -> bool {
        let response = self.request(node, Method::GET, "/readyz").send().await;
        response.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// Waits until all nodes are ready; an error after `timeout`.
    pub(super) async fn wait_until_ready(&self, timeout: Duration) -> Result<(), BoxError> {
        let all = async {
            for node in 0..self.nodes.len() {
                while !self.is_ready(node).await {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let ready = tokio::time::timeout(timeout, all).await;
        ready.map_err(|_elapsed| format!("not all nodes are ready after {timeout:?}").into())
    }

    /// POSTs JSON to a node and returns the response's status and JSON.
    pub(super) async fn post(
        &self,
        node: usize,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        send(with_json(self.request(node, Method::POST, path), body)).await
    }

    /// GETs JSON from a node. The timeout allows for a long poll.
    pub(super) async fn get(
        &self,
        node: usize,
        path: &str,
    ) -> Result<(StatusCode, Value), reqwest::Error> {
        send(self.request(node, Method::GET, path).timeout(REQUEST_TIMEOUT * 3)).await
    }
}

pub(super) fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.header("content-type", "application/json").body(body.to_string())
}

/// Sends a request and returns the response's status and JSON; null when the body is not JSON.
pub(super) async fn send(request: RequestBuilder) -> Result<(StatusCode, Value), reqwest::Error> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.bytes().await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Whether the status only reports a fault of the schedule: the node has no database, or it was paused while it
/// received the request.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT)
}

/// The string at a JSON pointer; empty when the value has none there.
pub(super) fn text<'a>(json: &'a Value, pointer: &str) -> &'a str {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
