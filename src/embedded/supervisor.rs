//! Keeps Postgres running until the hub stops it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{interval, sleep};

use super::data_dir::DataDir;
use super::server::{Running, Server};
use super::socket;

/// The delay before the restart of a server that ran for [`HEALTHY_AFTER`]. After a shorter run, the last delay doubles.
const MIN_RESTART_DELAY: Duration = Duration::from_millis(100);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(30);
const HEALTHY_AFTER: Duration = Duration::from_mins(1);
/// The time for a shutdown if the hub was dropped without `stop`.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_CHECK_INTERVAL: Duration = Duration::from_mins(10);

/// Restarts Postgres whenever it ends, until `stop` receives the time for the shutdown; then stops it. The data
/// directory stays locked until Postgres has ended.
pub(super) async fn supervise(
    server: Server,
    first: Running,
    data_dir: DataDir,
    mut stop: oneshot::Receiver<Duration>,
) {
    let mut delay = MIN_RESTART_DELAY;
    let mut running = first;
    loop {
        match watch(&server, &mut running, &mut stop).await {
            WatchEvent::Stop(deadline) => {
                running.stop(deadline).await;
                break;
            }
            WatchEvent::End(status) => {
                delay = next_delay(delay, running.since.elapsed());
                tracing::error!(status, ?delay, "the embedded Postgres died and will be restarted");
            }
        }
        match restart(&server, &mut delay, &mut stop).await {
            Some(again) => running = again,
            None => break,
        }
    }
    socket::remove(&server.socket_dir);
    drop(data_dir);
}

enum WatchEvent {
    Stop(Duration),
    End(String),
}

/// Waits until the server ends or `stop` receives a deadline. Meanwhile rotates the server's log.
async fn watch(
    server: &Server,
    running: &mut Running,
    stop: &mut oneshot::Receiver<Duration>,
) -> WatchEvent {
    let mut log_check = interval(LOG_CHECK_INTERVAL);
    loop {
        tokio::select! {
            deadline = &mut *stop => return WatchEvent::Stop(deadline.unwrap_or(DEFAULT_STOP_TIMEOUT)),
            status = running.wait() => return WatchEvent::End(status),
            _ = log_check.tick() => server.log.trim(),
        }
    }
}

/// Starts Postgres after `delay`, which doubles with each failure. `None`: the hub stopped first.
async fn restart(
    server: &Server,
    delay: &mut Duration,
    stop: &mut oneshot::Receiver<Duration>,
) -> Option<Running> {
    loop {
        tokio::select! {
            _ = &mut *stop => return None,
            () = sleep(*delay) => {}
        }
        match server.launch().await {
            Ok(running) => {
                tracing::info!("the embedded Postgres was restarted");
                return Some(running);
            }
            Err(error) => {
                *delay = next_delay(*delay, Duration::ZERO);
                tracing::error!(%error, ?delay, "cannot start the embedded Postgres");
            }
        }
    }
}

/// [`MIN_RESTART_DELAY`] if the server ran for [`HEALTHY_AFTER`], else twice `last`, up to [`MAX_RESTART_DELAY`].
fn next_delay(last: Duration, ran: Duration) -> Duration {
    if ran >= HEALTHY_AFTER { MIN_RESTART_DELAY } else { (last * 2).min(MAX_RESTART_DELAY) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_delays_grow_while_postgres_keeps_dying_and_start_over_after_a_healthy_run() {
        let soon = Duration::from_secs(1);
        assert_eq!(next_delay(MIN_RESTART_DELAY, soon), MIN_RESTART_DELAY * 2);
        assert_eq!(next_delay(MAX_RESTART_DELAY, soon), MAX_RESTART_DELAY);
        assert_eq!(next_delay(MAX_RESTART_DELAY, HEALTHY_AFTER), MIN_RESTART_DELAY);
    }
}
