//! The TLS settings for one receiver: trusted certificate authorities and a client certificate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys, RootCertStore};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::MASK;
use crate::domain::time::UnixMillis;

/// The year 10000, in seconds since 1970: later than any certificate's end (RFC 5280, 4.1.2.5).
const AFTER_EVERY_EXPIRY: Duration = Duration::from_secs(253_402_300_800);

/// Invalid TLS settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct BadTls {
    /// The name of the invalid field in JSON; empty if no field is set.
    pub field: &'static str,
    pub detail: String,
}

/// Valid PEM texts. Cheap to clone; `Debug` omits them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Pem", into = "Pem")]
pub struct ReceiverTls(Arc<Fingerprinted>);

struct Fingerprinted {
    pem: Pem,
    fingerprint: [u8; 32],
}

/// The stored form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pem {
    ca: Option<String>,
    client_certificate: Option<String>,
    client_key: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct TlsView {
    ca: Option<Vec<CertificateView>>,
    client_certificate: Option<CertificateView>,
    client_key: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct CertificateView {
    sha256: String,
    expires_at: Option<UnixMillis>,
}

impl ReceiverTls {
    /// Checks the PEM texts and builds the settings. At least one must be set. `ca` contains the authorities that
    /// replace the system's. `client_certificate` contains the leaf first, then its chain. A leaf that has expired at
    /// `now` is an error.
    pub fn new(
        ca: Option<String>,
        client_certificate: Option<String>,
        client_key: Option<String>,
        now: UnixMillis,
    ) -> Result<Self, BadTls> {
        let is_empty = ca.is_none() && client_certificate.is_none() && client_key.is_none();
        let tls = Self::from(Pem { ca, client_certificate, client_key });
        if is_empty {
            let detail = "expected ca, or client_certificate and client_key, or all three";
            return Err(BadTls { field: "", detail: detail.into() });
        }
        tls.roots()?;
        tls.identity()?;
        let leaf = tls.client_chain()?.into_iter().next();
        match leaf.and_then(|leaf| expires_at(&leaf)) {
            Some(end) if end < now => {
                let detail = format!("expired at {end}; receivers would reject it");
                Err(BadTls { field: "client_certificate", detail })
            }
            _ => Ok(tls),
        }
    }

    /// The authorities to trust; `None`: the system's. Fails if the PEM text is invalid.
    pub fn roots(&self) -> Result<Option<RootCertStore>, BadTls> {
        let Some(ca) = &self.0.pem.ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("ca", ca)? {
            roots.add(certificate).map_err(|error| fault("ca", &error))?;
        }
        Ok(Some(roots))
    }

    /// The client certificate with its chain and private key; `None`: there is none. Fails if a PEM text is invalid.
    pub fn identity(&self) -> Result<Option<CertifiedKey>, BadTls> {
        let missing = |field, detail: &str| Err(BadTls { field, detail: detail.into() });
        let key = match (&self.0.pem.client_certificate, &self.0.pem.client_key) {
            (None, None) => return Ok(None),
            (Some(_), None) => {
                return missing("client_key", "is missing: client_certificate is given");
            }
            (None, Some(_)) => {
                return missing("client_certificate", "is missing: client_key is given");
            }
            (Some(_), Some(key)) => key,
        };
        let chain = self.client_chain()?;
        // The error never contains the text of the key.
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_bad| BadTls {
            field: "client_key",
            detail:
                "expected one private key in PEM (PKCS#8, PKCS#1 or SEC1) that is not encrypted"
                    .into(),
        })?;
        match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
            Ok(identity) => Ok(Some(identity)),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => missing(
                "client_key",
                "is not the key of the first certificate in client_certificate",
            ),
            Err(error @ Error::InvalidCertificate(_)) => Err(fault("client_certificate", &error)),
            Err(error) => Err(fault("client_key", &error)),
        }
    }

    /// The client certificate, then its chain; empty if there is none. Fails if the PEM text is invalid.
    fn client_chain(&self) -> Result<Vec<CertificateDer<'static>>, BadTls> {
        match &self.0.pem.client_certificate {
            Some(chain) => certificates("client_certificate", chain),
            None => Ok(Vec::new()),
        }
    }

    /// Returns a hash of the settings, which identifies them without revealing the private key.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint
    }

    /// Returns the settings for API responses: the hash and the expiry of each certificate, and a masked key.
    pub fn view(&self) -> TlsView {
        let ca = self.0.pem.ca.as_ref().map(|ca| certificates("ca", ca).unwrap_or_default());
        let leaf = self.client_chain().unwrap_or_default().into_iter().next();
        TlsView {
            ca: ca.map(|ca| ca.iter().map(CertificateView::of).collect()),
            client_certificate: leaf.as_ref().map(CertificateView::of),
            client_key: self.0.pem.client_key.as_ref().map(|_| MASK),
        }
    }
}

/// Parses one or more certificates. The error names `field`, the setting that contains the text.
fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let expected = || {
        BadTls {
        field,
        detail: "expected certificates in PEM, each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----".into(),
    }
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(expected)
}

fn fault(field: &'static str, error: &Error) -> BadTls {
    BadTls { field, detail: format!("cannot be used: {error}") }
}

/// Returns the end of a certificate's validity; `None`: the certificate cannot be parsed. webpki reports the expiry
/// only of an expired certificate, so this verifies as of a time after every expiry.
fn expires_at(certificate: &CertificateDer<'_>) -> Option<UnixMillis> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let verified = verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &RootCertStore::empty(),
        &[],
        UnixTime::since_unix_epoch(AFTER_EVERY_EXPIRY),
        ring::default_provider().signature_verification_algorithms.all,
    );
    match verified {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(UnixMillis::EPOCH.after(Duration::from_secs(not_after.as_secs())))
        }
        _ => None,
    }
}

impl CertificateView {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        Self {
            sha256: format!("{:x}", Bytes::copy_from_slice(&Sha256::digest(certificate))),
            expires_at: expires_at(certificate),
        }
    }
}

impl From<Pem> for ReceiverTls {
    /// Builds the settings from the PEM texts, without a check, and computes their fingerprint.
    fn from(pem: Pem) -> Self {
        let mut hash = Sha256::new();
        for part in [&pem.ca, &pem.client_certificate, &pem.client_key] {
            // Each part is hashed separately, so that text cannot move from one part to the next.
            hash.update(part.as_ref().map_or([0; 32], |part| Sha256::digest(part).into()));
        }
        let fingerprint = hash.finalize().into();
        Self(Arc::new(Fingerprinted { pem, fingerprint }))
    }
}

impl From<ReceiverTls> for Pem {
    fn from(tls: ReceiverTls) -> Self {
        tls.0.pem.clone()
    }
}

impl PartialEq for ReceiverTls {
    fn eq(&self, other: &Self) -> bool {
        self.0.pem == other.0.pem
    }
}

impl Eq for ReceiverTls {}

impl fmt::Debug for ReceiverTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiverTls(…)")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    struct TestCertificate {
        certificate: String,
        key: String,
    }

    fn certificate(until_year: i32) -> TestCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        TestCertificate {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn now() -> UnixMillis {
        UnixMillis::parse("2026-11-25T00:00:00Z").unwrap()
    }

    fn new_tls(ca: &str, certificate: &str, key: &str) -> Result<ReceiverTls, BadTls> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ReceiverTls::new(given(ca), given(certificate), given(key), now())
    }

    #[test]
    fn certificates_are_displayed_as_fingerprints_and_the_key_never() {
        let TestCertificate { certificate, key } = certificate(2100);
        let tls = new_tls(&certificate, &certificate, &key).unwrap();
        let view = serde_json::to_value(tls.view()).unwrap();
        assert_eq!(view["client_key"], MASK);
        assert_eq!(view["client_certificate"]["expires_at"], "2100-01-01T00:00:00.000Z");
        assert_eq!(view["client_certificate"]["sha256"].as_str().unwrap().len(), 64);
        assert_eq!(view["ca"][0], view["client_certificate"]);
        assert!(!view.to_string().contains("BEGIN"));
        assert!(!format!("{tls:?}").contains("BEGIN"));
        assert!(tls.roots().unwrap().is_some_and(|roots| roots.len() == 1));
        assert!(tls.identity().unwrap().is_some());

        let stored = serde_json::to_string(&tls).unwrap();
        let read: ReceiverTls = serde_json::from_str(&stored).unwrap();
        assert_eq!((&read, read.fingerprint()), (&tls, tls.fingerprint()));
    }

    #[test]
    fn an_error_names_the_invalid_field_and_repeats_no_key() {
        let (own, other) = (certificate(2100), certificate(2100));
        let planted = "-----BEGIN PRIVATE KEY-----\ncGxhbnRlZA==\n-----END PRIVATE KEY-----\n";
        let expired = certificate(2021);
        for (ca, certificate, key, field) in [
            ("", "", "", ""),
            ("x", "", "", "ca"),
            (&*own.key, "", "", "ca"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", "", "ca"),
            ("-----BEGIN CERTIFICATE-----\n", "", "", "ca"),
            ("", &own.certificate, "", "client_key"),
            ("", "", &own.key, "client_certificate"),
            ("", "x", &own.key, "client_certificate"),
            ("", &own.certificate, "planted", "client_key"),
            ("", &own.certificate, planted, "client_key"),
            ("", &own.certificate, &other.key, "client_key"),
            ("", &own.certificate, &own.certificate, "client_key"),
            ("", &expired.certificate, &expired.key, "client_certificate"),
        ] {
            let fault = new_tls(ca, certificate, key).unwrap_err();
            assert_eq!(fault.field, field, "{fault}");
            assert!(!fault.detail.contains("planted"), "{fault}");
            assert!(!fault.detail.contains("cGxh"), "{fault}");
        }
    }

    #[test]
    fn every_part_changes_the_fingerprint() {
        let TestCertificate { certificate, key } = certificate(2100);
        let mine = [
            new_tls(&certificate, "", "").unwrap(),
            new_tls("", &certificate, &key).unwrap(),
            new_tls(&certificate, &certificate, &key).unwrap(),
        ];
        for (index, one) in mine.iter().enumerate() {
            for (other_index, other) in mine.iter().enumerate() {
                assert_eq!(one.fingerprint() == other.fingerprint(), index == other_index);
            }
        }
    }
}
