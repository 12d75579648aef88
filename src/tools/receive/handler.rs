//! The handler of the receiver: reads, verifies, reports and responds to each delivery.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::{ALLOW, HeaderMap, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Delivery, ReceiverSettings, SignatureCheck, VerificationFailure, verification};
use crate::domain::signing::secret::Signed;
use crate::domain::time::UnixMillis;

const MAX_BODY_BYTES: usize = 1 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct ReceiverState {
    settings: ReceiverSettings,
    /// The number of responses whose status came from `settings.answers`.
    used: AtomicUsize,
    deliveries: mpsc::Sender<Delivery>,
    dropped: AtomicU64,
}

impl ReceiverState {
    pub(super) fn new(settings: ReceiverSettings, deliveries: mpsc::Sender<Delivery>) -> Self {
        Self { settings, used: AtomicUsize::new(0), deliveries, dropped: AtomicU64::new(0) }
    }

    /// Returns how many deliveries were dropped because the channel was full.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Valid if any configured secret matches; `NotChecked` if none is configured.
    fn verify(
        &self,
        signed: Result<Signed<'_>, VerificationFailure>,
        body: &[u8],
        now: UnixMillis,
    ) -> SignatureCheck {
        let mut verified = SignatureCheck::NotChecked;
        for secret in &self.settings.secrets {
            match signed.and_then(|signed| Ok(secret.verify(&signed, body, now)?)) {
                Ok(()) => return SignatureCheck::Valid,
                Err(why) => verified = SignatureCheck::Invalid(why),
            }
        }
        verified
    }

    /// The status for the next response: 401 for an invalid signature, else the next of `settings.answers`, whose last one
    /// repeats.
    fn next_status(&self, verified: SignatureCheck) -> StatusCode {
        let answers = &self.settings.answers;
        let code = match verified {
            SignatureCheck::Invalid(_) => 401,
            SignatureCheck::Valid | SignatureCheck::NotChecked => {
                let index = self.used.fetch_add(1, Ordering::Relaxed);
                answers.get(index).or(answers.last()).copied().unwrap_or(204)
            }
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Sends a delivery to the channel, or counts it as dropped if the channel is full.
    fn report(&self, delivery: Delivery) {
        if self.deliveries.try_send(delivery).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Responds to a verification request; otherwise checks the signature, reports the delivery, and responds.
pub(super) async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<ReceiverState>,
) -> HttpResponse {
    if let Some(response) = verification::respond(&request) {
        return response;
    }
    if request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed()
            .insert_header((ALLOW, "POST"))
            .body("deliveries use POST\n");
    }
    let body = match timeout(BODY_TIMEOUT, payload.to_bytes_limited(MAX_BODY_BYTES)).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(error))) => return HttpResponse::BadRequest().body(format!("{error}\n")),
        Ok(Err(_too_large)) => return HttpResponse::PayloadTooLarge().body("more than 1 MiB\n"),
        Err(_elapsed) => {
            return HttpResponse::RequestTimeout().body("the body did not arrive in time\n");
        }
    };
    let at = UnixMillis::now();
    let headers = request.headers();
    let verified = state.verify(signed(headers), &body, at);
    let status = state.next_status(verified);
    state.report(Delivery {
        id: text(headers, "webhook-id").into(),
        attempt: text(headers, "webhook-attempt").parse().unwrap_or_default(),
        subscription: text(headers, "webhook-subscription").into(),
        verified,
        status: status.as_u16(),
        body,
        headers: copied(headers),
        path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        at,
    });
    sleep(state.settings.delay).await;
    respond(status, verified, state.settings.retry_after_s)
}

/// `retry_after_s`: sent only with status 429 or 503.
fn respond(
    status: StatusCode,
    verified: SignatureCheck,
    retry_after_s: Option<u64>,
) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    if let (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) =
        (status, retry_after_s)
    {
        answer.insert_header((RETRY_AFTER, seconds));
    }
    match (status, verified) {
        (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED, _) => {
            answer.finish()
        }
        (_, SignatureCheck::Invalid(why)) => answer.body(format!("{why}\n")),
        _ => answer.body(format!("{status}, as configured\n")),
    }
}

/// The headers that the signature check needs. Fails with the first one that is missing, empty or not ASCII.
fn signed(headers: &HeaderMap) -> Result<Signed<'_>, VerificationFailure> {
    let wanted = |name| match text(headers, name) {
        "" => Err(VerificationFailure::Missing(name)),
        value => Ok(value),
    };
    Ok(Signed {
        id: wanted("webhook-id")?,
        timestamp: wanted("webhook-timestamp")?,
        signature: wanted("webhook-signature")?,
    })
}

/// The value of a header; empty if it is missing or not ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Copies all headers of a request as pairs of name and value. Invalid UTF-8 in a value is replaced.
fn copied(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}
