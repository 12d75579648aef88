//! Responses to verification requests of every kind: this receiver accepts all of them.

use actix_web::http::Method;
use actix_web::http::header::ALLOW;
use actix_web::{HttpRequest, HttpResponse};
use url::form_urlencoded;

const SECRET: &str = "x-hook-secret";
const ORIGIN: &str = "webhook-request-origin";
/// Names of the query parameter that holds the challenge.
const CHALLENGE_PARAMETERS: [&str; 2] = ["hub.challenge", "challenge"];

/// Confirms a verification request of the hub. `None`: any other request.
pub(super) fn respond(request: &HttpRequest) -> Option<HttpResponse> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (method, response) = match *request.method() {
        Method::GET => {
            let mut query = form_urlencoded::parse(request.query_string().as_bytes());
            let (_, challenge) = query.find(|(name, _)| CHALLENGE_PARAMETERS.contains(&&**name))?;
            let response =
                HttpResponse::Ok().content_type("text/plain").body(challenge.into_owned());
            ("challenge", response)
        }
        Method::OPTIONS => {
            let mut response = HttpResponse::Ok();
            response.insert_header(("webhook-allowed-origin", header(ORIGIN)?));
            response.insert_header(("webhook-allowed-rate", "*")).insert_header((ALLOW, "POST"));
            ("cloudevents", response.finish())
        }
        Method::POST => {
            let echo = (SECRET, header(SECRET)?);
            ("x_hook_secret", HttpResponse::Ok().insert_header(echo).finish())
        }
        _ => return None,
    };
    tracing::info!(method, "accepted a verification request");
    Some(response)
}
