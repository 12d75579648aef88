//! Shared parts of the tests: databases, hubs, healthy and hostile receivers, clients, and connections that can be cut.

pub(crate) mod aging;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod connect_proxy;
pub(crate) mod contract;
pub(crate) mod database;
pub(crate) mod follower;
pub(crate) mod gate;
pub(crate) mod hostile;
pub(crate) mod hub;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw_client;
pub(crate) mod raw_http;
pub(crate) mod receiver;
pub(crate) mod respondent;
pub(crate) mod scripted;
pub(crate) mod sse;
pub(crate) mod tls_receiver;
pub(crate) mod views;
pub(crate) mod websocket;
pub(crate) mod wire;

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// How long a test waits for an expected event.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(10);

/// Polls until there is a result; panics after [`WAIT_TIMEOUT`].
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(POLL).await;
        }
    };
    timeout(WAIT_TIMEOUT, answer).await.expect(what)
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Awaits a future; panics after [`WAIT_TIMEOUT`].
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT_TIMEOUT, future).await.expect(what)
}
