//! The HTTP contract: which path is answered by what. Each handler is parse, authorise, one call, answer.

mod append;
mod body;
mod caller;
mod code;
mod connections;
mod cors;
mod deliveries;
mod delivery_view;
mod events;
mod explain;
mod fields;
mod health;
mod idempotency;
mod keys;
mod lean_head;
mod metrics;
mod nodes;
mod poll;
mod problem;
mod publish_input;
mod pull;
mod query;
mod rate_limit;
mod reading;
mod replays;
mod request_id;
mod stream;
mod stream_tokens;
mod subscription_input;
mod subscriptions;
mod tenants;
mod ws;
mod ws_command;

use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, Resource, Route, guard, web};
use tokio_util::sync::CancellationToken;

use self::caller::Keys;
pub use self::cors::allow_origins;
use self::idempotency::RunningKeys;
use self::problem::{Code, Problem};
pub use self::request_id::give_request_id;
use crate::log::Log;
use crate::quotas::QuotasInForce;
use crate::store::Store;
use crate::stream::{Streams, Worker};
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
    quotas: Arc<QuotasInForce>,
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
        let Limits { allowed, quotas, stopping } = limits;
        let (keys, running) = (Keys::new(secrets.admin_key), RunningKeys::default());
        let token_secret = secrets.stream_tokens.to_vec();
        Self { store, log, streams, keys, token_secret, running, allowed, quotas, stopping }
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
    /// What each tenant may do.
    pub quotas: Arc<QuotasInForce>,
    /// Cancelled when the node begins to stop.
    pub stopping: CancellationToken,
}

/// The clients of the thread that answers.
fn worker(request: &HttpRequest) -> Result<Rc<Worker>, Problem> {
    request
        .app_data::<Rc<Worker>>()
        .cloned()
        .ok_or_else(|| Problem::new(Code::Internal, "the hub is not set up"))
}

/// All routes.
pub fn routes(config: &mut web::ServiceConfig) {
    event_routes(config);
    subscription_routes(config);
    pull_routes(config);
    replay_routes(config);
    config
        .service(resource("/healthz", vec![(Method::GET, web::to(health::healthz))]))
        .service(resource("/readyz", vec![(Method::GET, web::to(health::readyz))]))
        .service(resource("/metrics", vec![(Method::GET, web::to(metrics::metrics))]))
        .service(resource("/v1/nodes", vec![(Method::GET, web::to(nodes::list))]))
        .service(resource("/v1/attempts", vec![(Method::GET, web::to(deliveries::attempts))]))
        .service(resource(
            "/v1/deliveries/{subscription}/{event}/retry",
            vec![(Method::POST, web::to(deliveries::retry))],
        ))
        .service(resource(
            "/v1/keys",
            vec![(Method::POST, web::to(keys::create)), (Method::GET, web::to(keys::list))],
        ))
        .service(resource("/v1/keys/{id}", vec![(Method::DELETE, web::to(keys::revoke))]))
        .service(resource("/v1/tenants", vec![(Method::GET, web::to(tenants::list))]))
        .service(resource(
            "/v1/tenants/{name}",
            vec![
                (Method::GET, web::to(tenants::get)),
                (Method::PUT, web::to(tenants::put)),
                (Method::PATCH, web::to(tenants::patch)),
                (Method::DELETE, web::to(tenants::delete)),
            ],
        ))
        .default_service(web::to(no_such_path));
}

/// Events, published and read.
fn event_routes(config: &mut web::ServiceConfig) {
    config
        .service(resource(
            "/v1/events",
            vec![(Method::POST, web::to(events::publish)), (Method::GET, web::to(events::list))],
        ))
        .service(
            resource("/v1/stream", vec![(Method::GET, web::to(stream::stream))])
                .wrap(from_fn(stream::have_come_back)),
        )
        .service(resource(
            "/v1/stream-tokens",
            vec![(Method::POST, web::to(stream_tokens::create))],
        ))
        .service(resource("/v1/ws", vec![(Method::GET, web::to(ws::ws))]))
        .service(resource("/v1/connections", vec![(Method::GET, web::to(connections::list))]))
        .service(resource("/v1/events/{id}", vec![(Method::GET, web::to(events::get))]))
        .service(resource(
            "/v1/events/{id}/explain",
            vec![(Method::GET, web::to(explain::explain))],
        ))
        .service(resource(
            "/v1/events/{id}/deliveries",
            vec![(Method::GET, web::to(deliveries::of_event))],
        ));
}

/// The REST Hooks resource.
fn subscription_routes(config: &mut web::ServiceConfig) {
    config
        .service(resource(
            "/v1/subscriptions",
            vec![
                (Method::POST, web::to(subscriptions::create)),
                (Method::GET, web::to(subscriptions::list)),
                (Method::DELETE, web::to(subscriptions::delete_by_body)),
            ],
        ))
        .service(resource(
            "/v1/subscriptions/{id}",
            vec![
                (Method::GET, web::to(subscriptions::get)),
                (Method::PATCH, web::to(subscriptions::patch)),
                (Method::PUT, web::to(subscriptions::put)),
                (Method::DELETE, web::to(subscriptions::delete)),
            ],
        ))
        .service(resource(
            "/v1/subscriptions/{id}/pause",
            vec![(Method::POST, web::to(subscriptions::pause))],
        ))
        .service(resource(
            "/v1/subscriptions/{id}/resume",
            vec![(Method::POST, web::to(subscriptions::resume))],
        ))
        .service(resource(
            "/v1/subscriptions/{id}/test",
            vec![(Method::POST, web::to(deliveries::test))],
        ))
        .service(resource(
            "/v1/subscriptions/{id}/deliveries",
            vec![(Method::GET, web::to(deliveries::of_subscription))],
        ));
}

/// Pulling from a subscription.
fn pull_routes(config: &mut web::ServiceConfig) {
    config
        .service(resource(
            "/v1/subscriptions/{id}/events",
            vec![(Method::GET, web::to(pull::events))],
        ))
        .service(
            resource("/v1/subscriptions/{id}/stream", vec![(Method::GET, web::to(pull::stream))])
                .wrap(from_fn(stream::have_come_back)),
        )
        .service(resource("/v1/subscriptions/{id}/ws", vec![(Method::GET, web::to(pull::ws))]))
        .service(resource("/v1/subscriptions/{id}/ack", vec![(Method::POST, web::to(pull::ack))]))
        .service(resource(
            "/v1/subscriptions/{id}/seek",
            vec![(Method::POST, web::to(pull::seek))],
        ));
}

/// Replaying to a subscription.
fn replay_routes(config: &mut web::ServiceConfig) {
    config
        .service(resource(
            "/v1/subscriptions/{id}/replay",
            vec![(Method::POST, web::to(replays::create))],
        ))
        .service(resource(
            "/v1/subscriptions/{id}/replays",
            vec![(Method::GET, web::to(replays::list))],
        ))
        .service(resource(
            "/v1/subscriptions/{id}/replays/{replay}",
            vec![(Method::GET, web::to(replays::get))],
        ))
        .service(resource(
            "/v1/subscriptions/{id}/replays/{replay}/cancel",
            vec![(Method::POST, web::to(replays::cancel))],
        ));
}

/// A path with its methods; others are answered 405 with what is allowed. HEAD is answered as GET is.
fn resource(path: &str, methods: Vec<(Method, Route)>) -> Resource {
    let name = |method: &Method| {
        if method == Method::GET { "GET, HEAD".to_owned() } else { method.to_string() }
    };
    let allow = methods.iter().map(|(method, _)| name(method)).collect::<Vec<_>>().join(", ");
    let refuse = move || {
        let allow = allow.clone();
        async move { Err::<HttpResponse, Problem>(Problem::method_not_allowed(&allow)) }
    };
    let resource = web::resource(path).default_service(web::to(refuse));
    methods.into_iter().fold(resource, |resource, (method, route)| {
        let answers = move |asked: &Method| {
            *asked == method || (*asked == Method::HEAD && method == Method::GET)
        };
        resource.route(route.guard(guard::fn_guard(move |context| answers(&context.head().method))))
    })
}

async fn no_such_path() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found("path; the API is under /v1"))
}
