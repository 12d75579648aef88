//! A subscription as its owner sees it: everything but the secret, the values of headers, keys and passwords.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Subscription;
use super::verification::Handshake;
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::receiver_auth::ReceiverAuth;
use crate::domain::egress::receiver_tls::{ReceiverTls, TlsView};
use crate::domain::signing::{Earlier, Scheme};
use crate::domain::time::UnixMillis;

/// What stands in place of a header's value, a password, a token or a key.
pub const MASK: &str = "***";

/// The JSON of a subscription in answers and in log entries.
#[derive(Debug, Serialize)]
pub struct SubscriptionView<'a> {
    id: String,
    event_types: Vec<&'a str>,
    callback_url: Option<&'a str>,
    status: &'static str,
    disabled_reason: Option<&'a str>,
    description: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    headers: BTreeMap<&'a str, &'static str>,
    tls: Option<TlsView>,
    auth: Option<ReceiverAuth>,
    ordered: bool,
    order_by: Option<&'a str>,
    max_in_flight: u16,
    rate_limit_per_s: Option<u16>,
    timeout_s: u16,
    retry_schedule_s: Option<&'a [u32]>,
    give_up_after_s: Option<u32>,
    signatures: &'a [Scheme],
    x_hook_signature: bool,
    previous_secrets: Vec<PreviousSecret>,
    handshake: Option<&'static str>,
    verification: Option<VerificationView>,
    created_at: UnixMillis,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<UnixMillis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// An earlier secret that signs for some time yet.
#[derive(Debug, Serialize)]
struct PreviousSecret {
    expires_at: UnixMillis,
}

/// How a handshake stands.
#[derive(Debug, Serialize)]
struct VerificationView {
    verified_at: Option<UnixMillis>,
    allowed_rate_per_minute: Option<u32>,
}

impl VerificationView {
    fn of(handshake: &Handshake) -> Self {
        let consent = handshake.consent.as_ref();
        Self {
            verified_at: consent.map(|consent| consent.at),
            allowed_rate_per_minute: consent.and_then(|consent| consent.rate_per_minute),
        }
    }
}

impl<'a> SubscriptionView<'a> {
    /// As it stands.
    pub fn of(subscription: &'a Subscription) -> Self {
        let updated_at = Some(subscription.changed_at.time().max(subscription.created_at()));
        Self { updated_at, ..Self::in_entry(subscription) }
    }

    /// With its secret, for the one answer that shows it.
    pub fn with_secret(subscription: &'a Subscription) -> Self {
        Self {
            secret: Some(subscription.definition.signing.secret().reveal()),
            ..Self::of(subscription)
        }
    }

    /// As the log entry of a change has it: the entry itself says when.
    pub fn in_entry(subscription: &'a Subscription) -> Self {
        let definition = &subscription.definition;
        Self {
            id: subscription.id.to_string(),
            event_types: definition
                .event_types
                .iter()
                .map(crate::domain::event::event_type::Pattern::as_str)
                .collect(),
            callback_url: definition.callback_url.as_ref().map(CallbackUrl::as_str),
            status: subscription.status.name(),
            disabled_reason: subscription.disabled_reason.as_deref(),
            description: definition.description.as_deref(),
            metadata: &definition.metadata,
            headers: definition.headers.keys().map(|name| (name.as_str(), MASK)).collect(),
            tls: definition.tls.as_ref().map(ReceiverTls::view),
            auth: definition.auth.as_ref().map(ReceiverAuth::masked),
            ordered: definition.ordered,
            order_by: definition.order_by.as_ref().map(AsRef::as_ref),
            max_in_flight: definition.max_in_flight,
            rate_limit_per_s: definition.rate_limit_per_s,
            timeout_s: definition.timeout_s,
            retry_schedule_s: definition.retry_schedule_s.as_deref(),
            give_up_after_s: definition.give_up_after_s,
            signatures: definition.signing.schemes(),
            x_hook_signature: definition.signing.x_hook_signature,
            previous_secrets: definition.signing.earlier().iter().map(previous_secret).collect(),
            handshake: definition.handshake.as_ref().map(|handshake| handshake.way.name()),
            verification: definition.handshake.as_ref().map(VerificationView::of),
            created_at: subscription.created_at(),
            updated_at: None,
            secret: None,
        }
    }
}

fn previous_secret(one: &Earlier) -> PreviousSecret {
    PreviousSecret { expires_at: one.expires_at }
}
