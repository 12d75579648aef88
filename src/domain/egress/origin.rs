//! The identity of the hub to receivers: its DNS name and its public URL.

use std::str::FromStr;

use url::{Host, Url};

/// Why a text is not an origin or a public URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidIdentity(&'static str);

/// The DNS name of a sending system (CloudEvents HTTP 1.1 Web Hooks, 4.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = InvalidIdentity;

    /// Parses a DNS name such as `hooks.example.com` and converts it to lower case.
    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let is_label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
        if text.len() <= 253 && has_letter && text.split('.').all(is_label) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidIdentity("expected a DNS name such as hooks.example.com"))
        }
    }
}

/// The URL under which clients reach the hub: absolute, http or https, without the path `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(Url);

impl PublicUrl {
    /// Returns the text of the public URL with `path` appended. `path` must start with `/`.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0.as_str().trim_end_matches('/'))
    }

    /// Returns the host name of the URL as an origin. `None`: the host is an IP address, or not a valid DNS name.
    fn origin(&self) -> Option<Origin> {
        match self.0.host()? {
            Host::Domain(name) => name.parse().ok(),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidIdentity;

    /// Parses an http or https URL without user, password, query and fragment. The error is the text for the user.
    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let detail = "expected e.g. https://hooks.example.com, without user, query or fragment";
        url.map(Self).ok_or(InvalidIdentity(detail))
    }
}

#[derive(Debug, Clone, Default)]
pub struct HubIdentity {
    /// The name in verification requests.
    pub origin: Option<Origin>,
    /// The base of the URLs at which receivers confirm a verification.
    pub public_url: Option<PublicUrl>,
}

impl HubIdentity {
    /// Without `origin`, the host name of the public URL is the origin.
    pub fn new(origin: Option<Origin>, public_url: Option<PublicUrl>) -> Self {
        let origin = origin.or_else(|| public_url.as_ref()?.origin());
        Self { origin, public_url }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_origin_is_a_dns_name() {
        for good in ["hooks.example.com", "localhost", "a-b.c1", "XN--nxasmq6b.example"] {
            assert_eq!(good.parse::<Origin>().unwrap().as_str(), good.to_ascii_lowercase());
        }
        for bad in ["", "*", "https://a.b", "a..b", "a b", "-a", "a-", "10.0.0.1", "a:80", "a\nb"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_origin_defaults_to_the_host_of_the_public_url() {
        let url = |text: &str| text.parse::<PublicUrl>().ok();
        let origin = |origin: Option<&str>, url| {
            let identity = HubIdentity::new(origin.map(|text| text.parse().unwrap()), url);
            identity.origin.map(|origin| origin.as_str().to_owned())
        };
        assert_eq!(origin(None, url("https://Hub.example:8443/x")).as_deref(), Some("hub.example"));
        assert_eq!(origin(Some("a.b"), url("https://hub.example")).as_deref(), Some("a.b"));
        assert_eq!(origin(None, url("http://10.0.0.1:8080")), None, "an address is no name");
        assert_eq!(origin(None, None), None);
    }

    #[test]
    fn a_path_is_appended_to_the_public_url() {
        for (base, whole) in [
            ("https://hub.example", "https://hub.example/v1/x?y=z"),
            ("https://hub.example/", "https://hub.example/v1/x?y=z"),
            ("https://example.com/hub/", "https://example.com/hub/v1/x?y=z"),
        ] {
            assert_eq!(base.parse::<PublicUrl>().unwrap().at("/v1/x?y=z"), whole);
        }
        for bad in ["hub.example", "ftp://a/", "https://u:p@a/", "https://a/?q", "https://a/#f", ""]
        {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected(text in ".{0,80}") {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert!(origin.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
            }
            if let Ok(url) = format!("https://{text}").parse::<PublicUrl>() {
                prop_assert!(Url::parse(&url.at("/v1/x?y=z")).is_ok_and(|url| url.query() == Some("y=z")));
            }
        }
    }
}
