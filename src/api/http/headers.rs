//! The head of a request, bounded in size; and that of an answer as the client's version of HTTP has it.

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Version};

use crate::api::problem::{Code, Problem};

/// The longest request-target, in bytes: a stream token has up to 4,096, and types stand beside it.
const MOST_TARGET_BYTES: usize = 8 << 10;
/// How many header fields a request may have. Where there are more than 96, or the head is larger than 128 KiB, the
/// framework refuses it before it gets here.
const MOST_FIELDS: usize = 64;
/// How many bytes they may have, as they are written.
const MOST_FIELD_BYTES: usize = 32 << 10;
/// The bytes of a field besides its name and value: a colon, a space, the end of the line.
const PER_FIELD: usize = 4;

/// Refuses a request whose head is too large.
pub(crate) fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MOST_TARGET_BYTES {
        let detail = format!(
            "the path and query have {target} bytes; at most {MOST_TARGET_BYTES} are taken"
        );
        return Err(Problem::new(Code::UriTooLong, detail));
    }
    let headers = request.headers();
    if headers.len() > MOST_FIELDS {
        let detail =
            format!("there are {} header fields; at most {MOST_FIELDS} are taken", headers.len());
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD).sum();
    if bytes > MOST_FIELD_BYTES {
        let detail = format!("the header has {bytes} bytes; at most {MOST_FIELD_BYTES} are taken");
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}

/// Has an answer without a known length end with its connection, where the client would not understand chunks (RFC 9112,
/// section 6.1).
pub(crate) fn suit<B: MessageBody>(response: &mut ServiceResponse<B>) {
    let old = response.request().version() < Version::HTTP_11;
    if old && response.response().body().size() == BodySize::Stream {
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
}
