//! Why an exchange brought no answer: the class of what went wrong, and what of it may be told.

use std::error::Error;

use hyper_util::client::legacy;
use tokio::time::error::Elapsed;

use super::resolver::NoAddress;
use super::tunnel::NoTunnel;
use crate::domain::delivery::outcome::ErrorClass;
use crate::domain::egress::policy::Blocked;
use crate::domain::egress::receiver_tls::BadTls;
use crate::domain::error_cause;

/// A class, and one line for the subscription's owner: no URL in it, which may be a secret.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) class: ErrorClass,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(class: ErrorClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into() }
    }

    /// The same, where it is not the receiver who failed.
    pub(crate) fn at(self, place: &str) -> Self {
        Self { detail: format!("{place}: {}", self.detail), ..self }
    }

    /// What is found along the chain of causes, else what the client says.
    fn of(error: &(dyn Error + 'static), otherwise: ErrorClass) -> Self {
        Self::new(class_along(error).unwrap_or(otherwise), detail_of(error))
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let class = match &error {
            timeout if timeout.is_timeout() => ErrorClass::Timeout,
            connect if connect.is_connect() => ErrorClass::Connect,
            _ => ErrorClass::Protocol,
        };
        Self::of(&error, class)
    }
}

impl From<legacy::Error> for Failure {
    fn from(error: legacy::Error) -> Self {
        let class = if error.is_connect() { ErrorClass::Connect } else { ErrorClass::Protocol };
        Self::of(&error, class)
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

fn class_along(error: &(dyn Error + 'static)) -> Option<ErrorClass> {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if one.is::<Blocked>() {
            return Some(ErrorClass::Blocked);
        }
        if one.is::<NoAddress>() {
            return Some(ErrorClass::Dns);
        }
        if one.is::<NoTunnel>() {
            return Some(ErrorClass::Connect);
        }
        if one.is::<Elapsed>() {
            return Some(ErrorClass::Timeout);
        }
        if one.is::<rustls::Error>() || wraps::<rustls::Error>(one) {
            return Some(ErrorClass::Tls);
        }
        cause = one.source();
    }
    None
}

/// Whether an I/O error carries a `T`, which its `source` does not show.
fn wraps<T: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner {
        Some(inner) => inner.is::<T>() || wraps::<T>(inner),
        None => false,
    }
}

/// The last cause of an error: what happened, without the URL.
fn detail_of(error: &(dyn Error + 'static)) -> String {
    let root = error_cause::root_of(error);
    match root.downcast_ref::<reqwest::Error>() {
        Some(_) => "the exchange failed".to_owned(),
        None => root.to_string(),
    }
}
