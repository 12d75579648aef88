//! Parts that the tests share: databases, hubs, receivers that behave well or badly, clients, and proxies that disconnect.

pub(crate) mod aging;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod connect_proxy;
pub(crate) mod contract;
pub(crate) mod database;
pub(crate) mod follower;
pub(crate) mod gate;
pub(crate) mod hub;
pub(crate) mod misbehaving_receiver;
pub(crate) mod postgres_proxy;
pub(crate) mod process;
pub(crate) mod raw_client;
pub(crate) mod raw_http;
pub(crate) mod receiver;
pub(crate) mod scripted_server;
pub(crate) mod sse;
pub(crate) mod tls_receiver;
pub(crate) mod unreliable_proxy;
pub(crate) mod verifying_receiver;
pub(crate) mod waits;
pub(crate) mod websocket;

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// How long a test waits for something expected: long enough for a busy machine, shorter than a long poll of 60 s.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(40);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Polls until there is a result; panics after [`WAIT_TIMEOUT`].
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let result = async {
        loop {
            if let Some(result) = check().await {
                return result;
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    timeout(WAIT_TIMEOUT, result).await.expect(what)
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Awaits a future; panics after [`WAIT_TIMEOUT`].
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT_TIMEOUT, future).await.expect(what)
}
