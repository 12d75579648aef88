//! The limit on connections from one client network, over all worker threads.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::access::forwarded::TrustedProxies;
use crate::domain::access::networks::client_network;

/// Counts the open connections of each network (an IPv4 address or an IPv6 /64). Trusted proxies, which carry many
/// clients, are exempt.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    proxies: TrustedProxies,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Inner {
    /// The number of open connections of each network.
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network already has the maximum number of connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LimitReached;

impl ConnectionLimiter {
    /// Creates a limiter that allows each network `max` open connections. `usize::MAX`: no limit. `proxies` are exempt.
    pub(super) fn new(max: usize, proxies: TrustedProxies) -> Self {
        Self(Arc::new(Inner { max, proxies, open: Mutex::default() }))
    }

    pub(super) fn max(&self) -> usize {
        self.0.max
    }

    /// Counts a connection until the permit is dropped. `Ok(None)`: not counted, because `address` is a trusted proxy or
    /// there is no limit.
    pub(super) fn try_acquire(
        &self,
        address: IpAddr,
    ) -> Result<Option<ConnectionPermit>, LimitReached> {
        if self.0.max == usize::MAX || self.0.proxies.networks.contain(address) {
            return Ok(None);
        }
        let network = client_network(address);
        let mut open = self.0.open();
        let count = open.entry(network).or_default();
        if *count >= self.0.max {
            return Err(LimitReached);
        }
        *count += 1;
        Ok(Some(ConnectionPermit { limiter: self.clone(), network }))
    }
}

/// One counted connection, until dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limiter: ConnectionLimiter,
    network: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.0.open();
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::networks::Networks;

    #[test]
    fn each_address_has_its_own_limit_and_dropped_permits_return() {
        let networks = Networks::parse("10.0.0.0/8").unwrap();
        let proxies = TrustedProxies { networks, ..TrustedProxies::default() };
        let limiter = ConnectionLimiter::new(2, proxies);
        let acquire = |address: &str| limiter.try_acquire(address.parse().unwrap());
        let (first, second) = (acquire("192.0.2.1").unwrap(), acquire("::ffff:192.0.2.1").unwrap());
        assert_eq!(acquire("192.0.2.1").unwrap_err(), LimitReached);
        let other = acquire("192.0.2.2").unwrap();
        assert!((0..9).all(|_| acquire("10.1.1.1").unwrap().is_none()), "a proxy is exempt");
        drop(first);
        let again = acquire("192.0.2.1").unwrap();
        assert_eq!(acquire("192.0.2.1").unwrap_err(), LimitReached);
        drop((second, other, again));
        assert!(limiter.0.open().is_empty());
    }

    #[test]
    fn the_addresses_of_an_ipv6_64_share_one_limit() {
        let limiter = ConnectionLimiter::new(1, TrustedProxies::default());
        let _held = limiter.try_acquire("2001:db8::1".parse().unwrap()).unwrap();
        let same = limiter.try_acquire("2001:db8::ffff:2".parse().unwrap());
        assert_eq!(same.unwrap_err(), LimitReached);
        assert!(limiter.try_acquire("2001:db8:0:1::1".parse().unwrap()).is_ok());
    }
}
