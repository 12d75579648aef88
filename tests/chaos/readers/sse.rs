//! Reading by Server-Sent Events. Each stream is closed after some seconds and resumed at a random node.

use std::time::Duration;

use hookhub::domain::position::Position;
use reqwest::{Method, Response};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{RETRY_DELAY, Reader, ack};
use crate::ingress::{Ingress, is_transient};

/// Range of the time for which a stream is read, in seconds.
const READ_SECONDS: std::ops::Range<f64> = 2.0..20.0;
/// Number of events per ack.
const ACK_BATCH: usize = 20;
/// Timeout of a whole request; longer than any stream is read.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The positions up to which a reader has read and acked.
struct Progress {
    /// `None` before the first event.
    last: Option<Position>,
    acked: Position,
}

/// Reads until `stop`.
pub(super) async fn read(ingress: &Ingress, reader: &Reader, stop: &CancellationToken) {
    let mut progress = Progress { last: None, acked: Position::START };
    while !stop.is_cancelled() {
        let path = match &reader.subscription {
            None => format!("/v1/stream?types={}&after=earliest", reader.pattern),
            Some(subscription) => format!("/v1/subscriptions/{subscription}/stream"),
        };
        let node = ingress.random_node();
        let mut request = ingress.request(node, Method::GET, &path).timeout(REQUEST_TIMEOUT);
        // On a pull subscription the hub resumes after the last ack.
        if let (Some(last), None) = (progress.last, &reader.subscription) {
            request = request.header("last-event-id", last.to_string());
        }
        match request.send().await {
            Ok(response) if response.status() == 200 => {
                follow(ingress, reader, response, &mut progress).await;
            }
            Ok(response) if !is_transient(response.status()) => {
                reader.record_violation(&format!(
                    "node {node} responded {} to {path}",
                    response.status()
                ));
            }
            Ok(_) | Err(_) => {}
        }
        sleep(RETRY_DELAY).await;
    }
}

/// Reads one stream until it ends or its time is over.
async fn follow(
    ingress: &Ingress,
    reader: &Reader,
    mut response: Response,
    progress: &mut Progress,
) {
    let until = Instant::now() + Duration::from_secs_f64(rand::random_range(READ_SECONDS));
    let (mut unread, mut unacked) = (Vec::new(), 0);
    // After an end, an error or the end of its time the stream is resumed alike.
    while let Ok(Ok(Some(bytes))) = timeout_at(until, response.chunk()).await {
        unread.extend_from_slice(&bytes);
        while let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = unread.drain(..end + 2).collect();
            unacked +=
                usize::from(record_frame(reader, &String::from_utf8_lossy(&frame), progress));
        }
        if let (Some(subscription), Some(last)) = (&reader.subscription, progress.last)
            && unacked >= ACK_BATCH
            && ack(ingress, reader, subscription, last).await
        {
            (progress.acked, unacked) = (last, 0);
        }
    }
    if let (Some(subscription), Some(last)) = (&reader.subscription, progress.last)
        && ack(ingress, reader, subscription, last).await
    {
        progress.acked = last;
    }
}

/// Records one frame; returns whether it was an event.
fn record_frame(reader: &Reader, frame: &str, progress: &mut Progress) -> bool {
    let field =
        |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let Some(id) = field("id") else { return false };
    let Ok(id) = id.parse::<Position>() else {
        reader.record_violation(&format!("a frame with the invalid id {id}"));
        return false;
    };
    let is_event = field("data").is_some();
    if field("data").is_some_and(|data| data.contains("\"type\":\"hookhub.gap\"")) {
        reader.record_violation(&format!("a gap: {frame}"));
    } else if is_event {
        if reader.subscription.is_some() && id <= progress.acked {
            let acked = progress.acked;
            reader.record_violation(&format!("{id} was sent again after the ack of {acked}"));
        }
        reader.record_event(id);
    }
    progress.last = Some(id);
    is_event
}
