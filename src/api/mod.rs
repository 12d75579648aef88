//! The HTTP contract: which path is answered by what. Each handler is parse, authorise, one call, answer.

mod append;
mod audit;
mod body;
mod caller;
mod client_address;
mod code;
mod connections;
mod cors;
mod deliveries;
mod delivery_view;
mod events;
mod explain;
mod fields;
mod head;
mod health;
mod idempotency;
mod json;
mod keys;
mod lean_head;
mod metrics;
mod nodes;
mod poll;
mod problem;
mod publish_input;
mod pull;
mod query;
mod reading;
mod replays;
mod request_id;
mod routes;
mod stream;
mod stream_tokens;
mod subscription_input;
mod subscriptions;
mod unheard;
mod ws;
mod ws_command;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use tokio_util::sync::CancellationToken;

use self::caller::Keys;
pub use self::cors::allow_origins;
use self::idempotency::RunningKeys;
use self::problem::{Code, Problem};
pub use self::request_id::give_request_id;
pub use self::routes::routes;
pub use self::unheard::{late_head, too_many_from_one_address};
use crate::log::Log;
use crate::store::Store;
use crate::stream::{Streams, Worker};
use crate::values::forwarded::TrustedProxies;
use crate::values::target::AllowedTargets;

/// What the handlers work with.
#[derive(Debug)]
pub struct Api {
    store: Store,
    log: Log,
    streams: Arc<Streams>,
    keys: Keys,
    token_secret: Vec<u8>,
    running: RunningKeys,
    allowed: AllowedTargets,
    max_event_bytes: usize,
    body_deadline: Duration,
    trusted_proxies: TrustedProxies,
    stopping: CancellationToken,
}

impl Api {
    pub fn new(
        log: Log,
        store: Store,
        streams: Arc<Streams>,
        secrets: &Secrets<'_>,
        limits: Limits,
    ) -> Self {
        let Limits { allowed, max_event_bytes, body_deadline, trusted_proxies, stopping } = limits;
        let (keys, running) = (Keys::new(secrets.admin_key), RunningKeys::default());
        let token_secret = secrets.stream_tokens.to_vec();
        Self {
            store,
            log,
            streams,
            keys,
            token_secret,
            running,
            allowed,
            max_event_bytes,
            body_deadline,
            trusted_proxies,
            stopping,
        }
    }
}

/// What opens the API.
pub struct Secrets<'a> {
    /// The key that may do everything.
    pub admin_key: &'a str,
    /// Seals stream tokens.
    pub stream_tokens: &'a [u8],
}

/// What clients may ask for.
#[derive(Debug)]
pub struct Limits {
    /// Which private addresses callbacks may name.
    pub allowed: AllowedTargets,
    /// How many bytes of data one event may have.
    pub max_event_bytes: usize,
    /// How long a client may take over the body of a request, or over a message on a WebSocket.
    pub body_deadline: Duration,
    /// Whose word about where a request comes from is believed.
    pub trusted_proxies: TrustedProxies,
    /// Cancelled when the node begins to stop.
    pub stopping: CancellationToken,
}

/// What the handlers work with.
fn api(request: &HttpRequest) -> Result<&web::Data<Api>, Problem> {
    request
        .app_data::<web::Data<Api>>()
        .ok_or_else(|| Problem::new(Code::Internal, "the hub is not set up"))
}

/// The clients of the thread that answers.
fn worker(request: &HttpRequest) -> Result<Rc<Worker>, Problem> {
    request
        .app_data::<Rc<Worker>>()
        .cloned()
        .ok_or_else(|| Problem::new(Code::Internal, "the hub is not set up"))
}
