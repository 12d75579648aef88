//! Where each delivery is read, verified, answered and told of.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::{ALLOW, HeaderMap, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Delivery, Distrust, ReceiverSettings, Verified, verification};
use crate::domain::signing::secret::Signed;
use crate::domain::time::UnixMillis;

const MOST_BYTES: usize = 1 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(15);

/// What the requests share.
#[derive(Debug)]
pub(super) struct Room {
    settings: ReceiverSettings,
    /// How much of the script is used up.
    answered: AtomicUsize,
    seen: mpsc::Sender<Delivery>,
    untold: AtomicU64,
}

impl Room {
    pub(super) fn new(settings: ReceiverSettings, seen: mpsc::Sender<Delivery>) -> Self {
        Self { settings, answered: AtomicUsize::new(0), seen, untold: AtomicU64::new(0) }
    }

    pub(super) fn untold(&self) -> u64 {
        self.untold.load(Ordering::Relaxed)
    }

    fn verify(
        &self,
        signed: Result<Signed<'_>, Distrust>,
        body: &[u8],
        now: UnixMillis,
    ) -> Verified {
        let mut verified = Verified::NotChecked;
        for secret in &self.settings.secrets {
            match signed.and_then(|signed| Ok(secret.verify(&signed, body, now)?)) {
                Ok(()) => return Verified::Yes,
                Err(why) => verified = Verified::No(why),
            }
        }
        verified
    }

    /// The next answer of the script; a delivery that is not trusted uses none up.
    fn answer_to(&self, verified: Verified) -> StatusCode {
        let script = &self.settings.answers;
        let code = match verified {
            Verified::No(_) => 401,
            Verified::Yes | Verified::NotChecked => {
                let turn = self.answered.fetch_add(1, Ordering::Relaxed);
                script.get(turn).or(script.last()).copied().unwrap_or(204)
            }
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn tell(&self, delivery: Delivery) {
        if self.seen.try_send(delivery).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Takes a request on any path.
pub(super) async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    room: web::Data<Room>,
) -> HttpResponse {
    if let Some(answer) = verification::answer(&request) {
        return answer;
    }
    if request.method() != Method::POST {
        return HttpResponse::MethodNotAllowed()
            .insert_header((ALLOW, "POST"))
            .body("deliveries are POSTed\n");
    }
    let body = match timeout(BODY_DEADLINE, payload.to_bytes_limited(MOST_BYTES)).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(error))) => return HttpResponse::BadRequest().body(format!("{error}\n")),
        Ok(Err(_too_large)) => return HttpResponse::PayloadTooLarge().body("more than 1 MiB\n"),
        Err(_elapsed) => {
            return HttpResponse::RequestTimeout().body("the body did not come in time\n");
        }
    };
    let at = UnixMillis::now();
    let headers = request.headers();
    let verified = room.verify(signed(headers), &body, at);
    let answer = room.answer_to(verified);
    room.tell(Delivery {
        id: text(headers, "webhook-id").into(),
        attempt: text(headers, "webhook-attempt").parse().unwrap_or_default(),
        subscription: text(headers, "webhook-subscription").into(),
        verified,
        answered: answer.as_u16(),
        body,
        headers: copied(headers),
        path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        at,
    });
    sleep(room.settings.delay).await;
    respond(answer, verified, room.settings.retry_after_s)
}

fn respond(status: StatusCode, verified: Verified, retry_after_s: Option<u64>) -> HttpResponse {
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
        (_, Verified::No(why)) => answer.body(format!("{why}\n")),
        _ => answer.body(format!("{status}, as the script says\n")),
    }
}

fn signed(headers: &HeaderMap) -> Result<Signed<'_>, Distrust> {
    let wanted = |name| match text(headers, name) {
        "" => Err(Distrust::Missing(name)),
        value => Ok(value),
    };
    Ok(Signed {
        id: wanted("webhook-id")?,
        timestamp: wanted("webhook-timestamp")?,
        signature: wanted("webhook-signature")?,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn copied(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}
