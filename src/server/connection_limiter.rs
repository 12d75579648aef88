//! How many connections are open from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::access::forwarded::TrustedProxies;
use crate::domain::access::networks::client_network;

/// The connections of each address, over all threads.
#[derive(Debug, Clone)]
pub(super) struct Crowd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    proxies: TrustedProxies,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There are as many as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Crowd {
    /// At most `most` from one address; from trusted proxies, which bring many clients, as many as come.
    pub(super) fn new(most: usize, proxies: TrustedProxies) -> Self {
        Self(Arc::new(Inner { most, proxies, open: Mutex::default() }))
    }

    /// How many there may be from one address.
    pub(super) fn most(&self) -> usize {
        self.0.most
    }

    /// Takes a place for a connection from `address`; `None`: it needs none.
    pub(super) fn enter(&self, address: IpAddr) -> Result<Option<Place>, Full> {
        if self.0.most == usize::MAX || self.0.proxies.networks.contain(address) {
            return Ok(None);
        }
        let home = client_network(address);
        let mut open = self.0.open();
        let count = open.entry(home).or_default();
        if *count >= self.0.most {
            return Err(Full);
        }
        *count += 1;
        Ok(Some(Place { crowd: self.clone(), home }))
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    home: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.crowd.0.open();
        if let Some(count) = open.get_mut(&self.home) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.home);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::networks::Networks;

    #[test]
    fn each_address_has_so_many_places_and_gets_them_back() {
        let networks = Networks::parse("10.0.0.0/8").unwrap();
        let crowd = Crowd::new(2, TrustedProxies { networks, ..TrustedProxies::default() });
        let enter = |address: &str| crowd.enter(address.parse().unwrap());
        let (first, second) = (enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap());
        assert_eq!(enter("192.0.2.1").unwrap_err(), Full);
        let other = enter("192.0.2.2").unwrap();
        assert!((0..9).all(|_| enter("10.1.1.1").unwrap().is_none()), "a proxy's do not count");
        drop(first);
        let again = enter("192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.1").unwrap_err(), Full);
        drop((second, other, again));
        assert!(crowd.0.open().is_empty());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let crowd = Crowd::new(1, TrustedProxies::default());
        let _held = crowd.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert_eq!(crowd.enter("2001:db8::ffff:2".parse().unwrap()).unwrap_err(), Full);
        assert!(crowd.enter("2001:db8:0:1::1".parse().unwrap()).is_ok());
    }
}
