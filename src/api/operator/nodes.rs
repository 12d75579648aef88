//! `GET /v1/nodes`.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use crate::api::auth::context::Authorized;
use crate::api::http::input::Parameters;
use crate::api::problem::Problem;
use crate::store::nodes::Node;

/// `GET /v1/nodes`: lists all nodes, oldest first. A dead node is listed for an hour.
pub(super) async fn list(
    Authorized(context, parameters): Authorized<Parameters>,
) -> Result<HttpResponse, Problem> {
    let query = parameters.known(&[])?;
    let data: Vec<Value> = context.api.store.select_nodes().await?.iter().map(view).collect();
    Ok(query.list(&data, None))
}

/// Returns the JSON of a node.
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
