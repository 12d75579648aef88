//! How a subscription's events reach its owner: one variant of [`Channel`] for each way, with its settings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::verification::{Verification, VerificationMethod};
use crate::domain::delivery::retry_schedule::RetrySchedule;
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::receiver_auth::ReceiverAuth;
use crate::domain::egress::receiver_tls::ReceiverTls;
use crate::domain::event::Event;
use crate::domain::event::json_pointer::JsonPointer;
use crate::domain::signing::Signing;
use crate::domain::signing::secret::Secret;

pub const DEFAULT_MAX_IN_FLIGHT: u16 = 16;
pub const DEFAULT_TIMEOUT_S: u16 = 15;

/// How a subscription's events reach its owner.
///
/// `docs/internals/adding-a-channel.md` lists what a new variant needs. Code that treats channels differently matches
/// on every variant, so that the compiler finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// Clients fetch the events from the hub.
    Pull {
        /// Without effect. The API shows these settings, and they apply again once the subscription gets a callback
        /// URL.
        dormant: WebhookSettings,
    },
    /// The hub POSTs each event to a URL.
    Webhook(Webhook),
}

/// A URL that receives events, and how the hub sends them there.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: CallbackUrl,
    /// The proof that the receiver wants the events, given or outstanding. `None`: the hub requires none.
    pub verification: Option<Verification>,
    pub settings: WebhookSettings,
}

/// The settings of a webhook that do not depend on its URL. They contain secrets, which `Debug` omits.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    pub signing: Signing,
    /// The owner's headers, sent with each POST besides the hub's own.
    pub headers: BTreeMap<String, String>,
    /// `None`: the system's certificate authorities, and no client certificate.
    pub tls: Option<ReceiverTls>,
    pub auth: Option<ReceiverAuth>,
    pub delivery: DeliverySettings,
}

/// Order, concurrency, deadline and retries of what the hub sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySettings {
    /// One event at a time, in log order; a failing event holds back the events after it. Without effect beside
    /// `order_by`.
    pub ordered: bool,
    /// Log order among the events whose data have the same value at this pointer.
    pub order_by: Option<JsonPointer>,
    /// The most requests at a time, 1 to 64.
    pub max_in_flight: u16,
    /// The most requests that begin in a second.
    pub rate_limit_per_s: Option<u16>,
    /// The deadline of one request, response body included, 1 to 30 seconds.
    pub timeout_s: u16,
    /// Seconds between attempts. `None`: the server's schedule.
    pub retry_schedule_s: Option<Vec<u32>>,
    /// Seconds from the first attempt until a delivery is exhausted. `None`: the server's.
    pub give_up_after_s: Option<u32>,
}

impl Channel {
    /// Returns the URL to which the hub POSTs events. `None`: a pull subscription.
    pub fn callback_url(&self) -> Option<&CallbackUrl> {
        match self {
            Self::Pull { .. } => None,
            Self::Webhook(webhook) => Some(&webhook.url),
        }
    }

    /// Returns the webhook settings. A pull subscription has them too, without effect.
    pub fn settings(&self) -> &WebhookSettings {
        match self {
            Self::Pull { dormant } => dormant,
            Self::Webhook(webhook) => &webhook.settings,
        }
    }

    pub(crate) fn settings_mut(&mut self) -> &mut WebhookSettings {
        match self {
            Self::Pull { dormant } => dormant,
            Self::Webhook(webhook) => &mut webhook.settings,
        }
    }

    /// The receiver's verification, succeeded or not; `None`: none is needed.
    pub fn verification(&self) -> Option<&Verification> {
        match self {
            Self::Pull { .. } => None,
            Self::Webhook(webhook) => webhook.verification.as_ref(),
        }
    }

    pub(crate) fn verification_mut(&mut self) -> Option<&mut Verification> {
        match self {
            Self::Pull { .. } => None,
            Self::Webhook(webhook) => webhook.verification.as_mut(),
        }
    }

    /// Both pull, or webhooks with the same URL: the failure state and the verification of one also apply to the other.
    pub fn has_same_receiver(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Webhook(one), Self::Webhook(other)) => one.url == other.url,
            (Self::Pull { .. }, Self::Pull { .. }) => true,
            (Self::Pull { .. }, Self::Webhook(_)) | (Self::Webhook(_), Self::Pull { .. }) => false,
        }
    }
}

impl Webhook {
    /// The secret with which a REST Hooks receiver checks `X-Hook-Signature`. `None`: another method, or none.
    pub fn x_hook_secret(&self) -> Option<&Secret> {
        let verification = self.verification.as_ref()?;
        (verification.method == VerificationMethod::XHookSecret).then_some(&verification.secret)
    }
}

impl DeliverySettings {
    /// `server` supplies the parts that the owner has not set.
    pub fn retry_schedule<'a>(&self, server: &'a RetrySchedule) -> Cow<'a, RetrySchedule> {
        if self.retry_schedule_s.is_none() && self.give_up_after_s.is_none() {
            return Cow::Borrowed(server);
        }
        let seconds = |s: u32| Duration::from_secs(s.into());
        let steps = match &self.retry_schedule_s {
            Some(steps) => steps.iter().copied().map(seconds).collect(),
            None => server.steps.clone(),
        };
        let give_up_after = self.give_up_after_s.map_or(server.give_up_after, seconds);
        Cow::Owned(RetrySchedule { steps, give_up_after })
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.into())
    }

    /// Returns the maximum number of requests in flight to the receiver: 1 if all events must be in one order.
    pub fn concurrency(&self) -> usize {
        if self.ordered && self.order_by.is_none() { 1 } else { self.max_in_flight.into() }
    }

    /// Whether at least some events must be delivered in order: all of them, or those with the same order key.
    pub fn is_ordered(&self) -> bool {
        self.ordered || self.order_by.is_some()
    }

    pub fn rate_limit_per_minute(&self) -> Option<u32> {
        self.rate_limit_per_s.map(|rate| u32::from(rate) * 60)
    }

    /// Events with the same key are delivered one after the other, in log order. `None`: the order does not matter.
    pub fn order_key(&self, event: &Event) -> Option<i64> {
        match &self.order_by {
            Some(pointer) => Some(pointer.key_of(&event.data())),
            None => self.ordered.then_some(0),
        }
    }
}

impl WebhookSettings {
    /// Defaults for the rest: no headers, no TLS settings, no authentication.
    pub fn new(signing: Signing) -> Self {
        let delivery = DeliverySettings::default();
        Self { signing, headers: BTreeMap::new(), tls: None, auth: None, delivery }
    }
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            ordered: false,
            order_by: None,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            rate_limit_per_s: None,
            timeout_s: DEFAULT_TIMEOUT_S,
            retry_schedule_s: None,
            give_up_after_s: None,
        }
    }
}

impl fmt::Debug for Webhook {
    /// Writes the URL without its path, and no settings, because both may contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings").finish_non_exhaustive()
    }
}
