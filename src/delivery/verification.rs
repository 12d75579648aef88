//! One request that asks a receiver whether it wants to be sent anything, and what its answer means.

use crate::domain::subscription::verification::Reply;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use subtle::ConstantTimeEq;

use super::webhook::{Answer, Deliverer, insert};
use crate::domain::delivery::outcome::{Outcome, Verdict};
use crate::domain::egress::origin::Sender;
use crate::domain::id::SubscriptionId;
use crate::domain::subscription::Subscription;
use crate::domain::subscription::channel::{Channel, Webhook};
use crate::domain::subscription::verification::{
    Verification, VerificationMethod, Verified, allowed_rate,
};
use crate::domain::time::UnixMillis;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// Who the hub is to receivers.
    pub sender: Sender,
    /// Seals the texts by which a receiver can agree later.
    pub token_key: Arc<[u8]>,
}

/// Asks receivers, one request at a time.
#[derive(Debug, Clone)]
pub(crate) struct Handshaker {
    deliverer: Deliverer,
    asker: Asker,
}

impl Handshaker {
    /// Asks by the same client that delivers.
    pub(crate) fn new(deliverer: Deliverer, asker: Asker) -> Self {
        Self { deliverer, asker }
    }

    /// Asks the receiver of a subscription, under the rules and the deadline of its deliveries.
    pub(crate) async fn ask(&self, subscription: &Subscription) -> Reply {
        let id = subscription.id;
        let (webhook, verification) = match &subscription.definition.channel {
            Channel::Webhook(webhook @ Webhook { verification: Some(verification), .. }) => {
                (webhook, verification)
            }
            Channel::Webhook(_) | Channel::Pull { .. } => {
                return refused("the subscription requires no verification any more");
            }
        };
        match verification.method {
            VerificationMethod::XHookSecret => self.x_hook_secret(id, webhook, verification).await,
            VerificationMethod::Challenge => self.challenge(id, webhook).await,
            VerificationMethod::CloudEvents => self.cloudevents(id, webhook, verification).await,
        }
    }

    /// REST Hooks, "Intent verification": the header goes with a POST, and comes back with a 2xx.
    ///
    /// Receivers written to that pattern keep it as the key of the `X-Hook-Signature`s that follow.
    async fn x_hook_secret(
        &self,
        id: SubscriptionId,
        webhook: &Webhook,
        verification: &Verification,
    ) -> Reply {
        let secret = verification.secret.reveal();
        let mut request = Request::new(Method::POST, webhook.url.url().clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        insert(headers, "x-hook-secret", secret.clone());
        *request.body_mut() = Some("{}".into());
        match self.deliverer.ask(id, webhook, request).await {
            Ok(answer) => reply(&answer, || echoes(&answer, &secret)),
            Err(why) => refused(why),
        }
    }

    /// A GET with a random text, which the answer's body gives back. Both names are in use: `hub.challenge` after
    /// WebSub, 5.3, with its `hub.mode`, and plain `challenge`. The callback's own query stays before them.
    async fn challenge(&self, id: SubscriptionId, webhook: &Webhook) -> Reply {
        let challenge = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let asked = format!("hub.mode=subscribe&hub.challenge={challenge}&challenge={challenge}");
        let mut asking = webhook.url.url().clone();
        let query = match asking.query() {
            None | Some("") => asked,
            Some(own) => format!("{own}&{asked}"),
        };
        asking.set_query(Some(&query));
        match self.deliverer.ask(id, webhook, Request::new(Method::GET, asking)).await {
            Ok(answer) => reply(&answer, || repeats(&answer, &challenge)),
            Err(why) => refused(why),
        }
    }

    /// CloudEvents HTTP 1.1 Web Hooks, section 4.
    async fn cloudevents(
        &self,
        id: SubscriptionId,
        webhook: &Webhook,
        verification: &Verification,
    ) -> Reply {
        let Sender { origin, public_url } = &self.asker.sender;
        let Some(origin) = origin else {
            return refused("this hub has no name to ask with (HOOKHUB_WEBHOOK_ORIGIN)");
        };
        let rate = webhook.settings.delivery.rate_limit_per_minute();
        let mut request = Request::new(Method::OPTIONS, webhook.url.url().clone());
        let headers = request.headers_mut();
        insert(headers, "webhook-request-origin", origin.as_str().to_owned());
        if let Some(rate) = rate {
            insert(headers, "webhook-request-rate", rate.to_string());
        }
        if let Some(public_url) = public_url {
            let token = verification.token(&self.asker.token_key, id, &webhook.url);
            let path = format!("/v1/subscriptions/{id}/verification?token={token}");
            insert(headers, "webhook-request-callback", public_url.at(&path));
        }
        match self.deliverer.ask(id, webhook, request).await {
            Ok(answer) if answer.status == 410 => Reply::Gone,
            Ok(answer) => match allows(&answer, origin.as_str(), rate) {
                Ok(verified) => Reply::Agrees(verified),
                Err(why) => Reply::Not { why, at_least: at_least(&answer) },
            },
            Err(why) => refused(why),
        }
    }
}

fn refused(why: impl Into<String>) -> Reply {
    Reply::Not { why: why.into(), at_least: None }
}

/// What an answer means where its status counts: 2xx is consent if it `gives` the proof too.
fn reply(answer: &Answer, gives: impl FnOnce() -> Result<(), String>) -> Reply {
    match answer.verdict() {
        Verdict::Delivered => match gives() {
            Ok(()) => Reply::Agrees(Verified::unlimited(UnixMillis::now())),
            Err(why) => refused(why),
        },
        Verdict::Gone => Reply::Gone,
        Verdict::Retry { at_least } => {
            Reply::Not { why: format!("the receiver answered {}", answer.status), at_least }
        }
    }
}

fn at_least(answer: &Answer) -> Option<Duration> {
    match answer.verdict() {
        Verdict::Retry { at_least } => at_least,
        Verdict::Delivered | Verdict::Gone => None,
    }
}

impl Answer {
    fn verdict(&self) -> Verdict {
        Outcome::Answered { status: self.status, retry_after: self.retry_after }.verdict()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

fn echoes(answer: &Answer, secret: &str) -> Result<(), String> {
    let Some(echo) = answer.header("x-hook-secret") else {
        return Err(format!(
            "the receiver answered {} without X-Hook-Secret; it may still confirm",
            answer.status
        ));
    };
    if echo.as_bytes().ct_eq(secret.as_bytes()).into() {
        Ok(())
    } else {
        Err("the X-Hook-Secret of the answer is not the one that was sent".into())
    }
}

/// White space around the text does not matter: it is what scripts add.
fn repeats(answer: &Answer, challenge: &str) -> Result<(), String> {
    if answer.body.trim_ascii().ct_eq(challenge.as_bytes()).into() {
        Ok(())
    } else {
        Err(format!("the receiver answered {}, but its body is not the challenge", answer.status))
    }
}

/// The headers alone say it, whatever the status.
fn allows(answer: &Answer, origin: &str, asked_rate: Option<u32>) -> Result<Verified, String> {
    match answer.header("webhook-allowed-origin") {
        None => {
            return Err(format!(
                "the receiver answered {} without WebHook-Allowed-Origin; it may still confirm",
                answer.status
            ));
        }
        Some(allowed) if allowed == "*" || allowed.eq_ignore_ascii_case(origin) => {}
        Some(_) => return Err(format!("WebHook-Allowed-Origin is neither {origin} nor *")),
    }
    let said = answer.header("webhook-allowed-rate");
    let rate_per_minute = allowed_rate(said, asked_rate).map_err(|error| error.to_string())?;
    Ok(Verified { at: UnixMillis::now(), origin: Some(origin.to_owned()), rate_per_minute })
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Answer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn only_the_secret_itself_is_an_echo() {
        let said = |headers: &[(&'static str, &'static str)]| {
            let answer = answer(200, headers, "whsec_abc");
            reply(&answer, || echoes(&answer, "whsec_abc"))
        };
        assert!(matches!(said(&[("x-hook-secret", "whsec_abc")]), Reply::Agrees(_)));
        for wrong in ["", "whsec_ab", "whsec_abcd", "WHSEC_ABC", "whsec_abd"] {
            assert!(matches!(said(&[("x-hook-secret", wrong)]), Reply::Not { .. }), "{wrong}");
        }
        let Reply::Not { why, .. } = said(&[]) else { panic!("nothing was echoed") };
        assert!(why.contains("may still confirm") && !why.contains("whsec_"), "{why}");
    }

    #[test]
    fn only_a_body_that_is_the_challenge_repeats_it() {
        let said = |status, body: &str| {
            let answer = answer(status, &[], body);
            reply(&answer, || repeats(&answer, "abc"))
        };
        assert!(matches!(said(200, "abc"), Reply::Agrees(_)));
        assert!(matches!(said(204, " abc\r\n"), Reply::Agrees(_)));
        for body in ["", "ok", "abcd", "ab c", "{\"challenge\":\"abc\"}", "hub.challenge=abc"] {
            assert!(matches!(said(200, body), Reply::Not { .. }), "{body}");
        }
        for status in [302, 404, 500] {
            assert!(matches!(said(status, "abc"), Reply::Not { at_least: None, .. }), "{status}");
        }
        assert_eq!(said(410, "abc"), Reply::Gone);
        let asked = Some(Duration::from_secs(7));
        assert!(matches!(said(429, ""), Reply::Not { at_least, .. } if at_least == asked));
    }

    #[test]
    fn the_origin_is_allowed_by_its_header_whatever_the_status() {
        let rate = |status, headers: &[(&'static str, &'static str)], asked| {
            allows(&answer(status, headers, ""), "hub.example", asked)
                .map(|verified| verified.rate_per_minute)
        };
        let named = ("webhook-allowed-origin", "Hub.Example");
        for status in [200, 204, 405, 500] {
            assert_eq!(rate(status, &[named], None), Ok(None));
            assert!(rate(status, &[], None).is_err());
        }
        assert_eq!(rate(200, &[("webhook-allowed-origin", "*")], Some(120)), Ok(Some(120)));
        assert_eq!(rate(200, &[named, ("webhook-allowed-rate", "*")], Some(120)), Ok(None));
        assert_eq!(rate(200, &[named, ("webhook-allowed-rate", "30")], Some(120)), Ok(Some(30)));
        for bad in ["0", "some", ""] {
            assert!(rate(200, &[named, ("webhook-allowed-rate", bad)], None).is_err(), "{bad}");
        }
        for other in ["example", "hub.example.com", "hub.example, x.example", ""] {
            assert!(rate(200, &[("webhook-allowed-origin", other)], None).is_err(), "{other}");
        }
    }
}
