//! `hookhub health`: checks whether a hub on this machine is ready.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use hookhub::config::{DEFAULT_LISTEN, listen_address};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const READY_TIMEOUT: Duration = Duration::from_secs(4);
const MAX_RESPONSE_BYTES: u64 = 4_096;

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Address and port of the hub
    #[arg(long, env = "HOOKHUB_LISTEN", value_name = "ADDRESS:PORT",
          default_value_t = DEFAULT_LISTEN, value_parser = listen_address)]
    listen: SocketAddr,
}

/// Fails unless `GET /readyz` returns 200 in time. If the hub listens on all addresses (`0.0.0.0`, `::`), asks the loopback
/// address.
pub(super) async fn run(args: HealthArgs) -> Result<(), String> {
    let mut hub = args.listen;
    if hub.ip().is_unspecified() {
        let loopback =
            if hub.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        hub.set_ip(loopback);
    }
    match timeout(READY_TIMEOUT, get_readyz(hub)).await {
        Ok(Ok(response)) if response.starts_with(b"HTTP/1.1 200") => Ok(()),
        Ok(Ok(_)) => Err(format!("the hub on {hub} is not ready")),
        Ok(Err(error)) => Err(format!("no hub answers on {hub}: {error}")),
        Err(_elapsed) => {
            Err(format!("the hub on {hub} did not answer within {} s", READY_TIMEOUT.as_secs()))
        }
    }
}

/// Sends `GET /readyz` to `hub` and returns the raw HTTP response: status line, headers and the beginning of the body.
async fn get_readyz(hub: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(hub).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {hub}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response).await?;
    Ok(response)
}
