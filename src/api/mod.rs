//! The HTTP contract: which path is answered by what. Each handler is parse, authorise, one call, answer.

mod append;
mod audit;
mod body;
mod caller;
mod client_address;
mod code;
mod connections;
mod consent;
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
mod openapi;
mod poll;
mod problem;
mod publish_input;
mod pull;
mod query;
mod rate_limit;
mod reach;
mod reading;
mod receiver_input;
mod replays;
mod request_id;
mod routes;
mod signing;
mod stream;
mod stream_tokens;
mod subscription_input;
mod subscriptions;
mod tenants;
mod unheard;
mod verification;
mod ws;
mod ws_command;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use tokio_util::sync::CancellationToken;

use self::caller::Admin;
pub use self::cors::allow_origins;
use self::openapi::Document;
use self::problem::{Code, Problem};
pub use self::request_id::give_request_id;
pub use self::routes::routes;
pub use self::unheard::{late_head, too_many_from_one_address};
use crate::log::Log;
use crate::quotas::QuotasInForce;
use crate::store::Store;
use crate::stream::{Streams, Worker};
use crate::values::forwarded::TrustedProxies;
use crate::values::sender::Origin;
use crate::values::target::Targets;

/// What the handlers work with.
pub struct Api {
    store: Store,
    log: Log,
    streams: Arc<Streams>,
    admin: Admin,
    token_secret: Vec<u8>,
    consent_key: Vec<u8>,
    origin: Option<Origin>,
    targets: Targets,
    quotas: Arc<QuotasInForce>,
    body_deadline: Duration,
    trusted_proxies: TrustedProxies,
    stopping: CancellationToken,
    document: Document,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    pub fn new(
        log: Log,
        store: Store,
        streams: Arc<Streams>,
        secrets: &Secrets<'_>,
        limits: Limits,
    ) -> Self {
        let Limits { targets, origin, quotas, body_deadline, trusted_proxies, stopping } = limits;
        let admin = Admin::new(secrets.admin_key);
        let token_secret = secrets.stream_tokens.to_vec();
        let consent_key = secrets.consents.to_vec();
        Self {
            store,
            log,
            streams,
            admin,
            token_secret,
            consent_key,
            origin,
            targets,
            quotas,
            body_deadline,
            trusted_proxies,
            stopping,
            document: Document::new(),
        }
    }
}

/// What opens the API.
pub struct Secrets<'a> {
    /// The key that may do everything.
    pub admin_key: &'a str,
    /// Seals stream tokens.
    pub stream_tokens: &'a [u8],
    /// Seals what receivers are given to agree by.
    pub consents: &'a [u8],
}

/// What clients may ask for.
#[derive(Debug)]
pub struct Limits {
    /// Where callbacks may go.
    pub targets: Targets,
    /// By which name receivers are asked, if the hub has one.
    pub origin: Option<Origin>,
    /// What each tenant may do.
    pub quotas: Arc<QuotasInForce>,
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
