//! Reading by Server-Sent Events, cut off after some seconds and resumed at another node.

use std::time::Duration;

use hookhub::domain::position::Position;
use reqwest::{Method, Response};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{PAUSE, Reader, ack};
use crate::doors::{Doors, is_passing};

/// A stream is left after a time between these.
const SECONDS: std::ops::Range<f64> = 2.0..20.0;
/// How many events are acked together.
const ACKED_TOGETHER: usize = 20;
/// Waiting for the beginning of an answer, and the longest a stream is read.
const LONGEST: Duration = Duration::from_secs(30);

/// Where a reader is.
struct Place {
    /// `None`: nothing has come yet.
    last: Option<Position>,
    acked: Position,
}

/// Reads on until `stop`.
pub(super) async fn read(doors: &Doors, reader: &Reader, stop: &CancellationToken) {
    let mut place = Place { last: None, acked: Position::START };
    while !stop.is_cancelled() {
        let path = match &reader.subscription {
            None => format!("/v1/stream?types={}&after=earliest", reader.pattern),
            Some(subscription) => format!("/v1/subscriptions/{subscription}/stream"),
        };
        let node = doors.any();
        let mut request = doors.ask(node, Method::GET, &path).timeout(LONGEST);
        // Without it the hub goes on where it was acked.
        if let (Some(last), None) = (place.last, &reader.subscription) {
            request = request.header("last-event-id", last.to_string());
        }
        match request.send().await {
            Ok(response) if response.status() == 200 => {
                follow(doors, reader, response, &mut place).await;
            }
            Ok(refusal) if !is_passing(refusal.status()) => {
                reader.complain(&format!("node {node} answered {path} {}", refusal.status()));
            }
            Ok(_) | Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// Reads one stream until it ends, or it is enough.
async fn follow(doors: &Doors, reader: &Reader, mut response: Response, place: &mut Place) {
    let until = Instant::now() + Duration::from_secs_f64(rand::random_range(SECONDS));
    let (mut unread, mut unacked) = (Vec::new(), 0);
    // An end, an error and a time that is over are all the same: it is resumed.
    while let Ok(Ok(Some(bytes))) = timeout_at(until, response.chunk()).await {
        unread.extend_from_slice(&bytes);
        while let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = unread.drain(..end + 2).collect();
            unacked += usize::from(take(reader, &String::from_utf8_lossy(&frame), place));
        }
        if let (Some(subscription), Some(last)) = (&reader.subscription, place.last)
            && unacked >= ACKED_TOGETHER
            && ack(doors, reader, subscription, last).await
        {
            (place.acked, unacked) = (last, 0);
        }
    }
    if let (Some(subscription), Some(last)) = (&reader.subscription, place.last)
        && ack(doors, reader, subscription, last).await
    {
        place.acked = last;
    }
}

/// Takes one frame in; whether it was an event.
fn take(reader: &Reader, frame: &str, place: &mut Place) -> bool {
    let field =
        |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let Some(id) = field("id") else { return false };
    let Ok(id) = id.parse::<Position>() else {
        reader.complain(&format!("a frame with the id {id}"));
        return false;
    };
    let is_event = field("data").is_some();
    if field("data").is_some_and(|data| data.contains("\"type\":\"hookhub.gap\"")) {
        reader.complain(&format!("a gap: {frame}"));
    } else if is_event {
        if reader.subscription.is_some() && id <= place.acked {
            let acked = place.acked;
            reader.complain(&format!("{id} was served again after {acked} was acked"));
        }
        reader.saw(id);
    }
    place.last = Some(id);
    is_event
}
