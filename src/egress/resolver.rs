//! A DNS resolver that returns only the addresses that the operator's rules allow. Every new connection resolves the
//! name again, so the address that was checked is the address that is connected to (no DNS rebinding).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::egress::policy::Targets;

/// The host name has no address.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address: {0}")]
pub(super) struct NoAddress(String);

/// Resolves names by `lookup`, and drops the addresses that `targets` forbids.
#[derive(Debug, Clone)]
pub(super) struct GuardedResolver {
    pub(super) targets: Arc<Targets>,
    pub(super) lookup: Lookup,
}

/// The source of addresses.
#[derive(Debug, Clone)]
pub(super) enum Lookup {
    System,
    /// The answers to successive lookups, in a test.
    #[cfg(test)]
    Scripted(Arc<std::sync::Mutex<Vec<Vec<SocketAddr>>>>),
}

impl Lookup {
    /// Looks up the addresses of `host`, without the operator's rules. The port in each result is 0.
    pub(super) async fn addresses(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, 0)).await?.collect()),
            #[cfg(test)]
            Self::Scripted(answers) => Ok(answers.lock().unwrap().remove(0)),
        }
    }
}

impl Resolve for GuardedResolver {
    /// Fails if the lookup fails or no address is allowed.
    fn resolve(&self, name: Name) -> Resolving {
        let Self { targets, lookup } = self.clone();
        Box::pin(async move {
            let found = lookup.addresses(name.as_str()).await;
            let found = found.map_err(|error| NoAddress(error.to_string()))?;
            let (allowed, blocked) = targets.filter_allowed(name.as_str(), found);
            match (allowed.is_empty(), blocked) {
                (false, _) => {
                    let allowed: Addrs = Box::new(allowed.into_iter());
                    Ok(allowed)
                }
                (true, Some(blocked)) => Err(blocked.into()),
                (true, None) => Err(NoAddress("the lookup returned none".into()).into()),
            }
        })
    }
}
