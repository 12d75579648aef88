//! Keeps Postgres running until the hub stops it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{interval, sleep};

use super::data_dir::DataDir;
use super::server::{Running, Server};
use super::socket;

/// The pause before the first restart; doubled up to the longest while Postgres keeps dying.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A server that ran this long was healthy: its death is a new one.
const HEALTHY: Duration = Duration::from_mins(1);

/// For a hub that lets go without saying how long it would wait.
const UNSAID_DEADLINE: Duration = Duration::from_secs(10);

const LOG_CHECK: Duration = Duration::from_mins(10);

/// Restarts Postgres whenever it ends, until `stop` brings the deadline for its shutdown. The data directory
/// stays locked until Postgres has ended.
pub(super) async fn supervise(
    server: Server,
    first: Running,
    data_dir: DataDir,
    mut stop: oneshot::Receiver<Duration>,
) {
    let mut pause = SHORTEST_PAUSE;
    let mut running = first;
    loop {
        match watch(&server, &mut running, &mut stop).await {
            Seen::Stop(deadline) => {
                running.stop(deadline).await;
                break;
            }
            Seen::End(status) => {
                pause = next_pause(pause, running.age());
                tracing::error!(
                    status,
                    ?pause,
                    "the embedded Postgres has died and will be started again"
                );
            }
        }
        match bring_back(&server, &mut pause, &mut stop).await {
            Some(again) => running = again,
            None => break,
        }
    }
    socket::remove(&server.socket_dir);
    drop(data_dir);
}

enum Seen {
    Stop(Duration),
    End(String),
}

/// Waits for the end of the server or the order to stop it, and keeps its log short meanwhile.
async fn watch(
    server: &Server,
    running: &mut Running,
    stop: &mut oneshot::Receiver<Duration>,
) -> Seen {
    let mut log_check = interval(LOG_CHECK);
    loop {
        tokio::select! {
            deadline = &mut *stop => return Seen::Stop(deadline.unwrap_or(UNSAID_DEADLINE)),
            status = running.wait() => return Seen::End(status),
            _ = log_check.tick() => server.log.trim(),
        }
    }
}

/// Launches the server again, with growing pauses; `None` when the order to stop comes first.
async fn bring_back(
    server: &Server,
    pause: &mut Duration,
    stop: &mut oneshot::Receiver<Duration>,
) -> Option<Running> {
    loop {
        tokio::select! {
            _ = &mut *stop => return None,
            () = sleep(*pause) => {}
        }
        match server.launch().await {
            Ok(running) => {
                tracing::info!("the embedded Postgres was started again");
                return Some(running);
            }
            Err(error) => {
                *pause = next_pause(*pause, Duration::ZERO);
                tracing::error!(%error, ?pause, "the embedded Postgres cannot be started");
            }
        }
    }
}

/// The pause before the next restart, after a run of length `ran`.
fn next_pause(last: Duration, ran: Duration) -> Duration {
    if ran >= HEALTHY { SHORTEST_PAUSE } else { (last * 2).min(LONGEST_PAUSE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_it_keeps_dying_and_shrink_after_a_healthy_run() {
        let soon = Duration::from_secs(1);
        assert_eq!(next_pause(SHORTEST_PAUSE, soon), SHORTEST_PAUSE * 2);
        assert_eq!(next_pause(LONGEST_PAUSE, soon), LONGEST_PAUSE);
        assert_eq!(next_pause(LONGEST_PAUSE, HEALTHY), SHORTEST_PAUSE);
    }
}
