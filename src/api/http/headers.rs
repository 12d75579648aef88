//! Reading request headers: those that may appear once, and the client's address behind trusted proxies.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, web};

use crate::api::problem::{ApiResult, Code, Problem};
use crate::api::state::Api;
use crate::domain::access::forwarded::TrustedProxies;

/// Returns the value of a header, or `None` without it. 400 for a request that has the header more than once.
pub(crate) fn single_header<'a>(
    request: &'a HttpRequest,
    name: &str,
) -> ApiResult<Option<&'a HeaderValue>> {
    let mut values = request.headers().get_all(name);
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Problem::new(
            Code::InvalidHeader,
            format!("the header {name} appears more than once; send it once"),
        )),
    }
}

/// The address of the connection's peer, or the one that a trusted proxy (`HOOKHUB_TRUSTED_PROXIES`) names. An
/// IPv4-mapped IPv6 address is returned as IPv4.
pub(crate) fn client_address(request: &HttpRequest) -> IpAddr {
    // Every request over TCP has a peer address.
    let peer = request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
    match request.app_data::<web::Data<Api>>() {
        Some(api) => resolve(&api.trusted_proxies, peer, request),
        None => peer.to_canonical(),
    }
}

/// The client that the trusted proxies name in their header; `peer` if it is not a trusted proxy.
fn resolve(proxies: &TrustedProxies, peer: IpAddr, request: &HttpRequest) -> IpAddr {
    let lines = request.headers().get_all(proxies.header.name());
    let lines: Vec<_> = lines.map(HeaderValue::as_bytes).collect();
    proxies.client(peer, &lines)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::domain::access::networks::Networks;

    #[test]
    fn repeated_header_lines_are_read_as_one_list_in_their_order() {
        let networks = Networks::parse("127.0.0.0/8").unwrap();
        let proxies = TrustedProxies { networks, ..TrustedProxies::default() };
        let request = TestRequest::default()
            .append_header(("x-forwarded-for", "198.51.100.7"))
            .append_header(("X-Forwarded-For", "192.0.2.1, 127.0.0.2"))
            .append_header(("forwarded", "for=203.0.113.9"))
            .to_http_request();
        let of = |peer: &str| resolve(&proxies, peer.parse().unwrap(), &request).to_string();
        assert_eq!(of("127.0.0.1"), "192.0.2.1");
        assert_eq!(of("::ffff:127.0.0.1"), "192.0.2.1");
        assert_eq!(of("203.0.113.1"), "203.0.113.1");
    }
}
