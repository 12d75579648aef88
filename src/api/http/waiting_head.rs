//! The head of a request that waits, made small: thousands may wait with theirs.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::HeaderMap;

/// Gives a poll that may wait a head with room for no more header fields than it has. The one it comes with has room for
/// many, which is 6 KiB (`actix_http::RequestHead`).
pub(crate) fn make_lean(request: &mut ServiceRequest) {
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
    fn a_lean_head_has_the_same_fields() {
        let mut request = TestRequest::with_uri("/v1/events?wait=30").to_srv_request();
        let mut fields = HeaderMap::with_capacity(16);
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            fields.append(name.parse().unwrap(), value.parse().unwrap());
        }
        *request.headers_mut() = fields;
        let room = request.headers().capacity();
        make_lean(&mut request);
        assert!(request.headers().capacity() < room);
        let told = |name| -> Vec<_> {
            request.headers().get_all(name).map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!((told("a"), told("b")), (vec!["1", "3"], vec!["2"]));
        assert_eq!(request.headers().len(), 3);
    }
}
