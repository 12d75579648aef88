//! The HTTP server: accepts connections, limits their number, and gives clients a timeout for each part of an exchange.
//! docs/internals/server.md describes it.

mod connection;
mod connection_limiter;
mod request_phase;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_server::Server;
pub(crate) use actix_server::ServerHandle;
use actix_service::{ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::{App, middleware, web};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
use self::connection_limiter::ConnectionLimiter;
use self::request_phase::track_request_phase;
use crate::api::{self, Api};
use crate::config::{ClientTimeouts, Settings};
use crate::streaming::{Streams, Worker};

/// The connections that each worker thread may have open besides `HOOKHUB_MAX_STREAMS`.
const MAX_REQUEST_CONNECTIONS: usize = 4_096;
/// The kernel closes a connection whose peer acknowledges no data for this long.
const DEAD_PEER_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection that is being closed is read for this long, so that the client receives the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a connection that was refused.
const REFUSED_LINGER_TIMEOUT: Duration = Duration::from_millis(200);

/// Starts the HTTP server. Each of its threads gets a [`Worker`], which serves the stream clients of that thread. When
/// `stopping` is cancelled, running requests finish and no new ones start.
pub(crate) fn start(
    settings: &Settings,
    listener: TcpListener,
    api: Api,
    streams: &Arc<Streams>,
    stopping: &CancellationToken,
) -> io::Result<Server> {
    let (address, api) = (listener.local_addr()?, web::Data::new(api));
    let (streams, origins) = (Arc::clone(streams), settings.cors_origins.clone());
    let acceptor = Acceptor {
        timeouts: settings.client_timeouts,
        limiter: ConnectionLimiter::new(
            settings.max_connections_per_address,
            settings.trusted_proxies.clone(),
        ),
        stopping: stopping.clone(),
    };
    let idle = settings.client_timeouts.idle;
    let max_connections = settings.stream_limits.per_node.saturating_add(MAX_REQUEST_CONNECTIONS);
    let server = Server::build()
        .disable_signals()
        .max_concurrent_connections(max_connections)
        .shutdown_timeout(settings.stop_deadline.as_secs());
    let server = server.listen("http", listener, move || {
        let (acceptor, stopping) = (acceptor.clone(), acceptor.stopping.clone());
        let app = App::new()
            .app_data(web::Data::clone(&api))
            .app_data(Worker::new(Arc::clone(&streams)))
            .wrap(middleware::from_fn(api::request_middleware))
            .wrap(middleware::Condition::new(!origins.is_empty(), api::allow_origins(&origins)))
            .wrap(middleware::from_fn(track_request_phase))
            .configure(api::configure_routes);
        let http = HttpService::build()
            .keep_alive(idle)
            // Connection enforces the head timeout: actix-http would do so only for the first head.
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER_TIMEOUT)
            // A client that closes its side is gone: its request is dropped at once.
            .h1_allow_half_closed(false)
            .local_addr(address)
            .graceful_shutdown_signal(move || stopping.clone().cancelled_owned())
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.phase());
            })
            .h1(map_config(app, |()| AppConfig::default()));
        fn_service(move |stream| acceptor.clone().accept(stream)).and_then(http)
    })?;
    Ok(server.run())
}

/// Turns an accepted TCP stream into a [`Connection`], or refuses it.
#[derive(Clone)]
struct Acceptor {
    timeouts: ClientTimeouts,
    limiter: ConnectionLimiter,
    stopping: CancellationToken,
}

impl Acceptor {
    /// Applies the connection limit and the socket options. At the limit, sends a 429 response and closes.
    async fn accept(
        self,
        stream: TcpStream,
    ) -> Result<(Connection, Option<SocketAddr>), DispatchError> {
        stream.set_nodelay(true).map_err(DispatchError::Io)?;
        set_dead_peer_timeouts(&stream);
        let peer = stream.peer_addr().ok();
        let address = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        let Ok(permit) = self.limiter.try_acquire(address) else {
            let response = api::too_many_from_one_address(self.limiter.max());
            // A client that reads too slowly misses the response.
            drop(timeout(REFUSED_LINGER_TIMEOUT, refuse(stream, &response)).await);
            return Err(DispatchError::DisconnectTimeout);
        };
        Ok((Connection::new(stream, self.timeouts, self.stopping, permit), peer))
    }
}

/// Sends `response`, then reads until the client closes.
async fn refuse(mut stream: TcpStream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.shutdown().await?;
    // Closing a socket with unread bytes resets it, and the client might lose the response.
    let mut rest = [0; 4_096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Lets the kernel close a connection whose peer acknowledges nothing: a dead machine, or a client that stopped reading
/// (`TCP_USER_TIMEOUT`, RFC 5482).
fn set_dead_peer_timeouts(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(DEAD_PEER_TIMEOUT / 2);
    let socket = SockRef::from(stream);
    let set = socket
        .set_tcp_user_timeout(Some(DEAD_PEER_TIMEOUT))
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set the timeouts for a dead peer");
    }
}
