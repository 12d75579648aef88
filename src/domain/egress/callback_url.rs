//! Callback URLs: where receivers get their events. The URL of an OAuth token endpoint has the same type.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

use crate::domain::serde_text::serialize_as_text;

/// In bytes.
const MAX_LENGTH: usize = 2048;

/// Why a text is not a callback URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCallbackUrl(&'static str);

/// An absolute http or https URL. Its text stays exactly as the owner wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl {
    text: String,
    url: Url,
}

impl CallbackUrl {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the host of the URL in lower case and punycode, without a trailing dot. An IPv6 address has brackets.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default().trim_end_matches('.')
    }

    /// Returns the port of the URL, or the default port of its scheme.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// The host's IP address if it needs no DNS lookup: the host is an address, or `localhost` or a name below it.
    pub fn literal_address(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => {
                let name = self.host();
                let local = name == "localhost" || name.ends_with(".localhost");
                local.then(|| IpAddr::from([127, 0, 0, 1]))
            }
        }
    }
}

impl FromStr for CallbackUrl {
    type Err = BadCallbackUrl;

    /// Parses an absolute http or https URL of at most 2048 bytes, without white space, control characters, user,
    /// password, fragment and port 0.
    fn from_str(text: &str) -> Result<Self, BadCallbackUrl> {
        if text.len() > MAX_LENGTH {
            return Err(BadCallbackUrl("a callback URL has at most 2048 characters"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(BadCallbackUrl("a callback URL has no white space or control characters"));
        }
        let url = Url::parse(text).map_err(|_bad| {
            BadCallbackUrl("not an absolute URL; expected e.g. https://example.com/hooks")
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BadCallbackUrl("the scheme of a callback URL is https or http"));
        }
        if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
            return Err(BadCallbackUrl("a callback URL names a host, and a port from 1 on if any"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadCallbackUrl(
                "a callback URL holds no user name or password; send credentials in headers",
            ));
        }
        if url.fragment().is_some() {
            return Err(BadCallbackUrl(
                "a callback URL has no fragment (#…): it would never be sent",
            ));
        }
        Ok(Self { text: text.to_owned(), url })
    }
}

serialize_as_text!(CallbackUrl);

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths and queries of callback URLs are often secret (Zapier, Slack).
        write!(
            f,
            "CallbackUrl({}://{}/…)",
            self.url.scheme(),
            self.url.host_str().unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_and_queries_are_kept_verbatim() {
        let text = "https://hooks.example.com/a//b/%7Ex/?q=1&q=2&%20";
        assert_eq!(text.parse::<CallbackUrl>().unwrap().as_str(), text);
    }

    #[test]
    fn a_url_that_cannot_be_requested_is_rejected() {
        for bad in [
            "",
            "hooks",
            "/hooks",
            "ftp://example.com/",
            "https://",
            "https://user:pw@example.com/",
            "https://example.com/#a",
            "https://exa mple.com/",
            "https://example.com/\n",
            "http://[::1",
            "http://example.com:0/",
            "javascript:alert(1)",
        ] {
            assert!(bad.parse::<CallbackUrl>().is_err(), "{bad}");
        }
        assert!(
            format!("https://example.com/{}", "x".repeat(2048)).parse::<CallbackUrl>().is_err()
        );
    }

    #[test]
    fn unusual_spellings_of_an_address_are_recognised() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        for text in [
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://127.1/",
            "http://LOCALHOST./",
        ] {
            assert_eq!(
                text.parse::<CallbackUrl>().unwrap().literal_address(),
                Some(loopback),
                "{text}"
            );
        }
        assert_eq!("http://example.com/".parse::<CallbackUrl>().unwrap().literal_address(), None);
    }

    #[test]
    fn debug_output_hides_the_path() {
        let url: CallbackUrl = "https://hooks.example.com/planted-secret".parse().unwrap();
        assert!(!format!("{url:?}").contains("planted-secret"));
    }
}
