//! The inputs of a handler, read once the caller is authorised: the query and the body.
//!
//! Each endpoint with a key names one of these types in its signature, so its handler cannot forget to check the query.

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use bytes::Bytes;

use super::body::{self, ContentType};
use super::fields::Fields;
use super::query::Query;
use crate::api::problem::{ApiResult, Problem};

/// The largest body of a request that is not a publish.
const MAX_BODY_BYTES: usize = 256 << 10;
/// The largest body of a publish.
pub(crate) const MAX_PUBLISH_BYTES: usize = 5 << 20;

/// A part of a request. Reading it may wait for the body.
pub(crate) trait Input: Sized + 'static {
    /// Whether the input takes the payload.
    const HAS_BODY: bool = true;

    /// Called after the caller is authorised.
    fn read(request: &HttpRequest, payload: web::Payload) -> impl Future<Output = ApiResult<Self>>;
}

/// No query parameters: any parameter is an error. A body is ignored.
#[derive(Debug)]
pub(crate) struct NoQuery;

impl NoQuery {
    /// 400 for any query parameter.
    fn check(request: &HttpRequest) -> ApiResult<Self> {
        Query::parse(request, &[]).map(|_| Self)
    }
}

impl Input for NoQuery {
    const HAS_BODY: bool = false;

    async fn read(request: &HttpRequest, _: web::Payload) -> ApiResult<Self> {
        Self::check(request)
    }
}

impl FromRequest for NoQuery {
    type Error = Problem;
    type Future = std::future::Ready<ApiResult<Self>>;

    /// For public endpoints, which authorise no caller. 400 for any query parameter.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Self::check(request))
    }
}

/// A query whose parameter names are not checked yet: only [`Parameters::known`] gives access to it.
#[derive(Debug)]
pub(crate) struct Parameters(HttpRequest);

impl Parameters {
    /// Parses the query, as [`Query::parse`].
    pub(crate) fn known(&self, known: &[&str]) -> ApiResult<Query> {
        Query::parse(&self.0, known)
    }
}

impl Input for Parameters {
    const HAS_BODY: bool = false;

    async fn read(request: &HttpRequest, _: web::Payload) -> ApiResult<Self> {
        Ok(Self(request.clone()))
    }
}

/// [`Parameters`], and the frames that a WebSocket client sends.
pub(crate) struct Frames {
    pub(crate) parameters: Parameters,
    pub(crate) payload: web::Payload,
}

impl Input for Frames {
    /// Keeps the payload, from which the WebSocket session later reads frames.
    async fn read(request: &HttpRequest, payload: web::Payload) -> ApiResult<Self> {
        Ok(Self { parameters: Parameters(request.clone()), payload })
    }
}

/// A JSON body of at most 256 KiB, and no query parameters.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Bytes);

impl JsonBody {
    /// 400 if the body is not JSON, 422 if it is not an object.
    pub(crate) fn fields(&self) -> ApiResult<Fields> {
        Fields::parse(&self.0)
    }

    /// An empty body counts as an object without fields. 400 or 422 for another body.
    pub(crate) fn optional_fields(&self) -> ApiResult<Fields> {
        Fields::parse(if self.0.is_empty() { b"{}" } else { &self.0 })
    }
}

impl Input for JsonBody {
    /// 400 for any query parameter, 415 for another content type, and the errors of [`body::read`].
    async fn read(request: &HttpRequest, payload: web::Payload) -> ApiResult<Self> {
        NoQuery::check(request)?;
        match body::content_type(request)? {
            ContentType::Json => Ok(Self(body::read(request, payload, MAX_BODY_BYTES).await?)),
            ContentType::Ndjson => Err(body::wrong_type("application/json")),
        }
    }
}

/// The body of a publish, at most 5 MiB, and no query parameters.
#[derive(Debug)]
pub(crate) struct PublishBody {
    pub(crate) content_type: ContentType,
    pub(crate) bytes: Bytes,
}

impl Input for PublishBody {
    /// 400 for any query parameter, 415 for another content type, and the errors of [`body::read`].
    async fn read(request: &HttpRequest, payload: web::Payload) -> ApiResult<Self> {
        NoQuery::check(request)?;
        let content_type = body::content_type(request)?;
        let bytes = body::read(request, payload, MAX_PUBLISH_BYTES).await?;
        Ok(Self { content_type, bytes })
    }
}
