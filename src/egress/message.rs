//! A request that the hub sends, and the response to it, in the types of the `http` crate.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use super::failure::Failure;
use crate::domain::delivery::outcome::ErrorClass;

/// The hub reads about this much of a response body. The rest is not read.
const MAX_BODY_BYTES: usize = 64 << 10;

/// A request. A clone shares the body.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None }
    }
}

impl From<Request> for reqwest::Request {
    fn from(request: Request) -> Self {
        let mut converted = Self::new(request.method, request.url);
        *converted.headers_mut() = request.headers;
        *converted.body_mut() = request.body.map(Into::into);
        converted
    }
}

/// A response whose head has arrived.
#[derive(Debug)]
pub(crate) struct Response(reqwest::Response);

impl Response {
    pub(super) fn new(response: reqwest::Response) -> Self {
        Self(response)
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Empty after [`Self::take_headers`].
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    pub(crate) fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(self.0.headers_mut())
    }

    /// Reads the body up to about 64 KiB and ignores the rest. After a longer body the connection is not reused.
    pub(crate) async fn read_body(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while body.len() < MAX_BODY_BYTES {
            let Some(chunk) = self.0.chunk().await? else { break };
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// A value that logs do not show. Fails if `text` contains characters that a header cannot carry.
pub(crate) fn secret_header(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_invalid| {
        let detail = "the credentials contain characters that a header cannot carry";
        Failure::new(ErrorClass::Protocol, detail)
    })?;
    value.set_sensitive(true);
    Ok(value)
}
