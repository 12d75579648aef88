//! The credentials that authenticate the hub to a receiver.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::callback_url::CallbackUrl;
use crate::domain::MASK;

/// The source of the header `authorization`. It contains secrets: responses contain only the [`masked`](Self::masked)
/// form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReceiverAuth {
    /// RFC 7617.
    Basic {
        /// Without a colon.
        username: String,
        /// May be empty.
        password: String,
    },
    /// A fixed token (RFC 6750, 2.1).
    Bearer {
        /// Visible ASCII.
        token: String,
    },
    /// A token that the hub requests, caches, and requests again before it expires.
    #[serde(rename = "oauth2_client_credentials")]
    ClientCredentials(ClientCredentials),
}

/// The parameters of a token request (RFC 6749, 4.4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCredentials {
    pub token_url: CallbackUrl,
    pub client_id: String,
    pub client_secret: String,
    /// RFC 6749, 3.3.
    pub scope: Option<String>,
    /// Not in the RFC, but required by many providers.
    pub audience: Option<String>,
}

impl ReceiverAuth {
    /// The value of `authorization`. `None` for client credentials: the hub must first request a token.
    pub fn header(&self) -> Option<String> {
        match self {
            Self::Basic { username, password } => Some(basic(username, password)),
            Self::Bearer { token } => Some(bearer(token)),
            Self::ClientCredentials(_) => None,
        }
    }

    /// Returns a copy with [`MASK`] in place of every secret, for API responses.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mask = || MASK.to_owned();
        match self.clone() {
            Self::Basic { username, .. } => Self::Basic { username, password: mask() },
            Self::Bearer { .. } => Self::Bearer { token: mask() },
            Self::ClientCredentials(credentials) => {
                Self::ClientCredentials(ClientCredentials { client_secret: mask(), ..credentials })
            }
        }
    }
}

impl ClientCredentials {
    /// The value of `authorization` for the request to the token endpoint (RFC 6749, 2.3.1).
    pub fn header(&self) -> String {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let (id, secret): (String, String) =
            (encoded(&self.client_id), encoded(&self.client_secret));
        basic(&id, &secret)
    }

    /// Returns the form-encoded body of the request that fetches a token from the token endpoint (RFC 6749, 4.4.2).
    pub fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", &self.scope), ("audience", &self.audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }

    /// Returns a hash of the credentials, which identifies them without revealing the secret.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let optional = |text: &Option<String>| {
            text.as_ref().map_or([0].into(), |text| [&[1], text.as_bytes()].concat())
        };
        for part in [
            self.token_url.as_str().as_bytes().to_vec(),
            self.client_id.as_bytes().to_vec(),
            self.client_secret.as_bytes().to_vec(),
            optional(&self.scope),
            optional(&self.audience),
        ] {
            // Each part is hashed separately, so that text cannot move from one part to the next.
            hash.update(Sha256::digest(part));
        }
        hash.finalize().into()
    }
}

/// Returns the value of the header `authorization` for a user name and a password (RFC 7617, section 2).
fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// Returns the value of the header `authorization` for an access token (RFC 6750, section 2.1).
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

impl fmt::Debug for ReceiverAuth {
    /// Writes the kind of authentication, without its secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer { .. } => "Bearer",
            Self::ClientCredentials(_) => "ClientCredentials",
        };
        write!(f, "ReceiverAuth::{kind}(…)")
    }
}

impl fmt::Debug for ClientCredentials {
    /// Writes the URL of the token endpoint, without the client's secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCredentials({:?}, …)", self.token_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> ClientCredentials {
        ClientCredentials {
            token_url: "https://id.example/token".parse().unwrap(),
            client_id: "hub:1".to_owned(),
            client_secret: "planted+secret".to_owned(),
            scope: Some("a b".to_owned()),
            audience: None,
        }
    }

    #[test]
    fn basic_credentials_match_the_rfc() {
        // RFC 7617, section 2.
        let auth = ReceiverAuth::Basic {
            username: "Aladdin".to_owned(),
            password: "open sesame".to_owned(),
        };
        assert_eq!(auth.header().unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    #[test]
    fn client_credentials_are_form_encoded_before_basic() {
        let expected = format!("Basic {}", STANDARD.encode("hub%3A1:planted%2Bsecret"));
        assert_eq!(credentials().header(), expected);
        assert_eq!(credentials().form(), "grant_type=client_credentials&scope=a+b");
    }

    #[test]
    fn every_part_of_the_credentials_changes_the_fingerprint() {
        let own = credentials().fingerprint();
        assert_eq!(own, credentials().fingerprint());
        for other in [
            ClientCredentials {
                token_url: "https://id.example/token/".parse().unwrap(),
                ..credentials()
            },
            ClientCredentials { client_id: "hub:2".to_owned(), ..credentials() },
            ClientCredentials { client_secret: "planted+secret2".to_owned(), ..credentials() },
            ClientCredentials { scope: None, ..credentials() },
            ClientCredentials { scope: None, audience: Some("a b".to_owned()), ..credentials() },
            ClientCredentials { audience: Some(String::new()), ..credentials() },
        ] {
            assert_ne!(own, other.fingerprint());
        }
    }

    #[test]
    fn credentials_survive_storage_and_are_masked_in_responses() {
        for auth in [
            ReceiverAuth::Basic { username: "u".to_owned(), password: "planted".to_owned() },
            ReceiverAuth::Bearer { token: "planted".to_owned() },
            ReceiverAuth::ClientCredentials(credentials()),
        ] {
            let stored = serde_json::to_string(&auth).unwrap();
            assert!(stored.contains("planted"));
            assert_eq!(serde_json::from_str::<ReceiverAuth>(&stored).unwrap(), auth);
            let shown = serde_json::to_string(&auth.masked()).unwrap();
            assert!(!shown.contains("planted") && shown.contains(MASK), "{shown}");
            assert!(!format!("{auth:?}").contains("planted"));
        }
    }
}
