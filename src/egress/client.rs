//! The hub's own requests, whoever they are for: checked against the operator's rules, sent, and their answers read
//! as far as need be.

use std::sync::Arc;

use reqwest::{Request, Response};

use super::failure::Failure;
use super::pool::Lines;
use super::resolver::{GuardedResolver, Lookup};
use crate::domain::egress::callback_url::CallbackUrl;
use crate::domain::egress::policy::Targets;
use crate::domain::egress::proxy::Egress;
use crate::domain::egress::receiver_tls::ReceiverTls;

/// How much of an answer's body is read; who sends more is judged by its status and cut off.
const MOST_READ: usize = 64 << 10;

/// Sends requests, and only where they may go.
#[derive(Debug)]
pub(crate) struct Outward {
    targets: Arc<Targets>,
    lines: Lines,
    /// For a look-up before each request: a proxy makes its own, and what it connects to is not seen here.
    before_proxy: Option<Lookup>,
}

impl Outward {
    /// What sends them by the operator's rules.
    pub(crate) fn new(
        egress: Egress,
        lookup: Lookup,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let targets = Arc::new(egress.targets);
        let before_proxy = egress.proxy.as_ref().map(|_| lookup.clone());
        let resolver = GuardedResolver { targets: Arc::clone(&targets), lookup };
        Ok(Self { targets, lines: Lines::new(resolver, egress.proxy)?, before_proxy })
    }

    /// Decides what can be said against a request to `url` before any connection is made.
    pub(crate) async fn check(&self, url: &CallbackUrl) -> Result<(), Failure> {
        self.targets.check_url(url)?;
        match (&self.before_proxy, url.literal_address()) {
            (Some(lookup), None) => self.check_addresses(lookup, url.host()).await,
            // Without a proxy the resolver does it, for each connection.
            _ => Ok(()),
        }
    }

    /// A proxy takes whichever address it likes, so each must be open. A name that is not known here may be known
    /// there: that is left to the proxy.
    async fn check_addresses(&self, lookup: &Lookup, host: &str) -> Result<(), Failure> {
        let Ok(found) = lookup.addresses(host).await else { return Ok(()) };
        let (_, closed) = self.targets.open_ones(host, found);
        closed.map_or(Ok(()), |blocked| Err(blocked.into()))
    }

    /// Sends a request for `url`, speaking TLS as `tls` says.
    pub(crate) async fn send(
        &self,
        url: &CallbackUrl,
        tls: Option<&ReceiverTls>,
        request: Request,
    ) -> Result<Response, Failure> {
        self.check(url).await?;
        self.lines.line(tls)?.send(request).await
    }
}

/// Reads the body as far as [`MOST_READ`]. What is left unread costs the connection, not the delivery.
pub(crate) async fn read(response: &mut Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while body.len() < MOST_READ {
        let Some(chunk) = response.chunk().await? else { break };
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use reqwest::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::domain::delivery::outcome::ErrorClass;
    use crate::domain::egress::policy::AllowedTargets;

    /// Receivers at two addresses and one port, each of which counts its connections and answers once on each.
    struct Receivers {
        port: u16,
        connections: [Arc<AtomicUsize>; 2],
        /// Held for its drop.
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

    /// Requests to a host whose look-ups are answered one after the other; only the first receiver may be called.
    async fn outcomes(receivers: &Receivers, lookups: &[&[&str]]) -> Vec<Result<u16, ErrorClass>> {
        let answers = lookups.iter().map(|addresses| found(addresses)).collect();
        let targets =
            Targets { allow: AllowedTargets::parse("127.0.0.1").unwrap(), ..Targets::default() };
        let outward = Outward::new(
            Egress { targets, proxy: None },
            Lookup::Scripted(Arc::new(Mutex::new(answers))),
        );
        let outward = outward.unwrap();
        let url: CallbackUrl =
            format!("http://rebinding.example:{}/", receivers.port).parse().unwrap();
        let mut outcomes = Vec::new();
        for _ in lookups {
            let request = Request::new(Method::POST, url.url().clone());
            let sent = outward.send(&url, None, request).await;
            outcomes.push(
                sent.map(|response| response.status().as_u16()).map_err(|failure| failure.class),
            );
        }
        outcomes
    }

    #[tokio::test]
    async fn a_name_that_is_bound_anew_between_requests_is_checked_anew_at_each_connection() {
        let receivers = Receivers::start().await;
        let seen = outcomes(&receivers, &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"]]).await;
        assert_eq!(seen, [Ok(204), Err(ErrorClass::Blocked), Ok(204)]);
        assert_eq!(receivers.counts(), [2, 0]);
    }

    #[tokio::test]
    async fn of_a_name_with_several_addresses_only_the_open_ones_are_connected_to() {
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
