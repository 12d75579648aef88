//! The stored form of a definition: one flat JSON object, whatever the channel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Definition;
use super::channel::{Channel, DeliverySettings, Webhook, WebhookSettings};
use super::verification::Verification;
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::receiver_auth::ReceiverAuth;
use crate::domain::egress::receiver_tls::ReceiverTls;
use crate::domain::event::event_type::Pattern;
use crate::domain::event::json_pointer::JsonPointer;
use crate::domain::signing::Signing;

/// The members are part of the database's format: rename none, and give new ones a default.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredDefinition {
    event_types: Vec<Pattern>,
    /// `None` in a pull subscription. Required, so that a damaged definition does not become one.
    #[serde(deserialize_with = "Option::deserialize")]
    callback_url: Option<CallbackUrl>,
    #[serde(flatten)]
    signing: Signing,
    description: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    tls: Option<ReceiverTls>,
    #[serde(default)]
    auth: Option<ReceiverAuth>,
    ordered: bool,
    #[serde(default)]
    order_by: Option<JsonPointer>,
    max_in_flight: u16,
    #[serde(default)]
    rate_limit_per_s: Option<u16>,
    timeout_s: u16,
    retry_schedule_s: Option<Vec<u32>>,
    give_up_after_s: Option<u32>,
    #[serde(default, rename = "handshake")]
    verification: Option<Verification>,
}

impl From<Definition> for StoredDefinition {
    fn from(definition: Definition) -> Self {
        let Definition { event_types, channel, description, metadata } = definition;
        let (callback_url, verification, settings) = match channel {
            Channel::Pull { dormant } => (None, None, dormant),
            Channel::Webhook(Webhook { url, verification, settings }) => {
                (Some(url), verification, settings)
            }
        };
        let WebhookSettings { signing, headers, tls, auth, delivery } = settings;
        Self {
            event_types,
            callback_url,
            signing,
            description,
            metadata,
            headers,
            tls,
            auth,
            ordered: delivery.ordered,
            order_by: delivery.order_by,
            max_in_flight: delivery.max_in_flight,
            rate_limit_per_s: delivery.rate_limit_per_s,
            timeout_s: delivery.timeout_s,
            retry_schedule_s: delivery.retry_schedule_s,
            give_up_after_s: delivery.give_up_after_s,
            verification,
        }
    }
}

impl From<StoredDefinition> for Definition {
    fn from(stored: StoredDefinition) -> Self {
        let settings = WebhookSettings {
            signing: stored.signing,
            headers: stored.headers,
            tls: stored.tls,
            auth: stored.auth,
            delivery: DeliverySettings {
                ordered: stored.ordered,
                order_by: stored.order_by,
                max_in_flight: stored.max_in_flight,
                rate_limit_per_s: stored.rate_limit_per_s,
                timeout_s: stored.timeout_s,
                retry_schedule_s: stored.retry_schedule_s,
                give_up_after_s: stored.give_up_after_s,
            },
        };
        let channel = match stored.callback_url {
            None => Channel::Pull { dormant: settings },
            Some(url) => {
                Channel::Webhook(Webhook { url, verification: stored.verification, settings })
            }
        };
        Self {
            event_types: stored.event_types,
            channel,
            description: stored.description,
            metadata: stored.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As hubs wrote them before there were channels.
    const WEBHOOK: &str = r#"{"event_types":["a.*","b"],"callback_url":"https://example.com/a//b?q=%20","secret":"whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","signatures":["v1"],"x_hook_signature":true,"description":"d","metadata":{"k":"v"},"headers":{"x":"y"},"tls":null,"auth":{"type":"bearer","token":"t"},"ordered":true,"order_by":"/id","max_in_flight":3,"rate_limit_per_s":5,"timeout_s":7,"retry_schedule_s":[1,2],"give_up_after_s":9,"handshake":{"way":"cloudevents","asked_at":"2026-11-25T17:00:00.000Z","secret":"whsec_AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=","consent":{"at":"2026-11-25T17:00:01.000Z","origin":"hub.example","rate_per_minute":60}}}"#;
    const PULL: &str = r#"{"event_types":["a"],"callback_url":null,"secret":"whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","signatures":["v1"],"x_hook_signature":false,"description":null,"metadata":{},"headers":{"x":"y"},"tls":null,"auth":null,"ordered":false,"order_by":null,"max_in_flight":3,"rate_limit_per_s":null,"timeout_s":15,"retry_schedule_s":null,"give_up_after_s":null,"handshake":null}"#;

    #[test]
    fn the_stored_form_is_flat_and_survives_reading_and_writing() {
        for stored in [WEBHOOK, PULL] {
            let definition: Definition = serde_json::from_str(stored).unwrap();
            assert_eq!(serde_json::to_string(&definition).unwrap(), stored);
        }
    }

    #[test]
    fn a_definition_without_a_callback_url_is_pulled_and_keeps_its_webhook_settings() {
        let definition: Definition = serde_json::from_str(PULL).unwrap();
        let Channel::Pull { dormant } = definition.channel else { panic!("not pulled") };
        assert_eq!(dormant.delivery.max_in_flight, 3);
        assert_eq!(dormant.headers.get("x").map(String::as_str), Some("y"));
    }
}
