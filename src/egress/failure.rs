//! Why a request got no complete response: an error class, and a text that holds no secret.

use std::error::Error;

use hyper_util::client::legacy;
use tokio::time::error::Elapsed;

use super::resolver::NoAddress;
use super::tunnel::TunnelError;
use crate::domain::delivery::outcome::ErrorClass;
use crate::domain::egress::policy::Blocked;
use crate::domain::egress::receiver_tls::BadTls;
use crate::domain::root_cause::root_cause;

/// Why a request got no complete response.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) class: ErrorClass,
    /// One line for the subscription's owner, without the URL, which may hold a secret.
    pub(crate) detail: String,
}

impl Failure {
    /// `detail` must contain no secret.
    pub(crate) fn new(class: ErrorClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into() }
    }

    /// Names the server that failed if it is not the receiver, such as the OAuth token endpoint.
    pub(super) fn of_server(self, server: &str) -> Self {
        Self { detail: format!("{server}: {}", self.detail), ..self }
    }

    /// The class comes from the first known error in the chain of causes, else `default`.
    fn classify(error: &(dyn Error + 'static), default: ErrorClass) -> Self {
        Self::new(class_in_chain(error).unwrap_or(default), detail_of(error))
    }
}

impl From<reqwest::Error> for Failure {
    /// Without a known error in the chain of causes, the class is `Timeout`, `Connect` or `Protocol`.
    fn from(error: reqwest::Error) -> Self {
        let class = match &error {
            timeout if timeout.is_timeout() => ErrorClass::Timeout,
            connect if connect.is_connect() => ErrorClass::Connect,
            _ => ErrorClass::Protocol,
        };
        Self::classify(&error, class)
    }
}

impl From<legacy::Error> for Failure {
    /// Without a known error in the chain of causes, the class is `Connect` or `Protocol`.
    fn from(error: legacy::Error) -> Self {
        let class = if error.is_connect() { ErrorClass::Connect } else { ErrorClass::Protocol };
        Self::classify(&error, class)
    }
}

impl From<Blocked> for Failure {
    fn from(blocked: Blocked) -> Self {
        Self::new(ErrorClass::Blocked, blocked.to_string())
    }
}

impl From<BadTls> for Failure {
    fn from(bad: BadTls) -> Self {
        Self::new(ErrorClass::Tls, bad.to_string())
    }
}

/// `None`: no error in the chain is known.
fn class_in_chain(error: &(dyn Error + 'static)) -> Option<ErrorClass> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Blocked>() {
            return Some(ErrorClass::Blocked);
        }
        if error.is::<NoAddress>() {
            return Some(ErrorClass::Dns);
        }
        if error.is::<TunnelError>() {
            return Some(ErrorClass::Connect);
        }
        if error.is::<Elapsed>() {
            return Some(ErrorClass::Timeout);
        }
        if error.is::<rustls::Error>() || wraps::<rustls::Error>(error) {
            return Some(ErrorClass::Tls);
        }
        cause = error.source();
    }
    None
}

/// Whether `error` is an I/O error that wraps an error of type `T`, directly or through other I/O errors.
/// (`Error::source` of an I/O error skips the wrapped error.)
fn wraps<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner {
        Some(inner) => inner.is::<T>() || wraps::<T>(inner),
        None => false,
    }
}

/// The root cause. The text of a `reqwest` error is replaced, because it contains the URL.
fn detail_of(error: &(dyn Error + 'static)) -> String {
    let root = root_cause(error);
    match root.downcast_ref::<reqwest::Error>() {
        Some(_) => "the exchange failed".to_owned(),
        None => root.to_string(),
    }
}
