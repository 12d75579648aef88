//! Reading by WebSocket, left after some seconds and resumed at another node.

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

use super::{PAUSE, Reader, id_of};
use crate::client::KEY;
use crate::doors::{Doors, is_passing, text};

/// A socket is left after a time between these.
const SECONDS: std::ops::Range<f64> = 2.0..20.0;
const OPENING: Duration = Duration::from_secs(5);

/// Reads on until `stop`.
pub(super) async fn read(doors: &Doors, reader: &Reader, stop: &CancellationToken) {
    let mut last: Option<Position> = None;
    while !stop.is_cancelled() {
        let after = last.map_or_else(|| "earliest".to_owned(), |last| last.to_string());
        let path = format!("/v1/ws?types={}&after={after}", reader.pattern);
        match timeout(OPENING, open(doors, &path)).await {
            Ok(Ok(socket)) => follow(reader, socket, &mut last).await,
            Ok(Err(Error::Http(refusal))) if !is_passing(refusal.status()) => {
                reader.complain(&format!("{path} was answered {}", refusal.status()));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

async fn open(doors: &Doors, path: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let address = doors.address(doors.any());
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    let key = format!("Bearer {KEY}").parse()?;
    request.headers_mut().insert("authorization", key);
    let stream = TcpStream::connect(address).await?;
    Ok(client_async(request, stream).await?.0)
}

/// Reads one socket until it ends, or it is enough.
async fn follow(
    reader: &Reader,
    mut socket: WebSocketStream<TcpStream>,
    last: &mut Option<Position>,
) {
    let until = Instant::now() + Duration::from_secs_f64(rand::random_range(SECONDS));
    while let Ok(Some(Ok(message))) = timeout_at(until, socket.next()).await {
        let Message::Text(json) = message else { continue };
        let event: Value = serde_json::from_str(&json).unwrap_or_default();
        match id_of(&event) {
            Some(id) if text(&event, "/type") != "hookhub.gap" => {
                reader.saw(id);
                *last = Some(id);
            }
            _ => reader.complain(&format!("no event, or a gap: {json}")),
        }
    }
}
