//! Waits until the hub reports all connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::BoxError;
use super::client::WithKey as _;
use super::transport::Transport;

/// Waits until the hub's metrics report this number of connections of a transport.
pub(super) async fn wait_for(
    hub: SocketAddr,
    transport: Transport,
    expected: usize,
    deadline: Duration,
) -> Result<(), BoxError> {
    let (client, started) = (reqwest::Client::new_with_key()?, Instant::now());
    let name = format!("hookhub_connections{{transport=\"{}\"}} ", transport.label());
    loop {
        let text = client.get(format!("http://{hub}/metrics")).send().await?.text().await?;
        let open =
            text.lines().find_map(|line| line.strip_prefix(&name)).ok_or("no such metric")?;
        if open.parse::<usize>()? == expected {
            return Ok(());
        }
        if started.elapsed() > deadline {
            return Err(format!("{open} connections are open, not {expected}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
