//! `Idempotency-Key`: a repeat is answered as the first request was, and does nothing again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use sha2::{Digest, Sha256};

use super::caller::{Caller, only};
use super::problem::{Code, Problem};
use crate::store::log::RequestKey;
use crate::store::{Store, StoreError};

const HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";
const LONGEST: usize = 255;

/// The keys of requests that run on this node. Across nodes the database decides which came first.
#[derive(Debug, Clone, Default)]
pub(super) struct RunningKeys(Arc<Mutex<HashSet<TenantKey>>>);

/// A tenant's key.
type TenantKey = (Arc<str>, String);

/// Holds a key until its request has been answered.
#[derive(Debug)]
pub(super) struct Claim {
    running: RunningKeys,
    tenant: Arc<str>,
    /// The key with what tells the request from others.
    pub(super) key: RequestKey,
}

impl RunningKeys {
    /// Claims the request's key, if it has one, for as long as the claim lives.
    pub(super) fn claim(
        &self,
        caller: &Caller,
        request: &HttpRequest,
        body: &[u8],
    ) -> Result<Option<Claim>, Problem> {
        let Some(key) = key_of(request)? else { return Ok(None) };
        let tenant = Arc::clone(&caller.tenant);
        let claimed = (Arc::clone(&tenant), key.clone());
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(claimed) {
            let detail = "a request with this Idempotency-Key is still running; repeat it when that one is answered";
            return Err(Problem::new(Code::IdempotencyKeyInUse, detail));
        }
        let fingerprint = fingerprint(request, body);
        Ok(Some(Claim { running: self.clone(), tenant, key: RequestKey { key, fingerprint } }))
    }
}

impl Claim {
    /// Makes sure that the first request under this key asked for the same.
    pub(super) fn must_be_same(&self, first: &[u8]) -> Result<(), Problem> {
        if first == self.key.fingerprint {
            return Ok(());
        }
        Err(Problem::new(
            Code::IdempotencyKeyReused,
            "another request was made with this Idempotency-Key within the last 24 hours; use a new key for a new request",
        ))
    }
}

/// Whether a first request was made under the claimed key: a repeat is answered as that was, however things stand now.
pub(super) async fn is_repeat(store: &Store, claim: Option<&Claim>) -> Result<bool, StoreError> {
    match claim {
        Some(Claim { tenant, key, .. }) => {
            store.kept_answer(tenant, &key.key).await.map(|kept| kept.is_some())
        }
        None => Ok(false),
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let held = (Arc::clone(&self.tenant), self.key.key.clone());
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&held);
    }
}

/// Marks an answer as that of a first request.
pub(super) fn replayed(response: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    response.insert_header((REPLAYED, "true"))
}

/// An answer kept as bytes, marked as that of a first request.
pub(super) fn kept(mut response: HttpResponseBuilder, body: Vec<u8>) -> HttpResponse {
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
