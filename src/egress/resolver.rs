//! Looking names up: for each connection anew, and only allowed addresses get through, so that what was checked is
//! what is connected to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::egress::policy::Targets;

/// A host name without an address.
#[derive(Debug, thiserror::Error)]
#[error("the host has no address: {0}")]
pub(crate) struct NoAddress(String);

/// Asks the system, and lets through what the rules leave open.
#[derive(Debug, Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) targets: Arc<Targets>,
    pub(crate) lookup: Lookup,
}

/// Who knows the addresses of names.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// The system.
    System,
    /// A test, which answers one look-up after the other.
    #[cfg(test)]
    Scripted(Arc<std::sync::Mutex<Vec<Vec<SocketAddr>>>>),
}

impl Lookup {
    pub(crate) async fn addresses(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, 0)).await?.collect()),
            #[cfg(test)]
            Self::Scripted(answers) => Ok(answers.lock().unwrap().remove(0)),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { targets, lookup } = self.clone();
        Box::pin(async move {
            let found = lookup.addresses(name.as_str()).await;
            let found = found.map_err(|error| NoAddress(error.to_string()))?;
            let (open, closed) = targets.open_ones(name.as_str(), found);
            match (open.is_empty(), closed) {
                (false, _) => {
                    let open: Addrs = Box::new(open.into_iter());
                    Ok(open)
                }
                (true, Some(blocked)) => Err(blocked.into()),
                (true, None) => Err(NoAddress("the look-up found none".into()).into()),
            }
        })
    }
}
