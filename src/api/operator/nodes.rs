//! The nodes of the hub, for its operator.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::api::auth::caller::Caller;
use crate::api::http::query::Query;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::store::nodes::Node;

/// `GET /v1/nodes`: all of them, oldest first; a dead one is listed for an hour.
pub(crate) async fn list(
    _: Caller,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &[])?;
    let data: Vec<Value> = api.store.select_nodes().await?.iter().map(view).collect();
    Ok(query.page(&data, None, false))
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
