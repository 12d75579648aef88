//! Sends a request if the operator's rules allow its target.

use std::sync::Arc;

use super::failure::Failure;
use super::message::{Request, Response};
use super::pool::HttpClients;
use super::resolver::{GuardedResolver, Lookup};
use super::tls::BuildError;
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::policy::EgressPolicy;
use crate::domain::egress::policy::Targets;
use crate::domain::egress::receiver_tls::ReceiverTls;

/// Sends requests to allowed targets only.
#[derive(Debug)]
pub(crate) struct EgressClient {
    targets: Arc<Targets>,
    clients: HttpClients,
    /// With a proxy, the hub looks up each name itself before the request: it cannot see what the proxy connects to.
    /// `None`: there is no proxy, and [`GuardedResolver`] checks each new connection.
    lookup_before_proxy: Option<Lookup>,
}

impl EgressClient {
    /// Resolves names by the system. Fails if the HTTP clients cannot be built or the system's root certificates cannot
    /// be used.
    pub(crate) fn new(egress: EgressPolicy) -> Result<Self, BuildError> {
        Self::with_lookup(egress, Lookup::System)
    }

    fn with_lookup(egress: EgressPolicy, lookup: Lookup) -> Result<Self, BuildError> {
        let targets = Arc::new(egress.targets);
        let lookup_before_proxy = egress.proxy.as_ref().map(|_| lookup.clone());
        let resolver = GuardedResolver { targets: Arc::clone(&targets), lookup };
        let clients = HttpClients::new(resolver, egress.proxy)?;
        Ok(Self { targets, clients, lookup_before_proxy })
    }

    /// Checks the egress rules without sending anything. With a proxy, includes a DNS lookup of the host.
    pub(crate) async fn check(&self, url: &CallbackUrl) -> Result<(), Failure> {
        self.targets.check_url(url)?;
        match (&self.lookup_before_proxy, url.literal_address()) {
            (Some(lookup), None) => self.check_addresses(lookup, url.host()).await,
            _ => Ok(()),
        }
    }

    /// Fails if any address is blocked: the proxy may connect to any. Passes a name that the hub cannot resolve: the
    /// proxy may resolve it.
    async fn check_addresses(&self, lookup: &Lookup, host: &str) -> Result<(), Failure> {
        let Ok(found) = lookup.addresses(host).await else { return Ok(()) };
        let (_, blocked) = self.targets.filter_allowed(host, found);
        blocked.map_or(Ok(()), |blocked| Err(blocked.into()))
    }

    /// Checks the target and sends the request. Returns when the response head has arrived. `tls`: `None` for the
    /// system's certificate authorities and no client certificate.
    pub(crate) async fn send(
        &self,
        url: &CallbackUrl,
        tls: Option<&ReceiverTls>,
        request: Request,
    ) -> Result<Response, Failure> {
        self.check(url).await?;
        self.clients.pair_for(tls)?.send(request).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::domain::delivery::outcome::ErrorClass;
    use crate::domain::egress::policy::AllowedTargets;

    /// Receivers at two addresses with one port. Each counts its connections and answers one request on each.
    struct Receivers {
        port: u16,
        connections: [Arc<AtomicUsize>; 2],
        /// Aborts the receivers on drop.
        _tasks: JoinSet<()>,
    }

    impl Receivers {
        async fn start() -> Self {
            let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = first.local_addr().unwrap().port();
            let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
            let (mut tasks, connections) = (JoinSet::new(), <[Arc<AtomicUsize>; 2]>::default());
            for (listener, count) in [first, second].into_iter().zip(&connections) {
                let count = Arc::clone(count);
                tasks.spawn(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        count.fetch_add(1, Ordering::Relaxed);
                        let mut request = [0; 1_024];
                        drop(stream.read(&mut request).await);
                        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                        drop(stream.write_all(answer).await);
                    }
                });
            }
            Self { port, connections, _tasks: tasks }
        }

        fn counts(&self) -> [usize; 2] {
            [0, 1].map(|index| self.connections[index].load(Ordering::Relaxed))
        }
    }

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect()
    }

    /// Sends one request for each of `lookups`, which answer the successive lookups of one host. Only the first
    /// receiver is an allowed target.
    async fn outcomes(receivers: &Receivers, lookups: &[&[&str]]) -> Vec<Result<u16, ErrorClass>> {
        let answers = lookups.iter().map(|addresses| found(addresses)).collect();
        let targets =
            Targets { allow: AllowedTargets::parse("127.0.0.1").unwrap(), ..Targets::default() };
        let lookup = Lookup::Scripted(Arc::new(Mutex::new(answers)));
        let client =
            EgressClient::with_lookup(EgressPolicy { targets, proxy: None }, lookup).unwrap();
        let url: CallbackUrl =
            format!("http://rebinding.example:{}/", receivers.port).parse().unwrap();
        let mut outcomes = Vec::new();
        for _ in lookups {
            let request = Request::new(Method::POST, url.url().clone());
            let sent = client.send(&url, None, request).await;
            outcomes.push(
                sent.map(|response| response.status().as_u16()).map_err(|failure| failure.class),
            );
        }
        outcomes
    }

    #[tokio::test]
    async fn a_name_that_is_rebound_between_requests_is_checked_at_each_connection() {
        let receivers = Receivers::start().await;
        let seen = outcomes(&receivers, &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"]]).await;
        assert_eq!(seen, [Ok(204), Err(ErrorClass::Blocked), Ok(204)]);
        assert_eq!(receivers.counts(), [2, 0]);
    }

    #[tokio::test]
    async fn only_the_allowed_addresses_of_a_name_are_connected_to() {
        let receivers = Receivers::start().await;
        let seen = outcomes(
            &receivers,
            &[&["127.0.0.2", "127.0.0.1"], &["::1", "127.0.0.1"], &["127.0.0.2", "::1"], &[]],
        )
        .await;
        assert_eq!(seen, [Ok(204), Ok(204), Err(ErrorClass::Blocked), Err(ErrorClass::Dns)]);
        assert_eq!(receivers.counts(), [2, 0]);
    }
}
