//! A forward proxy that opens tunnels for CONNECT requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::raw_http::{RawRequest, RawServer, read_request};

/// The proxy's response to CONNECT.
#[derive(Debug, Clone)]
pub(crate) enum ConnectBehaviour {
    /// Opens a tunnel to this address, whatever the requested target.
    TunnelTo(SocketAddr),
    /// Sends this text and closes the connection.
    RespondWith(&'static str),
    /// Reads the request and never responds.
    NeverRespond,
    /// Behaves as this function returns for the requested target.
    ByTarget(fn(&str) -> Self),
}

/// The proxy and the requests it has received.
#[derive(Debug)]
pub(crate) struct ConnectProxy {
    server: RawServer,
    requests: Arc<Mutex<Vec<RawRequest>>>,
}

impl ConnectProxy {
    pub(crate) async fn start(behaviour: ConnectBehaviour) -> Self {
        let requests: Arc<Mutex<Vec<RawRequest>>> = Arc::default();
        let recorded = Arc::clone(&requests);
        let server = RawServer::start(move |mut stream| {
            let (behaviour, recorded) = (behaviour.clone(), Arc::clone(&recorded));
            async move {
                let Some(request) = read_request(&mut stream).await else { return };
                let target = request.head.split(' ').nth(1).unwrap_or_default();
                let behaviour = match behaviour {
                    ConnectBehaviour::ByTarget(choose) => choose(target),
                    other => other,
                };
                recorded.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                match behaviour {
                    ConnectBehaviour::TunnelTo(address) => tunnel(stream, address).await,
                    ConnectBehaviour::RespondWith(response) => {
                        drop(stream.write_all(response.as_bytes()).await);
                    }
                    ConnectBehaviour::NeverRespond | ConnectBehaviour::ByTarget(_) => {
                        std::future::pending::<()>().await;
                    }
                }
            }
        });
        Self { server: server.await, requests }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<RawRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn tunnel(mut client: TcpStream, target: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        drop(copy_bidirectional(&mut client, &mut server).await);
    }
}
