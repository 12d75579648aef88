//! The HTTP server: a connection each client, bounded in number and in how long the client may keep the hub waiting.

mod connection;
pub(crate) mod connection_limiter;
pub(crate) mod request_phase;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_server::Server;
use actix_service::{ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::{App, middleware, web};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
use self::connection_limiter::Crowd;
use self::request_phase::take_turns;
use crate::api;
use crate::api::Api;
use crate::config::{Patience, Settings};
use crate::streaming::{Streams, Worker};

/// Client connections open at once besides the streams, for each of the threads that answer.
const MOST_REQUESTS: usize = 4_096;
/// A client that takes nothing for so long, or whose machine does not answer, is gone.
const SILENCE: Duration = Duration::from_secs(120);
/// How long a connection that is being closed is still read, so that the client gets to see the answer.
const LINGER: Duration = Duration::from_secs(1);
/// The same for one that is not let in.
const LINGER_OUTSIDE: Duration = Duration::from_millis(200);

/// Answers what comes to `listener`, until `stopping`; then what runs comes to its end.
pub(crate) fn start(
    settings: &Settings,
    listener: TcpListener,
    api: web::Data<Api>,
    streams: &Arc<Streams>,
    stopping: &CancellationToken,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let (streams, origins) = (Arc::clone(streams), settings.cors_origins.clone());
    let door = Door {
        patience: settings.patience,
        crowd: Crowd::new(settings.max_connections_per_address, settings.trusted_proxies.clone()),
        stopping: stopping.clone(),
    };
    let idle = settings.patience.idle;
    let most = settings.max_streams.in_all.saturating_add(MOST_REQUESTS);
    let server = Server::build()
        .disable_signals()
        .max_concurrent_connections(most)
        .shutdown_timeout(settings.stop_deadline.as_secs());
    let server = server.listen("http", listener, move || {
        let (door, stopping) = (door.clone(), door.stopping.clone());
        let app = App::new()
            .app_data(web::Data::clone(&api))
            .app_data(Worker::new(Arc::clone(&streams)))
            .wrap(middleware::from_fn(api::assign_request_id))
            .wrap(middleware::Condition::new(!origins.is_empty(), api::allow_origins(&origins)))
            .wrap(middleware::from_fn(take_turns))
            .configure(api::routes);
        let http = HttpService::build()
            .keep_alive(idle)
            // The connection itself sees to it, for each head and not for the first alone.
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(LINGER)
            // A client that closes its side has gone; one that waits for an answer is forgotten at once.
            .h1_allow_half_closed(false)
            .local_addr(address)
            .graceful_shutdown_signal(move || stopping.clone().cancelled_owned())
            .on_connect_ext(|connection: &Connection, known| {
                known.insert(connection.turn());
            })
            .h1(map_config(app, |()| AppConfig::default()));
        fn_service(move |stream| door.clone().open(stream)).and_then(http)
    })?;
    Ok(server.run())
}

/// Where connections come in.
#[derive(Clone)]
struct Door {
    patience: Patience,
    crowd: Crowd,
    stopping: CancellationToken,
}

impl Door {
    async fn open(
        self,
        stream: TcpStream,
    ) -> Result<(Connection, Option<SocketAddr>), DispatchError> {
        stream.set_nodelay(true).map_err(DispatchError::Io)?;
        notice_the_dead(&stream);
        let peer = stream.peer_addr().ok();
        let address = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
        let Ok(place) = self.crowd.enter(address) else {
            let why = api::too_many_from_one_address(self.crowd.most());
            // Who does not take it at once has it not.
            drop(timeout(LINGER_OUTSIDE, refuse(stream, &why)).await);
            return Err(DispatchError::DisconnectTimeout);
        };
        Ok((Connection::new(stream, self.patience, self.stopping, place), peer))
    }
}

/// Tells a client why its connection is closed.
async fn refuse(mut stream: TcpStream, why: &[u8]) -> io::Result<()> {
    stream.write_all(why).await?;
    stream.shutdown().await?;
    // What it sent has to be read, or it might not get to see the answer.
    let mut rest = [0; 4_096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Lets the kernel end connections on which nothing can be sent any more: no answer to what was sent, or no room on
/// the other side (RFC 5482; it bounds both).
fn notice_the_dead(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let set = socket
        .set_tcp_user_timeout(Some(SILENCE))
        .and_then(|()| socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE / 2)));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection will not be given up in time");
    }
}
