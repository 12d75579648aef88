//! Streamed responses to HTTP/1.0 clients.

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::{ConnectionType, Version};

/// Ends a response of unknown length by closing its connection where the client does not understand chunked encoding
/// (RFC 9112, 6.1).
pub(crate) fn close_instead_of_chunking<B: MessageBody>(response: &mut ServiceResponse<B>) {
    let is_old = response.request().version() < Version::HTTP_11;
    if is_old && response.response().body().size() == BodySize::Stream {
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
}
