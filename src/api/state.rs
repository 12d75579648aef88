//! The state that all handlers share, and how a handler reaches it.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use tokio_util::sync::CancellationToken;

use super::auth::admin_key::AdminKey;
use super::openapi::document::Document;
use super::problem::{ApiResult, Code, Problem};
use crate::access::idempotency::Claims;
use crate::access::keys::Keys;
use crate::access::quotas::TenantQuotas;
use crate::domain::access::forwarded::TrustedProxies;
use crate::domain::egress::origin::Origin;
use crate::domain::egress::policy::Targets;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::streaming::{Streams, Worker};

/// The state that all handlers share.
pub(crate) struct Api {
    pub(super) store: Store,
    pub(super) log: Log,
    pub(super) keys: Keys,
    pub(super) claims: Claims,
    pub(super) metrics: Arc<Metrics>,
    pub(super) streams: Arc<Streams>,
    pub(super) admin: AdminKey,
    pub(super) token_secret: Vec<u8>,
    pub(super) verification_key: Vec<u8>,
    pub(super) origin: Option<Origin>,
    pub(super) targets: Targets,
    pub(super) quotas: Arc<TenantQuotas>,
    pub(super) body_deadline: Duration,
    pub(super) trusted_proxies: TrustedProxies,
    pub(super) stopping: CancellationToken,
    pub(super) document: Document,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

impl Api {
    pub(crate) fn new(parts: Parts, secrets: &Secrets<'_>, settings: ApiSettings) -> Self {
        let Parts { log, store, keys, claims, metrics, streams } = parts;
        let ApiSettings { targets, origin, quotas, body_deadline, trusted_proxies, stopping } =
            settings;
        let admin = AdminKey::new(secrets.admin_key);
        let token_secret = secrets.stream_tokens.to_vec();
        let verification_key = secrets.verification_tokens.to_vec();
        Self {
            store,
            log,
            keys,
            claims,
            metrics,
            streams,
            admin,
            token_secret,
            verification_key,
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
    pub metrics: Arc<Metrics>,
    pub streams: Arc<Streams>,
}

/// The secrets that the API authenticates with.
pub(crate) struct Secrets<'a> {
    pub admin_key: &'a str,
    /// The key that signs stream tokens.
    pub stream_tokens: &'a [u8],
    /// The key that signs the tokens of CloudEvents verification requests.
    pub verification_tokens: &'a [u8],
}

/// The settings of the API, the quotas, and the signal of a stop.
#[derive(Debug)]
pub(crate) struct ApiSettings {
    /// The addresses that callback URLs may point to.
    pub targets: Targets,
    /// The origin for CloudEvents verification; `None`: the settings name none.
    pub origin: Option<Origin>,
    pub quotas: Arc<TenantQuotas>,
    /// The time limit for the body of a request, and for a message on a WebSocket.
    pub body_deadline: Duration,
    pub trusted_proxies: TrustedProxies,
    /// Cancelled when the node begins to stop.
    pub stopping: CancellationToken,
}

/// Returns the state that all handlers share. 500 if actix was started without it.
pub(crate) fn api(request: &HttpRequest) -> ApiResult<&web::Data<Api>> {
    request.app_data::<web::Data<Api>>().ok_or_else(not_configured)
}

/// Returns the streaming worker of the current thread. 500 if actix was started without one.
pub(crate) fn worker(request: &HttpRequest) -> ApiResult<Rc<Worker>> {
    request.app_data::<Rc<Worker>>().cloned().ok_or_else(not_configured)
}

fn not_configured() -> Problem {
    Problem::new(Code::Internal, "the server was started without its shared state")
}
