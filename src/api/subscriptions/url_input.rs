//! URLs in the body of a subscription.

use serde_json::Value;

use crate::api::http::fields::{Field, Fields};
use crate::domain::egress::callback_url::{BadCallbackUrl, CallbackUrl};
use crate::domain::egress::policy::Targets;

/// The names of the callback URL: the hub's own, and the aliases of other REST Hooks services.
const CALLBACK_NAMES: [&str; 3] = ["callback_url", "target_url", "hookUrl"];

/// The callback URL under the name that the client used.
pub(super) struct CallbackField {
    name: &'static str,
    pub(super) value: Value,
}

/// Takes the callback URL under any of its field names, unchecked. More than one of them is recorded as an error.
pub(super) fn take_callback_value(fields: &mut Fields) -> Option<CallbackField> {
    let mut found = CALLBACK_NAMES
        .into_iter()
        .filter_map(|name| fields.take(name).map(|value| CallbackField { name, value }));
    let (first, second) = (found.next(), found.next());
    found.for_each(drop);
    if let Some(second) = second {
        let detail = format!("send only one of {}", CALLBACK_NAMES.join(", "));
        fields.fault(second.name, detail);
        return None;
    }
    first
}

/// Takes the callback URL under any of its field names, and checks that the hub may call it.
pub(super) fn take_callback_url(fields: &mut Fields, targets: &Targets) -> Field<CallbackUrl> {
    let Some(CallbackField { name, value }) = take_callback_value(fields) else {
        return Field::Absent;
    };
    let text = match value {
        Value::Null => return Field::Null,
        Value::String(text) => text,
        _ => {
            fields.fault(name, "expected the URL for the hub's POST requests, as a string");
            return Field::Absent;
        }
    };
    match permitted_url(&text, targets) {
        Ok(url) => Field::Is(url),
        Err(detail) => {
            fields.fault(name, detail);
            Field::Absent
        }
    }
}

/// Parses a URL that the hub may call. The error says what is wrong.
///
/// Host names are not resolved here, but when the hub connects.
pub(super) fn permitted_url(text: &str, targets: &Targets) -> Result<CallbackUrl, String> {
    let url: CallbackUrl = text.parse().map_err(|error: BadCallbackUrl| error.to_string())?;
    targets
        .check_url(&url)
        .map_err(|blocked| format!("the hub may not call this URL: {blocked}"))?;
    Ok(url)
}
