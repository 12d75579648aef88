//! Reading by WebSocket. Each socket is closed after some seconds and resumed at a random node.

use std::time::Duration;

use futures_util::StreamExt as _;
use hookhub::domain::position::Position;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use super::{RETRY_DELAY, Reader, event_id};
use crate::client::KEY;
use crate::ingress::{Ingress, is_transient, text};

/// Range of the time for which a socket is read, in seconds.
const READ_SECONDS: std::ops::Range<f64> = 2.0..20.0;
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads until `stop`.
pub(super) async fn read(ingress: &Ingress, reader: &Reader, stop: &CancellationToken) {
    let mut last: Option<Position> = None;
    while !stop.is_cancelled() {
        let after = last.map_or_else(|| "earliest".to_owned(), |last| last.to_string());
        let path = format!("/v1/ws?types={}&after={after}", reader.pattern);
        match timeout(OPEN_TIMEOUT, open(ingress, &path)).await {
            Ok(Ok(socket)) => follow(reader, socket, &mut last).await,
            Ok(Err(Error::Http(response))) if !is_transient(response.status()) => {
                reader.record_violation(&format!("{path}: status {}", response.status()));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(RETRY_DELAY).await;
    }
}

async fn open(ingress: &Ingress, path: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let address = ingress.address(ingress.random_node());
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    let key = format!("Bearer {KEY}").parse()?;
    request.headers_mut().insert("authorization", key);
    let stream = TcpStream::connect(address).await?;
    Ok(client_async(request, stream).await?.0)
}

/// Reads one socket until it closes or its time is over.
async fn follow(
    reader: &Reader,
    mut socket: WebSocketStream<TcpStream>,
    last: &mut Option<Position>,
) {
    let until = Instant::now() + Duration::from_secs_f64(rand::random_range(READ_SECONDS));
    while let Ok(Some(Ok(message))) = timeout_at(until, socket.next()).await {
        let Message::Text(json) = message else { continue };
        let event: Value = serde_json::from_str(&json).unwrap_or_default();
        match event_id(&event) {
            Some(id) if text(&event, "/type") != "hookhub.gap" => {
                reader.record_event(id);
                *last = Some(id);
            }
            _ => reader.record_violation(&format!("not an event, or a gap: {json}")),
        }
    }
}
