//! What a subscriber says of a subscription, with the names other REST Hooks clients use.

use std::collections::BTreeMap;

use serde_json::Value;

use super::receiver_input;
use crate::api::http::fields::{Field, Fields, pointer_part, whole_number};
use crate::api::http::patterns::patterns;
use crate::api::problem::{FieldError, Problem};
use crate::domain::egress::callback_url::{BadCallbackUrl, CallbackUrl};
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
use crate::domain::subscription::view::MASK;
use crate::domain::time::UnixMillis;

const MOST_HEADERS: usize = 20;
const MOST_METADATA: usize = 50;
const LONGEST_TEXT: usize = 1_000;
const MOST_RETRY_STEPS: usize = 50;
/// The longest wait between attempts, and until giving up, in seconds: 30 days.
const LONGEST_WAIT_S: u32 = 30 * 24 * 3_600;

/// Names of one field: the hub's own first.
const CALLBACK_NAMES: [&str; 3] = ["callback_url", "target_url", "hookUrl"];

/// What of a definition was given.
#[derive(Default)]
pub(crate) struct Given {
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

impl Given {
    /// Takes the fields of a definition; faults are noted in `fields`.
    pub(crate) fn take(fields: &mut Fields, targets: &Targets) -> Self {
        Self {
            event_types: event_types(fields),
            callback_url: callback_url(fields, targets),
            secret: fields.parsed("secret"),
            signatures: signatures(fields),
            x_hook_signature: fields.flag("x_hook_signature"),
            description: fields.text("description", LONGEST_TEXT),
            metadata: fields.texts("metadata", MOST_METADATA, LONGEST_TEXT),
            headers: headers(fields),
            tls: receiver_input::tls(fields),
            auth: receiver_input::auth(fields, targets),
            ordered: fields.flag("ordered"),
            order_by: fields.parsed("order_by"),
            max_in_flight: fields.number("max_in_flight", 1..=64),
            rate_limit_per_s: fields.number("rate_limit_per_s", 1..=10_000),
            timeout_s: fields.number("timeout_s", 1..=30),
            retry_schedule_s: retry_schedule(fields),
            give_up_after_s: fields.number("give_up_after_s", 1..=LONGEST_WAIT_S),
            handshake: fields.parsed("handshake"),
        }
    }

    /// The definition of a new subscription, or of one that is wholly replaced; signed by the keys of `signing`, which
    /// a secret that was given replaces.
    pub(crate) fn whole(self, signing: Signing) -> Result<Definition, Problem> {
        let Some(event_types) = self.event_types.value() else {
            let detail = "is missing; expected an array of patterns, e.g. [\"order.*\"]".to_owned();
            return Err(Problem::invalid(vec![FieldError {
                pointer: "/event_types".to_owned(),
                detail,
            }]));
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
        receiver_input::check_together(url.as_ref(), &settings)?;
        Ok(Definition {
            event_types,
            channel: channel(url, method, settings)?,
            description: self.description.value(),
            metadata: self.metadata.value().unwrap_or_default(),
        })
    }

    /// `current` with what was given in place of what it says.
    pub(crate) fn over(self, current: Definition) -> Result<Definition, Problem> {
        self.must_not_redirect_credentials(&current)?;
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
        .whole(signing)
    }

    /// Refuses to send credentials, which nobody can look up, to another place than that they were given for.
    fn must_not_redirect_credentials(&self, current: &Definition) -> Result<(), Problem> {
        let place = |url: Option<&CallbackUrl>| url.map(|url| url.url().origin());
        let is_elsewhere = match &self.callback_url {
            Field::Is(url) => place(Some(url)) != place(current.channel.callback_url()),
            Field::Absent | Field::Null => false,
        };
        let settings = current.channel.settings();
        let kept = [
            ("/headers", self.headers == Field::Absent && !settings.headers.is_empty()),
            ("/auth", self.auth == Field::Absent && settings.auth.is_some()),
            ("/tls", self.tls == Field::Absent && settings.tls.is_some()),
        ];
        let detail = "was given for the former callback_url and would go to another server: give it again, or null";
        let faults = kept.into_iter().filter(|(_, is_kept)| is_elsewhere && *is_kept);
        let faults: Vec<_> = faults
            .map(|(pointer, _)| FieldError { pointer: pointer.into(), detail: detail.into() })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
    }
}

/// With a callback URL the hub delivers; without one, clients fetch the events.
fn channel(
    url: Option<CallbackUrl>,
    method: Option<VerificationMethod>,
    settings: WebhookSettings,
) -> Result<Channel, Problem> {
    match (url, method) {
        (None, None) => Ok(Channel::Pull { dormant: settings }),
        (None, Some(_)) => Err(Problem::invalid(vec![FieldError {
            pointer: "/handshake".into(),
            detail: "needs a callback_url; give one, or leave handshake out".into(),
        }])),
        (Some(url), method) => {
            let verification =
                method.map(|method| Verification::new(method, UnixMillis::now(), rand::random()));
            Ok(Channel::Webhook(Webhook { url, verification, settings }))
        }
    }
}

/// Takes the callback URL under any of its names; the alias counts only where the hub's own name is not used.
pub(crate) fn callback_text(fields: &mut Fields) -> Option<(&'static str, Option<Value>)> {
    let given: Vec<&'static str> =
        CALLBACK_NAMES.into_iter().filter(|name| fields.has(name)).collect();
    let values: Vec<Option<Value>> =
        CALLBACK_NAMES.into_iter().map(|name| fields.take(name)).collect();
    match given.as_slice() {
        [] => None,
        [name] => Some((name, values.into_iter().flatten().next())),
        [_, second, ..] => {
            fields.fault(second, format!("give one of {}, not several", CALLBACK_NAMES.join(", ")));
            None
        }
    }
}

fn callback_url(fields: &mut Fields, targets: &Targets) -> Field<CallbackUrl> {
    let (name, text) = match callback_text(fields) {
        None => return Field::Absent,
        Some((_, None | Some(Value::Null))) => return Field::Null,
        Some((name, Some(Value::String(text)))) => (name, text),
        Some((name, Some(_))) => {
            fields.fault(name, "expected a string with the URL to POST events to");
            return Field::Absent;
        }
    };
    checked_url(&text, targets).map_or_else(
        |detail| {
            fields.fault(name, detail);
            Field::Absent
        },
        Field::Is,
    )
}

/// A URL that the hub may call, as far as that can be said without looking its host up.
pub(crate) fn checked_url(text: &str, targets: &Targets) -> Result<CallbackUrl, String> {
    let url: CallbackUrl = text.parse().map_err(|error: BadCallbackUrl| error.to_string())?;
    let may = targets.check_url(&url);
    may.map_err(|blocked| format!("the hub may not call this: {blocked}"))?;
    Ok(url)
}

/// `event_types`, or `event` with one of them.
fn event_types(fields: &mut Fields) -> Field<Vec<Pattern>> {
    if fields.has("event") && fields.has("event_types") {
        fields.fault("event", "give event_types or event, not both");
    }
    let single = fields.parsed::<Pattern>("event");
    match (patterns(fields, "event_types"), single) {
        (Field::Absent, Field::Is(pattern)) => Field::Is(vec![pattern]),
        (Field::Absent, Field::Null) => Field::Null,
        (given, _) => given,
    }
}

/// The ways to sign, each once.
fn signatures(fields: &mut Fields) -> Field<Vec<Scheme>> {
    let items = match fields.list("signatures", 2) {
        Field::Is(items) => items,
        Field::Null => return Field::Null,
        Field::Absent => return Field::Absent,
    };
    let named: Option<Vec<Scheme>> =
        items.iter().map(|item| Scheme::from_name(item.as_str()?)).collect();
    match named.as_deref() {
        Some([one]) => Field::Is(vec![*one]),
        Some([one, other]) if one != other => Field::Is(vec![Scheme::V1, Scheme::V1a]),
        _ => {
            let detail = "expected \"v1\" (HMAC-SHA256), \"v1a\" (Ed25519), or both, in an array";
            fields.fault("signatures", detail);
            Field::Absent
        }
    }
}

fn retry_schedule(fields: &mut Fields) -> Field<Vec<u32>> {
    let items = match fields.list("retry_schedule_s", MOST_RETRY_STEPS) {
        Field::Is(items) => items,
        Field::Null => return Field::Null,
        Field::Absent => return Field::Absent,
    };
    let steps: Option<Vec<u32>> =
        items.iter().map(|item| whole_number(item, &(1..=LONGEST_WAIT_S))).collect();
    if let Some(steps) = steps.filter(|steps| !steps.is_empty()) {
        return Field::Is(steps);
    }
    fields.fault(
        "retry_schedule_s",
        "expected at least one whole number of seconds, e.g. [5, 30, 120]",
    );
    Field::Absent
}

/// Headers of the owner's; those that the hub or HTTP itself sets cannot be.
fn headers(fields: &mut Fields) -> Field<BTreeMap<String, String>> {
    let given = match fields.texts("headers", MOST_HEADERS, LONGEST_TEXT) {
        Field::Is(given) => given,
        other => return other,
    };
    let mut headers = BTreeMap::new();
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        if let Some(detail) = header_fault(&lower, &value) {
            fields.fault(format!("headers/{}", pointer_part(&name)), detail);
        } else if headers.insert(lower, value).is_some() {
            fields.fault(
                format!("headers/{}", pointer_part(&name)),
                "is given twice; case does not matter in names",
            );
        }
    }
    Field::Is(headers)
}

fn header_fault(name: &str, value: &str) -> Option<&'static str> {
    const SET_BY_HUB: [&str; 10] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Some("is not a header name (RFC 9110, 5.1)");
    }
    if SET_BY_HUB.contains(&name) || name.starts_with("webhook-") || name.starts_with("proxy-") {
        return Some("is set by the hub itself");
    }
    if value == MASK {
        return Some(
            "this stands in place of the value; leave headers out to keep them as they are",
        );
    }
    let visible =
        value.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic());
    (!visible || value.trim() != value)
        .then_some("a header's value is visible ASCII, without spaces around it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Definition, String> {
        let targets = Targets::default();
        let mut fields = Fields::of(body.as_bytes()).map_err(|problem| problem.to_string())?;
        let given = Given::take(&mut fields, &targets);
        fields.finish().map_err(|problem| problem.as_item().to_string())?;
        given
            .whole(Signing::new(Secret::from_random([7; 32])))
            .map_err(|problem| problem.as_item().to_string())
    }

    #[test]
    fn the_names_of_other_clients_are_understood() {
        for body in [
            r#"{"event_types": ["a.*"], "callback_url": "https://example.com/"}"#,
            r#"{"event": "a.*", "target_url": "https://example.com/"}"#,
            r#"{"event": "a.*", "hookUrl": "https://example.com/"}"#,
        ] {
            let definition = read(body).unwrap();
            assert_eq!(definition.channel.callback_url().unwrap().as_str(), "https://example.com/");
            assert_eq!(
                definition.event_types.iter().map(Pattern::as_str).collect::<Vec<_>>(),
                ["a.*"]
            );
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
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
            let problem = read(&body).unwrap_err();
            assert!(problem.contains(&format!("\"{pointer}\"")), "{extra}: {problem}");
        }
        assert!(
            read(r#"{"event_types": ["a", "b c"], "callback_url": "https://x.example/"}"#)
                .unwrap_err()
                .contains("/event_types/1")
        );
        assert!(
            read(r#"{"event_types": [], "callback_url": "https://x.example/"}"#)
                .unwrap_err()
                .contains("/event_types")
        );
        assert!(
            read(r#"{"event_types": ["a"], "callback_url": "http://10.0.0.1/"}"#)
                .unwrap_err()
                .contains("/callback_url")
        );
        assert!(read("{}").unwrap_err().contains("/event_types"));
        assert!(
            read(r#"{"event": "a"}"#).unwrap().channel.callback_url().is_none(),
            "it is pulled"
        );
    }

    #[test]
    fn what_is_not_given_stays_and_null_is_the_default() {
        let current = read(r#"{"event":"a","callback_url":"https://example.com/","timeout_s":3,"description":"x"}"#).unwrap();
        let mut fields = Fields::of(br#"{"timeout_s": null, "ordered": true}"#).unwrap();
        let given = Given::take(&mut fields, &Targets::default());
        let changed = given.over(current.clone()).unwrap();
        assert_eq!(changed.delivery().timeout_s, DEFAULT_TIMEOUT_S);
        assert!(changed.delivery().ordered);
        assert_eq!(changed.description, current.description);
        assert_eq!(changed.signing(), current.signing());
    }
}
