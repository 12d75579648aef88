//! Liveness and readiness of the node.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::api::problem::{Code, Problem};
use crate::api::state::Api;

/// `GET /healthz`: responds 200 while the process runs.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: responds 200 if the database responds, the schema exists and the node is not stopping; else 503.
pub(super) async fn readyz(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    if api.stopping.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "this node is stopping"));
    }
    api.store.ping().await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}
