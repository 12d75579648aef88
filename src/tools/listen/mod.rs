//! `hookhub listen`: follows a hub's stream and forwards each event to a local URL.

mod forward;
mod source;
mod start_point;

use std::time::Duration;

use reqwest::Response;
use tokio::time::sleep;
use url::Url;

use self::forward::Forwarder;
use self::source::{Connection, Event, Source, StreamError};
pub use self::start_point::{InvalidStartPoint, StartPoint};
use crate::domain::event::event_type::Pattern;
use crate::domain::signing::secret::Secret;
use crate::domain::single_line::SingleLine;

const USER_AGENT: &str = concat!("hookhub/", env!("CARGO_PKG_VERSION"));
/// The type of the event that reports missing events in a stream.
const GAP: &str = "hookhub.gap";
/// The delay before the first reconnect, unless the hub names another.
const DEFAULT_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// The lower bound of a delay that the hub names.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(100);
/// A hub sends a heartbeat every 15 s; one that is silent for longer than this is unreachable.
pub const HUB_TIMEOUT: Duration = Duration::from_secs(45);

/// The hub and events to follow, and the URL to forward to.
pub struct ListenSettings {
    /// The URL of the hub; behind a proxy, with the path before `/v1`.
    pub hub: Url,
    /// A key with the scopes `read` and `stream`.
    pub key: String,
    /// The event types; empty: all but the hub's own.
    pub types: Vec<Pattern>,
    /// The start; `None`: new events only.
    pub since: Option<StartPoint>,
    /// The URL to POST each event to; `None`: events are only shown.
    pub forward_to: Option<Url>,
    pub secret: Secret,
    /// A hub that is silent for this long is reconnected to; [`HUB_TIMEOUT`] except in tests.
    pub hub_timeout: Duration,
}

/// A line to show.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// An event, with the outcome of its POST if it was forwarded, else with its text.
    Event(String),
    /// A change of the connection to the hub.
    Status(String),
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("the hub refused the request: {0}")]
    Refused(String),
    #[error("HOOKHUB_KEY (--key) is not a valid key: it is empty or has control characters")]
    Key,
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// Follows the hub until it refuses a request, and passes each line of output to `show`.
///
/// After a disconnect, resumes where the stream ended. Events are forwarded one at a time; a failed POST is not retried.
pub async fn listen(
    settings: ListenSettings,
    mut show: impl FnMut(Output),
) -> Result<(), ListenError> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut source = Source::new(&settings)?;
    let forwarder =
        settings.forward_to.map(|url| Forwarder::new(url, settings.secret)).transpose()?;
    let mut backoff = Backoff::default();
    loop {
        let error = match source.connect().await {
            Ok(connection) => {
                show(Output::Status(format!("connected to {}", settings.hub)));
                follow(&mut source, connection, forwarder.as_ref(), &mut backoff, &mut show).await
            }
            Err(error) => error,
        };
        let reason = match error {
            StreamError::Refused(reason) => return Err(ListenError::Refused(reason)),
            StreamError::Temporary(reason) => reason,
        };
        let delay = backoff.next_delay();
        let (reason, ms) = (SingleLine(&reason), delay.as_millis());
        show(Output::Status(format!("not connected: {reason}; reconnecting in {ms} ms")));
        sleep(delay).await;
    }
}

/// Forwards and shows each event of one connection. Returns why the connection ended.
async fn follow(
    source: &mut Source,
    mut connection: Connection,
    forwarder: Option<&Forwarder>,
    backoff: &mut Backoff,
    show: &mut impl FnMut(Output),
) -> StreamError {
    loop {
        let message = match connection.next().await {
            Ok(Some(message)) => message,
            Ok(None) => return StreamError::Temporary("the hub ended the stream".to_owned()),
            Err(error) => return error,
        };
        backoff.reset(message.retry);
        match source.handle_message(message) {
            Ok(None) => {}
            Ok(Some(event)) if event.r#type == GAP => {
                show(Output::Status(format!("events are missing: {}", SingleLine(&event.text))));
            }
            Ok(Some(event)) => show(Output::Event(handle_event(&event, forwarder).await)),
            Err(error) => return error,
        }
    }
}

/// Forwards the event if there is a forwarder. Returns the line to print.
async fn handle_event(event: &Event, forwarder: Option<&Forwarder>) -> String {
    let (time, event_type, id) =
        (SingleLine(&event.timestamp), SingleLine(&event.r#type), SingleLine(&event.id));
    match forwarder {
        Some(forwarder) => format!("{time} {event_type} {id} → {}", forwarder.post(event).await),
        None => format!("{time} {event_type} {id}  {}", SingleLine(&event.text)),
    }
}

/// Reads the body of a response. Stops after about `max_bytes`; the rest is not read.
async fn read_body(response: &mut Response, max_bytes: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while body.len() < max_bytes {
        let Some(chunk) = response.chunk().await? else { break };
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    hub_delay: Option<Duration>,
}

impl Backoff {
    /// Starts again at the first delay, because a message arrived. `retry_ms`: the first delay from now on, if the message
    /// sets one.
    fn reset(&mut self, retry_ms: Option<u64>) {
        self.failures = 0;
        if let Some(retry_ms) = retry_ms {
            self.hub_delay =
                Some(Duration::from_millis(retry_ms).clamp(MIN_RETRY_DELAY, MAX_RETRY_DELAY));
        }
    }

    /// The first delay, then a random one of at least half a bound that doubles with each failure, up to
    /// [`MAX_RETRY_DELAY`]. The randomness keeps many clients from reconnecting at once.
    fn next_delay(&mut self) -> Duration {
        let first = self.hub_delay.unwrap_or(DEFAULT_RETRY_DELAY);
        let max = first.saturating_mul(2_u32.saturating_pow(self.failures)).min(MAX_RETRY_DELAY);
        let delay = match self.failures {
            0 => first,
            _ => max.mul_f64(rand::random_range(0.5..=1.0)),
        };
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_starts_at_the_hubs_own_grows_to_its_maximum_and_resets_after_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_delay(), DEFAULT_RETRY_DELAY);
        backoff.reset(Some(1_500));
        assert_eq!(backoff.next_delay(), Duration::from_millis(1_500));
        assert!((1_500..=3_000).contains(&backoff.next_delay().as_millis()));
        for _ in 0..100 {
            assert!(backoff.next_delay() <= MAX_RETRY_DELAY);
        }
        assert!(backoff.next_delay() >= MAX_RETRY_DELAY / 2);
        backoff.reset(None);
        assert_eq!(backoff.next_delay(), Duration::from_millis(1_500));
        backoff.reset(Some(u64::MAX));
        assert_eq!(backoff.next_delay(), MAX_RETRY_DELAY);
        backoff.reset(Some(0));
        assert_eq!(backoff.next_delay(), MIN_RETRY_DELAY);
        assert!(backoff.next_delay() >= MIN_RETRY_DELAY);
    }
}
