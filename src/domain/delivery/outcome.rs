//! The outcome of one request to a receiver, and its consequence.

use std::time::Duration;

use strum::{EnumString, IntoStaticStr};

/// Why a request got no complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorClass {
    /// The deadline passed, while connecting or during the exchange.
    Timeout,
    /// No connection: refused, unreachable, reset, or rejected by the egress proxy.
    Connect,
    /// The host name has no address.
    Dns,
    /// The TLS handshake failed, the certificate is not trusted, or the subscription's TLS settings are unusable.
    Tls,
    /// The egress policy forbids the target.
    Blocked,
    /// The connection broke, the response was not valid HTTP, or no OAuth token could be got for the request.
    Protocol,
}

impl ErrorClass {
    /// Returns the name of the class in JSON, SQL, logs and metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The outcome of one request. A receiver's refusal is data, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Answered {
        status: u16,
        /// The delay that `Retry-After` requests, counted from the response.
        retry_after: Option<Duration>,
    },
    /// No complete response arrived.
    Failed(ErrorClass),
}

/// The consequence of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// The delivery gets another attempt if the retry schedule allows one.
    Retry {
        /// The delay that the receiver requests. A longer delay of the schedule stays.
        at_least: Option<Duration>,
    },
    /// 410: the receiver ended the subscription.
    Gone,
}

impl Outcome {
    /// Standard Webhooks 1.0.0, "Webhook delivery": 2xx is success, 410 ends the subscription, 429 and 503 may name a
    /// delay, and every other outcome leads to a retry. The hub follows no redirect.
    pub fn verdict(&self) -> Verdict {
        match *self {
            Self::Answered { status: 200..=299, .. } => Verdict::Delivered,
            Self::Answered { status: 410, .. } => Verdict::Gone,
            Self::Answered { status: 429 | 503, retry_after } => {
                Verdict::Retry { at_least: retry_after }
            }
            Self::Answered { .. } | Self::Failed(_) => Verdict::Retry { at_least: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16) -> Verdict {
        Outcome::Answered { status, retry_after: Some(Duration::from_secs(7)) }.verdict()
    }

    #[test]
    fn only_2xx_is_success_and_only_410_is_final() {
        for status in 100..=599 {
            match status {
                200..=299 => assert_eq!(verdict(status), Verdict::Delivered),
                410 => assert_eq!(verdict(status), Verdict::Gone),
                _ => assert!(matches!(verdict(status), Verdict::Retry { .. }), "{status}"),
            }
        }
    }

    #[test]
    fn retry_after_applies_only_to_429_and_503() {
        assert_eq!(verdict(429), Verdict::Retry { at_least: Some(Duration::from_secs(7)) });
        assert_eq!(verdict(503), Verdict::Retry { at_least: Some(Duration::from_secs(7)) });
        assert_eq!(verdict(500), Verdict::Retry { at_least: None });
    }

    #[test]
    fn every_stored_class_is_found_by_its_name() {
        for name in ["timeout", "connect", "dns", "tls", "blocked", "protocol"] {
            assert_eq!(name.parse().map(ErrorClass::name), Ok(name));
        }
    }
}
