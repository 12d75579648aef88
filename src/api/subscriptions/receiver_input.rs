//! The input for a receiver: its URL, headers, TLS settings and credentials.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::http::fields::{Field, Fields, pointer_part};
use crate::api::problem::{ApiResult, FieldError, Problem};
use crate::domain::MASK;
use crate::domain::egress::callback_url::{BadCallbackUrl, CallbackUrl};
use crate::domain::egress::policy::Targets;
use crate::domain::egress::receiver_auth::{ClientCredentials, ReceiverAuth};
use crate::domain::egress::receiver_tls::ReceiverTls;
use crate::domain::subscription::channel::WebhookSettings;
use crate::domain::time::UnixMillis;

/// The names of the callback URL: the hub's own, and the aliases of other REST Hooks services.
const CALLBACK_NAMES: [&str; 3] = ["callback_url", "target_url", "hookUrl"];

/// The callback URL under the name that the client used.
pub(super) struct CallbackField {
    name: &'static str,
    pub(super) value: Value,
}

/// Takes the callback URL unchecked; `None` without one. More than one of its names is recorded as an error.
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

/// Takes and checks the callback URL. `targets`: the rules for URLs that the hub may call.
pub(super) fn take_callback_url(fields: &mut Fields, targets: &Targets) -> Field<CallbackUrl> {
    let Some(CallbackField { name, value }) = take_callback_value(fields) else {
        return Field::Absent;
    };
    match value {
        Value::Null => Field::Null,
        Value::String(text) => match permitted_url(&text, targets) {
            Ok(url) => Field::Is(url),
            Err(detail) => fields.reject(name, detail),
        },
        _ => fields.reject(name, "expected the URL for the hub's POST requests, as a string"),
    }
}

/// Checks that `targets` let the hub call this URL. Host names are not resolved here, but when the hub connects. The
/// error is a text for the client.
pub(super) fn permitted_url(text: &str, targets: &Targets) -> Result<CallbackUrl, String> {
    let url: CallbackUrl = text.parse().map_err(|error: BadCallbackUrl| error.to_string())?;
    targets
        .check_url(&url)
        .map_err(|blocked| format!("the hub may not call this URL: {blocked}"))?;
    Ok(url)
}

const MAX_HEADERS: usize = 20;
const MAX_HEADER_CHARS: usize = 1_000;

/// Takes `headers`, with names in lower case. A header is recorded as an error if it is invalid, repeated, or one that
/// HTTP or the hub sets.
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

/// Why a subscription cannot have this header, as a text for the client. `name` is in lower case.
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

/// About ten CA certificates in PEM.
const MAX_CA_CHARS: usize = 32 << 10;
/// A chain of about five certificates in PEM.
const MAX_CHAIN_CHARS: usize = 16 << 10;
/// An RSA key of 8192 bits in PEM.
const MAX_KEY_CHARS: usize = 8 << 10;
const MAX_NAME_CHARS: usize = 256;
const MAX_PASSWORD_CHARS: usize = 1_024;
/// Enough for a JSON Web Token (RFC 7519).
const MAX_TOKEN_CHARS: usize = 4_096;

/// Takes the field `tls`: the CA and the client certificate for the receiver. Invalid PEM is recorded as an error.
pub(super) fn take_tls(fields: &mut Fields) -> Field<ReceiverTls> {
    fields.object("tls", |fields| {
        let ca = fields.text("ca", MAX_CA_CHARS).value();
        let chain = fields.text("client_certificate", MAX_CHAIN_CHARS).value();
        let key = secret(fields, "client_key", MAX_KEY_CHARS);
        if fields.is_faulty() {
            return None;
        }
        match ReceiverTls::new(ca, chain, key, UnixMillis::now()) {
            Ok(tls) => Some(tls),
            Err(bad) => {
                fields.fault(bad.field, bad.detail);
                None
            }
        }
    })
}

/// Takes `auth`, the credentials that the hub sends to the receiver. `targets`: the rules for an OAuth token URL.
pub(super) fn take_auth(fields: &mut Fields, targets: &Targets) -> Field<ReceiverAuth> {
    fields.object("auth", |fields| match fields.text("type", MAX_NAME_CHARS).value().as_deref() {
        Some("basic") => basic(fields),
        Some("bearer") => {
            let token = required(fields, "token", MAX_TOKEN_CHARS, secret)?;
            check_visible(fields, "token", &token);
            Some(ReceiverAuth::Bearer { token })
        }
        Some("oauth2_client_credentials") => client_credentials(fields, targets),
        _ => {
            fields.fault("type", "expected basic, bearer or oauth2_client_credentials");
            fields.ignore_the_rest();
            None
        }
    })
}

/// Takes the fields of HTTP Basic authentication (RFC 7617). `None` if one is missing or no string. Each fault is
/// recorded, also with a result.
fn basic(fields: &mut Fields) -> Option<ReceiverAuth> {
    let username = required(fields, "username", MAX_NAME_CHARS, plain);
    let password = required(fields, "password", MAX_PASSWORD_CHARS, secret);
    let (username, password) = (username?, password?);
    if username.contains(':') {
        fields.fault("username", "must not contain a colon (RFC 7617, 2)");
    }
    for (name, text) in [("username", &username), ("password", &password)] {
        if text.chars().any(char::is_control) {
            fields.fault(name, "must not contain control characters (RFC 7617, 2)");
        }
    }
    Some(ReceiverAuth::Basic { username, password })
}

/// Takes the fields of the OAuth 2.0 client credentials grant (RFC 6749, 4.4). `None` if a required one is missing or no
/// string, or if the hub may not call `token_url`. Each fault is recorded, also with a result.
fn client_credentials(fields: &mut Fields, targets: &Targets) -> Option<ReceiverAuth> {
    let token_url = required(fields, "token_url", MAX_TOKEN_CHARS, plain);
    let client_id = required(fields, "client_id", MAX_NAME_CHARS, plain);
    let client_secret = required(fields, "client_secret", MAX_PASSWORD_CHARS, secret);
    let scope = fields.text("scope", MAX_PASSWORD_CHARS).value();
    let audience = fields.text("audience", MAX_PASSWORD_CHARS).value();
    let (token_url, client_id, client_secret) = (token_url?, client_id?, client_secret?);
    let token_url = permitted_url(&token_url, targets)
        .map_err(|detail| fields.fault("token_url", detail))
        .ok()?;
    check_visible(fields, "client_id", &client_id);
    check_visible(fields, "client_secret", &client_secret);
    let is_token = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_scope =
        |scope: &String| scope.split(' ').all(|one| !one.is_empty() && one.bytes().all(is_token));
    if !scope.as_ref().is_none_or(is_scope) {
        fields.fault(
            "scope",
            "expected words of visible ASCII, separated by single spaces (RFC 6749, 3.3)",
        );
    }
    let credentials = ClientCredentials { token_url, client_id, client_secret, scope, audience };
    Some(ReceiverAuth::ClientCredentials(credentials))
}

/// Takes a string field with `take`: [`plain`] or [`secret`]. A missing or null field is recorded as an error.
fn required(
    fields: &mut Fields,
    name: &'static str,
    max_chars: usize,
    take: impl FnOnce(&mut Fields, &'static str, usize) -> Option<String>,
) -> Option<String> {
    if fields.lacks(name) {
        fields.fault(name, "is missing");
    }
    take(fields, name, max_chars)
}

/// Takes a string that is not secret. An invalid value is recorded as an error.
fn plain(fields: &mut Fields, name: &'static str, max_chars: usize) -> Option<String> {
    fields.text(name, max_chars).value()
}

/// Takes a string that is secret. An invalid value, or the placeholder [`MASK`] of a stored secret, is recorded as an
/// error.
fn secret(fields: &mut Fields, name: &'static str, max_chars: usize) -> Option<String> {
    let text = fields.text(name, max_chars).value()?;
    if text == MASK {
        let detail = "is the placeholder for a hidden value; leave out the whole object to keep the stored values";
        fields.fault(name, detail);
    }
    Some(text)
}

/// Records an error unless the text is visible ASCII characters without spaces, at least one.
fn check_visible(fields: &mut Fields, name: &'static str, text: &str) {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        fields.fault(name, "expected visible ASCII without spaces");
    }
}

/// 422 for `auth` with an `authorization` header, and for `tls` with an `http` URL.
pub(super) fn check_combination(
    url: Option<&CallbackUrl>,
    settings: &WebhookSettings,
) -> ApiResult<()> {
    let mut faults = Vec::new();
    if settings.auth.is_some() && settings.headers.contains_key("authorization") {
        faults.push(FieldError::new(
            "/auth",
            "cannot be combined with an authorization header; send one of them",
        ));
    }
    let plain = url.is_some_and(|url| url.url().scheme() == "http");
    if settings.tls.is_some() && plain {
        faults.push(FieldError::new("/tls", "needs an https callback_url, and this one is http"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
}
