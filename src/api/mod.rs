//! The HTTP contract: which path is answered by what. Each handler is parse, authorise, one call, answer.

pub(crate) mod auth;
mod deliveries;
mod events;
pub(crate) mod http;
mod openapi;
pub(crate) mod operator;
mod problem;
mod routes;
pub(crate) mod streams;
mod subscriptions;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use tokio_util::sync::CancellationToken;

use self::auth::caller::Admin;
pub(crate) use self::http::cors::allow_origins;
pub(crate) use self::http::early_errors::{late_head, too_many_from_one_address};
pub(crate) use self::http::request_id::give_request_id;
use self::openapi::Document;
use self::problem::{Code, Problem};
pub(crate) use self::routes::routes;
use crate::access::idempotency::Claims;
use crate::access::keys::Keys;
use crate::access::quotas::QuotasInForce;
use crate::domain::access::forwarded::TrustedProxies;
use crate::domain::egress::origin::Origin;
use crate::domain::egress::policy::Targets;
use crate::log::Log;
use crate::metrics::Measures;
use crate::store::Store;
use crate::streaming::{Streams, Worker};

/// What the handlers work with.
pub(crate) struct Api {
    store: Store,
    log: Log,
    keys: Keys,
    claims: Claims,
    metrics: Arc<Measures>,
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
    pub(crate) fn new(parts: Parts, secrets: &Secrets<'_>, limits: Limits) -> Self {
        let Parts { log, store, keys, claims, metrics, streams } = parts;
        let Limits { targets, origin, quotas, body_deadline, trusted_proxies, stopping } = limits;
        let admin = Admin::new(secrets.admin_key);
        let token_secret = secrets.stream_tokens.to_vec();
        let consent_key = secrets.consents.to_vec();
        Self {
            store,
            log,
            keys,
            claims,
            metrics,
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

/// The parts of the hub that the API works with.
pub(crate) struct Parts {
    pub log: Log,
    pub store: Store,
    pub keys: Keys,
    pub claims: Claims,
    pub metrics: Arc<Measures>,
    pub streams: Arc<Streams>,
}

/// What opens the API.
pub(crate) struct Secrets<'a> {
    /// The key that may do everything.
    pub admin_key: &'a str,
    /// Seals stream tokens.
    pub stream_tokens: &'a [u8],
    /// Seals what receivers are given to agree by.
    pub consents: &'a [u8],
}

/// What clients may ask for.
#[derive(Debug)]
pub(crate) struct Limits {
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
