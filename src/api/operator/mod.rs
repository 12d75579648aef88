//! Endpoints for the operator of the hub: health, metrics, nodes, the audit log, tenants and keys.

mod audit;
mod keys;
mod metrics;
mod nodes;
mod tenants;

use actix_web::web;

use super::route::{ADMIN, PUBLIC, Route, get};

pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/healthz", PUBLIC, web::to(nodes::healthz)),
        get("/readyz", PUBLIC, web::to(nodes::readyz)),
        get("/metrics", PUBLIC, web::to(metrics::metrics)),
        get("/v1/audit", ADMIN, web::to(audit::list)),
        get("/v1/nodes", ADMIN, web::to(nodes::list)),
    ];
    routes.extend(tenants::routes());
    routes.extend(keys::routes());
    routes
}
