//! The JSON view of a subscription for its owner. The signing secret is left out; header values, keys, passwords and
//! tokens are masked.

use std::collections::BTreeMap;

use serde::Serialize;

use super::channel::WebhookSettings;
use super::verification::Verification;
use super::{Definition, Subscription};
use crate::domain::MASK;
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::receiver_auth::ReceiverAuth;
use crate::domain::egress::receiver_tls::{ReceiverTls, TlsView};
use crate::domain::event::event_type::Pattern;
use crate::domain::event::json_pointer::JsonPointer;
use crate::domain::signing::Earlier;
use crate::domain::signing::scheme::Scheme;
use crate::domain::time::UnixMillis;

/// The JSON of a subscription in API responses and log entries. It is flat and has the same members for every channel.
#[derive(Debug, Serialize)]
pub struct SubscriptionView<'a> {
    id: String,
    event_types: &'a [Pattern],
    callback_url: Option<&'a CallbackUrl>,
    status: &'static str,
    disabled_reason: Option<&'a str>,
    description: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
    headers: BTreeMap<&'a str, &'static str>,
    tls: Option<TlsView>,
    auth: Option<ReceiverAuth>,
    ordered: bool,
    order_by: Option<&'a JsonPointer>,
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

/// An earlier secret that still signs.
#[derive(Debug, Serialize)]
struct PreviousSecret {
    expires_at: UnixMillis,
}

#[derive(Debug, Serialize)]
struct VerificationView {
    verified_at: Option<UnixMillis>,
    allowed_rate_per_minute: Option<u32>,
}

impl VerificationView {
    fn of(verification: &Verification) -> Self {
        let verified = verification.verified.as_ref();
        Self {
            verified_at: verified.map(|verified| verified.at),
            allowed_rate_per_minute: verified.and_then(|verified| verified.rate_per_minute),
        }
    }
}

impl<'a> SubscriptionView<'a> {
    /// Builds the view for API responses, with the time of the latest change.
    pub fn of(subscription: &'a Subscription) -> Self {
        let updated_at = Some(subscription.changed_at.time().max(subscription.created_at()));
        Self { updated_at, ..Self::in_entry(subscription) }
    }

    /// Builds the view for the few API responses that contain the signing secret.
    pub fn with_secret(subscription: &'a Subscription) -> Self {
        let signing = &subscription.definition.channel.settings().signing;
        Self { secret: Some(signing.secret().reveal()), ..Self::of(subscription) }
    }

    /// For the log entry of a change: without `updated_at`, because the entry's position contains the time.
    pub fn in_entry(subscription: &'a Subscription) -> Self {
        let Definition { event_types, channel, description, metadata } = &subscription.definition;
        let WebhookSettings { signing, headers, tls, auth, delivery } = channel.settings();
        let verification = channel.verification();
        Self {
            id: subscription.id.to_string(),
            event_types,
            callback_url: channel.callback_url(),
            status: subscription.status.name(),
            disabled_reason: subscription.disabled_reason.as_deref(),
            description: description.as_deref(),
            metadata,
            headers: headers.keys().map(|name| (name.as_str(), MASK)).collect(),
            tls: tls.as_ref().map(ReceiverTls::view),
            auth: auth.as_ref().map(ReceiverAuth::masked),
            ordered: delivery.ordered,
            order_by: delivery.order_by.as_ref(),
            max_in_flight: delivery.max_in_flight,
            rate_limit_per_s: delivery.rate_limit_per_s,
            timeout_s: delivery.timeout_s,
            retry_schedule_s: delivery.retry_schedule_s.as_deref(),
            give_up_after_s: delivery.give_up_after_s,
            signatures: signing.schemes(),
            x_hook_signature: signing.x_hook_signature,
            previous_secrets: signing.earlier().iter().map(previous_secret).collect(),
            handshake: verification.map(|verification| verification.method.name()),
            verification: verification.map(VerificationView::of),
            created_at: subscription.created_at(),
            updated_at: None,
            secret: None,
        }
    }
}

fn previous_secret(earlier: &Earlier) -> PreviousSecret {
    PreviousSecret { expires_at: earlier.expires_at }
}
