//! Handshakes as a willing receiver answers them: it wants what it is asked whether it wants.

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{HttpRequest, HttpResponse};
use url::form_urlencoded;

const SECRET: &str = "x-hook-secret";
const ORIGIN: &str = "webhook-request-origin";
/// By which name a query may bring the challenge.
const CHALLENGES: [&str; 2] = ["hub.challenge", "challenge"];

/// The answer, if the request is a handshake.
pub(super) fn answer(request: &HttpRequest) -> Option<HttpResponse> {
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
            let echo = (SECRET, header(SECRET)?);
            ("x_hook_secret", HttpResponse::Ok().insert_header(echo).finish())
        }
        _ => return None,
    };
    tracing::info!(handshake = way, "agreed to a handshake");
    Some(answer)
}
