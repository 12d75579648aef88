//! `hookhub listen`: follows a hub's stream and hands each event to a URL on this side.

mod forward;
mod since;
mod source;

use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use self::forward::Forwarder;
pub use self::since::{BadSince, Since};
use self::source::{Connection, Event, Source, Trouble};
use crate::domain::event::event_type::Pattern;
use crate::domain::signing::secret::Secret;
use crate::domain::single_line::SingleLine;

const USER_AGENT: &str = concat!("hookhub/", env!("CARGO_PKG_VERSION"));
/// What the hub says in band when events a client asked for are not there (API.md, "Streams").
const GAP: &str = "hookhub.gap";
/// How long to wait before connecting again: doubling, unless the hub asks for its own first wait.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// However soon the hub would have it.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// A hub gives a sign of life every 15 s: who is silent for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(45);

/// What to follow, and what to do with it.
pub struct ListenSettings {
    /// Where the hub is: scheme, host, port and, behind a proxy, the path before `/v1`.
    pub hub: Url,
    /// A key that may read.
    pub key: String,
    /// Which types; none: all but the hub's own.
    pub types: Vec<Pattern>,
    /// Where to begin; `None`: with what comes.
    pub since: Option<Since>,
    /// Where to POST each event; `None`: it is only shown.
    pub forward_to: Option<Url>,
    /// Signs each POST.
    pub secret: Secret,
    /// A hub that is silent for so long is connected to anew; [`SILENCE`], but for tests.
    pub silence: Duration,
}

/// Something to show.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// An event, and what came of it.
    Event(String),
    /// How the connection to the hub is.
    Note(String),
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The hub will not have it.
    #[error("the hub refuses: {0}")]
    Refused(String),
    /// The key is empty, or has characters that a header cannot have.
    #[error(
        "HOOKHUB_KEY (--key) is no key: it is empty, or has line ends or other control characters"
    )]
    Key,
    /// No HTTP client could be made.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// Follows a hub until it refuses; reconnects where it was as long as it does not. There is one POST after another,
/// and one for each event: one that fails is shown, and not tried again.
pub async fn listen(
    settings: ListenSettings,
    mut show: impl FnMut(Line),
) -> Result<(), ListenError> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut source = Source::new(&settings)?;
    let forwarder =
        settings.forward_to.map(|url| Forwarder::new(url, settings.secret)).transpose()?;
    let mut wait = Wait::default();
    loop {
        let why = match source.connect().await {
            Ok(connection) => {
                show(Line::Note(format!("connected to {}", settings.hub)));
                follow(&mut source, connection, forwarder.as_ref(), &mut wait, &mut show).await
            }
            Err(trouble) => trouble,
        };
        let why = match why {
            Trouble::Refused(why) => return Err(ListenError::Refused(why)),
            Trouble::Passing(why) => why,
        };
        let wait = wait.next();
        let ms = wait.as_millis();
        show(Line::Note(format!("not connected: {}; again in {ms} ms", SingleLine(&why))));
        sleep(wait).await;
    }
}

/// Hands on what a connection brings until it ends; says why it did.
async fn follow(
    source: &mut Source,
    mut connection: Connection,
    forwarder: Option<&Forwarder>,
    wait: &mut Wait,
    show: &mut impl FnMut(Line),
) -> Trouble {
    loop {
        let message = match connection.next().await {
            Ok(Some(message)) => message,
            Ok(None) => return Trouble::Passing("the hub ended the stream".to_owned()),
            Err(trouble) => return trouble,
        };
        wait.connected(message.retry);
        match source.take(message) {
            Ok(None) => {}
            Ok(Some(event)) if event.r#type == GAP => {
                show(Line::Note(format!("events are missing here: {}", SingleLine(&event.text))));
            }
            Ok(Some(event)) => show(Line::Event(hand_on(&event, forwarder).await)),
            Err(trouble) => return trouble,
        }
    }
}

async fn hand_on(event: &Event, forwarder: Option<&Forwarder>) -> String {
    let (time, event_type, id) =
        (SingleLine(&event.timestamp), SingleLine(&event.r#type), SingleLine(&event.id));
    match forwarder {
        Some(forwarder) => {
            format!("{time} {event_type} {id} → {}", forwarder.post(event).await)
        }
        None => format!("{time} {event_type} {id}  {}", SingleLine(&event.text)),
    }
}

/// How long to wait before the next connection.
#[derive(Debug, Default)]
struct Wait {
    failures: u32,
    hub_asks: Option<Duration>,
}

impl Wait {
    /// Something was read: the next failure is the first.
    fn connected(&mut self, retry_ms: Option<u64>) {
        self.failures = 0;
        if let Some(retry_ms) = retry_ms {
            self.hub_asks =
                Some(Duration::from_millis(retry_ms).clamp(SHORTEST_WAIT, LONGEST_WAIT));
        }
    }

    /// The hub's own wait first, then doubled with chance in it, so that many clients do not come back at once.
    fn next(&mut self) -> Duration {
        let first = self.hub_asks.unwrap_or(FIRST_WAIT);
        let longest = first.saturating_mul(2_u32.saturating_pow(self.failures)).min(LONGEST_WAIT);
        let wait = match self.failures {
            0 => first,
            _ => longest.mul_f64(rand::random_range(0.5..=1.0)),
        };
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_hubs_own_then_grows_to_its_bound_and_starts_again_after_success() {
        let mut wait = Wait::default();
        assert_eq!(wait.next(), FIRST_WAIT);
        wait.connected(Some(1_500));
        assert_eq!(wait.next(), Duration::from_millis(1_500));
        assert!((1_500..=3_000).contains(&wait.next().as_millis()));
        for _ in 0..100 {
            assert!(wait.next() <= LONGEST_WAIT);
        }
        assert!(wait.next() >= LONGEST_WAIT / 2);
        wait.connected(None);
        assert_eq!(wait.next(), Duration::from_millis(1_500));
        wait.connected(Some(u64::MAX));
        assert_eq!(wait.next(), LONGEST_WAIT);
        wait.connected(Some(0));
        assert_eq!(wait.next(), SHORTEST_WAIT);
        assert!(wait.next() >= SHORTEST_WAIT);
    }
}
