//! Tenant names, and the header with which an admin key acts for a tenant.

use std::sync::Arc;

use actix_web::HttpRequest;

use crate::api::http::headers::single_header;
use crate::api::problem::{Code, Problem};

const HEADER: &str = "hookhub-tenant";

/// Whether a text is a valid tenant name: 1 to 64 characters of `A-Z a-z 0-9 _ . -`.
pub(crate) fn is_tenant_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Returns the tenant in the header `Hookhub-Tenant`. `None` without the header; 400 for an invalid name.
pub(super) fn requested_tenant(request: &HttpRequest) -> Result<Option<Arc<str>>, Problem> {
    let Some(value) = single_header(request, HEADER)? else { return Ok(None) };
    match value.to_str() {
        Ok(name) if is_tenant_name(name) => Ok(Some(name.into())),
        _ => Err(Problem::new(
            Code::InvalidHeader,
            "Hookhub-Tenant must be a tenant name: 1 to 64 letters, digits, _, . and -",
        )),
    }
}
