//! The nodes of the hub: the health of this one, and a list of all.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::api::auth::context::Authorized;
use crate::api::http::input::Parameters;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::store::nodes::Node;

/// `GET /healthz`: responds 200 while the process runs.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: responds 200 if the database responds and the node is not stopping; else 503.
pub(super) async fn readyz(api: web::Data<Api>) -> ApiResult {
    if api.stopping.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "this node is stopping"));
    }
    api.store.ping().await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}

/// `GET /v1/nodes`: the earliest started first. A dead node is listed for an hour after its lease ended.
pub(super) async fn list(Authorized(context, parameters): Authorized<Parameters>) -> ApiResult {
    let query = parameters.known(&[])?;
    let data: Vec<Value> = context.api.store.select_nodes().await?.iter().map(view).collect();
    Ok(query.list(&data, None))
}

fn view(node: &Node) -> Value {
    let status = match (node.alive, node.leaving) {
        (false, _) => "dead",
        (true, true) => "leaving",
        (true, false) => "alive",
    };
    json!({
        "id": node.name.id.to_string(),
        "address": node.name.address,
        "version": node.version,
        "status": status,
        "shards": node.shards,
        "started_at": node.started_at,
        "leased_until": node.leased_until,
    })
}
