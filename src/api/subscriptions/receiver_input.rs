//! What a subscriber says of how their receiver is to be spoken to: TLS and credentials.

use super::input::checked_url;
use crate::api::http::fields::{Field, Fields};
use crate::api::problem::{FieldError, Problem};
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::policy::Targets;
use crate::domain::egress::receiver_auth::{ClientCredentials, ReceiverAuth};
use crate::domain::egress::receiver_tls::ReceiverTls;
use crate::domain::subscription::channel::WebhookSettings;
use crate::domain::subscription::view::MASK;
use crate::domain::time::UnixMillis;

/// The longest PEM texts, in characters: some ten CA certificates, a chain of five, an RSA key of 8192 bits.
const LONGEST_CA: usize = 32 << 10;
const LONGEST_CHAIN: usize = 16 << 10;
const LONGEST_KEY: usize = 8 << 10;
const LONGEST_NAME: usize = 256;
const LONGEST_PASSWORD: usize = 1_024;
/// Tokens that say something themselves (RFC 7519) are long.
const LONGEST_TOKEN: usize = 4_096;

/// Takes `tls`.
pub(crate) fn tls(fields: &mut Fields) -> Field<ReceiverTls> {
    fields.object("tls", |fields| {
        let ca = fields.text("ca", LONGEST_CA).value();
        let chain = fields.text("client_certificate", LONGEST_CHAIN).value();
        let key = secret(fields, "client_key", LONGEST_KEY);
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

/// Takes `auth`.
pub(crate) fn auth(fields: &mut Fields, targets: &Targets) -> Field<ReceiverAuth> {
    fields.object("auth", |fields| match fields.text("type", LONGEST_NAME).value().as_deref() {
        Some("basic") => basic(fields),
        Some("bearer") => {
            let token = required(fields, "token", LONGEST_TOKEN, secret)?;
            keep_visible(fields, "token", &token);
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

fn basic(fields: &mut Fields) -> Option<ReceiverAuth> {
    let username = required(fields, "username", LONGEST_NAME, plain);
    let password = required(fields, "password", LONGEST_PASSWORD, secret);
    let (username, password) = (username?, password?);
    if username.contains(':') {
        fields.fault("username", "has no colon in it (RFC 7617, 2)");
    }
    for (name, text) in [("username", &username), ("password", &password)] {
        if text.chars().any(char::is_control) {
            fields.fault(name, "has no control characters in it (RFC 7617, 2)");
        }
    }
    Some(ReceiverAuth::Basic { username, password })
}

fn client_credentials(fields: &mut Fields, targets: &Targets) -> Option<ReceiverAuth> {
    let token_url = required(fields, "token_url", LONGEST_TOKEN, plain);
    let client_id = required(fields, "client_id", LONGEST_NAME, plain);
    let client_secret = required(fields, "client_secret", LONGEST_PASSWORD, secret);
    let scope = fields.text("scope", LONGEST_PASSWORD).value();
    let audience = fields.text("audience", LONGEST_PASSWORD).value();
    let (token_url, client_id, client_secret) = (token_url?, client_id?, client_secret?);
    let token_url = checked_url(&token_url, targets)
        .map_err(|detail| fields.fault("token_url", detail))
        .ok()?;
    keep_visible(fields, "client_id", &client_id);
    keep_visible(fields, "client_secret", &client_secret);
    let is_token = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_scope =
        |scope: &String| scope.split(' ').all(|one| !one.is_empty() && one.bytes().all(is_token));
    if !scope.as_ref().is_none_or(is_scope) {
        fields.fault(
            "scope",
            "expected words of visible ASCII, with one space between (RFC 6749, 3.3)",
        );
    }
    let credentials = ClientCredentials { token_url, client_id, client_secret, scope, audience };
    Some(ReceiverAuth::ClientCredentials(credentials))
}

/// Takes a text that has to be there.
fn required(
    fields: &mut Fields,
    name: &'static str,
    longest: usize,
    take: impl FnOnce(&mut Fields, &'static str, usize) -> Option<String>,
) -> Option<String> {
    if fields.lacks(name) {
        fields.fault(name, "is missing");
    }
    take(fields, name, longest)
}

/// Takes a text that is shown as it is.
fn plain(fields: &mut Fields, name: &'static str, longest: usize) -> Option<String> {
    fields.text(name, longest).value()
}

/// Takes a text that is never shown again. What stands in its place when the subscription is shown is none.
fn secret(fields: &mut Fields, name: &'static str, longest: usize) -> Option<String> {
    let text = fields.text(name, longest).value()?;
    if text == MASK {
        let detail =
            "this stands in place of the value; leave the whole object out to keep it as it is";
        fields.fault(name, detail);
    }
    Some(text)
}

fn keep_visible(fields: &mut Fields, name: &'static str, text: &str) {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        fields.fault(name, "expected visible ASCII without spaces");
    }
}

/// What may not stand together in one definition.
pub(crate) fn check_together(
    url: Option<&CallbackUrl>,
    settings: &WebhookSettings,
) -> Result<(), Problem> {
    let fault = |pointer: &str, detail: &str| FieldError {
        pointer: pointer.to_owned(),
        detail: detail.to_owned(),
    };
    let mut faults = Vec::new();
    if settings.auth.is_some() && settings.headers.contains_key("authorization") {
        faults.push(fault(
            "/auth",
            "the headers have authorization in them already; give one of both",
        ));
    }
    let plain = url.is_some_and(|url| url.url().scheme() == "http");
    if settings.tls.is_some() && plain {
        faults.push(fault("/tls", "the callback URL is http; there is TLS to an https one alone"));
    }
    if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
}
