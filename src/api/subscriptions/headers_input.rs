//! The owner's headers of a webhook.

use std::collections::BTreeMap;

use crate::api::http::fields::{Field, Fields, pointer_part};
use crate::domain::MASK;

const MAX_HEADERS: usize = 20;
const MAX_HEADER_CHARS: usize = 1_000;

/// Takes the field `headers`, and returns the headers with names in lower case. A header that HTTP or the hub sets is
/// an error.
pub(super) fn take_headers(fields: &mut Fields) -> Field<BTreeMap<String, String>> {
    let named = match fields.texts("headers", MAX_HEADERS, MAX_HEADER_CHARS) {
        Field::Is(named) => named,
        other => return other,
    };
    let mut headers = BTreeMap::new();
    for (name, value) in named {
        let lower = name.to_ascii_lowercase();
        if let Some(detail) = header_fault(&lower, &value) {
            fields.fault(format!("headers/{}", pointer_part(&name)), detail);
        } else if headers.insert(lower, value).is_some() {
            fields.fault(
                format!("headers/{}", pointer_part(&name)),
                "appears twice; header names are case-insensitive",
            );
        }
    }
    Field::Is(headers)
}

/// Returns what is wrong with a header; `None` if a subscription may have it. `name` is in lower case.
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
        return Some("is not a valid header name (RFC 9110, 5.1)");
    }
    if SET_BY_HUB.contains(&name) || name.starts_with("webhook-") || name.starts_with("proxy-") {
        return Some("is set by the hub and cannot be changed");
    }
    if value == MASK {
        return Some(
            "is the placeholder for a hidden value; leave out headers to keep the stored values",
        );
    }
    let visible =
        value.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic());
    (!visible || value.trim() != value)
        .then_some("must be visible ASCII without leading or trailing spaces")
}
