//! The HTTP proxy that carries outgoing requests.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// A proxy that opens tunnels (CONNECT; RFC 9110, 9.3.6). `Debug` omits the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressProxy {
    /// A host name or an address; an IPv6 address has no brackets.
    pub host: String,
    pub port: u16,
    /// The value of `proxy-authorization` (RFC 7617).
    pub authorization: Option<String>,
}

/// The text is not a proxy's URL. It may contain a password, so the error omits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected http://host:port or http://user:password@host:port, with %-encoding where needed"
)]
pub struct BadEgressProxy;

impl FromStr for EgressProxy {
    type Err = BadEgressProxy;

    /// Parses an `http` URL with a host, and if needed a port (default 80), a user name and a password, but without
    /// path, query and fragment.
    fn from_str(text: &str) -> Result<Self, BadEgressProxy> {
        let url = Url::parse(text).map_err(|_bad| BadEgressProxy)?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none();
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(BadEgressProxy),
        };
        let port = url.port_or_known_default().filter(|port| *port > 0);
        match port {
            Some(port) if url.scheme() == "http" && bare && url.fragment().is_none() => {
                Ok(Self { host, port, authorization: authorization(&url) })
            }
            _ => Err(BadEgressProxy),
        }
    }
}

/// The value of `proxy-authorization` (RFC 7617, section 2). `None`: the URL has no user name and password.
fn authorization(url: &Url) -> Option<String> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
    credentials.push(b':');
    credentials.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(format!("Basic {}", STANDARD.encode(credentials)))
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EgressProxy({}:{}, …)", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_a_host_a_port_and_optional_credentials() {
        let proxy: EgressProxy = "http://us%40er:p%3Aw@[::1]:3128/".parse().unwrap();
        assert_eq!((&*proxy.host, proxy.port), ("::1", 3128));
        let authorization = format!("Basic {}", STANDARD.encode("us@er:p:w"));
        assert_eq!(proxy.authorization, Some(authorization));
        let plain: EgressProxy = "http://proxy.internal".parse().unwrap();
        assert_eq!((&*plain.host, plain.port, plain.authorization), ("proxy.internal", 80, None));
    }

    #[test]
    fn the_error_for_an_invalid_proxy_omits_the_password() {
        for bad in [
            "",
            "proxy:3128",
            "https://u:planted@proxy:3128",
            "socks5://u:planted@proxy:1080",
            "http://u:planted@proxy:3128/path",
            "http://u:planted@proxy:3128/?x",
            "http://u:planted@proxy:0",
            "http://u:planted@:3128",
        ] {
            let refusal = bad.parse::<EgressProxy>().unwrap_err().to_string();
            assert!(!refusal.contains("planted"), "{bad}");
        }
    }

    #[test]
    fn debug_output_hides_the_credentials() {
        let proxy: EgressProxy = "http://user:planted@proxy:3128".parse().unwrap();
        let shown = format!("{proxy:?}");
        assert!(!shown.contains("planted") && !shown.contains("Basic"), "{shown}");
    }
}
