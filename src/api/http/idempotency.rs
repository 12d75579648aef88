//! `Idempotency-Key`: a repeated request gets the first response and changes nothing.
//!
//! A handler claims the key and looks for the response to an earlier request. Without one, it stores its own response or
//! log position in the transaction of its change. Both are kept for 24 hours.

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use sha2::{Digest, Sha256};

use super::headers::single_header;
use crate::access::idempotency;
use crate::api::auth::context::Context;
use crate::api::problem::{ApiResult, Code, Problem};
use crate::domain::access::idempotency::RequestKey;
use crate::store::idempotency::StoredResponse;

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";
const MAX_KEY_BYTES: usize = 255;

/// A claimed key. Until it is dropped, other requests with the same key get a 409.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: idempotency::Claim,
    pub(crate) key: RequestKey,
}

/// Claims the request's key until the claim is dropped; `None` if it has none. 409 while another request with this key
/// is running.
pub(crate) async fn claim(context: &Context, body: &[u8]) -> ApiResult<Option<Claim>> {
    let Some(key) = parse_key(&context.request)? else { return Ok(None) };
    let lock = context.api.claims.claim(&context.caller.tenant, &key).await?.ok_or_else(|| {
        let detail = "another request with this Idempotency-Key is still running; retry after it has finished";
        Problem::new(Code::IdempotencyKeyInUse, detail)
    })?;
    let key = RequestKey { key, fingerprint: fingerprint(&context.request, body) };
    Ok(Some(Claim { _lock: lock, key }))
}

/// The stored result of the first request with this key; `None` if this is the first, or has no key. 422 if the first
/// request was a different one.
pub(crate) async fn first_response(
    context: &Context,
    claim: Option<&Claim>,
) -> ApiResult<Option<StoredResponse>> {
    let Some(claim) = claim else { return Ok(None) };
    let stored =
        context.api.store.select_stored_response(&context.caller.tenant, &claim.key.key).await?;
    let Some(stored) = stored else { return Ok(None) };
    claim.require_same_request(&stored.fingerprint)?;
    Ok(Some(stored))
}

impl Claim {
    /// Adds a value on which the response depends besides the request, such as the key of the caller.
    pub(crate) fn add_to_fingerprint(&mut self, more: &[u8]) {
        let both = Sha256::new().chain_update(&self.key.fingerprint).chain_update(more);
        self.key.fingerprint = both.finalize().to_vec();
    }

    /// 422 unless this request equals the first with the same key. `first`: the first's fingerprint.
    pub(crate) fn require_same_request(&self, first: &[u8]) -> ApiResult<()> {
        if first == self.key.fingerprint {
            return Ok(());
        }
        Err(Problem::new(
            Code::IdempotencyKeyReused,
            "this Idempotency-Key was used for a different request in the last 24 hours; use a new key",
        ))
    }
}

/// 409: two requests with the same key reached the database at the same time.
pub(crate) fn concurrent_requests() -> Problem {
    let detail = "two requests with this Idempotency-Key ran at the same time; retry";
    Problem::new(Code::IdempotencyKeyInUse, detail)
}

/// Adds the header `Idempotent-Replayed: true`, which marks a response as a repeat of the first one.
pub(crate) fn mark_replayed(response: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    response.insert_header((REPLAYED, "true"))
}

/// Completes `response` with the stored body of the first response.
pub(crate) fn repeat_response(
    mut response: HttpResponseBuilder,
    stored: StoredResponse,
) -> HttpResponse {
    let body = stored.answer.unwrap_or_default();
    mark_replayed(&mut response).content_type("application/json").body(body)
}

/// Returns a SHA-256 hash of the method, path, content type and body of a request.
fn fingerprint(request: &HttpRequest, body: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(request.method().as_str());
    hash.update([0]);
    hash.update(request.path());
    hash.update([0]);
    hash.update(request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default());
    hash.update([0]);
    hash.update(body);
    hash.finalize().to_vec()
}

/// The key in the header: 1 to 255 visible ASCII characters or spaces, bare or as a quoted string
/// (draft-ietf-httpapi-idempotency-key-header-07). `"k"` and `k` are the same key. 400 for an invalid key.
fn parse_key(request: &HttpRequest) -> ApiResult<Option<String>> {
    let Some(value) = single_header(request, HEADER)? else { return Ok(None) };
    let bad = || {
        let detail = format!(
            "Idempotency-Key must be 1 to {MAX_KEY_BYTES} visible ASCII characters, bare or in double quotes"
        );
        Problem::new(Code::InvalidHeader, detail)
    };
    let text = value.to_str().map_err(|_not_ascii| bad())?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest).ok_or_else(bad)?,
        None => text.to_owned(),
    };
    let fits = (1..=MAX_KEY_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if fits { Ok(Some(key)) } else { Err(bad()) }
}

/// Parses the rest of a quoted string (RFC 8941, 3.3.3) after its opening quote. Only `"` and `\` may be escaped.
fn unquoted(text: &str) -> Option<String> {
    let mut key = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(key),
            '\\' => key.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => key.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn parse(header: &str) -> Result<Option<String>, Problem> {
        parse_key(&TestRequest::default().insert_header((HEADER, header)).to_http_request())
    }

    #[test]
    fn a_bare_key_equals_the_quoted_key() {
        assert_eq!(parse("abc").unwrap(), Some("abc".into()));
        assert_eq!(parse("\"abc\"").unwrap(), Some("abc".into()));
        assert_eq!(parse(r#""a\"b\\c""#).unwrap(), Some(r#"a"b\c"#.into()));
    }

    #[test]
    fn an_unterminated_empty_or_overlong_key_is_refused() {
        for bad in ["\"abc", "\"\"", "\"abc\";x=1", r#""a\b""#, &"x".repeat(256)] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_key_is_never_empty(header in "[ -~]{0,40}") {
            if let Ok(Some(key)) = parse(&header) {
                prop_assert!(!key.is_empty() && key.len() <= 40);
            }
        }
    }
}
