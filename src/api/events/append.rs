//! Appending the events of one request, once however often it is repeated.

use std::sync::Arc;

use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::api::auth::caller::Caller;
use crate::api::http::idempotency;
use crate::api::http::idempotency::Claim;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::domain::event::NewEvent;
use crate::domain::position::Position;
use crate::store::log::{AppendRequest, Placed};

/// Appends `events` and says where the first of them is, with the beginnings of an answer: 202, marked where it is
/// that of a first request under the claimed key.
pub(crate) async fn append(
    api: &Api,
    caller: &Caller,
    claim: Option<Claim>,
    events: Vec<NewEvent>,
) -> Result<(Position, HttpResponseBuilder), Problem> {
    let key = claim.as_ref().map(|claim| claim.key.clone());
    let request = AppendRequest { tenant: Arc::clone(&caller.tenant), key, events };
    let mut response = HttpResponse::Accepted();
    let first = match (api.log.append(request).await?, claim) {
        (Placed::Replayed { first, fingerprint }, Some(claim)) => {
            claim.must_be_same(&fingerprint)?;
            idempotency::replayed(&mut response);
            first
        }
        (Placed::Appended(first) | Placed::Replayed { first, .. }, _) => first,
    };
    Ok((first, response))
}
