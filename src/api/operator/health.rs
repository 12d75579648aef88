//! Whether the process is up, and whether it can work.

use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::api::problem::{Code, Problem};
use crate::api::state::Api;

/// `GET /healthz`: the process is up.
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// `GET /readyz`: the database answers, the schema is in place, and the node is not stopping.
pub(crate) async fn readyz(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    if api.stopping.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "this node is stopping"));
    }
    api.store.ping().await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}
