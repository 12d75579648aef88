//! A delivery as the receiver saw it, and its form on a terminal.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::signing::secret::BadSignature;
use crate::domain::single_line::SingleLine;
use crate::domain::time::UnixMillis;

/// The result of checking a delivery's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureCheck {
    Valid,
    Invalid(VerificationFailure),
    /// The receiver has no secret to check with.
    NotChecked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerificationFailure {
    /// A header that Standard Webhooks 1.0.0 requires is missing, empty or not ASCII.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// The signature is wrong or too old.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

/// A POST to the receiver, and the response to it. Missing headers leave their fields empty or 0.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `webhook-id`: the event's id.
    pub id: String,
    /// `webhook-attempt`, from 1.
    pub attempt: u32,
    /// `webhook-subscription`.
    pub subscription: String,
    pub verified: SignatureCheck,
    /// The status code of the response.
    pub status: u16,
    /// The bytes that were signed.
    pub body: Bytes,
    /// All headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Path and query.
    pub path: String,
    /// The time when the body was complete.
    pub at: UnixMillis,
}

impl Delivery {
    /// The first value of the header. `name` must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The parts of an event that are shown.
#[derive(Deserialize)]
struct Shown<'a> {
    r#type: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// One line, and a second one with the reason if the signature check failed.
impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Result<Shown<'_>, _> = serde_json::from_slice(&self.body);
        let raw = String::from_utf8_lossy(&self.body);
        let (event_type, data) = match &shown {
            Ok(event) => (event.r#type.as_str(), event.data.get()),
            Err(_not_an_event) => ("?", &*raw),
        };
        let verified = match self.verified {
            SignatureCheck::Valid => "verified",
            SignatureCheck::Invalid(_) => "NOT VERIFIED",
            SignatureCheck::NotChecked => "not checked",
        };
        let id = if self.id.is_empty() { "?" } else { &self.id };
        write!(f, "{} {} {} ", self.at, SingleLine(id), SingleLine(event_type))?;
        write!(f, "attempt {} {verified} → {}  {}", self.attempt, self.status, SingleLine(data))?;
        if let SignatureCheck::Invalid(why) = self.verified {
            write!(f, "\n  {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(body: &'static str) -> Delivery {
        Delivery {
            id: "evt_01".into(),
            attempt: 2,
            subscription: "sub_01".into(),
            verified: SignatureCheck::Valid,
            status: 200,
            body: Bytes::from_static(body.as_bytes()),
            headers: Vec::new(),
            path: "/".into(),
            at: UnixMillis::EPOCH,
        }
    }

    #[test]
    fn a_delivery_is_shown_on_one_line() {
        let shown =
            delivery(r#"{"id":"evt_01","type":"order.paid","timestamp":"…","data":{"amount": 7}}"#);
        let line =
            r#"1970-01-01T00:00:00.000Z evt_01 order.paid attempt 2 verified → 200  {"amount": 7}"#;
        assert_eq!(shown.to_string(), line);
    }

    #[test]
    fn a_second_line_gives_the_reason_of_a_failed_signature_check() {
        let distrust = SignatureCheck::Invalid(BadSignature::Mismatch.into());
        let text = Delivery { verified: distrust, status: 401, ..delivery("1") }.to_string();
        let (first, second) = text.split_once('\n').unwrap();
        assert!(first.ends_with("evt_01 ? attempt 2 NOT VERIFIED → 401  1"), "{first}");
        assert_eq!(second, "  no signature in webhook-signature was made with this secret");
    }

    #[test]
    fn control_characters_in_a_delivery_do_not_reach_the_terminal() {
        let odd = Delivery { id: "\u{1b}[2J".into(), ..delivery("a\u{9b}1m\r\nb") };
        assert!(!odd.to_string().contains(char::is_control), "{odd}");
        let long = Delivery { body: Bytes::from(vec![b'x'; 4_000]), ..delivery("") };
        assert!(long.to_string().chars().count() < 250);
    }
}
