//! `Idempotency-Key`: a repeat is answered as the first request was, and does nothing again.

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use sha2::{Digest, Sha256};

use crate::access::idempotency;
use crate::api::auth::caller::{Caller, only};
use crate::api::problem::{Code, Problem};
use crate::api::state::Api;
use crate::domain::access::idempotency::RequestKey;
use crate::store::idempotency::StoredResponse;

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";
const LONGEST: usize = 255;

/// A request under a key, until it is answered: meanwhile no other runs under it, here or on another node.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Held for its drop.
    _running: idempotency::Claim,
    /// The key with what tells the request from others.
    pub(crate) key: RequestKey,
}

/// Claims the request's key, if it has one, for as long as the claim lives.
pub(crate) async fn claim(
    api: &Api,
    caller: &Caller,
    request: &HttpRequest,
    body: &[u8],
) -> Result<Option<Claim>, Problem> {
    let Some(key) = key_of(request)? else { return Ok(None) };
    let running = api.claims.claim(&caller.tenant, &key).await?.ok_or_else(|| {
        let detail = "a request with this Idempotency-Key is still running; repeat it when that one is answered";
        Problem::new(Code::IdempotencyKeyInUse, detail)
    })?;
    let key = RequestKey { key, fingerprint: fingerprint(request, body) };
    Ok(Some(Claim { _running: running, key }))
}

/// What the first request under the claimed key came to, if there was one in the last 24 hours.
pub(crate) async fn first(
    api: &Api,
    caller: &Caller,
    claim: Option<&Claim>,
) -> Result<Option<StoredResponse>, Problem> {
    let Some(claim) = claim else { return Ok(None) };
    let Some(kept) = api.store.select_stored_response(&caller.tenant, &claim.key.key).await? else {
        return Ok(None);
    };
    claim.must_be_same(&kept.fingerprint)?;
    Ok(Some(kept))
}

impl Claim {
    /// The request is told from others by this, too: what is answered depends on it.
    pub(crate) fn depends_on(&mut self, more: &[u8]) {
        let both = Sha256::new().chain_update(&self.key.fingerprint).chain_update(more);
        self.key.fingerprint = both.finalize().to_vec();
    }

    /// Makes sure that the first request under this key asked for the same.
    pub(crate) fn must_be_same(&self, first: &[u8]) -> Result<(), Problem> {
        if first == self.key.fingerprint {
            return Ok(());
        }
        Err(Problem::new(
            Code::IdempotencyKeyReused,
            "another request was made with this Idempotency-Key within the last 24 hours; use a new key for a new request",
        ))
    }
}

/// The problem of two requests under one key that met in the database: it cannot be said which was first.
pub(crate) fn met() -> Problem {
    let detail = "two requests with this Idempotency-Key came at once; try again";
    Problem::new(Code::IdempotencyKeyInUse, detail)
}

/// Marks an answer as that of a first request.
pub(crate) fn replayed(response: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    response.insert_header((REPLAYED, "true"))
}

/// The answer to a first request that is kept as bytes.
pub(crate) fn answer(mut response: HttpResponseBuilder, kept: StoredResponse) -> HttpResponse {
    let body = kept.answer.unwrap_or_default();
    replayed(&mut response).content_type("application/json").body(body)
}

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

/// The key, bare or as the structured-field string that draft-ietf-httpapi-idempotency-key-header-07 asks for; `"k"`
/// and `k` are one key.
fn key_of(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let Some(value) = only(request, HEADER)? else { return Ok(None) };
    let bad = || {
        let detail = format!(
            "Idempotency-Key is 1 to {LONGEST} visible ASCII characters, bare or in double quotes"
        );
        Problem::new(Code::InvalidHeader, detail)
    };
    let text = value.to_str().map_err(|_not_ascii| bad())?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest).ok_or_else(bad)?,
        None => text.to_owned(),
    };
    let fits = (1..=LONGEST).contains(&key.len())
        && key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if fits { Ok(Some(key)) } else { Err(bad()) }
}

/// RFC 8941, 3.3.3, after the opening quote: only `"` and `\` are escaped, and nothing follows the closing one.
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

    fn read(header: &str) -> Result<Option<String>, Problem> {
        key_of(&TestRequest::default().insert_header((HEADER, header)).to_http_request())
    }

    #[test]
    fn a_key_is_the_same_bare_and_quoted() {
        assert_eq!(read("abc").unwrap(), Some("abc".into()));
        assert_eq!(read("\"abc\"").unwrap(), Some("abc".into()));
        assert_eq!(read(r#""a\"b\\c""#).unwrap(), Some(r#"a"b\c"#.into()));
    }

    #[test]
    fn half_quoted_empty_or_long_keys_are_refused() {
        for bad in ["\"abc", "\"\"", "\"abc\";x=1", r#""a\b""#, &"x".repeat(256)] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(header in "[ -~]{0,40}") {
            if let Ok(Some(key)) = read(&header) {
                prop_assert!(!key.is_empty() && key.len() <= 40);
            }
        }
    }
}
