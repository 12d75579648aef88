//! A proxy that makes tunnels by CONNECT.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::raw_http::{RawRequest, RawServer, read_whole};

/// What it does when it is asked for a tunnel.
#[derive(Debug, Clone)]
pub(crate) enum Manner {
    /// Makes one to this place, whatever place was asked for.
    LeadsTo(SocketAddr),
    /// Answers this, and hangs up.
    Says(&'static str),
    /// Takes the question and says nothing.
    Hangs,
    /// As this says of the place that was asked for.
    Chooses(fn(&str) -> Self),
}

/// It keeps what it was asked.
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

    /// Its address and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// All that it was asked.
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
