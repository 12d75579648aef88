//! What came of one POST, and what follows from it.

use std::time::Duration;

/// Why an exchange brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The deadline passed, while connecting or during the exchange.
    Timeout,
    /// No connection: refused, unreachable, reset.
    Connect,
    /// The host's name has no address.
    Dns,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// The address is one that callbacks may not reach.
    Blocked,
    /// The connection broke, or what came was not HTTP.
    Protocol,
}

impl ErrorClass {
    /// All of them, in the order of their stored codes.
    const ALL: [Self; 6] =
        [Self::Timeout, Self::Connect, Self::Dns, Self::Tls, Self::Blocked, Self::Protocol];

    /// The name in JSON, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Blocked => "blocked",
            Self::Protocol => "protocol",
        }
    }

    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What one POST came to. A receiver's refusal is data, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered.
    Answered {
        /// HTTP status code.
        status: u16,
        /// What `Retry-After` asked for, counted from the answer.
        retry_after: Option<Duration>,
    },
    /// It did not.
    Failed(ErrorClass),
}

/// What is to happen after an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Delivered,
    /// Try again, not before the given wait.
    Retry {
        /// The least wait the receiver asked for.
        at_least: Option<Duration>,
    },
    /// 410: the receiver wants no more, ever.
    Gone,
}

impl Outcome {
    /// Standard Webhooks 1.0.0, "Webhook delivery": 2xx is success, 410 ends the subscription, 429 and 503 may say
    /// how long to wait, everything else is tried again; redirects are never followed.
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
    fn retry_after_counts_on_429_and_503_alone() {
        assert_eq!(verdict(429), Verdict::Retry { at_least: Some(Duration::from_secs(7)) });
        assert_eq!(verdict(503), Verdict::Retry { at_least: Some(Duration::from_secs(7)) });
        assert_eq!(verdict(500), Verdict::Retry { at_least: None });
    }

    #[test]
    fn every_class_is_found_by_its_name() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::from_name(class.name()), Some(class));
        }
    }
}
