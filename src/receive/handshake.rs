//! Handshakes as a willing receiver answers them: it wants what it is asked whether it wants.

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{HttpRequest, HttpResponse};
use url::form_urlencoded;

use crate::values::signature::Secret;

const SECRET: &str = "x-hook-secret";
const ORIGIN: &str = "webhook-request-origin";
/// By which name a query may bring the challenge.
const CHALLENGES: [&str; 2] = ["hub.challenge", "challenge"];

/// The answer, if the request is a handshake. Of those who know `secrets` an `X-Hook-Secret` must be one of these.
pub(super) fn answer(request: &HttpRequest, secrets: &[Secret]) -> Option<HttpResponse> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (way, answer) = match *request.method() {
        Method::GET => {
            let mut query = form_urlencoded::parse(request.query_string().as_bytes());
            let (_, challenge) = query.find(|(name, _)| CHALLENGES.contains(&&**name))?;
            let answer = HttpResponse::Ok().content_type("text/plain").body(challenge.into_owned());
            ("challenge", answer)
        }
        Method::OPTIONS => {
            let mut answer = HttpResponse::Ok();
            answer.insert_header(("webhook-allowed-origin", header(ORIGIN)?));
            answer.insert_header(("webhook-allowed-rate", "*")).insert_header((ALLOW, "POST"));
            ("cloudevents", answer.finish())
        }
        Method::POST => {
            let secret = header(SECRET)?;
            let is_ours = secrets.is_empty() || secrets.iter().any(|one| one.reveal() == secret);
            let answer = if is_ours {
                HttpResponse::Ok().insert_header((SECRET, secret)).finish()
            } else {
                HttpResponse::Unauthorized().body("this X-Hook-Secret is not known here\n")
            };
            ("x_hook_secret", answer)
        }
        _ => return None,
    };
    tracing::info!(handshake = way, status = answer.status().as_u16(), "answered a handshake");
    Some(answer)
}
