//! A small request head for long polls: thousands of them wait at once.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderMap;

/// Shrinks the header map of a long poll to the fields it has. actix allocates 6 KiB for each head
/// (`actix_http::RequestHead`).
pub(super) fn shrink_head(request: &mut ServiceRequest) {
    if !request.query_string().contains("wait=") {
        return;
    }
    let headers = request.headers_mut();
    let mut lean = HeaderMap::with_capacity(headers.len_keys());
    for (name, value) in &*headers {
        lean.append(name.clone(), value.clone());
    }
    *headers = lean;
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_shrunk_head_keeps_its_fields() {
        let mut request = TestRequest::with_uri("/v1/events?wait=30").to_srv_request();
        let mut fields = HeaderMap::with_capacity(16);
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            fields.append(name.parse().unwrap(), value.parse().unwrap());
        }
        *request.headers_mut() = fields;
        let capacity = request.headers().capacity();
        shrink_head(&mut request);
        assert!(request.headers().capacity() < capacity);
        let values = |name| -> Vec<_> {
            request.headers().get_all(name).map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!((values("a"), values("b")), (vec!["1", "3"], vec!["2"]));
        assert_eq!(request.headers().len(), 3);
    }
}
