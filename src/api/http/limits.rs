//! Size limits on the head of a request.

use actix_web::dev::ServiceRequest;

use crate::api::problem::{Code, Problem};

/// The longest request target, in bytes. A stream token has up to 4,096 bytes, and `types` may stand beside it.
const MAX_TARGET_BYTES: usize = 8 << 10;
/// The most header fields of a request. actix itself refuses a head with more than 96 fields or 128 KiB.
const MAX_FIELDS: usize = 64;
/// The size limit of all header fields together, as they are on the wire.
const MAX_FIELD_BYTES: usize = 32 << 10;
/// The bytes of a field besides its name and value: a colon, a space and the line end.
const FIELD_OVERHEAD_BYTES: usize = 4;

/// Checks the length of a request's target and the size of its headers. Fails with a 4xx problem if one exceeds its
/// limit.
pub(crate) fn check_head(request: &ServiceRequest) -> Result<(), Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET_BYTES {
        let detail = format!(
            "the path and query have {target} bytes; the limit is {MAX_TARGET_BYTES} bytes"
        );
        return Err(Problem::new(Code::UriTooLong, detail));
    }
    let headers = request.headers();
    if headers.len() > MAX_FIELDS {
        let detail =
            format!("the request has {} header fields; the limit is {MAX_FIELDS}", headers.len());
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES)
        .sum();
    if bytes > MAX_FIELD_BYTES {
        let detail =
            format!("the header fields have {bytes} bytes; the limit is {MAX_FIELD_BYTES} bytes");
        return Err(Problem::new(Code::HeadersTooLarge, detail));
    }
    Ok(())
}
