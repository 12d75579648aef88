//! An HTTP client whose connections are all tunnels through the egress proxy.

use std::error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::header::{HeaderValue, USER_AGENT as USER_AGENT_HEADER};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reqwest::Body;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::connecting::{CONNECT_TIMEOUT, IDLE_TIMEOUT, USER_AGENT, record_connecting};
use super::failure::Failure;
use super::message::{Request, Response};
use super::tunnel::{TunnelError, open_tunnel};
use crate::domain::egress::proxy::EgressProxy;

/// Sends requests through tunnels, and keeps up to `max_idle` idle tunnels for each host.
#[derive(Debug, Clone)]
pub(super) struct TunnelClient(Client<TimedConnector, Body>);

impl TunnelClient {
    pub(super) fn new(proxy: &Arc<EgressProxy>, tls: Arc<ClientConfig>, max_idle: usize) -> Self {
        let tunnels = TunnelConnector(Arc::clone(proxy));
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(max_idle);
        Self(builder.build(TimedConnector(HttpsConnector::from((tunnels, tls)))))
    }

    /// Returns when the response head has arrived.
    pub(super) async fn execute(&self, mut request: Request) -> Result<Response, Failure> {
        let user_agent = HeaderValue::from_static(USER_AGENT);
        request.headers.entry(USER_AGENT_HEADER).or_insert(user_agent);
        let request = reqwest::Request::from(request).try_into()?;
        let response = self.0.request(request).await?;
        Ok(Response::new(response.map(Body::wrap).into()))
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Opens a tunnel, and TLS through it to an https receiver, within [`CONNECT_TIMEOUT`].
#[derive(Debug, Clone)]
struct TimedConnector(HttpsConnector<TunnelConnector>);

impl Service<Uri> for TimedConnector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn error::Error + Send + Sync>;
    type Future = BoxFuture<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, receiver: Uri) -> Self::Future {
        record_connecting();
        let connecting = timeout(CONNECT_TIMEOUT, self.0.call(receiver));
        Box::pin(async move { connecting.await? })
    }
}

#[derive(Debug, Clone)]
struct TunnelConnector(Arc<EgressProxy>);

impl Service<Uri> for TunnelConnector {
    type Response = TokioIo<TcpStream>;
    type Error = TunnelError;
    type Future = BoxFuture<Result<Self::Response, TunnelError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, receiver: Uri) -> Self::Future {
        let proxy = Arc::clone(&self.0);
        Box::pin(async move { open_tunnel(&proxy, &receiver).await.map(TokioIo::new) })
    }
}
