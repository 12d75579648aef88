//! The body that defines a subscription, with the field names of other REST Hooks services as aliases.

use std::collections::BTreeMap;

use super::receiver_input::{
    check_combination, take_auth, take_callback_url, take_headers, take_tls,
};
use crate::api::http::fields::{Field, Fields, patterns, whole_number};
use crate::api::problem::{ApiResult, FieldError, Problem};
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::policy::Targets;
use crate::domain::egress::receiver_auth::ReceiverAuth;
use crate::domain::egress::receiver_tls::ReceiverTls;
use crate::domain::event::event_type::Pattern;
use crate::domain::event::json_pointer::JsonPointer;
use crate::domain::signing::Signing;
use crate::domain::signing::scheme::Scheme;
use crate::domain::signing::secret::Secret;
use crate::domain::subscription::Definition;
use crate::domain::subscription::channel::{
    Channel, DEFAULT_MAX_IN_FLIGHT, DEFAULT_TIMEOUT_S, DeliverySettings, Webhook, WebhookSettings,
};
use crate::domain::subscription::verification::{Verification, VerificationMethod};
use crate::domain::time::UnixMillis;

const MAX_METADATA: usize = 50;
const MAX_TEXT_CHARS: usize = 1_000;
const MAX_RETRY_STEPS: usize = 50;
/// The maximum of each retry delay and of `give_up_after_s`: 30 days.
const MAX_RETRY_DELAY_S: u32 = 30 * 24 * 3_600;

/// The fields of a definition, each present, null or missing.
#[derive(Default)]
pub(super) struct SubscriptionInput {
    event_types: Field<Vec<Pattern>>,
    callback_url: Field<CallbackUrl>,
    secret: Field<Secret>,
    signatures: Field<Vec<Scheme>>,
    x_hook_signature: Field<bool>,
    description: Field<String>,
    metadata: Field<BTreeMap<String, String>>,
    headers: Field<BTreeMap<String, String>>,
    tls: Field<ReceiverTls>,
    auth: Field<ReceiverAuth>,
    ordered: Field<bool>,
    order_by: Field<JsonPointer>,
    max_in_flight: Field<u16>,
    rate_limit_per_s: Field<u16>,
    timeout_s: Field<u16>,
    retry_schedule_s: Field<Vec<u32>>,
    give_up_after_s: Field<u32>,
    handshake: Field<VerificationMethod>,
}

impl SubscriptionInput {
    /// Takes the fields of a definition; `fields` records the invalid ones. `targets`: the rules for URLs that the hub may
    /// call.
    pub(super) fn take(fields: &mut Fields, targets: &Targets) -> Self {
        Self {
            event_types: event_types(fields),
            callback_url: take_callback_url(fields, targets),
            secret: fields.parsed("secret"),
            signatures: signatures(fields),
            x_hook_signature: fields.flag("x_hook_signature"),
            description: fields.text("description", MAX_TEXT_CHARS),
            metadata: fields.texts("metadata", MAX_METADATA, MAX_TEXT_CHARS),
            headers: take_headers(fields),
            tls: take_tls(fields),
            auth: take_auth(fields, targets),
            ordered: fields.flag("ordered"),
            order_by: fields.parsed("order_by"),
            max_in_flight: fields.number("max_in_flight", 1..=64),
            rate_limit_per_s: fields.number("rate_limit_per_s", 1..=10_000),
            timeout_s: fields.number("timeout_s", 1..=30),
            retry_schedule_s: retry_schedule(fields),
            give_up_after_s: fields.number("give_up_after_s", 1..=MAX_RETRY_DELAY_S),
            handshake: fields.parsed("handshake"),
        }
    }

    /// A missing or null field gets its default. A secret in the input replaces the secrets of `signing`, also the
    /// earlier ones. 422 without event types, and for settings that contradict each other.
    pub(super) fn into_definition(self, signing: Signing) -> ApiResult<Definition> {
        let Some(event_types) = self.event_types.value() else {
            let detail = "is missing; expected an array of patterns, e.g. [\"order.*\"]";
            return Err(Problem::invalid_field("/event_types", detail));
        };
        let schemes = self.signatures.value().unwrap_or_else(|| vec![Scheme::V1]);
        let signing = match self.secret.value() {
            Some(secret) => signing.with_secret(secret),
            None => signing,
        };
        let mut signing = signing.with_schemes(schemes, rand::random);
        signing.x_hook_signature = self.x_hook_signature.value().unwrap_or_default();
        let settings = WebhookSettings {
            signing,
            headers: self.headers.value().unwrap_or_default(),
            tls: self.tls.value(),
            auth: self.auth.value(),
            delivery: DeliverySettings {
                ordered: self.ordered.value().unwrap_or_default(),
                order_by: self.order_by.value(),
                max_in_flight: self.max_in_flight.value().unwrap_or(DEFAULT_MAX_IN_FLIGHT),
                rate_limit_per_s: self.rate_limit_per_s.value(),
                timeout_s: self.timeout_s.value().unwrap_or(DEFAULT_TIMEOUT_S),
                retry_schedule_s: self.retry_schedule_s.value(),
                give_up_after_s: self.give_up_after_s.value(),
            },
        };
        let (url, method) = (self.callback_url.value(), self.handshake.value());
        check_combination(url.as_ref(), &settings)?;
        Ok(Definition {
            event_types,
            channel: channel(url, method, settings)?,
            description: self.description.value(),
            metadata: self.metadata.value().unwrap_or_default(),
        })
    }

    /// A missing field stays, and null restores its default. 422 as in [`Self::into_definition`] and
    /// [`Self::forbid_credential_redirect`].
    pub(super) fn into_patched_definition(self, current: Definition) -> ApiResult<Definition> {
        self.forbid_credential_redirect(&current)?;
        let Definition { event_types, channel, description, metadata } = current;
        let (callback_url, verification, settings) = match channel {
            Channel::Pull { dormant } => (None, None, dormant),
            Channel::Webhook(Webhook { url, verification, settings }) => {
                (Some(url), verification, settings)
            }
        };
        let WebhookSettings { signing, headers, tls, auth, delivery } = settings;
        Self {
            event_types: self.event_types.or(event_types),
            callback_url: self.callback_url.or(callback_url),
            secret: self.secret,
            signatures: self.signatures.or(signing.schemes().to_vec()),
            x_hook_signature: self.x_hook_signature.or(signing.x_hook_signature),
            description: self.description.or(description),
            metadata: self.metadata.or(metadata),
            headers: self.headers.or(headers),
            tls: self.tls.or(tls),
            auth: self.auth.or(auth),
            ordered: self.ordered.or(delivery.ordered),
            order_by: self.order_by.or(delivery.order_by),
            max_in_flight: self.max_in_flight.or(delivery.max_in_flight),
            rate_limit_per_s: self.rate_limit_per_s.or(delivery.rate_limit_per_s),
            timeout_s: self.timeout_s.or(delivery.timeout_s),
            retry_schedule_s: self.retry_schedule_s.or(delivery.retry_schedule_s),
            give_up_after_s: self.give_up_after_s.or(delivery.give_up_after_s),
            handshake: self.handshake.or(verification.map(|verification| verification.method)),
        }
        .into_definition(signing)
    }

    /// 422 if the callback URL moves to another origin while stored `headers`, `auth` or `tls` would stay: a caller
    /// cannot read them, and must not be able to send them to a server of its own.
    fn forbid_credential_redirect(&self, current: &Definition) -> ApiResult<()> {
        let origin = |url: Option<&CallbackUrl>| url.map(|url| url.url().origin());
        let is_other_origin = match &self.callback_url {
            Field::Is(url) => origin(Some(url)) != origin(current.channel.callback_url()),
            Field::Absent | Field::Null => false,
        };
        let settings = current.channel.settings();
        let kept = [
            ("/headers", self.headers == Field::Absent && !settings.headers.is_empty()),
            ("/auth", self.auth == Field::Absent && settings.auth.is_some()),
            ("/tls", self.tls == Field::Absent && settings.tls.is_some()),
        ];
        let detail = "was set for the previous callback_url, on another server; send it again, or null to remove it";
        let faults = kept.into_iter().filter(|(_, is_kept)| is_other_origin && *is_kept);
        let faults: Vec<_> = faults.map(|(pointer, _)| FieldError::new(pointer, detail)).collect();
        if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
    }
}

/// A webhook channel with a `url`, else a pull channel. `method`: how to verify the receiver; 422 without a URL.
fn channel(
    url: Option<CallbackUrl>,
    method: Option<VerificationMethod>,
    settings: WebhookSettings,
) -> ApiResult<Channel> {
    match (url, method) {
        (None, None) => Ok(Channel::Pull { dormant: settings }),
        (None, Some(_)) => {
            let detail = "needs a callback_url; send one, or leave out handshake";
            Err(Problem::invalid_field("/handshake", detail))
        }
        (Some(url), method) => {
            let verification =
                method.map(|method| Verification::new(method, UnixMillis::now(), rand::random()));
            Ok(Channel::Webhook(Webhook { url, verification, settings }))
        }
    }
}

/// Takes the field `event_types`, an array of patterns, or `event`, one pattern. A request with both gets an error.
fn event_types(fields: &mut Fields) -> Field<Vec<Pattern>> {
    if fields.has("event") && fields.has("event_types") {
        fields.fault("event", "event_types and event cannot be combined; send one of them");
    }
    let single = fields.parsed::<Pattern>("event");
    match (patterns(fields, "event_types"), single) {
        (Field::Absent, Field::Is(pattern)) => Field::Is(vec![pattern]),
        (Field::Absent, Field::Null) => Field::Null,
        (patterns, _) => patterns,
    }
}

/// Takes the field `signatures`: an array of one or both signature schemes. Another value is recorded as an error.
fn signatures(fields: &mut Fields) -> Field<Vec<Scheme>> {
    fields.list("signatures", 2).and_then(|items| {
        let named: Option<Vec<Scheme>> =
            items.iter().map(|item| item.as_str()?.parse().ok()).collect();
        match named.as_deref() {
            Some([one]) => Field::Is(vec![*one]),
            Some([one, other]) if one != other => Field::Is(vec![Scheme::V1, Scheme::V1a]),
            _ => fields.reject(
                "signatures",
                "expected \"v1\" (HMAC-SHA256), \"v1a\" (Ed25519), or both, in an array",
            ),
        }
    })
}

/// Takes the field `retry_schedule_s`: 1 to [`MAX_RETRY_STEPS`] delays between attempts, in whole seconds. Another value
/// is recorded as an error.
fn retry_schedule(fields: &mut Fields) -> Field<Vec<u32>> {
    fields.list("retry_schedule_s", MAX_RETRY_STEPS).and_then(|items| {
        let steps: Option<Vec<u32>> =
            items.iter().map(|item| whole_number(item, &(1..=MAX_RETRY_DELAY_S))).collect();
        match steps {
            Some(steps) if !steps.is_empty() => Field::Is(steps),
            _ => fields.reject(
                "retry_schedule_s",
                "expected at least one whole number of seconds, e.g. [5, 30, 120]",
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Definition, String> {
        let targets = Targets::default();
        let mut fields = Fields::parse(body.as_bytes()).map_err(|problem| problem.to_string())?;
        let input = SubscriptionInput::take(&mut fields, &targets);
        fields.finish().map_err(|problem| problem.as_item().to_string())?;
        input
            .into_definition(Signing::new(Secret::from_random([7; 32])))
            .map_err(|problem| problem.as_item().to_string())
    }

    #[test]
    fn aliases_of_other_services_are_accepted() {
        for body in [
            r#"{"event_types": ["a.*"], "callback_url": "https://example.com/"}"#,
            r#"{"event": "a.*", "target_url": "https://example.com/"}"#,
            r#"{"event": "a.*", "hookUrl": "https://example.com/"}"#,
        ] {
            let definition = parse(body).unwrap();
            assert_eq!(definition.channel.callback_url().unwrap().as_str(), "https://example.com/");
            assert_eq!(
                definition.event_types.iter().map(Pattern::as_str).collect::<Vec<_>>(),
                ["a.*"]
            );
        }
    }

    #[test]
    fn each_invalid_field_is_named() {
        for (extra, pointer) in [
            (r#""event": "a""#, "/event"),
            (r#""hookUrl": "https://example.com/""#, "/hookUrl"),
            (r#""max_in_flight": 65"#, "/max_in_flight"),
            (r#""timeout_s": 0"#, "/timeout_s"),
            (r#""retry_schedule_s": []"#, "/retry_schedule_s"),
            (r#""retry_schedule_s": [0.5]"#, "/retry_schedule_s"),
            (r#""secret": "whsec_AAAA""#, "/secret"),
            (r#""signatures": []"#, "/signatures"),
            (r#""signatures": ["v1", "v1"]"#, "/signatures"),
            (r#""signatures": ["v2"]"#, "/signatures"),
            (r#""signatures": "v1""#, "/signatures"),
            (r#""x_hook_signature": "yes""#, "/x_hook_signature"),
            (r#""headers": {"Host": "x"}"#, "/headers/Host"),
            (r#""headers": {"x": "a\r\nb: c"}"#, "/headers/x"),
            (r#""headers": {"webhook-id": "x"}"#, "/headers/webhook-id"),
            (r#""headers": {"x": "***"}"#, "/headers/x"),
            (r#""metadata": {"a": 1}"#, "/metadata/a"),
            (r#""description": "\u0000""#, "/description"),
            (r#""filters": {}"#, "/filters"),
            (r#""handshake": "webhook""#, "/handshake"),
        ] {
            let body = format!(
                r#"{{"event_types": ["a"], "callback_url": "https://example.com/", {extra}}}"#
            );
            let problem = parse(&body).unwrap_err();
            assert!(problem.contains(&format!("\"{pointer}\"")), "{extra}: {problem}");
        }
        assert!(
            parse(r#"{"event_types": ["a", "b c"], "callback_url": "https://x.example/"}"#)
                .unwrap_err()
                .contains("/event_types/1")
        );
        assert!(
            parse(r#"{"event_types": [], "callback_url": "https://x.example/"}"#)
                .unwrap_err()
                .contains("/event_types")
        );
        assert!(
            parse(r#"{"event_types": ["a"], "callback_url": "http://10.0.0.1/"}"#)
                .unwrap_err()
                .contains("/callback_url")
        );
        assert!(parse("{}").unwrap_err().contains("/event_types"));
        assert!(
            parse(r#"{"event": "a"}"#).unwrap().channel.callback_url().is_none(),
            "it is pulled"
        );
    }

    #[test]
    fn a_patch_keeps_missing_fields_and_resets_null_ones() {
        let current = parse(r#"{"event":"a","callback_url":"https://example.com/","timeout_s":3,"description":"x"}"#).unwrap();
        let mut fields = Fields::parse(br#"{"timeout_s": null, "ordered": true}"#).unwrap();
        let input = SubscriptionInput::take(&mut fields, &Targets::default());
        let changed = input.into_patched_definition(current.clone()).unwrap();
        assert_eq!(changed.delivery().timeout_s, DEFAULT_TIMEOUT_S);
        assert!(changed.delivery().ordered);
        assert_eq!(changed.description, current.description);
        assert_eq!(changed.signing(), current.signing());
    }
}
