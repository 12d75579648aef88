//! A proxy that opens tunnels by CONNECT.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::raw_http::{RawRequest, RawServer, read_whole};

/// The proxy's response to CONNECT.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Opens a tunnel to this address, whatever the requested target.
    LeadsTo(SocketAddr),
    /// Sends this text and closes the connection.
    Says(&'static str),
    /// Reads the request and never responds.
    Hangs,
    /// Chooses by the requested target.
    Chooses(fn(&str) -> Self),
}

/// The proxy and the requests it has received.
#[derive(Debug)]
pub(crate) struct ConnectProxy {
    server: RawServer,
    asked: Arc<Mutex<Vec<RawRequest>>>,
}

impl ConnectProxy {
    pub(crate) async fn start(manner: Manner) -> Self {
        let asked: Arc<Mutex<Vec<RawRequest>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let server = RawServer::start(move |mut stream| {
            let (manner, noted) = (manner.clone(), Arc::clone(&noted));
            async move {
                let Some(question) = read_whole(&mut stream).await else { return };
                let place = question.head.split(' ').nth(1).unwrap_or_default();
                let manner = match manner {
                    Manner::Chooses(choose) => choose(place),
                    other => other,
                };
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(question);
                match manner {
                    Manner::LeadsTo(place) => tunnel(stream, place).await,
                    Manner::Says(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    Manner::Hangs | Manner::Chooses(_) => std::future::pending().await,
                }
            }
        });
        Self { server: server.await, asked }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<RawRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn tunnel(mut stream: TcpStream, place: SocketAddr) {
    let Ok(mut there) = TcpStream::connect(place).await else { return };
    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        drop(copy_bidirectional(&mut stream, &mut there).await);
    }
}
